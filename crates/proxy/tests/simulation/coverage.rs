//! What was reached, counted: a simulation that does not get somewhere proves nothing about it.

use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub fn met(&mut self, point: &'static str) {
        *self.0.entry(point).or_default() += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        for (point, count) in &other.0 {
            *self.0.entry(point).or_default() += count;
        }
    }

    /// What of [`REQUIRED`] was never met.
    pub fn missed(&self) -> Vec<&'static str> {
        REQUIRED.iter().filter(|point| !self.0.contains_key(**point)).copied().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(point, count)| (*point, *count))
    }
}

/// What a long run must have met: who did what in which phase, and what a worker did sometimes.
pub const REQUIRED: &[&str] = &[
    "h1 client resets in head",
    "h1 client resets in body",
    "h1 client resets while waiting",
    "h1 client resets in the answer",
    "h1 client half-closes",
    "h1 client stalls in head",
    "h1 client stalls in body",
    "h1 client never reads",
    "h1 client asks ahead",
    "h1 client gets gRPC-Web",
    "h1 client gets gRPC-Web in base64",
    "h1 crowd",
    "visitors come and go",
    "h1 flood that reads nothing",
    "h2 flood that reads nothing",
    "h1 flood of long log lines",
    "h2 client resets a stream in its body",
    "h2 client resets a stream while waiting",
    "h2 client resets a stream in the answer",
    "h2 client stalls in body",
    "h2 client gives back no window",
    "h2 client stays idle",
    "raw client half-closes",
    "raw client resets",
    "raw client stalls",
    "raw client never reads",
    "upgraded",
    "connected by CONNECT",
    "h1 host answers",
    "h1 host resets first",
    "h1 host closes first",
    "h1 host resets within its answer",
    "h1 host closes within its answer",
    "h1 host sends too much",
    "h1 host answers what is no HTTP",
    "h1 host is dead",
    "h1 host answers early",
    "h1 host is unavailable",
    "h2 host is asked",
    "h2 host resets first",
    "h2 host closes",
    "h2 host resets within its answer",
    "h2 host is dead",
    "h2 host is unavailable",
    "a copy is asked of its host",
    "a host of copies is dead",
    "a host of copies resets",
    "a host of copies answers what is no HTTP",
    "raw host is dead",
    "raw host resets",
    "raw host closes",
    "a connect is refused",
    "a connect is swallowed",
    "no descriptors to accept",
    "no descriptors to connect",
    "configuration changes",
    "listeners drained",
    "a worker stopped",
    "time of day jumps",
    "log sink blocks",
    "sometimes: tried again",
    "sometimes: a breaker is full",
    "sometimes: a request waits for a connection",
    "sometimes: a client is too slow with its head",
    "sometimes: a stream is idle for too long",
    "sometimes: a connect takes too long",
    "sometimes: a host is ejected",
    "sometimes: log lines are dropped",
    "sometimes: over the multiplexed hop",
    "sometimes: the memory budget is spent",
    "sometimes: two workers of a proxy serve",
];

/// Counters by which a point is known to be met.
pub const COUNTED: &[(&str, &str)] = &[
    ("envoy_cluster_upstream_rq_retry", "sometimes: tried again"),
    ("envoy_cluster_upstream_rq_pending_overflow", "sometimes: a breaker is full"),
    ("envoy_cluster_upstream_rq_pending_total", "sometimes: a request waits for a connection"),
    ("envoy_http_downstream_rq_header_timeout", "sometimes: a client is too slow with its head"),
    ("envoy_http_downstream_rq_idle_timeout", "sometimes: a stream is idle for too long"),
    ("envoy_cluster_upstream_cx_connect_timeout", "sometimes: a connect takes too long"),
    ("envoy_cluster_outlier_detection_ejections_enforced_total", "sometimes: a host is ejected"),
    ("envoy_http_downstream_rq_overload_close", "sometimes: the memory budget is spent"),
    ("filamesh_access_log_dropped_lines_total", "sometimes: log lines are dropped"),
];
