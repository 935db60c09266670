//! Istio's standard metrics: exact names, all labels, Istio's fill rules.
//!
//! A caller keeps one [`RequestSeries`] per pair of peers (and service and protocol); recording a
//! request is then one comparison for (status, flags, gRPC status) and eight adds.
//!
//! Where a rule is stated without a source it is what Istio's `istio_stats` filter does.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use crate::Flags;
use crate::metrics::{Buckets, Column, Counter, Kind, Labels, Origin, Registry, Shard, TableId};

/// One side of a request. Empty text means "not known" and is filled in by Istio's rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    pub workload: String,
    pub namespace: String,
    /// The SPIFFE id with its scheme, `spiffe://cluster.local/ns/default/sa/sleep`.
    pub principal: String,
    pub app: String,
    pub version: String,
    pub canonical_service: String,
    /// Filled with `latest`, the others with `unknown`.
    pub canonical_revision: String,
    pub cluster: String,
}

/// Which side of the hop reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    Source,
    Destination,
    Waypoint,
}

impl Reporter {
    pub fn as_str(self) -> &'static str {
        match self {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
            Reporter::Waypoint => "waypoint",
        }
    }
}

/// The application protocol of a [`RequestSeries`]; TCP has its own series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    Http,
    Grpc,
}

/// What a series is about, apart from how each request ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesKey {
    pub reporter: Reporter,
    pub source: Arc<Peer>,
    pub destination: Arc<Peer>,
    /// The host of the destination's service, `reviews.default.svc.cluster.local`. Where no service is
    /// known and the reporter is an outbound sidecar this is the request's Host header; inbound and
    /// gateways leave it empty.
    pub service_host: String,
    /// The service's short name, or `PassthroughCluster`, `BlackHoleCluster`,
    /// `InboundPassthroughCluster` for unmatched traffic.
    pub service_name: String,
    /// Whether the connection the reporter accepted was mutual TLS. The client side reports `unknown`
    /// whatever it is set to, as in Istio.
    pub mutual_tls: bool,
}

/// How one HTTP or gRPC request ended.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// 0 when the client left before there was one.
    pub code: u16,
    pub flags: Flags,
    /// From trailers or headers; only gRPC series show it.
    pub grpc_status: Option<u8>,
    pub duration: Duration,
    /// Bytes on the downstream connection, heads included.
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// How principals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Principals {
    /// `spiffe://cluster.local/ns/…`: what Istio's dashboards filter for.
    #[default]
    Spiffe,
    /// `cluster.local/ns/…`: what Istio before 1.4 wrote.
    Bare,
}

/// The standard metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct IstioMetrics {
    registry: Registry,
    principals: Principals,
    requests: TableId,
    tcp: TableId,
    duration: Arc<Buckets>,
    bytes: Arc<Buckets>,
}

/// Labels that overflow rows keep: mesh-wide rates and success stay right past the bound.
const KEPT: &[&str] = &["reporter", "response_code"];

impl IstioMetrics {
    /// Istio's buckets.
    pub fn new(registry: &Registry, principals: Principals) -> IstioMetrics {
        IstioMetrics::with_buckets(registry, principals, Buckets::istio_duration(), Buckets::istio_bytes())
    }

    /// Other buckets, as the annotation `sidecar.istio.io/statsHistogramBuckets` asks for. `duration`
    /// observes microseconds.
    pub fn with_buckets(
        registry: &Registry,
        principals: Principals,
        duration: Buckets,
        bytes: Buckets,
    ) -> IstioMetrics {
        let (duration, bytes) = (Arc::new(duration), Arc::new(bytes));
        let histogram =
            |name, help, buckets: &Arc<Buckets>| Column::new(name, help, Kind::Histogram(buckets.clone()));
        let counter = |name, help| Column::new(name, help, Kind::Counter);
        let requests = registry.table(
            vec![
                counter("istio_requests_total", "Requests handled."),
                histogram("istio_request_duration_milliseconds", "Duration of requests.", &duration),
                histogram("istio_request_bytes", "Size of requests, heads included.", &bytes),
                histogram("istio_response_bytes", "Size of responses, heads included.", &bytes),
            ],
            KEPT,
            Origin::Traffic,
        );
        let tcp = registry.table(
            vec![
                counter("istio_tcp_sent_bytes_total", "Bytes sent to the client of TCP connections."),
                counter(
                    "istio_tcp_received_bytes_total",
                    "Bytes received from the client of TCP connections.",
                ),
                counter("istio_tcp_connections_opened_total", "TCP connections opened."),
                counter("istio_tcp_connections_closed_total", "TCP connections closed."),
            ],
            KEPT,
            Origin::Traffic,
        );
        IstioMetrics { registry: registry.clone(), principals, requests, tcp, duration, bytes }
    }

    /// Announces `istio_build{component,tag} 1`.
    pub fn build(&self, component: &str, tag: &str) {
        let tag = known(tag);
        self.registry.info(
            "istio_build",
            "Istio component build info.",
            &[("component", component), ("tag", tag)],
        );
    }

    /// The series of a peer pair's requests. It caches, so keep it; it is for one worker.
    pub fn requests(&self, key: &SeriesKey, protocol: RequestProtocol) -> RequestSeries {
        let render = |keep: Option<&[&str]>| {
            let mut labels = self.peers(key, keep);
            let name = if protocol == RequestProtocol::Grpc { "grpc" } else { "http" };
            labels.push("request_protocol", shown("request_protocol", name, keep));
            labels
        };
        RequestSeries {
            metrics: self.clone(),
            protocol,
            security: security_policy(key),
            labels: render(None),
            overflow_labels: render(Some(KEPT)),
            last: Cell::new((u64::MAX, 0)),
            known: RefCell::default(),
        }
    }

    /// The counters of TCP connections between two peers that ended (so far) with `flags`.
    pub fn tcp(&self, key: &SeriesKey, flags: Flags) -> TcpSeries {
        let flags = flags.to_string();
        let render = |keep: Option<&[&str]>| {
            let mut labels = self.peers(key, keep);
            labels
                .push("request_protocol", shown("request_protocol", "tcp", keep))
                .push("response_flags", shown("response_flags", &flags, keep))
                .push(
                    "connection_security_policy",
                    shown("connection_security_policy", security_policy(key), keep),
                );
            labels
        };
        let row = self.registry.intern(self.tcp, render(None).as_str(), "", |kept| render(Some(kept)));
        TcpSeries {
            sent: row.counter(0),
            received: row.counter(1),
            opened: row.counter(2),
            closed: row.counter(3),
        }
    }

    /// The labels of both peers and the service, in the order of Istio's filter. With `keep` only
    /// those keep their values.
    fn peers(&self, key: &SeriesKey, keep: Option<&[&str]>) -> Labels {
        let (source, destination) = (&*key.source, &*key.destination);
        // The remote peer's namespace comes from its certificate where there is one: metadata is
        // what the peer says about itself.
        let from_source = key.reporter == Reporter::Source;
        let namespace = |peer: &'_ Peer, remote: bool| {
            let proven = if remote { spiffe_namespace(&peer.principal) } else { None };
            proven.map_or_else(|| known(&peer.namespace).to_owned(), str::to_owned)
        };
        let source_namespace = namespace(source, !from_source);
        let destination_namespace = namespace(destination, from_source);
        // The reporting server falls back to its own canonical name; the reporting client does not know the server's.
        let fallback = if from_source { "" } else { destination.canonical_service.as_str() };
        let service = |name: &'_ str| known(if name.is_empty() { fallback } else { name }).to_owned();
        let mut labels = Labels::new(self.registry.limits().label_value_bytes);
        for (name, value) in [
            ("reporter", key.reporter.as_str()),
            ("source_workload", known(&source.workload)),
            ("source_canonical_service", known(&source.canonical_service)),
            ("source_canonical_revision", latest(&source.canonical_revision)),
            ("source_workload_namespace", &source_namespace),
            ("source_principal", self.principal(source)),
            ("source_app", known(&source.app)),
            ("source_version", known(&source.version)),
            ("source_cluster", known(&source.cluster)),
            ("destination_workload", known(&destination.workload)),
            ("destination_workload_namespace", &destination_namespace),
            ("destination_principal", self.principal(destination)),
            ("destination_app", known(&destination.app)),
            ("destination_version", known(&destination.version)),
            ("destination_service", &service(&key.service_host)),
            ("destination_canonical_service", known(&destination.canonical_service)),
            ("destination_canonical_revision", latest(&destination.canonical_revision)),
            ("destination_service_name", &service(&key.service_name)),
            ("destination_service_namespace", &destination_namespace),
            ("destination_cluster", known(&destination.cluster)),
        ] {
            labels.push(name, shown(name, value, keep));
        }
        labels
    }

    fn principal<'a>(&self, peer: &'a Peer) -> &'a str {
        match self.principals {
            Principals::Spiffe => known(&peer.principal),
            Principals::Bare => known(peer.principal.strip_prefix("spiffe://").unwrap_or(&peer.principal)),
        }
    }
}

/// Requests between two peers, one row per way of ending.
pub struct RequestSeries {
    metrics: IstioMetrics,
    protocol: RequestProtocol,
    security: &'static str,
    labels: Labels,
    overflow_labels: Labels,
    /// The ending last seen and its row: nearly every request ends like the one before.
    last: Cell<(u64, u32)>,
    known: RefCell<Vec<(u64, u32)>>,
}

/// Endings one series tells apart. A server that answers every code there is cannot make the lookup
/// of a request slow.
const MAX_ENDINGS: usize = 128;

impl RequestSeries {
    /// Counts one request.
    #[inline]
    pub fn record(&self, shard: &Shard, request: &Request) {
        let ending = self.pack(request);
        let (last, row) = self.last.get();
        let base = if last == ending { row } else { self.find(ending, request) };
        let (duration, bytes) = (&*self.metrics.duration, &*self.metrics.bytes);
        let cells = shard.block(base, 1 + duration.cells() + 2 * bytes.cells());
        let Some((count, cells)) = cells.split_first() else { return };
        let (durations, sizes) = cells.split_at(duration.cells());
        let (received, sent) = sizes.split_at(bytes.cells());
        crate::metrics::bump(count, 1);
        let micros = u64::try_from(request.duration.as_micros()).unwrap_or(u64::MAX);
        crate::metrics::observe(durations, duration, micros);
        crate::metrics::observe(received, bytes, request.received_bytes);
        crate::metrics::observe(sent, bytes, request.sent_bytes);
    }

    /// Code, gRPC status and flags in one number; never `u64::MAX`, whose flags do not exist.
    fn pack(&self, request: &Request) -> u64 {
        let grpc = match (self.protocol, request.grpc_status) {
            (RequestProtocol::Grpc, Some(status)) => u64::from(status),
            _ => 0x100,
        };
        u64::from(request.flags.bits()) | u64::from(request.code) << 32 | grpc << 48
    }

    #[cold]
    fn find(&self, ending: u64, request: &Request) -> u32 {
        let mut known = self.known.borrow_mut();
        let base = match known.iter().find(|(seen, _)| *seen == ending) {
            Some((_, base)) => *base,
            None if known.len() < MAX_ENDINGS => {
                let base = self.intern(request);
                known.push((ending, base));
                base
            }
            None => self.intern(request),
        };
        self.last.set((ending, base));
        base
    }

    fn intern(&self, request: &Request) -> u32 {
        let full = self.render(&self.labels, request, None);
        let metrics = &self.metrics;
        metrics
            .registry
            .intern(metrics.requests, full.as_str(), "", |kept| {
                self.render(&self.overflow_labels, request, Some(kept))
            })
            .base
    }

    fn render(&self, head: &Labels, request: &Request, keep: Option<&[&str]>) -> Labels {
        let code = request.code.to_string();
        let grpc = match (self.protocol, request.grpc_status) {
            (RequestProtocol::Grpc, Some(status)) => status.to_string(),
            _ => String::new(),
        };
        let flags = request.flags.to_string();
        let mut labels = head.clone();
        for (name, value) in [
            ("response_code", code.as_str()),
            ("grpc_response_status", &grpc),
            ("response_flags", &flags),
            ("connection_security_policy", self.security),
        ] {
            labels.push(name, shown(name, value, keep));
        }
        labels
    }
}

/// TCP connections between two peers.
#[derive(Debug, Clone, Copy)]
pub struct TcpSeries {
    sent: Counter,
    received: Counter,
    opened: Counter,
    closed: Counter,
}

impl TcpSeries {
    pub fn opened(&self, shard: &Shard) {
        shard.inc(self.opened);
    }

    pub fn closed(&self, shard: &Shard) {
        shard.inc(self.closed);
    }

    /// Bytes since the last report (Istio reports every 5 s and at the end), seen from the accepted
    /// connection: `sent` went to the client.
    pub fn transferred(&self, shard: &Shard, sent: u64, received: u64) {
        shard.add(self.sent, sent);
        shard.add(self.received, received);
    }
}

fn shown<'a>(name: &str, value: &'a str, keep: Option<&[&str]>) -> &'a str {
    match keep {
        Some(kept) if !kept.contains(&name) => crate::metrics::OVERFLOW,
        _ => value,
    }
}

fn security_policy(key: &SeriesKey) -> &'static str {
    match (key.reporter, key.mutual_tls) {
        (Reporter::Source, _) => "unknown",
        (_, true) => "mutual_tls",
        (_, false) => "none",
    }
}

fn known(value: &str) -> &str {
    if value.is_empty() { "unknown" } else { value }
}

fn latest(value: &str) -> &str {
    if value.is_empty() { "latest" } else { value }
}

/// The namespace in `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
fn spiffe_namespace(principal: &str) -> Option<&str> {
    let mut parts = principal.strip_prefix("spiffe://")?.split('/');
    parts.next()?;
    (parts.next()? == "ns").then(|| parts.next()).flatten().filter(|namespace| !namespace.is_empty())
}

#[cfg(test)]
mod tests;
