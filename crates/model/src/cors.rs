//! Cross-origin policy of a route, and what it does to a request (Envoy's `cors` filter, each rule measured with 1.40).
use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::proto::{self, Fraction};
use crate::refusal::{Compiled, each};
use crate::string_match::StringMatch;
use crate::view::RequestView;

/// Envoy's `CorsPolicy`, those of the route and of what is around it laid over one another ([`Cors::over`]).
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<StringMatch>,
    allow_methods: Arc<str>,
    allow_headers: Arc<str>,
    expose_headers: Arc<str>,
    max_age: Arc<str>,
    allow_credentials: Option<bool>,
    allow_private_network: Option<bool>,
    /// Preflights of other origins go to the service (Envoy's default) instead of being answered here.
    forward_not_matching: Option<bool>,
    enabled: Fraction,
}

/// What is done with one request. Fields: of the response, each in place of what the service says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CorsDecision<'r> {
    /// No policy applies.
    Pass,
    /// The policy applies and does not allow the origin: sent on, the response stays as it is.
    Foreign,
    /// Answered here with 200 and these.
    Preflight { allowed: bool, fields: Vec<CorsField<'r>> },
    /// Sent on; the response gets these.
    Actual { fields: Vec<CorsField<'r>> },
}

pub type CorsField<'r> = (&'static str, Cow<'r, [u8]>);

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
            allow_credentials: parts.credentials,
            allow_private_network: parts.private_network,
            forward_not_matching: parts.forward,
            enabled: parts.enabled,
        })
    }

    /// This policy, and for whatever it does not say the one around it. How often it applies is this policy's alone.
    #[must_use]
    pub(crate) fn over(&self, around: &Cors) -> Cors {
        let text =
            |own: &Arc<str>, other: &Arc<str>| if own.is_empty() { other.clone() } else { own.clone() };
        Cors {
            origins: if self.origins.is_empty() { &around.origins } else { &self.origins }.clone(),
            allow_methods: text(&self.allow_methods, &around.allow_methods),
            allow_headers: text(&self.allow_headers, &around.allow_headers),
            expose_headers: text(&self.expose_headers, &around.expose_headers),
            max_age: text(&self.max_age, &around.max_age),
            allow_credentials: self.allow_credentials.or(around.allow_credentials),
            allow_private_network: self.allow_private_network.or(around.allow_private_network),
            forward_not_matching: self.forward_not_matching.or(around.forward_not_matching),
            enabled: self.enabled,
        }
    }

    pub fn decide<'r, R: RequestView + ?Sized>(&'r self, request: &'r R, random: u64) -> CorsDecision<'r> {
        if !self.enabled.hits(random) {
            return CorsDecision::Pass;
        }
        let Some(origin) = request.header("origin").filter(|o| !o.is_empty()) else {
            return CorsDecision::Pass;
        };
        let allowed = self.allows(&origin);
        let method = request.header("access-control-request-method").filter(|method| !method.is_empty());
        let Some(method) = method.filter(|_| request.method() == b"OPTIONS") else {
            return match allowed {
                true => CorsDecision::Actual { fields: self.allowed(origin) },
                false => CorsDecision::Foreign,
            };
        };
        if !allowed && self.forward_not_matching.unwrap_or(true) {
            return CorsDecision::Foreign;
        }
        let mut fields = match allowed {
            true => self.allowed(origin),
            false => self.credentials().collect(),
        };
        match &*self.allow_methods {
            "" => {}
            "*" => fields.push(("access-control-allow-methods", method)),
            methods => fields.push(("access-control-allow-methods", methods.as_bytes().into())),
        }
        match &*self.allow_headers {
            "" => {}
            "*" => {
                let asked = request.header("access-control-request-headers").unwrap_or_default();
                fields.push(("access-control-allow-headers", asked));
            }
            headers => fields.push(("access-control-allow-headers", headers.as_bytes().into())),
        }
        if !self.max_age.is_empty() {
            fields.push(("access-control-max-age", self.max_age.as_bytes().into()));
        }
        let private = request.header("access-control-request-private-network");
        if self.allow_private_network == Some(true) && private.is_some_and(|asked| *asked == *b"true") {
            fields.push(("access-control-allow-private-network", b"true".into()));
        }
        CorsDecision::Preflight { allowed, fields }
    }

    /// A matcher that takes `*`, as many write it, takes any origin.
    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|matcher| matcher.matches(b"*") || matcher.matches(origin))
    }

    fn credentials<'r>(&self) -> impl Iterator<Item = CorsField<'r>> + use<'r> {
        let allowed = self.allow_credentials == Some(true);
        allowed.then(|| ("access-control-allow-credentials", b"true".into())).into_iter()
    }

    /// What a response to an allowed origin says, a preflight's too.
    fn allowed<'r>(&'r self, origin: Cow<'r, [u8]>) -> Vec<CorsField<'r>> {
        let mut fields = vec![("access-control-allow-origin", origin)];
        fields.extend(self.credentials());
        if !self.expose_headers.is_empty() {
            fields.push(("access-control-expose-headers", self.expose_headers.as_bytes().into()));
        }
        fields
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
