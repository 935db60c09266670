//! Whether, and when, an attempt is made again.
use std::time::Duration;

use serde::Serialize;

use crate::proto;
use crate::refusal::{At, Compiled, each};
use crate::route_match::HeaderMatch;

/// Envoy's `RetryPolicy`.
#[derive(Debug)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// Attempts after the first. Envoy's default 1, Istio sends 2.
    pub retries: u32,
    pub per_try_timeout: Option<Duration>,
    pub per_try_idle_timeout: Option<Duration>,
    /// Never again a host already tried (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// How often another host is picked when the picked one was tried; at least 1.
    pub host_selection_attempts: u32,
    /// Leave a priority alone after so many attempts in it (`previous_priorities`).
    pub previous_priorities: Option<u32>,
    retriable_statuses: Vec<u16>,
    retriable_headers: Vec<HeaderMatch>,
    retriable_request_headers: Vec<HeaderMatch>,
    pub backoff: Backoff,
}

/// `retry_on`, by flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RetryOn {
    pub server_errors: bool,
    pub gateway_errors: bool,
    pub reset: bool,
    pub reset_before_request: bool,
    pub connect_failure: bool,
    pub rate_limited: bool,
    pub conflict: bool,
    pub refused_stream: bool,
    pub retriable_statuses: bool,
    pub retriable_headers: bool,
    pub grpc_cancelled: bool,
    pub grpc_deadline_exceeded: bool,
    pub grpc_internal: bool,
    pub grpc_resource_exhausted: bool,
    pub grpc_unavailable: bool,
}

/// Fully jittered exponential back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Backoff {
    /// Envoy's default 25 ms.
    pub base: Duration,
    /// Envoy's default ten times the base.
    pub max: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No connection (TCP, TLS, or its timeout).
    ConnectFailure,
    /// The connection or stream broke before a response began. `request_sent`: a byte of the request had
    /// left.
    Reset {
        request_sent: bool,
    },
    /// HTTP/2 REFUSED_STREAM, or a GOAWAY that left this stream out.
    RefusedStream,
    /// A response's head arrived. `grpc_status`: when it stands in the head (trailers-only).
    Response {
        status: u16,
        grpc_status: Option<u16>,
        rate_limited: bool,
        overloaded: bool,
    },
    PerTryTimeout,
    PerTryIdleTimeout,
    /// The route's timeout: never retried.
    RouteTimeout,
    /// Our own circuit breaker: never retried.
    Overflow,
    /// No host could be picked: never retried.
    NoHost,
}

/// The verdict, with why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    After(Duration),
    No(NoRetry),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoRetry {
    /// It succeeded.
    Success,
    /// The policy does not name this outcome.
    NotRetriable,
    /// `retriable_request_headers` do not match this request.
    RequestNotRetriable,
    /// All attempts made: flag URX, `upstream_rq_retry_limit_exceeded`.
    Exhausted,
}

impl RetryPolicy {
    pub(crate) fn compile(message: &xds::route::RetryPolicy) -> Compiled<RetryPolicy> {
        use xds::route::retry_policy::{retry_host_predicate, retry_priority};
        let (on, extra_statuses) = RetryOn::parse(&message.retry_on).at("retry_on")?;
        let mut avoid_previous_hosts = false;
        for (i, predicate) in message.retry_host_predicate.iter().enumerate() {
            let url = match &predicate.config_type {
                Some(retry_host_predicate::ConfigType::TypedConfig(any)) => any.type_url.as_str(),
                None => predicate.name.as_str(),
            };
            if !url.ends_with(".PreviousHostsPredicate")
                && url != "envoy.retry_host_predicates.previous_hosts"
            {
                return refuse!("{url:?} is not supported").at_index("retry_host_predicate", i);
            }
            avoid_previous_hosts = true;
        }
        let previous_priorities = match &message.retry_priority {
            None => None,
            Some(priority) => {
                let Some(retry_priority::ConfigType::TypedConfig(any)) = &priority.config_type else {
                    return refuse!("typed_config is required").at("retry_priority");
                };
                match xds::unpack::<xds::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig>(
                    any,
                ) {
                    Ok(config) => Some(u32::try_from(config.update_frequency).unwrap_or(1).max(1)),
                    Err(_) => return refuse!("{} is not supported", any.type_url).at("retry_priority"),
                }
            }
        };
        let mut retriable_statuses = extra_statuses;
        for (i, status) in message.retriable_status_codes.iter().enumerate() {
            match u16::try_from(*status) {
                Ok(status) => retriable_statuses.push(status),
                Err(_) => return refuse!("{status} is no status").at_index("retriable_status_codes", i),
            }
        }
        Ok(RetryPolicy {
            on,
            retries: message.num_retries.unwrap_or(1),
            per_try_timeout: proto::nonzero_duration(message.per_try_timeout.as_ref())
                .at("per_try_timeout")?,
            per_try_idle_timeout: proto::nonzero_duration(message.per_try_idle_timeout.as_ref())
                .at("per_try_idle_timeout")?,
            avoid_previous_hosts,
            host_selection_attempts: u32::try_from(message.host_selection_retry_max_attempts)
                .unwrap_or(1)
                .max(1),
            previous_priorities,
            retriable_statuses,
            retriable_headers: each("retriable_headers", &message.retriable_headers, HeaderMatch::compile)?,
            retriable_request_headers: each(
                "retriable_request_headers",
                &message.retriable_request_headers,
                HeaderMatch::compile,
            )?,
            backoff: Backoff::compile(message.retry_back_off.as_ref()).at("retry_back_off")?,
        })
    }

    /// Whether a response of status below 400 may be one to try again.
    pub fn may_retry_success(&self) -> bool {
        self.on.retriable_headers && !self.retriable_headers.is_empty()
            || self.on.retriable_statuses && self.retriable_statuses.iter().any(|status| *status < 400)
    }

    /// Whether this request may be retried at all; asked once, when it arrives.
    pub fn allows<R: crate::RequestView + ?Sized>(&self, request: &R) -> bool {
        self.retries > 0
            && (self.retriable_request_headers.is_empty()
                || self.retriable_request_headers.iter().any(|h| h.matches(request)))
    }
}

impl RetryOn {
    /// Both HTTP and gRPC words; a number is a retriable status (Istio's form).
    fn parse(text: &str) -> Compiled<(RetryOn, Vec<u16>)> {
        let mut on = RetryOn::default();
        let mut statuses = Vec::new();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let flag = match word {
                "5xx" => &mut on.server_errors,
                "gateway-error" => &mut on.gateway_errors,
                "reset" => &mut on.reset,
                "reset-before-request" => &mut on.reset_before_request,
                "connect-failure" => &mut on.connect_failure,
                "envoy-ratelimited" => &mut on.rate_limited,
                "retriable-4xx" => &mut on.conflict,
                "refused-stream" => &mut on.refused_stream,
                "retriable-status-codes" => &mut on.retriable_statuses,
                "retriable-headers" => &mut on.retriable_headers,
                "cancelled" => &mut on.grpc_cancelled,
                "deadline-exceeded" => &mut on.grpc_deadline_exceeded,
                "internal" => &mut on.grpc_internal,
                "resource-exhausted" => &mut on.grpc_resource_exhausted,
                "unavailable" => &mut on.grpc_unavailable,
                // Only meets HTTP/3 upstreams, of which there are none here.
                "http3-post-connect-failure" => continue,
                number => match number.parse::<u16>() {
                    Ok(status) if (100..600).contains(&status) => {
                        statuses.push(status);
                        &mut on.retriable_statuses
                    }
                    _ => return refuse!("{word:?} is no retry condition"),
                },
            };
            *flag = true;
        }
        Ok((on, statuses))
    }
}

impl Backoff {
    fn compile(message: Option<&xds::route::retry_policy::RetryBackOff>) -> Compiled<Backoff> {
        let base = match message {
            None => None,
            Some(m) => proto::nonzero_duration(m.base_interval.as_ref()).at("base_interval")?,
        };
        let max = match message {
            None => None,
            Some(m) => proto::nonzero_duration(m.max_interval.as_ref()).at("max_interval")?,
        };
        let base = base.unwrap_or(Duration::from_millis(25));
        let max = max.unwrap_or(base.saturating_mul(10));
        if max < base {
            return refuse!("max_interval is below base_interval");
        }
        Ok(Backoff { base, max })
    }

    /// Uniform in `[0, min(base * 2^(attempt-1), max))`: what Envoy's code does (its document says
    /// `(2^N - 1) * base`). `attempt`: 1 for the first retry.
    pub fn wait(self, attempt: u32, random: u64) -> Duration {
        let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.max);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(random % nanos)
    }
}

/// Looks at the values of a response's header as [`crate::RequestView::any_value`] at those of a request's.
pub type AnyValue<'h> = &'h dyn Fn(&str, &mut dyn FnMut(&[u8]) -> bool) -> Option<bool>;

/// `attempt`: how many attempts were made, 1 after the first. `headers`: the response's, for
/// `retriable-headers`.
pub fn decide(
    policy: &RetryPolicy,
    attempt: u32,
    outcome: Outcome,
    headers: AnyValue<'_>,
    random: u64,
) -> Retry {
    if let Outcome::Response { status, grpc_status, .. } = outcome
        && status < 400
        && grpc_status.is_none_or(|s| s == 0)
        && !names(policy, outcome, headers)
    {
        return Retry::No(NoRetry::Success);
    }
    if !names(policy, outcome, headers) {
        return Retry::No(NoRetry::NotRetriable);
    }
    if attempt > policy.retries {
        return Retry::No(NoRetry::Exhausted);
    }
    Retry::After(policy.backoff.wait(attempt, random))
}

/// Whether the policy names the outcome (Envoy: `RetryStateImpl::wouldRetryFromHeaders`, `...FromReset`).
fn names(policy: &RetryPolicy, outcome: Outcome, headers: AnyValue<'_>) -> bool {
    let on = policy.on;
    match outcome {
        Outcome::RouteTimeout | Outcome::Overflow | Outcome::NoHost => false,
        Outcome::ConnectFailure => {
            on.connect_failure || on.server_errors || on.gateway_errors || on.reset || on.reset_before_request
        }
        Outcome::RefusedStream => {
            on.refused_stream || on.server_errors || on.gateway_errors || on.reset || on.reset_before_request
        }
        Outcome::Reset { request_sent } => {
            on.server_errors || on.gateway_errors || on.reset || (on.reset_before_request && !request_sent)
        }
        Outcome::PerTryTimeout | Outcome::PerTryIdleTimeout => {
            on.server_errors || on.gateway_errors || on.reset
        }
        // Envoy never retries a rate-limited answer unless asked; we hold the same for an answer a proxy
        // upstream marked as overloaded: retrying it makes the overload worse (SRE book, chapter 22).
        Outcome::Response { rate_limited: true, .. } => on.rate_limited,
        Outcome::Response { overloaded: true, .. } => false,
        Outcome::Response { status, grpc_status, .. } => {
            (on.server_errors && (500..600).contains(&status))
                || (on.gateway_errors && (502..=504).contains(&status))
                || (on.conflict && status == 409)
                || (on.retriable_statuses && policy.retriable_statuses.contains(&status))
                || (on.retriable_headers && policy.retriable_headers.iter().any(|h| h.matches_with(headers)))
                || grpc_status.is_some_and(|code| match code {
                    1 => on.grpc_cancelled,
                    4 => on.grpc_deadline_exceeded,
                    8 => on.grpc_resource_exhausted,
                    13 => on.grpc_internal,
                    14 => on.grpc_unavailable,
                    _ => false,
                })
        }
    }
}
