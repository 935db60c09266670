//! A compiled cluster: how to reach the hosts of a destination, and within which limits.

mod compile;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::Serialize;

use crate::endpoints::{Endpoints, Host};
use crate::health_check::HealthCheck;
use crate::http2::Http2Settings;
use crate::route::Priority;
use crate::transport::UpstreamTransport;
pub use crate::upstream_protocol::{Hop, UpstreamHttp1, UpstreamProtocol};

/// A cluster's place in every snapshot of one [`crate::Config`]: index for per-worker state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ClusterId(pub(crate) u32);

impl ClusterId {
    /// Small and dense: fit to index a vector.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A cluster by name, whether it exists or not ([`crate::Snapshot::cluster`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterRef {
    #[serde(skip)]
    pub id: ClusterId,
    pub name: Arc<str>,
}

impl ClusterRef {
    /// A name no cluster has.
    pub(crate) fn none() -> &'static ClusterRef {
        static NONE: LazyLock<ClusterRef> =
            LazyLock::new(|| ClusterRef { id: ClusterId(u32::MAX), name: "".into() });
        &NONE
    }
}

#[derive(Debug, Serialize)]
pub struct Cluster {
    pub name: Arc<str>,
    pub kind: ClusterKind,
    /// Name of its `ClusterLoadAssignment` for EDS clusters (`service_name`, else the cluster's name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eds_name: Option<Arc<str>>,
    /// TCP and TLS together. Envoy's default 5 s.
    pub connect_timeout: Duration,
    pub lb: LbPolicy,
    /// Percentage of healthy hosts below which health is ignored; 0 = never. Envoy's default 50, Istio
    /// sends 0 beside outlier detection.
    pub panic_threshold: f64,
    /// Weigh localities by their weights.
    pub locality_weighted: bool,
    pub close_connections_on_host_set_change: bool,
    pub close_connections_on_host_health_failure: bool,
    /// By [`Priority`]: default, high.
    pub breakers: [Breakers; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier: Option<OutlierDetection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// A host that is no longer named leaves at once; else one that passes its health checks stays until it fails them.
    pub ignore_health_on_host_removal: bool,
    pub transport: UpstreamTransport,
    /// The first whose criteria the host's `envoy.transport_socket_match` metadata meets.
    pub transport_matches: Vec<TransportMatch>,
    pub protocol: UpstreamProtocol,
    /// Of HTTP/1 connections to hosts.
    pub http1: UpstreamHttp1,
    /// Of HTTP/2 connections to hosts.
    pub http2: Http2Settings,
    /// `None` = without limit.
    pub max_requests_per_connection: Option<u32>,
    /// Of a connection without an exchange; `None` = for ever. Envoy's default 1 h.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// Of a request to a host, from its head to the end of the response: then it is reset, flag UMSDR.
    pub max_stream_duration: Option<Duration>,
    /// Fields in a response's head. Envoy's default 100.
    pub max_headers_count: u32,
    pub buffer_limit: Option<u32>,
    pub auto_sni: bool,
    pub auto_san_validation: bool,
    /// Source address of upstream connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<SocketAddr>,
    pub keepalive: Option<Keepalive>,
    pub original_dst: OriginalDst,
    pub dns: Dns,
    /// `metadata.istio.services[0]`: for the labels of metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceLabels>,
    /// Somebody counts on HTTP/1's "a request, a connection".
    #[serde(skip)]
    pub(crate) counts_connections: bool,
    #[serde(skip)]
    pub(crate) assignment: Option<Arc<Endpoints>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterKind {
    Static,
    /// Every address of the name is a host.
    StrictDns,
    /// The name is one host, at its first address.
    LogicalDns,
    Eds,
    /// The host is the connection's original destination.
    OriginalDst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LbPolicy {
    RoundRobin,
    Random,
    /// The least loaded of so many picked at random (Envoy's default 2).
    LeastRequest {
        choices: u32,
    },
    /// By the cluster itself: original destination.
    ClusterProvided,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Breakers {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RetryBudget {
    /// Of active and pending requests.
    pub percent: f64,
    pub min_concurrency: u32,
}

impl Breakers {
    /// Whether one more retry may run beside `retries`, with `active` requests in flight or pending. The
    /// budget, where there is one, takes the place of `max_retries`.
    pub fn allows_retry(&self, retries: u32, active: u32) -> bool {
        let most = match self.retry_budget {
            // Rounded down, never negative.
            Some(b) => ((b.percent / 100.0 * f64::from(active)) as u32).max(b.min_concurrency),
            None => self.max_retries,
        };
        retries < most
    }
}

/// Envoy's outlier detection with its defaults filled in. Percentages are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OutlierDetection {
    pub consecutive_5xx: u32,
    pub enforcing_consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub split_local_origin: bool,
    pub consecutive_local_origin_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    pub max_ejection_time_jitter: Duration,
    pub max_ejection_percent: u32,
    pub always_eject_one_host: bool,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SuccessRate {
    pub enforcing: u32,
    pub enforcing_local_origin: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
    /// Thousandths.
    pub stdev_factor: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FailurePercentage {
    pub threshold: u32,
    pub enforcing: u32,
    pub enforcing_local_origin: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

#[derive(Debug, Serialize)]
pub struct TransportMatch {
    pub name: Arc<str>,
    criteria: Vec<(String, serde_json::Value)>,
    pub transport: UpstreamTransport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    pub probes: Option<u32>,
    /// Seconds.
    pub time: Option<u32>,
    pub interval: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OriginalDst {
    /// Take the address from this request header (lower case) if it is there.
    pub header: Option<Arc<str>>,
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Envoy's default 5 s.
    pub refresh: Duration,
    pub respect_ttl: bool,
    pub family: DnsFamily,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsFamily {
    /// IPv6 if there is any, else IPv4.
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceLabels {
    pub host: Arc<str>,
    pub name: Arc<str>,
    pub namespace: Arc<str>,
}

impl Cluster {
    pub fn breakers(&self, priority: Priority) -> &Breakers {
        let [default, high] = &self.breakers;
        match priority {
            Priority::Default => default,
            Priority::High => high,
        }
    }

    /// The transport of connections to this host.
    pub fn transport_to(&self, host: &Host) -> &UpstreamTransport {
        let fits = |m: &&TransportMatch| {
            m.criteria.iter().all(|(key, value)| host.transport_metadata.get(key) == Some(value))
        };
        self.transport_matches.iter().find(fits).map_or(&self.transport, |m| &m.transport)
    }
}
