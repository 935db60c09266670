//! A compiled virtual host and the choice among its routes.
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::config::Names;
use crate::filter::RouteFilters;
use crate::headers::HeaderPlan;
use crate::provenance::Provenance;
use crate::refusal::{At, Compiled, each};
use crate::retry::RetryPolicy;
use crate::route::{HostDefaults, Route};
use crate::view::{ForwardedProto, RequestView, path_only};

/// In C's order, what every look-up reads first.
#[derive(Debug)]
#[repr(C)]
pub struct VirtualHost {
    pub routes: Box<[Route]>,
    index: Option<Box<RouteIndex>>,
    pub require_tls: TlsRequirement,
    pub name: Arc<str>,
    pub domains: Box<[Domain]>,
    pub request_headers: HeaderPlan,
    pub response_headers: HeaderPlan,
    /// Tell the upstream `x-envoy-attempt-count`.
    pub attempt_count_in_request: bool,
    pub attempt_count_in_response: bool,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsRequirement {
    None,
    /// Requests without `x-envoy-internal: true`.
    External,
    All,
}

/// A name a virtual host answers to, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Domain {
    pub kind: DomainKind,
    /// Without its `*`.
    pub text: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainKind {
    Exact,
    /// `*.example.com`, `*-a.example.com`
    Suffix,
    /// `example.*`
    Prefix,
    /// `*`
    Any,
}

impl Domain {
    pub(crate) fn parse(text: &str) -> Compiled<Domain> {
        let lower = text.to_ascii_lowercase();
        let (kind, rest) = match (lower.strip_prefix('*'), lower.strip_suffix('*')) {
            (Some(""), _) => (DomainKind::Any, ""),
            (Some(rest), _) => (DomainKind::Suffix, rest),
            (_, Some(rest)) => (DomainKind::Prefix, rest),
            (None, None) => (DomainKind::Exact, lower.as_str()),
        };
        if rest.contains('*') {
            return refuse!("{text:?}: only one `*`, at the start or the end");
        }
        if rest.len() > 255 {
            return refuse!("{text:?} is longer than 255 bytes");
        }
        Ok(Domain { kind, text: rest.into() })
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            DomainKind::Exact => write!(f, "{:?}", self.text),
            DomainKind::Suffix => write!(f, "\"*{}\"", self.text),
            DomainKind::Prefix => write!(f, "\"{}*\"", self.text),
            DomainKind::Any => write!(f, "\"*\""),
        }
    }
}

/// For virtual hosts with many exact paths: those by path, and all others, each in their order.
#[derive(Debug)]
struct RouteIndex {
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    others: Vec<u32>,
}

/// Below this many exact paths the list is faster than the map.
const INDEX_FROM: usize = 8;

impl VirtualHost {
    /// `around`: what the route configuration says to filters.
    pub(crate) fn compile(
        message: &xds::route::VirtualHost,
        around: &RouteFilters,
        names: &mut Names,
    ) -> Compiled<VirtualHost> {
        use xds::route::virtual_host::TlsRequirementType as T;
        if message.domains.is_empty() {
            return refuse!("needs a domain");
        }
        let host = HostDefaults {
            retry: match &message.retry_policy {
                Some(policy) => Some(Arc::new(RetryPolicy::compile(policy).at("retry_policy")?)),
                None => None,
            },
            filters: RouteFilters::compile(&message.typed_per_filter_config, names)?.over(around),
            body_buffer_limit: message
                .request_body_buffer_limit
                .or(message.per_request_buffer_limit_bytes.map(u64::from)),
        };
        let routes = each("routes", &message.routes, |r| Route::compile(r, &host, names))?;
        Ok(VirtualHost {
            name: message.name.as_str().into(),
            domains: each("domains", &message.domains, |d| Domain::parse(d))?.into(),
            index: RouteIndex::over(&routes),
            routes: routes.into(),
            require_tls: match message.require_tls() {
                T::None => TlsRequirement::None,
                T::ExternalOnly => TlsRequirement::External,
                T::All => TlsRequirement::All,
            },
            request_headers: HeaderPlan::compile(
                "request",
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
            )?,
            response_headers: HeaderPlan::compile(
                "response",
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
            )?,
            attempt_count_in_request: message.include_request_attempt_count,
            attempt_count_in_response: message.include_attempt_count_in_response,
            provenance: Provenance::of(message.metadata.as_ref()),
        })
    }

    /// The first route, in list order, that matches wholly, with its index.
    pub fn route<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> Option<(u32, &Route)> {
        let path = path_only(request.path());
        let matching = |index: u32| {
            let route = self.routes.get(index as usize)?;
            route.rule.matches(request, path, random).then_some((index, route))
        };
        match &self.index {
            Some(index) => index.candidates(path).find_map(matching),
            None => (0u32..)
                .zip(&self.routes)
                .find_map(|(i, route)| route.rule.matches(request, path, random).then_some((i, route))),
        }
    }

    /// Whether a plaintext request is sent to `https`.
    pub(crate) fn wants_tls<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        match self.require_tls {
            TlsRequirement::None => false,
            _ if request.forwarded_proto() == ForwardedProto::Https => false,
            TlsRequirement::All => true,
            TlsRequirement::External => request.header("x-envoy-internal").is_none_or(|v| *v != *b"true"),
        }
    }
}

impl RouteIndex {
    fn over(routes: &[Route]) -> Option<Box<RouteIndex>> {
        if routes.iter().filter(|r| r.rule.exact_path().is_some()).count() < INDEX_FROM {
            return None;
        }
        let mut index = RouteIndex { exact: HashMap::new(), others: Vec::new() };
        for (i, route) in (0u32..).zip(routes) {
            match route.rule.exact_path() {
                Some(path) => index.exact.entry(path.into()).or_default().push(i),
                None => index.others.push(i),
            }
        }
        Some(Box::new(index))
    }

    /// The routes of this very path and all others, merged back into list order.
    fn candidates(&self, path: &[u8]) -> impl Iterator<Item = u32> {
        let mut exact = self.exact.get(path).map_or(&[][..], Vec::as_slice).iter().copied().peekable();
        let mut others = self.others.iter().copied().peekable();
        std::iter::from_fn(move || match (exact.peek(), others.peek()) {
            (Some(a), Some(b)) if a < b => exact.next(),
            (Some(_), None) => exact.next(),
            _ => others.next(),
        })
    }
}
