//! Rewriting of a request's path and host, and where a redirect leads.
use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use xds::route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};

use crate::refusal::{At, Compiled};
use crate::route_match::{PathMatch, RouteMatch};
use crate::string_match::RegexRewrite;
use crate::view::{RequestView, host_only, path_only};

/// How the path changes. The query stays.
#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    #[default]
    None,
    /// The matched prefix, or the whole matched path, is replaced.
    Prefix(Box<[u8]>),
    Regex(RegexRewrite),
}

impl PathRewrite {
    /// The new `:path` with its query, or `None` when it stays. Where a path is rewritten the original goes
    /// upstream in `x-envoy-original-path`.
    pub fn apply<'p>(&self, rule: &RouteMatch, path: &'p [u8]) -> Option<Cow<'p, [u8]>> {
        let bare = path_only(path);
        let rest = path.get(bare.len()..).unwrap_or_default();
        let changed: Cow<'p, [u8]> = match self {
            PathRewrite::None => return None,
            PathRewrite::Prefix(replacement) => {
                let matched = match &rule.path {
                    PathMatch::Root => 1,
                    PathMatch::Prefix(prefix) | PathMatch::Separated(prefix) => prefix.len(),
                    PathMatch::Connect if bare.is_empty() => return None,
                    // A regex matches the path as a whole.
                    PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Connect => bare.len(),
                };
                let tail = bare.get(matched..).unwrap_or_default();
                Cow::Owned([replacement, tail].concat())
            }
            PathRewrite::Regex(rewrite) => rewrite.rewrite(bare),
        };
        if rest.is_empty() {
            return Some(changed);
        }
        let mut changed = changed.into_owned();
        changed.extend_from_slice(rest);
        Some(Cow::Owned(changed))
    }
}

/// What the upstream is told as host. `x-envoy-original-host` keeps the one that came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRewrite {
    #[default]
    Keep,
    Literal(Arc<str>),
    /// The value of this request header, if it is there.
    Header(Arc<str>),
    /// The picked host's name ([`crate::Host::hostname`]), if it has one.
    Auto,
}

/// Envoy's `RedirectAction`.
#[derive(Debug)]
pub struct Redirect {
    pub status: u16,
    scheme: Option<Arc<str>>,
    host: Option<Arc<str>>,
    port: Option<u16>,
    path: RedirectPath,
    strip_query: bool,
}

#[derive(Debug)]
enum RedirectPath {
    Keep,
    Replace(Box<str>),
    Rewrite(PathRewrite),
}

impl Redirect {
    pub(crate) fn compile(message: &xds::route::RedirectAction) -> Compiled<Redirect> {
        let scheme: Option<Arc<str>> = match message.scheme_rewrite_specifier.as_ref() {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str().into()),
            _ => None,
        };
        let port = match u16::try_from(message.port_redirect) {
            Ok(port) => Some(port).filter(|p| *p > 0),
            Err(_) => return refuse!("{} is no port", message.port_redirect).at("port_redirect"),
        };
        let path = match message.path_rewrite_specifier.as_ref() {
            None => RedirectPath::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Replace(path.as_str().into()),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                RedirectPath::Rewrite(PathRewrite::Prefix(prefix.as_bytes().into()))
            }
            Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
                RedirectPath::Rewrite(PathRewrite::Regex(RegexRewrite::compile(rewrite).at("regex_rewrite")?))
            }
        };
        let status = match message.response_code() {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        };
        let host: Option<Arc<str>> =
            Some(message.host_redirect.as_str()).filter(|h| !h.is_empty()).map(Arc::from);
        for text in [host.as_deref().unwrap_or_default(), scheme.as_deref().unwrap_or_default()] {
            if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
                return refuse!("{text:?} holds white space or control characters");
            }
        }
        Ok(Redirect { status, scheme, host, port, path, strip_query: message.strip_query })
    }

    /// Writes the `location` of this request's answer.
    pub fn location<R: RequestView + ?Sized>(&self, rule: &RouteMatch, request: &R, out: &mut Vec<u8>) {
        let scheme = self.scheme.as_deref().map_or(request.scheme(), str::as_bytes);
        out.extend_from_slice(scheme);
        out.extend_from_slice(b"://");
        match (&self.host, self.port) {
            (None, None) => out.extend_from_slice(self.host_of(request, scheme)),
            (Some(host), None) => out.extend_from_slice(host.as_bytes()),
            (host, Some(port)) => {
                let host = host.as_deref().map_or(request.host(), str::as_bytes);
                out.extend_from_slice(host_only(host));
                out.push(b':');
                out.extend_from_slice(port.to_string().as_bytes());
            }
        }
        let path = request.path();
        let bare = path_only(path);
        let query = path.get(bare.len()..).unwrap_or_default();
        match &self.path {
            RedirectPath::Keep => out.extend_from_slice(bare),
            RedirectPath::Replace(new) => {
                out.extend_from_slice(new.as_bytes());
                // Envoy: a path with a query of its own replaces the request's.
                if new.contains('?') {
                    return;
                }
            }
            RedirectPath::Rewrite(rewrite) => {
                out.extend_from_slice(&rewrite.apply(rule, bare).unwrap_or(Cow::Borrowed(bare)));
            }
        }
        if !self.strip_query {
            out.extend_from_slice(query);
        }
    }

    /// Envoy: a scheme that changes drops the old scheme's default port.
    fn host_of<'r, R: RequestView + ?Sized>(&self, request: &'r R, scheme: &[u8]) -> &'r [u8] {
        let host = request.host();
        let default_port: &[u8] = match scheme {
            b"https" => b":80",
            b"http" => b":443",
            _ => return host,
        };
        match self.scheme.is_some() && scheme != request.scheme() {
            true => host.strip_suffix(default_port).unwrap_or(host),
            false => host,
        }
    }
}
