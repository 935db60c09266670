//! Cross-origin policy of a route, and what it does to a request.
use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::proto::{self, Fraction};
use crate::refusal::{Compiled, each};
use crate::string_match::StringMatch;
use crate::view::RequestView;

/// Envoy's `CorsPolicy`.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<StringMatch>,
    pub allow_methods: Arc<str>,
    pub allow_headers: Arc<str>,
    pub expose_headers: Arc<str>,
    pub max_age: Arc<str>,
    pub allow_credentials: bool,
    pub allow_private_network: bool,
    /// Preflights of other origins go to the service (Envoy's default) instead of being answered here.
    forward_not_matching: bool,
    enabled: Fraction,
}

/// What is done with one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CorsDecision<'r> {
    /// No policy applies.
    Pass,
    /// Answered here with 200 and [`Cors::preflight_headers`]; without the headers if the origin is not
    /// allowed.
    Preflight { origin: Option<Cow<'r, [u8]>>, private_network: bool },
    /// Sent on; the response gets [`Cors::response_headers`].
    Actual { origin: Cow<'r, [u8]> },
}

impl Cors {
    pub(crate) fn compile(message: &xds::http_filters::cors::v3::CorsPolicy) -> Compiled<Cors> {
        let enabled = match &message.filter_enabled {
            None => Fraction::ALWAYS,
            Some(f) => f.default_value.as_ref().map_or(Fraction::ALWAYS, proto::fraction),
        };
        Cors::build(Parts {
            origins: &message.allow_origin_string_match,
            texts: [
                &message.allow_methods,
                &message.allow_headers,
                &message.expose_headers,
                &message.max_age,
            ],
            credentials: message.allow_credentials,
            private_network: message.allow_private_network_access,
            forward: message.forward_not_matching_preflights,
            enabled,
        })
    }

    /// The deprecated form inside of a `RouteAction`.
    pub(crate) fn compile_inline(message: &xds::route::CorsPolicy) -> Compiled<Cors> {
        use xds::route::cors_policy::EnabledSpecifier;
        let enabled = match &message.enabled_specifier {
            None => Fraction::ALWAYS,
            Some(EnabledSpecifier::FilterEnabled(f)) => {
                f.default_value.as_ref().map_or(Fraction::ALWAYS, proto::fraction)
            }
        };
        Cors::build(Parts {
            origins: &message.allow_origin_string_match,
            texts: [
                &message.allow_methods,
                &message.allow_headers,
                &message.expose_headers,
                &message.max_age,
            ],
            credentials: message.allow_credentials,
            private_network: message.allow_private_network_access,
            forward: message.forward_not_matching_preflights,
            enabled,
        })
    }

    fn build(parts: Parts<'_>) -> Compiled<Cors> {
        for text in parts.texts {
            if text.bytes().any(|b| b < b' ' || b == 0x7f) {
                return refuse!("{text:?} holds control characters");
            }
        }
        let [methods, headers, expose, max_age] = parts.texts.map(|s| s.as_str().into());
        Ok(Cors {
            origins: each("allow_origin_string_match", parts.origins, StringMatch::compile)?,
            allow_methods: methods,
            allow_headers: headers,
            expose_headers: expose,
            max_age,
            allow_credentials: parts.credentials.unwrap_or(false),
            allow_private_network: parts.private_network.unwrap_or(false),
            forward_not_matching: parts.forward.unwrap_or(true),
            enabled: parts.enabled,
        })
    }

    pub fn decide<'r, R: RequestView + ?Sized>(&self, request: &'r R, random: u64) -> CorsDecision<'r> {
        if !self.enabled.hits(random) {
            return CorsDecision::Pass;
        }
        let Some(origin) = request.header("origin").filter(|o| !o.is_empty()) else {
            return CorsDecision::Pass;
        };
        let allowed = self.origins.iter().any(|o| o.matches(&origin));
        let asks = request.header("access-control-request-method").is_some_and(|m| !m.is_empty());
        let preflight = request.method() == b"OPTIONS" && asks;
        let private = request
            .header("access-control-request-private-network")
            .is_some_and(|v| self.allow_private_network && *v == *b"true");
        match (preflight, allowed) {
            (true, true) => CorsDecision::Preflight { origin: Some(origin), private_network: private },
            (true, false) if self.forward_not_matching => CorsDecision::Pass,
            (true, false) => CorsDecision::Preflight { origin: None, private_network: false },
            (false, true) => CorsDecision::Actual { origin },
            (false, false) => CorsDecision::Pass,
        }
    }

    /// The headers of a preflight's answer beside `access-control-allow-origin` (the origin itself).
    pub fn preflight_headers(&self, private_network: bool) -> impl Iterator<Item = (&'static str, &str)> {
        let credentials = if self.allow_credentials { "true" } else { "" };
        let private = if private_network { "true" } else { "" };
        [
            ("access-control-allow-credentials", credentials),
            ("access-control-allow-private-network", private),
            ("access-control-allow-methods", &*self.allow_methods),
            ("access-control-allow-headers", &*self.allow_headers),
            ("access-control-max-age", &*self.max_age),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }

    /// The headers of an actual response beside `access-control-allow-origin`.
    pub fn response_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let credentials = if self.allow_credentials { "true" } else { "" };
        [
            ("access-control-allow-credentials", credentials),
            ("access-control-expose-headers", &*self.expose_headers),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }
}

struct Parts<'m> {
    origins: &'m [xds::matcher::StringMatcher],
    texts: [&'m String; 4],
    credentials: Option<bool>,
    private_network: Option<bool>,
    forward: Option<bool>,
    enabled: Fraction,
}
