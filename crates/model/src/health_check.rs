//! Active health checks: what a host is asked, how often, and what its answers make of it.
//!
//! Pure: [`Judgement`] is the state kept of one host, [`HealthCheck::wait`] the time to its next check. Whoever has a
//! clock and sockets asks the hosts (`proxy`).
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::core::health_check as message;

use crate::headers::HeaderPlan;
use crate::proto;
use crate::refusal::{At, Compiled, each};

/// Envoy's `HealthCheck` with its defaults filled in.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// A check that has no answer by then has failed.
    pub timeout: Duration,
    pub interval: Duration,
    /// While the cluster has never had a connection for a request: instead of all other intervals.
    pub no_traffic_interval: Duration,
    /// The same, of hosts that pass.
    pub no_traffic_healthy_interval: Duration,
    pub unhealthy_interval: Duration,
    /// While a healthy host fails, and not often enough yet to count as unhealthy.
    pub unhealthy_edge_interval: Duration,
    /// While an unhealthy host passes, and not often enough yet to count as healthy.
    pub healthy_edge_interval: Duration,
    /// The first check of a host comes after up to so long.
    pub initial_jitter: Duration,
    pub interval_jitter: Duration,
    /// Of the interval.
    pub interval_jitter_percent: u32,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
    pub reuse_connection: bool,
    /// Every failure is told, not only the one that makes a host unhealthy.
    pub log_failures: bool,
    /// Every success is told.
    pub log_successes: bool,
    pub probe: Probe,
}

/// What a host is asked.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    Http(HttpProbe),
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
    /// A connection; what is sent on it, and what must come back: every block, in this order, with anything between.
    Tcp {
        send: Arc<[u8]>,
        receive: Vec<Arc<[u8]>>,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    /// Empty: the cluster's name.
    pub host: Arc<str>,
    pub path: Arc<str>,
    pub method: &'static str,
    pub headers: HeaderPlan,
    /// Statuses of a healthy host.
    pub expected: Vec<Range<u16>>,
    /// Statuses that count towards the threshold; all others make a host unhealthy at once.
    pub retriable: Vec<Range<u16>>,
    pub http2: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct GrpcProbe {
    pub service: Arc<str>,
    /// Empty: the cluster's name.
    pub authority: Arc<str>,
    pub metadata: HeaderPlan,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckResult {
    Passed,
    /// The host answered that it is not well: it is unhealthy at once.
    Failed,
    /// The host answered what counts towards the threshold.
    Retriable,
    /// No answer: a refused or broken connection, or the timeout. Counts towards the threshold.
    Network,
}

impl std::fmt::Display for CheckResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CheckResult::Passed => "it passes",
            CheckResult::Failed => "its answer says so",
            CheckResult::Retriable => "its answer counts as a failure",
            CheckResult::Network => "no answer",
        })
    }
}

/// What a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Unchanged,
    /// The other way more often than not yet enough.
    Pending,
    Changed,
}

/// What checks have made of one host. A host is unhealthy until it passes its first check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judgement {
    healthy: bool,
    checked: bool,
    passed: u32,
    failed: u32,
}

impl Judgement {
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Whether a check has ended.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// The host itself has said that it takes no requests, whatever checks have said. Whether that is news.
    pub fn withdraw(&mut self) -> bool {
        self.passed = 0;
        self.failed = 0;
        std::mem::take(&mut self.healthy)
    }

    /// Takes in how a check ended (Envoy: `ActiveHealthCheckSession::handleSuccess`, `setUnhealthy`).
    pub fn judge(&mut self, check: &HealthCheck, result: CheckResult) -> Transition {
        let first = !std::mem::replace(&mut self.checked, true);
        if result == CheckResult::Passed {
            self.failed = 0;
            if self.healthy {
                return Transition::Unchanged;
            }
            self.passed += 1;
            // The first check ever decides alone, so that a start is quick.
            if first || self.passed >= check.healthy_threshold {
                self.healthy = true;
                self.passed = 0;
                return Transition::Changed;
            }
            return Transition::Pending;
        }
        self.passed = 0;
        if !self.healthy {
            return Transition::Unchanged;
        }
        self.failed += 1;
        if result == CheckResult::Failed || self.failed >= check.unhealthy_threshold {
            self.healthy = false;
            self.failed = 0;
            return Transition::Changed;
        }
        Transition::Pending
    }
}

impl HealthCheck {
    /// Until the next check of a host (Envoy: `HealthCheckerImplBase::interval`). `passed`: the last one; `used`: the
    /// cluster has had a connection for a request.
    pub fn wait(&self, passed: bool, transition: Transition, used: bool, dice: [u64; 2]) -> Duration {
        let base = match (used, passed, transition) {
            (false, true, _) => self.no_traffic_healthy_interval,
            (false, false, _) => self.no_traffic_interval,
            (true, false, Transition::Pending) => self.unhealthy_edge_interval,
            (true, false, _) => self.unhealthy_interval,
            (true, true, Transition::Pending) => self.healthy_edge_interval,
            (true, true, _) => self.interval,
        };
        let [percent, fixed] = dice;
        let share = base.saturating_mul(self.interval_jitter_percent) / 100;
        base.saturating_add(part(share, percent)).saturating_add(part(self.interval_jitter, fixed))
    }

    /// Until the first check of a host.
    pub fn first_wait(&self, dice: u64) -> Duration {
        part(self.initial_jitter, dice)
    }

    pub(crate) fn compile(message: &xds::core::HealthCheck) -> Compiled<HealthCheck> {
        let required = |duration: Option<&xds::Duration>, name: &str| match proto::nonzero_duration(duration)
            .at(name)?
        {
            Some(duration) => Ok(duration),
            None => refuse!("is required and must be above 0").at(name),
        };
        let or = |duration: Option<&xds::Duration>, name: &str, default: Duration| match duration {
            None => Ok(default),
            duration => required(duration, name),
        };
        let jitter = |duration: Option<&xds::Duration>, name: &str| {
            Ok(proto::optional_duration(duration).at(name)?.unwrap_or_default())
        };
        let Some(unhealthy_threshold) = message.unhealthy_threshold else {
            return refuse!("is required").at("unhealthy_threshold");
        };
        let Some(healthy_threshold) = message.healthy_threshold else {
            return refuse!("is required").at("healthy_threshold");
        };
        let m = message;
        let interval = required(m.interval.as_ref(), "interval")?;
        let minute = Duration::from_secs(60);
        let no_traffic_interval = or(m.no_traffic_interval.as_ref(), "no_traffic_interval", minute)?;
        let unhealthy_interval = or(m.unhealthy_interval.as_ref(), "unhealthy_interval", interval)?;
        Ok(HealthCheck {
            timeout: required(m.timeout.as_ref(), "timeout")?,
            interval,
            no_traffic_interval,
            no_traffic_healthy_interval: or(
                m.no_traffic_healthy_interval.as_ref(),
                "no_traffic_healthy_interval",
                no_traffic_interval,
            )?,
            unhealthy_interval,
            unhealthy_edge_interval: or(
                m.unhealthy_edge_interval.as_ref(),
                "unhealthy_edge_interval",
                unhealthy_interval,
            )?,
            healthy_edge_interval: or(m.healthy_edge_interval.as_ref(), "healthy_edge_interval", interval)?,
            initial_jitter: jitter(m.initial_jitter.as_ref(), "initial_jitter")?,
            interval_jitter: jitter(m.interval_jitter.as_ref(), "interval_jitter")?,
            interval_jitter_percent: m.interval_jitter_percent,
            unhealthy_threshold,
            healthy_threshold,
            reuse_connection: m.reuse_connection.unwrap_or(true),
            log_failures: m.always_log_health_check_failures,
            log_successes: m.always_log_health_check_success,
            probe: probe(message)?,
        })
    }
}

/// A random part of a duration.
fn part(of: Duration, dice: u64) -> Duration {
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(dice.checked_rem(nanos).unwrap_or(0))
}

fn probe(check: &xds::core::HealthCheck) -> Compiled<Probe> {
    use message::HealthChecker as C;
    match &check.health_checker {
        Some(C::HttpHealthCheck(http)) => http_probe(http).map(Probe::Http).at("http_health_check"),
        Some(C::GrpcHealthCheck(grpc)) => Ok(Probe::Grpc(GrpcProbe {
            service: grpc.service_name.as_str().into(),
            authority: grpc.authority.as_str().into(),
            metadata: HeaderPlan::compile("request", &grpc.initial_metadata, &[])
                .at("grpc_health_check.initial_metadata")?,
        })),
        Some(C::TcpHealthCheck(tcp)) => {
            let send = tcp.send.as_ref().map(payload).transpose().at("tcp_health_check.send")?;
            let receive = each("receive", &tcp.receive, payload).at("tcp_health_check")?;
            Ok(Probe::Tcp { send: send.unwrap_or_default(), receive })
        }
        Some(C::CustomHealthCheck(_)) => refuse!("is not supported").at("custom_health_check"),
        None => refuse!("a health checker is required"),
    }
}

fn http_probe(http: &message::HttpHealthCheck) -> Compiled<HttpProbe> {
    let clean = |text: &str| !text.bytes().any(|b| b.is_ascii_control());
    if http.path.is_empty() || !clean(&http.path) || http.path.contains(' ') {
        return refuse!("must be a path").at("path");
    }
    if !clean(&http.host) {
        return refuse!("must not hold control characters").at("host");
    }
    let expected = each("expected_statuses", &http.expected_statuses, statuses)?;
    Ok(HttpProbe {
        host: http.host.as_str().into(),
        path: http.path.as_str().into(),
        method: method(http.method())?,
        headers: HeaderPlan::compile(
            "request",
            &http.request_headers_to_add,
            &http.request_headers_to_remove,
        )?,
        expected: if expected.is_empty() { std::iter::once(200..201).collect() } else { expected },
        retriable: each("retriable_statuses", &http.retriable_statuses, statuses)?,
        http2: match http.codec_client_type() {
            xds::types::CodecClientType::Http1 => false,
            xds::types::CodecClientType::Http2 => true,
            xds::types::CodecClientType::Http3 => {
                return refuse!("HTTP3 is not supported").at("codec_client_type");
            }
        },
    })
}

fn method(method: xds::core::RequestMethod) -> Compiled<&'static str> {
    use xds::core::RequestMethod as M;
    match method {
        M::MethodUnspecified | M::Get => Ok("GET"),
        M::Head => Ok("HEAD"),
        M::Post => Ok("POST"),
        M::Put => Ok("PUT"),
        M::Delete => Ok("DELETE"),
        M::Options => Ok("OPTIONS"),
        M::Trace => Ok("TRACE"),
        M::Patch => Ok("PATCH"),
        // As Envoy: there is nothing to check by it.
        M::Connect => refuse!("CONNECT is not allowed").at("method"),
    }
}

fn statuses(range: &xds::types::Int64Range) -> Compiled<Range<u16>> {
    match (u16::try_from(range.start), u16::try_from(range.end)) {
        (Ok(start), Ok(end)) if start < end && start >= 100 && end <= 600 => Ok(start..end),
        _ => refuse!("must lie within [100, 600) and not be empty"),
    }
}

/// Bytes, or hexadecimal text.
fn payload(payload: &message::Payload) -> Compiled<Arc<[u8]>> {
    match &payload.payload {
        Some(message::payload::Payload::Binary(bytes)) => Ok(bytes.as_slice().into()),
        Some(message::payload::Payload::Text(text)) => match hex(text) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes.into()),
            _ => refuse!("{text:?} is not hexadecimal").at("text"),
        },
        None => refuse!("a payload is required"),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
#[path = "health_check_tests.rs"]
mod tests;
