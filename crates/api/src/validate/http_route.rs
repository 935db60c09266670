//! The HTTP routes of a VirtualService.

use super::routes::{check_destination, check_static_match, check_total_weight, check_weight};
use super::rules::Rules;
use super::{headers, values};
use crate::networking::{
    CorsPolicy, FaultAbort, FaultDelay, HttpBody, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest,
    HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, Percent, StringMatch,
};
use crate::yaml::shorten;

pub(super) fn check(route: &HttpRoute, in_delegate: bool, rules: &mut Rules<'_, '_>) {
    check_action(route, in_delegate, rules);
    rules.items("match", &route.matches, check_http_match);
    headers::operations(route.headers.as_ref(), rules);
    rules.optional("corsPolicy", route.cors_policy.as_ref(), check_cors);
    rules.optional("fault", route.fault.as_ref(), check_fault);
    check_mirrors(route, rules);
    rules.optional("redirect", route.redirect.as_ref(), |rules, redirect| {
        check_redirect(redirect, route, rules)
    });
    rules.optional("directResponse", route.direct_response.as_ref(), check_direct_response);
    rules.optional("retries", route.retries.as_ref(), check_retry);
    rules.optional("rewrite", route.rewrite.as_ref(), check_rewrite);
    check_authority(route, rules);
    rules.items("route", &route.route, |rules, target| {
        rules.field("destination", |rules| check_destination(&target.destination, rules));
        headers::operations(target.headers.as_ref(), rules);
        check_weight(target.weight, rules);
    });
    check_total_weight(route.route.iter().map(|target| target.weight), rules);
    values::optional_duration("timeout", route.timeout, rules);
}

/// What a route does: exactly one of the possible things.
fn check_action(route: &HttpRoute, in_delegate: bool, rules: &mut Rules<'_, '_>) {
    let (routes, redirects, answers) =
        (!route.route.is_empty(), route.redirect.is_some(), route.direct_response.is_some());
    if route.delegate.is_some() && !in_delegate {
        if redirects {
            rules.field_error("redirect", "a route that delegates cannot redirect as well");
        }
        if routes {
            rules.field_error("route", "a route that delegates cannot have destinations as well");
        }
        return;
    }
    if route.delegate.is_some() {
        rules.field_error("delegate", "a delegate cannot delegate again");
    }
    if redirects || answers {
        let (field, action) =
            if redirects { ("redirect", "redirects") } else { ("directResponse", "answers itself") };
        for (present, other) in [
            (routes, "destinations"),
            (route.fault.is_some(), "faults"),
            (route.rewrite.is_some(), "a rewrite"),
            (redirects && answers, "a direct response"),
        ] {
            if present {
                rules.field_error(field, format!("a route that {action} cannot have {other} as well"));
            }
        }
    } else if !routes {
        rules.error("one of route, redirect and directResponse is required");
    }
}

fn check_http_match(rules: &mut Rules<'_, '_>, request: &HttpMatchRequest) {
    // An empty prefix of the path is every path; nothing else may be empty.
    if request.uri != Some(StringMatch::Prefix(String::new())) {
        rules.optional("uri", request.uri.as_ref(), |rules, condition| {
            values::string_match(condition, rules);
        });
    }
    for (name, condition) in
        [("scheme", &request.scheme), ("method", &request.method), ("authority", &request.authority)]
    {
        rules.optional(name, condition.as_ref(), |rules, condition| {
            values::string_match(condition, rules);
        });
    }
    for (name, conditions) in [("headers", &request.headers), ("withoutHeaders", &request.without_headers)] {
        rules.entries(name, conditions, |rules, header, condition| {
            rules.require(headers::name_or_claim(header));
            check_presence_or_match(condition, rules);
        });
    }
    rules.entries("queryParams", &request.query_params, |rules, _, condition| {
        check_presence_or_match(condition, rules);
    });
    check_static_match(
        request.port,
        &request.source_labels,
        &request.source_namespace,
        &request.gateways,
        rules,
    );
}

/// `regex: '*'` is no regular expression: it asks only that there is a value.
fn check_presence_or_match(condition: &StringMatch, rules: &mut Rules<'_, '_>) {
    if *condition != StringMatch::Regex("*".into()) {
        values::string_match(condition, rules);
    }
}

fn check_cors(rules: &mut Rules<'_, '_>, policy: &CorsPolicy) {
    const METHODS: &[&str] =
        &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
    rules.items("allowOrigins", &policy.allow_origins, |rules, origin| match origin {
        StringMatch::Exact(text) if text.is_empty() => {
            rules.field_error("exact", "an origin must not be empty")
        }
        StringMatch::Present => rules.error("one of exact, prefix and regex is required"),
        other => values::string_match(other, rules),
    });
    rules.items("allowMethods", &policy.allow_methods, |rules, method| {
        if !METHODS.contains(&method.as_str()) {
            rules.error(format!("must be one of {}, not {:?}", METHODS.join(", "), shorten(method)));
        }
    });
    for (field, list) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        rules.items(field, list, |rules, name| rules.require(headers::name(name)));
    }
    values::optional_duration("maxAge", policy.max_age, rules);
    if policy.max_age.is_some_and(|age| age.subsec_nanos() != 0) {
        rules.field_error("maxAge", "must be in whole seconds");
    }
}

fn check_fault(rules: &mut Rules<'_, '_>, fault: &HttpFaultInjection) {
    if fault.delay.is_none() && fault.abort.is_none() {
        rules.error("one of delay and abort is required");
    }
    rules.optional("delay", fault.delay.as_ref(), check_delay);
    rules.optional("abort", fault.abort.as_ref(), check_abort);
}

fn check_delay(rules: &mut Rules<'_, '_>, delay: &FaultDelay) {
    rules.require_field("percent", values::whole_percent(delay.percent));
    check_percentage(delay.percentage.as_ref(), rules);
    values::optional_duration("fixedDelay", delay.fixed_delay, rules);
    match (delay.fixed_delay, delay.exponential_delay) {
        (Some(_), Some(_)) => rules.error("only one of fixedDelay and exponentialDelay may be set"),
        (None, Some(_)) => {
            rules.field_error("exponentialDelay", "is not supported, in Istio either; use fixedDelay")
        }
        _ => {}
    }
}

fn check_abort(rules: &mut Rules<'_, '_>, abort: &FaultAbort) {
    check_percentage(abort.percentage.as_ref(), rules);
    let kinds = [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
    if kinds.into_iter().filter(|set| *set).count() > 1 {
        rules.error("only one of httpStatus, grpcStatus and http2Error may be set");
    }
    if let Some(status) = abort.http_status {
        rules.require_field("httpStatus", http_status(i64::from(status)));
    }
    if let Some(status) = &abort.grpc_status
        && !GRPC_STATUSES.contains(&status.as_str())
    {
        let names = GRPC_STATUSES.join(", ");
        rules.field_error("grpcStatus", format!("must be one of {names}, not {:?}", shorten(status)));
    }
    if abort.http2_error.is_some() {
        rules.field_error("http2Error", "is not supported, in Istio either; use httpStatus or grpcStatus");
    }
}

/// gRPC's status codes by name (grpc.github.io/grpc/core/md_doc_statuscodes.html).
const GRPC_STATUSES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn check_percentage(percentage: Option<&Percent>, rules: &mut Rules<'_, '_>) {
    rules.optional("percentage", percentage, |rules, percentage| {
        rules.require_field("value", values::percent(percentage));
    });
}

fn http_status(status: i64) -> Result<(), String> {
    if (200..=599).contains(&status) {
        return Ok(());
    }
    Err(format!("the HTTP status must be from 200 to 599, not {status}"))
}

fn check_mirrors(route: &HttpRoute, rules: &mut Rules<'_, '_>) {
    let share = |rules: &mut Rules<'_, '_>, percent: &Percent| {
        if !(0.0..=100.0).contains(&percent.value) {
            rules
                .field_error("value", format!("the percentage must be from 0 to 100, not {}", percent.value));
        }
    };
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        rules.field_error("mirrors", "only one of mirror and mirrors may be set");
    }
    if let Some(percent) = route.mirror_percent {
        rules.field("mirrorPercent", |rules| {
            rules.warning("is deprecated; use mirrorPercentage");
            if percent > 100 {
                rules.error(format!("the percentage must be from 0 to 100, not {percent}"));
            }
        });
    }
    rules.optional("mirrorPercentage", route.mirror_percentage.as_ref(), share);
    rules.optional("mirror", route.mirror.as_ref(), |rules, mirror| check_destination(mirror, rules));
    rules.items("mirrors", &route.mirrors, |rules, mirror| {
        rules.field("destination", |rules| check_destination(&mirror.destination, rules));
        rules.optional("percentage", mirror.percentage.as_ref(), share);
    });
}

fn check_redirect(redirect: &HttpRedirect, route: &HttpRoute, rules: &mut Rules<'_, '_>) {
    let changes_path = !redirect.uri.is_empty() || !redirect.prefix_rewrite.is_empty();
    let changes_port = redirect.port.is_some() || redirect.derive_port.is_some();
    if !changes_path && !changes_port && redirect.authority.is_empty() && redirect.scheme.is_empty() {
        rules.error("at least one of uri, prefixRewrite, authority, scheme and port is required");
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        rules.field_error("prefixRewrite", "only one of uri and prefixRewrite may be set");
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        rules.field_error("derivePort", "only one of port and derivePort may be set");
    }
    if !redirect.scheme.is_empty() && !matches!(redirect.scheme.as_str(), "http" | "https") {
        rules.field_error("scheme", format!("must be http or https, not {:?}", shorten(&redirect.scheme)));
    }
    if redirect.redirect_code != 0 && !(300..=399).contains(&redirect.redirect_code) {
        rules.field_error(
            "redirectCode",
            format!("must be a status of redirection (3xx), not {}", redirect.redirect_code),
        );
    }
    let all_prefixes = route.matches.iter().all(|request| match &request.uri {
        Some(StringMatch::Prefix(_)) | None => true,
        Some(_) => false,
    });
    if !redirect.prefix_rewrite.is_empty() && !all_prefixes {
        rules.field_error("prefixRewrite", "needs every match on the uri to be by prefix");
    }
}

fn check_direct_response(rules: &mut Rules<'_, '_>, response: &HttpDirectResponse) {
    const LARGE: usize = 100 << 10;
    const TOO_LARGE: usize = 1 << 20;
    rules.require_field("status", http_status(i64::from(response.status)));
    let size = match &response.body {
        Some(HttpBody::String(text)) => text.len(),
        Some(HttpBody::Bytes(bytes)) => bytes.len(),
        Some(HttpBody::None) | None => 0,
    };
    if size > TOO_LARGE {
        rules.field_error("body", format!("must not be larger than 1 MiB, but has {size} bytes"));
    } else if size > LARGE {
        rules.field("body", |rules| {
            rules.warning(format!("is large ({size} bytes): every proxy holds it in memory"));
        });
    }
}

pub(super) fn check_retry(rules: &mut Rules<'_, '_>, retry: &HttpRetry) {
    values::not_negative("attempts", retry.attempts, rules);
    let configured = retry.per_try_timeout.is_some()
        || !retry.retry_on.is_empty()
        || retry.retry_remote_localities.is_some();
    if retry.attempts == 0 && configured {
        rules.field_error("attempts", "is 0, which turns retries off, but retries are configured");
    }
    values::optional_duration("perTryTimeout", retry.per_try_timeout, rules);
    values::optional_duration("backoff", retry.backoff, rules);
    if retry.retry_on.is_empty() {
        return;
    }
    for condition in retry.retry_on.split(',') {
        let condition = condition.trim();
        let status = condition.parse::<u16>().is_ok_and(is_registered_status);
        if !status && !RETRY_ON.contains(&condition) {
            rules.field_error(
                "retryOn",
                format!(
                    "{:?} is neither an HTTP status nor one of {}",
                    shorten(condition),
                    RETRY_ON.join(", ")
                ),
            );
        }
    }
}

/// Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// The statuses IANA has registered.
fn is_registered_status(status: u16) -> bool {
    matches!(
        status,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451
            | 500..=508 | 510 | 511
    )
}

fn check_rewrite(rules: &mut Rules<'_, '_>, rewrite: &HttpRewrite) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        rules.error("at least one of uri, uriRegexRewrite and authority is required");
    }
    rules.optional("uriRegexRewrite", rewrite.uri_regex_rewrite.as_ref(), |rules, regex| {
        if !rewrite.uri.is_empty() {
            rules.error("only one of uri and uriRegexRewrite may be set");
        }
        if regex.matches.is_empty() || regex.rewrite.is_empty() {
            rules.error("match and rewrite are both required");
        } else {
            rules.require_field("match", values::regex(&regex.matches));
        }
    });
}

/// The authority can be set in one place only.
fn check_authority(route: &HttpRoute, rules: &mut Rules<'_, '_>) {
    let rewritten =
        route.rewrite.iter().map(|rewrite| rewrite.authority.as_str()).find(|text| !text.is_empty());
    let request = route.headers.iter().filter_map(|headers| headers.request.as_ref());
    let set = request
        .flat_map(|request| request.set.iter().chain(&request.add))
        .filter(|(name, _)| headers::is_authority(name))
        .map(|(_, value)| value.as_str());
    let mut all = rewritten.into_iter().chain(set);
    if let (Some(first), Some(second)) = (all.next(), all.next()) {
        rules.error(format!(
            "sets the authority twice: to {:?} and to {:?}",
            shorten(first),
            shorten(second)
        ));
    }
}
