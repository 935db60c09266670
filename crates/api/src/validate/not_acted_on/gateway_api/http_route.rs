//! HTTPRoute.

use std::collections::BTreeSet;

use super::{hostname, kind};
use crate::gateway_api::{
    HeaderFilter, HttpBackendReference, HttpFilterType, HttpPathMatch, HttpRoute, HttpRouteFilter,
    HttpRouteMatch, HttpRouteRule, PathMatchType, PathModifier, PathModifierType,
};
use crate::validate::names::object_name;
use crate::validate::rules::Rules;
use crate::validate::{headers, values};
use crate::yaml::shorten;

pub(in crate::validate::not_acted_on) fn check(route: &HttpRoute, rules: &mut Rules<'_, '_>) {
    for (name, count, limit) in [
        ("hostnames", route.hostnames.len(), 16),
        ("parentRefs", route.parent_refs.len(), 32),
        ("rules", route.rules.len(), 16),
    ] {
        at_most(name, count, limit, rules);
    }
    rules.items("hostnames", &route.hostnames, |rules, name| rules.require(hostname(name)));
    rules.items("parentRefs", &route.parent_refs, |rules, parent| {
        rules.require_field("kind", kind(&parent.kind));
        if let Some(port) = parent.port {
            rules.require_field("port", values::port(port));
        }
    });
    rules.items("rules", &route.rules, check_rule);
}

fn check_rule(rules: &mut Rules<'_, '_>, rule: &HttpRouteRule) {
    at_most("matches", rule.matches.len(), 64, rules);
    at_most("backendRefs", rule.backend_refs.len(), 16, rules);
    rules.items("matches", &rule.matches, check_match);
    check_filters(&rule.filters, rules);
    rules.items("backendRefs", &rule.backend_refs, |rules, backend| {
        check_backend(rules, backend);
        check_filters(&backend.filters, rules);
    });
    let redirects = rule.filters.iter().any(|filter| filter.type_ == HttpFilterType::RequestRedirect);
    if redirects && !rule.backend_refs.is_empty() {
        rules.field_error("backendRefs", "a rule that redirects has no backends");
    }
    let by_prefix = matches!(rule.matches.as_slice(), [only] if only.path.type_ == PathMatchType::PathPrefix);
    let replaces_prefix = rule.filters.iter().any(|filter| {
        let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        redirect.into_iter().chain(rewrite).any(|path| path.replace_prefix_match.is_some())
    });
    if replaces_prefix && !by_prefix {
        rules.field_error("filters", "replacePrefixMatch needs exactly one match, by PathPrefix");
    }
    if let Some(timeouts) = &rule.timeouts
        && let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && !request.is_zero()
        && backend > request
    {
        rules.field("timeouts", |rules| {
            rules.field_error("backendRequest", "must not be longer than request")
        });
    }
}

fn check_match(rules: &mut Rules<'_, '_>, request: &HttpRouteMatch) {
    rules.field("path", |rules| check_path(&request.path, rules));
    for (name, values) in [("headers", &request.headers), ("queryParams", &request.query_params)] {
        at_most(name, values.len(), 16, rules);
        let mut seen = BTreeSet::new();
        rules.items(name, values, |rules, value| {
            rules.require_field("name", headers::name(&value.name));
            if !seen.insert(&value.name) {
                rules.field_error("name", format!("{:?} is there twice", shorten(&value.name)));
            }
        });
    }
}

fn check_path(path: &HttpPathMatch, rules: &mut Rules<'_, '_>) {
    const FORBIDDEN: &[&str] = &["//", "/./", "/../", "%2f", "%2F", "#"];
    let value = path.value.as_str();
    if path.type_ == PathMatchType::RegularExpression {
        return rules.require_field("value", values::regex(value));
    }
    if !value.starts_with('/') {
        rules.field_error("value", format!("must begin with '/', not {:?}", shorten(value)));
    }
    if let Some(part) = FORBIDDEN.iter().find(|part| value.contains(**part)) {
        rules.field_error("value", format!("must not contain {part:?}"));
    }
    if value.ends_with("/..") || value.ends_with("/.") {
        rules.field_error("value", "must not end in '/.' or '/..'");
    }
    if !is_path(value) {
        rules.field_error(
            "value",
            format!("{:?} has characters that a path has not (RFC 3986)", shorten(value)),
        );
    }
}

/// RFC 3986 §3.3: `pchar`s and slashes.
fn is_path(text: &str) -> bool {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let fine = match byte {
            b'%' => {
                rest.next().is_some_and(|digit| digit.is_ascii_hexdigit())
                    && rest.next().is_some_and(|digit| digit.is_ascii_hexdigit())
            }
            _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
        };
        if !fine {
            return false;
        }
    }
    true
}

fn check_filters(filters: &[HttpRouteFilter], rules: &mut Rules<'_, '_>) {
    at_most("filters", filters.len(), 16, rules);
    let mut seen = BTreeSet::new();
    rules.items("filters", filters, |rules, filter| {
        let once = !matches!(
            filter.type_,
            HttpFilterType::RequestMirror | HttpFilterType::ExtensionRef | HttpFilterType::ExternalAuth
        );
        if !seen.insert(filter.type_) && once {
            rules.error(format!("{} is there twice", filter.type_.as_str()));
        }
        check_filter(filter, rules);
    });
    if seen.contains(&HttpFilterType::RequestRedirect) && seen.contains(&HttpFilterType::UrlRewrite) {
        rules.field_error("filters", "only one of RequestRedirect and URLRewrite may be there");
    }
}

fn check_filter(filter: &HttpRouteFilter, rules: &mut Rules<'_, '_>) {
    for (type_, name, set) in [
        (
            HttpFilterType::RequestHeaderModifier,
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            HttpFilterType::ResponseHeaderModifier,
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (HttpFilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (HttpFilterType::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (HttpFilterType::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (HttpFilterType::Cors, "cors", filter.cors.is_some()),
        (HttpFilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
        (HttpFilterType::ExternalAuth, "externalAuth", filter.external_auth.is_some()),
    ] {
        match (type_ == filter.type_, set) {
            (true, false) => rules.field_error(name, format!("is required with type {}", type_.as_str())),
            (false, true) => rules.field_error(name, format!("is not for type {}", filter.type_.as_str())),
            _ => {}
        }
    }
    rules.optional("requestHeaderModifier", filter.request_header_modifier.as_ref(), check_headers);
    rules.optional("responseHeaderModifier", filter.response_header_modifier.as_ref(), check_headers);
    rules.optional("requestMirror", filter.request_mirror.as_ref(), |rules, mirror| {
        rules.field("backendRef", |rules| check_backend(rules, &mirror.backend_ref));
        if mirror.percent.is_some() && mirror.fraction.is_some() {
            rules.error("only one of percent and fraction may be set");
        }
        if mirror.percent.is_some_and(|percent| percent > 100) {
            rules.field_error("percent", "must be from 0 to 100");
        }
    });
    rules.optional("requestRedirect", filter.request_redirect.as_ref(), |rules, redirect| {
        if let Some(scheme) = redirect.scheme.as_deref().filter(|scheme| !matches!(*scheme, "http" | "https"))
        {
            rules.field_error("scheme", format!("must be http or https, not {:?}", shorten(scheme)));
        }
        if let Some(name) = &redirect.hostname {
            rules.require_field("hostname", object_name(name));
        }
        if let Some(port) = redirect.port {
            rules.require_field("port", values::port(port));
        }
        if let Some(status) =
            redirect.status_code.filter(|status| !matches!(status, 301 | 302 | 303 | 307 | 308))
        {
            rules.field_error("statusCode", format!("must be one of 301, 302, 303, 307, 308, not {status}"));
        }
        rules.optional("path", redirect.path.as_ref(), check_path_modifier);
    });
    rules.optional("urlRewrite", filter.url_rewrite.as_ref(), |rules, rewrite| {
        if let Some(name) = &rewrite.hostname {
            rules.require_field("hostname", object_name(name));
        }
        rules.optional("path", rewrite.path.as_ref(), check_path_modifier);
    });
}

fn check_path_modifier(rules: &mut Rules<'_, '_>, path: &PathModifier) {
    let full = (PathModifierType::ReplaceFullPath, "replaceFullPath", path.replace_full_path.is_some());
    let prefix =
        (PathModifierType::ReplacePrefixMatch, "replacePrefixMatch", path.replace_prefix_match.is_some());
    for (type_, name, set) in [full, prefix] {
        if (type_ == path.type_) != set {
            let problem = if set { "is not for" } else { "is required with" };
            rules.field_error(name, format!("{problem} type {}", path.type_.as_str()));
        }
    }
}

fn check_headers(rules: &mut Rules<'_, '_>, filter: &HeaderFilter) {
    for (name, values) in [("set", &filter.set), ("add", &filter.add)] {
        at_most(name, values.len(), 16, rules);
        let mut seen = BTreeSet::new();
        rules.items(name, values, |rules, header| {
            rules.require_field("name", headers::name(&header.name));
            if !seen.insert(&header.name) {
                rules.field_error("name", format!("{:?} is there twice", shorten(&header.name)));
            }
        });
    }
    at_most("remove", filter.remove.len(), 16, rules);
    let mut seen = BTreeSet::new();
    rules.items("remove", &filter.remove, |rules, name| {
        if !seen.insert(name) {
            rules.error(format!("{:?} is there twice", shorten(name)));
        }
    });
}

fn check_backend(rules: &mut Rules<'_, '_>, backend: &HttpBackendReference) {
    rules.require_field("kind", kind(&backend.kind));
    match backend.port {
        Some(port) => rules.require_field("port", values::port(port)),
        None if backend.group.is_empty() && backend.kind == "Service" => {
            rules.field_error("port", "is required for a Service");
        }
        None => {}
    }
    if backend.weight > 1_000_000 {
        rules.field_error("weight", format!("must be from 0 to 1000000, not {}", backend.weight));
    }
}

fn at_most(name: &str, count: usize, limit: usize, rules: &mut Rules<'_, '_>) {
    if count > limit {
        rules.field_error(name, format!("must not have more than {limit} entries"));
    }
}
