//! Faults and CORS: settings of filters, by route.

use api::networking::{CorsPolicy, FaultAbort, FaultDelay, HttpFaultInjection, UnmatchedPreflights};
use xds::core::RuntimeFractionalPercent;
use xds::fault_common;
use xds::http_filters::cors::v3::CorsPolicy as EnvoyCorsPolicy;
use xds::http_filters::fault::v3::{FaultAbort as EnvoyAbort, HttpFault, fault_abort};

use super::action::{fraction, whole};
use super::matching::string_matcher;
use crate::translate::values::duration;

pub fn fault(fault: &HttpFaultInjection) -> Option<HttpFault> {
    let made = HttpFault {
        delay: fault.delay.as_ref().and_then(delay),
        abort: fault.abort.as_ref().and_then(abort),
        ..Default::default()
    };
    (made.delay.is_some() || made.abort.is_some()).then_some(made)
}

/// Without a percentage it never happens (`istio-behaviour` rule 21).
fn delay(delay: &FaultDelay) -> Option<fault_common::FaultDelay> {
    let fixed = delay.fixed_delay?;
    let percentage = match &delay.percentage {
        Some(percent) => fraction(percent),
        None => whole(u32::try_from(delay.percent).unwrap_or_default()),
    };
    Some(fault_common::FaultDelay {
        fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(duration(
            fixed,
        ))),
        percentage: Some(percentage),
    })
}

fn abort(abort: &FaultAbort) -> Option<EnvoyAbort> {
    let error = match (abort.http_status, &abort.grpc_status) {
        (Some(status), _) => fault_abort::ErrorType::HttpStatus(u32::try_from(status).ok()?),
        (None, Some(status)) => fault_abort::ErrorType::GrpcStatus(grpc_status(status)?),
        (None, None) => return None,
    };
    Some(EnvoyAbort { error_type: Some(error), percentage: abort.percentage.as_ref().map(fraction) })
}

/// The gRPC specification's code of a name.
fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
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
    let code = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    u32::try_from(code).ok()
}

pub fn cors(policy: &CorsPolicy) -> EnvoyCorsPolicy {
    let origins = if policy.allow_origins.is_empty() {
        let exact = policy.allow_origin.iter().cloned().map(api::networking::StringMatch::Exact);
        exact.map(|origin| string_matcher(&origin)).collect()
    } else {
        policy.allow_origins.iter().map(string_matcher).collect()
    };
    EnvoyCorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: policy.allow_credentials,
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(whole(100)),
            ..Default::default()
        }),
        forward_not_matching_preflights: Some(policy.unmatched_preflights != UnmatchedPreflights::Ignore),
        ..Default::default()
    }
}
