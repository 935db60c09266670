//! Envoy's statistics of clusters, listeners and connection managers, under the names and labels they
//! have in Istio's Prometheus output (Istio's bootstrap extracts `cluster_name`, `response_code_class`
//! and so on from Envoy's dotted names) and in `/stats`.
//!
//! Handles are plain numbers: `shard.inc(cluster.upstream_rq_total)`. Make them once per worker and
//! thing, not per request.
//!
//! What is declared here is exported, as 0 until somebody counts: so only what somebody counts is
//! declared, and `crates/testkit/tests/statistics.rs` looks for the place.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use crate::metrics::{
    Buckets, Column, Counter, Gauge, Histogram, Kind, Labels, Origin, Registry, Row, Shard, TableId,
};

/// The tables of all these statistics. Cheap to clone.
#[derive(Clone)]
pub struct EnvoyStats {
    registry: Registry,
    clusters: TableId,
    cluster_codes: TableId,
    listeners: TableId,
    http: TableId,
    tcp: TableId,
}

impl EnvoyStats {
    pub fn new(registry: &Registry) -> EnvoyStats {
        let codes = Column::new("envoy_cluster_upstream_rq", UPSTREAM_RQ, Kind::Counter);
        EnvoyStats {
            registry: registry.clone(),
            clusters: registry.table(ClusterStats::columns(), &[], Origin::Configuration),
            cluster_codes: registry.table(vec![codes], &["response_code"], Origin::Configuration),
            listeners: registry.table(ListenerStats::columns(), &[], Origin::Configuration),
            http: registry.table(HttpStats::columns(), &[], Origin::Configuration),
            tcp: registry.table(TcpStats::columns(), &[], Origin::Configuration),
        }
    }

    /// The statistics of a cluster, by its full name (`outbound|9080||reviews.default.svc.cluster.local`).
    pub fn cluster(&self, name: &str) -> ClusterStats {
        let row = self.registry.row(self.clusters, &[("cluster_name", name)], &format!("cluster.{name}."));
        ClusterStats::of(&row)
    }

    /// The per-code counters of a cluster's responses. One worker's: it caches.
    pub fn cluster_codes(&self, name: &str) -> ClusterCodes {
        ClusterCodes {
            stats: self.clone(),
            name: name.into(),
            cluster: self.cluster(name),
            codes: RefCell::default(),
        }
    }

    /// Statistics nobody is shown: of connections that serve no requests.
    pub fn unseen_cluster(&self) -> ClusterCodes {
        const NAME: &str = "(unseen)";
        let codes = self.cluster_codes(NAME);
        self.forget_cluster(NAME);
        codes
    }

    /// Stops showing a cluster that configuration removed. Asked for again, it is shown again and
    /// counts on.
    pub fn forget_cluster(&self, name: &str) {
        let mut labels = Labels::new(self.registry.limits().label_value_bytes);
        let cluster = labels.push("cluster_name", name).as_str();
        let with_code = format!(",{cluster}");
        for table in [self.clusters, self.cluster_codes] {
            self.registry.hide(table, |labels| labels == cluster || labels.ends_with(&with_code));
        }
    }

    /// Shows the statistics of these listeners (by address), HTTP connection managers and TCP proxies (by
    /// `stat_prefix`), which are all there are, and stops showing what configuration removed. Back again,
    /// it counts on.
    pub fn show_only<'a>(
        &self,
        listeners: impl Iterator<Item = String>,
        http: impl Iterator<Item = &'a str>,
        tcp: impl Iterator<Item = &'a str>,
    ) {
        let limit = self.registry.limits().label_value_bytes;
        let label = |name: &str, value: &str| Labels::new(limit).push(name, value).as_str().to_owned();
        let listeners = listeners.map(|address| label("listener_address", &stat_address(&address)));
        self.registry.show_only(self.listeners, &listeners.collect());
        let http = http.map(|prefix| label("http_conn_manager_prefix", prefix));
        self.registry.show_only(self.http, &http.collect());
        let tcp = tcp.map(|prefix| label("tcp_prefix", prefix));
        self.registry.show_only(self.tcp, &tcp.collect());
    }

    /// The statistics of a listener, by the address it listens on (`0.0.0.0:15006`).
    pub fn listener(&self, address: &str) -> ListenerStats {
        let address = stat_address(address);
        let prefix = format!("listener.{address}.");
        ListenerStats::of(&self.registry.row(self.listeners, &[("listener_address", &address)], &prefix))
    }

    /// The statistics of an HTTP connection manager, by its `stat_prefix`.
    pub fn http(&self, stat_prefix: &str) -> HttpStats {
        let label = [("http_conn_manager_prefix", stat_prefix)];
        HttpStats::of(&self.registry.row(self.http, &label, &format!("http.{stat_prefix}.")))
    }

    /// The statistics of a TCP proxy, by its `stat_prefix`.
    pub fn tcp(&self, stat_prefix: &str) -> TcpStats {
        TcpStats::of(&self.registry.row(
            self.tcp,
            &[("tcp_prefix", stat_prefix)],
            &format!("tcp.{stat_prefix}."),
        ))
    }
}

/// Envoy replaces the colons of addresses inside stat names.
fn stat_address(address: &str) -> String {
    address.replace(':', "_")
}

const UPSTREAM_RQ: &str = "Responses by code and by class of code.";

/// Declares a set of statistics: the struct of handles, the columns behind it.
macro_rules! stats {
    (
        $(#[$doc:meta])* $name:ident, $prefix:literal;
        $($kind:ident $field:ident $stat:literal $help:literal;)*
        $(=> $classes:ident $class_stat:literal $class_help:ident;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $(#[doc = $help] pub $field: $kind,)*
            $(#[doc = "Responses by class, 1xx first."] pub $classes: [Counter; 5],)*
        }

        impl $name {
            fn columns() -> Vec<Column> {
                let fields = vec![$(column(
                    concat!("envoy_", $prefix, "_", stringify!($field)), $stat, $help, kind_of(stringify!($kind)),
                )),*];
                let classes: Vec<[Column; 5]> = vec![$(CLASSES.map(|class| Column {
                    label: Some(("response_code_class", class)),
                    ..column(
                        concat!("envoy_", $prefix, "_", stringify!($classes)),
                        format!("{}_{class}", $class_stat), $class_help, Kind::Counter,
                    )
                })),*];
                fields.into_iter().chain(classes.into_iter().flatten()).collect()
            }

            fn of(row: &Row) -> $name {
                let mut columns = 0..;
                let mut next = || columns.next().unwrap_or(usize::MAX);
                $name {
                    $($field: $kind::of(row, next()),)*
                    $($classes: std::array::from_fn(|_| row.counter(next())),)*
                }
            }
        }
    };
}

stats! {
    /// One cluster's traffic as seen by this proxy.
    ClusterStats, "cluster";
    Counter upstream_cx_total "upstream_cx_total" "Connections made.";
    Gauge upstream_cx_active "upstream_cx_active" "Connections open.";
    Counter upstream_cx_http1_total "upstream_cx_http1_total" "HTTP/1 connections made.";
    Counter upstream_cx_http2_total "upstream_cx_http2_total" "HTTP/2 connections made.";
    Counter upstream_cx_connect_fail "upstream_cx_connect_fail" "Connections that failed to open.";
    Counter upstream_cx_connect_timeout "upstream_cx_connect_timeout" "Connections that took too long to open.";
    Counter upstream_cx_overflow "upstream_cx_overflow" "Times the connection limit was met.";
    Counter upstream_cx_destroy "upstream_cx_destroy" "Connections closed.";
    Counter upstream_cx_destroy_local_with_active_rq "upstream_cx_destroy_local_with_active_rq" "Connections this side closed with a request on them.";
    Counter upstream_cx_destroy_remote_with_active_rq "upstream_cx_destroy_remote_with_active_rq" "Connections the other side closed with a request on them.";
    Counter upstream_cx_idle_timeout "upstream_cx_idle_timeout" "Connections closed for idleness.";
    Counter upstream_cx_max_requests "upstream_cx_max_requests" "Connections closed for their number of requests.";
    Counter upstream_cx_none_healthy "upstream_cx_none_healthy" "Requests without a healthy host.";
    Counter upstream_cx_protocol_error "upstream_cx_protocol_error" "Connections with malformed responses.";
    Counter upstream_cx_rx_bytes_total "upstream_cx_rx_bytes_total" "Bytes received.";
    Counter upstream_cx_tx_bytes_total "upstream_cx_tx_bytes_total" "Bytes sent.";
    Counter upstream_rq_total "upstream_rq_total" "Requests sent, retries included.";
    Gauge upstream_rq_active "upstream_rq_active" "Requests in flight.";
    Counter upstream_rq_completed "upstream_rq_completed" "Requests answered.";
    Counter upstream_rq_pending_total "upstream_rq_pending_total" "Requests that waited for a connection.";
    Gauge upstream_rq_pending_active "upstream_rq_pending_active" "Requests waiting for a connection.";
    Counter upstream_rq_pending_overflow "upstream_rq_pending_overflow" "Requests failed by a full queue or circuit breaker.";
    Counter upstream_rq_cancelled "upstream_rq_cancelled" "Requests cancelled while waiting.";
    Counter upstream_rq_timeout "upstream_rq_timeout" "Requests that timed out.";
    Counter upstream_rq_per_try_timeout "upstream_rq_per_try_timeout" "Tries that timed out.";
    Counter upstream_rq_per_try_idle_timeout "upstream_rq_per_try_idle_timeout" "Tries that were idle for too long.";
    Counter upstream_rq_max_duration_reached "upstream_rq_max_duration_reached" "Requests ended by the maximum stream duration.";
    Counter upstream_rq_rx_reset "upstream_rq_rx_reset" "Requests the upstream reset.";
    Counter upstream_rq_tx_reset "upstream_rq_tx_reset" "Requests this side reset.";
    Counter upstream_rq_retry "upstream_rq_retry" "Retries.";
    Counter upstream_rq_retry_success "upstream_rq_retry_success" "Retries that succeeded.";
    Counter upstream_rq_retry_overflow "upstream_rq_retry_overflow" "Retries not made for the retry breaker or budget.";
    Counter upstream_rq_retry_limit_exceeded "upstream_rq_retry_limit_exceeded" "Requests not retried because tries were used up.";
    Counter retry_or_shadow_abandoned "retry_or_shadow_abandoned" "Requests whose body was too large to be kept for another attempt.";
    Histogram upstream_rq_time "upstream_rq_time" "Time to the end of the response, in milliseconds.";
    Counter lb_healthy_panic "lb_healthy_panic" "Picks made in panic mode.";
    Gauge membership_total "membership_total" "Hosts.";
    Gauge membership_healthy "membership_healthy" "Healthy hosts.";
    Counter outlier_detection_ejections_total "outlier_detection.ejections_total" "Ejections.";
    Gauge outlier_detection_ejections_active "outlier_detection.ejections_active" "Hosts ejected now.";
    Counter outlier_detection_ejections_overflow "outlier_detection.ejections_overflow" "Ejections not made for the maximum share.";
    Counter outlier_detection_ejections_enforced_total "outlier_detection.ejections_enforced_total" "Ejections made.";
    Counter outlier_detection_ejections_detected_consecutive_5xx "outlier_detection.ejections_detected_consecutive_5xx" "Outliers found by failures in a row.";
    Counter outlier_detection_ejections_enforced_consecutive_5xx "outlier_detection.ejections_enforced_consecutive_5xx" "Ejections for failures in a row.";
    Counter outlier_detection_ejections_detected_consecutive_gateway_failure "outlier_detection.ejections_detected_consecutive_gateway_failure" "Outliers found by gateway failures in a row.";
    Counter outlier_detection_ejections_enforced_consecutive_gateway_failure "outlier_detection.ejections_enforced_consecutive_gateway_failure" "Ejections for gateway failures in a row.";
    Counter outlier_detection_ejections_detected_consecutive_local_origin_failure "outlier_detection.ejections_detected_consecutive_local_origin_failure" "Outliers found by failures in a row to reach the host.";
    Counter outlier_detection_ejections_enforced_consecutive_local_origin_failure "outlier_detection.ejections_enforced_consecutive_local_origin_failure" "Ejections for failures in a row to reach the host.";
    Counter outlier_detection_ejections_detected_success_rate "outlier_detection.ejections_detected_success_rate" "Outliers found by the success rate.";
    Counter outlier_detection_ejections_enforced_success_rate "outlier_detection.ejections_enforced_success_rate" "Ejections for the success rate.";
    Counter outlier_detection_ejections_detected_local_origin_success_rate "outlier_detection.ejections_detected_local_origin_success_rate" "Outliers found by the rate of being reached.";
    Counter outlier_detection_ejections_enforced_local_origin_success_rate "outlier_detection.ejections_enforced_local_origin_success_rate" "Ejections for the rate of being reached.";
    Counter outlier_detection_ejections_detected_failure_percentage "outlier_detection.ejections_detected_failure_percentage" "Outliers found by the share of failures.";
    Counter outlier_detection_ejections_enforced_failure_percentage "outlier_detection.ejections_enforced_failure_percentage" "Ejections for the share of failures.";
    Counter outlier_detection_ejections_detected_failure_percentage_local_origin "outlier_detection.ejections_detected_failure_percentage_local_origin" "Outliers found by the share of failures to reach the host.";
    Counter outlier_detection_ejections_enforced_failure_percentage_local_origin "outlier_detection.ejections_enforced_failure_percentage_local_origin" "Ejections for the share of failures to reach the host.";
    Counter health_check_attempt "health_check.attempt" "Health checks.";
    Counter health_check_success "health_check.success" "Health checks passed.";
    Counter health_check_failure "health_check.failure" "Health checks failed.";
    Counter health_check_network_failure "health_check.network_failure" "Health checks without an answer.";
    Gauge health_check_healthy "health_check.healthy" "Hosts that pass their health checks.";
    => upstream_rq "upstream_rq" UPSTREAM_RQ;
}

stats! {
    /// One listening address.
    ListenerStats, "listener";
    Counter downstream_cx_total "downstream_cx_total" "Connections accepted.";
    Gauge downstream_cx_active "downstream_cx_active" "Connections open.";
    Counter downstream_cx_destroy "downstream_cx_destroy" "Connections closed.";
    Counter downstream_global_cx_overflow "downstream_global_cx_overflow" "Connections refused by the process limit.";
    Counter downstream_pre_cx_timeout "downstream_pre_cx_timeout" "Connections that sent too little for too long before a filter chain was chosen.";
    Gauge downstream_pre_cx_active "downstream_pre_cx_active" "Connections before their filter chain.";
    Counter no_filter_chain_match "no_filter_chain_match" "Connections without a filter chain.";
}

stats! {
    /// One HTTP connection manager.
    HttpStats, "http";
    Counter downstream_cx_total "downstream_cx_total" "Connections.";
    Gauge downstream_cx_active "downstream_cx_active" "Connections open.";
    Counter downstream_cx_http1_total "downstream_cx_http1_total" "HTTP/1 connections.";
    Counter downstream_cx_http2_total "downstream_cx_http2_total" "HTTP/2 connections.";
    Counter downstream_cx_destroy "downstream_cx_destroy" "Connections closed.";
    Counter downstream_cx_destroy_remote_active_rq "downstream_cx_destroy_remote_active_rq" "Connections clients left with requests on them.";
    Counter downstream_cx_drain_close "downstream_cx_drain_close" "Connections closed while draining.";
    Counter downstream_cx_idle_timeout "downstream_cx_idle_timeout" "Connections closed for idleness.";
    Counter downstream_cx_max_duration_reached "downstream_cx_max_duration_reached" "Connections closed for their age.";
    Counter downstream_cx_protocol_error "downstream_cx_protocol_error" "Connections with malformed requests.";
    Counter downstream_cx_rx_bytes_total "downstream_cx_rx_bytes_total" "Bytes received.";
    Counter downstream_cx_tx_bytes_total "downstream_cx_tx_bytes_total" "Bytes sent.";
    Counter downstream_rq_total "downstream_rq_total" "Requests.";
    Gauge downstream_rq_active "downstream_rq_active" "Requests in flight.";
    Counter downstream_rq_http1_total "downstream_rq_http1_total" "HTTP/1 requests.";
    Counter downstream_rq_http2_total "downstream_rq_http2_total" "HTTP/2 requests.";
    Counter downstream_rq_completed "downstream_rq_completed" "Requests answered.";
    Counter downstream_rq_rx_reset "downstream_rq_rx_reset" "Requests clients reset.";
    Counter downstream_rq_tx_reset "downstream_rq_tx_reset" "Requests this side reset.";
    Counter downstream_rq_timeout "downstream_rq_timeout" "Requests that came in too slowly.";
    Counter downstream_rq_header_timeout "downstream_rq_header_timeout" "Requests whose head came in too slowly.";
    Counter downstream_rq_idle_timeout "downstream_rq_idle_timeout" "Requests closed for idleness.";
    Counter downstream_rq_max_duration_reached "downstream_rq_max_duration_reached" "Requests ended by their maximum duration.";
    Counter downstream_rq_overload_close "downstream_rq_overload_close" "Requests refused under overload.";
    Counter downstream_rq_redirected_with_normalized_path "downstream_rq_redirected_with_normalized_path" "Requests redirected to their normalized path.";
    Counter downstream_rq_ws_on_non_ws_route "downstream_rq_ws_on_non_ws_route" "Upgrades the route does not allow.";
    Counter no_route "no_route" "Requests without a route.";
    Counter no_cluster "no_cluster" "Requests whose route names a cluster that does not exist.";
    Counter rq_direct_response "rq_direct_response" "Requests answered by the route itself.";
    Counter rq_redirect "rq_redirect" "Requests redirected by the route.";
    Counter rq_total "rq_total" "Requests routed.";
    Histogram downstream_rq_time "downstream_rq_time" "Time to the end of the response, in milliseconds.";
    Counter cors_origin_valid "cors.origin_valid" "Requests of an origin their route allows.";
    Counter cors_origin_invalid "cors.origin_invalid" "Requests of an origin their route does not allow.";
    Counter fault_delays_injected "fault.delays_injected" "Requests delayed by a fault.";
    Counter fault_aborts_injected "fault.aborts_injected" "Requests answered by a fault.";
    Counter fault_faults_overflow "fault.faults_overflow" "Faults not injected for the limit of active faults.";
    Gauge fault_active_faults "fault.active_faults" "Requests with a fault at work.";
    => downstream_rq "downstream_rq" DOWNSTREAM_RQ;
}

const DOWNSTREAM_RQ: &str = "Responses by class of code.";

stats! {
    /// One TCP proxy.
    TcpStats, "tcp";
    Counter downstream_cx_total "downstream_cx_total" "Connections.";
    Counter downstream_cx_no_route "downstream_cx_no_route" "Connections without a cluster.";
    Counter downstream_cx_rx_bytes_total "downstream_cx_rx_bytes_total" "Bytes received.";
    Counter downstream_cx_tx_bytes_total "downstream_cx_tx_bytes_total" "Bytes sent.";
    Counter idle_timeout "idle_timeout" "Connections closed for idleness.";
    Counter max_downstream_connection_duration "max_downstream_connection_duration" "Connections closed for their age.";
}

impl ClusterStats {
    /// Counts a response of the upstream: completed and its class. [`ClusterCodes::response`] counts
    /// the exact code too.
    pub fn response(&self, shard: &Shard, code: u16) {
        shard.inc(self.upstream_rq_completed);
        if let Some(class) = class(&self.upstream_rq, code) {
            shard.inc(class);
        }
    }
}

impl HttpStats {
    /// Counts a response sent downstream: completed and its class.
    pub fn response(&self, shard: &Shard, code: u16) {
        shard.inc(self.downstream_rq_completed);
        if let Some(class) = class(&self.downstream_rq, code) {
            shard.inc(class);
        }
    }
}

/// A cluster's responses by exact code: `envoy_cluster_upstream_rq{response_code="503",…}`.
pub struct ClusterCodes {
    stats: EnvoyStats,
    name: Box<str>,
    cluster: ClusterStats,
    codes: RefCell<Vec<(u16, Counter)>>,
}

impl ClusterCodes {
    /// The counters without the codes.
    pub fn cluster(&self) -> &ClusterStats {
        &self.cluster
    }

    /// Counts a response: completed, class, code.
    pub fn response(&self, shard: &Shard, code: u16) {
        self.cluster.response(shard, code);
        shard.inc(self.code(code));
    }

    fn code(&self, code: u16) -> Counter {
        let mut codes = self.codes.borrow_mut();
        if let Some(at) = codes.iter().position(|(seen, _)| *seen == code) {
            // The common code moves to the front, so that a server with many codes stays cheap.
            codes.swap(0, at);
            return codes.first().map_or(Counter(u32::MAX), |(_, counter)| *counter);
        }
        let text = code.to_string();
        let labels = [("response_code", text.as_str()), ("cluster_name", &self.name)];
        let prefix = format!("cluster.{}.upstream_rq_{code}", self.name);
        let counter = self.stats.registry.row(self.stats.cluster_codes, &labels, &prefix).counter(0);
        codes.push((code, counter));
        counter
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(classes: &[Counter; 5], code: u16) -> Option<Counter> {
    classes.get(usize::from(code / 100).checked_sub(1)?).copied()
}

fn column(name: &'static str, stat: impl Into<Cow<'static, str>>, help: &'static str, kind: Kind) -> Column {
    Column { stat: stat.into(), ..Column::new(name, help, kind) }
}

fn kind_of(name: &str) -> Kind {
    match name {
        "Gauge" => Kind::Gauge,
        "Histogram" => Kind::Histogram(Arc::new(Buckets::istio_duration())),
        _ => Kind::Counter,
    }
}

impl Counter {
    fn of(row: &Row, column: usize) -> Counter {
        row.counter(column)
    }
}

impl Gauge {
    fn of(row: &Row, column: usize) -> Gauge {
        row.gauge(column)
    }
}

impl Histogram {
    fn of(row: &Row, column: usize) -> Histogram {
        row.histogram(column)
    }
}

#[cfg(test)]
mod tests;
