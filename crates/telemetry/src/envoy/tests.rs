use std::time::Duration;

use super::*;
use crate::metrics::{Filter, Limits, prometheus, stats};

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

fn both(registry: &Registry) -> (String, String) {
    let filter = Filter { used_only: true, name: None };
    let (mut text, mut plain) = (Vec::new(), Vec::new());
    prometheus(registry, &filter, &mut text);
    stats(registry, &filter, &mut plain);
    (String::from_utf8(text).unwrap(), String::from_utf8(plain).unwrap())
}

/// Names as a sidecar of Istio's shows them (its bootstrap's tag rules over Envoy's names).
#[test]
fn names_are_envoys_in_both_outputs() {
    let registry = Registry::new(Limits::default());
    let envoy = EnvoyStats::new(&registry);
    let shard = registry.shard();
    let codes = envoy.cluster_codes(REVIEWS);
    codes.response(&shard, 200);
    codes.response(&shard, 503);
    codes.response(&shard, 503);
    let cluster = envoy.cluster(REVIEWS);
    shard.add(cluster.upstream_rq_pending_overflow, 21);
    shard.shift(cluster.upstream_cx_active, 2);
    shard.inc(cluster.outlier_detection_ejections_total);
    shard.observe(&cluster.upstream_rq_time, Duration::from_millis(3).as_micros() as u64);
    shard.inc(envoy.listener("0.0.0.0:15006").downstream_cx_total);
    let http = envoy.http("outbound_0.0.0.0_9080");
    shard.inc(http.downstream_rq_total);
    http.response(&shard, 404);
    shard.add(envoy.tcp("outbound|9000||tcp-echo").downstream_cx_tx_bytes_total, 9);

    let (text, plain) = both(&registry);
    for line in [
        "envoy_cluster_upstream_rq{response_code=\"503\",cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 2",
        "envoy_cluster_upstream_rq{response_code_class=\"5xx\",cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 2",
        "envoy_cluster_upstream_rq_completed{cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 3",
        "envoy_cluster_upstream_rq_pending_overflow{cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 21",
        "envoy_cluster_upstream_cx_active{cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 2",
        "envoy_cluster_outlier_detection_ejections_total{cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"} 1",
        "envoy_cluster_upstream_rq_time_bucket{cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\",le=\"5\"} 1",
        "envoy_listener_downstream_cx_total{listener_address=\"0.0.0.0_15006\"} 1",
        "envoy_http_downstream_rq_total{http_conn_manager_prefix=\"outbound_0.0.0.0_9080\"} 1",
        "envoy_http_downstream_rq{response_code_class=\"4xx\",http_conn_manager_prefix=\"outbound_0.0.0.0_9080\"} 1",
        "envoy_tcp_downstream_cx_tx_bytes_total{tcp_prefix=\"outbound|9000||tcp-echo\"} 9",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert_eq!(text.matches("# TYPE envoy_cluster_upstream_rq counter").count(), 1);
    for line in [
        "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_503: 2",
        "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_5xx: 2",
        "cluster.outbound|9080||reviews.default.svc.cluster.local.outlier_detection.ejections_total: 1",
        "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_time: P0(nan,1.000) P25(nan,2.000) P50(nan,3.000) P75(nan,4.000) P90(nan,4.600) P95(nan,4.800) P99(nan,4.960) P99.5(nan,4.980) P99.9(nan,4.996) P100(nan,5.000)",
        "listener.0.0.0.0_15006.downstream_cx_total: 1",
        "http.outbound_0.0.0.0_9080.downstream_rq_4xx: 1",
    ] {
        assert!(plain.lines().any(|found| found == line), "{line}\nnot in\n{plain}");
    }
    let mut sorted: Vec<_> = plain.lines().collect();
    sorted.sort_unstable();
    assert_eq!(sorted, plain.lines().collect::<Vec<_>>());
}

#[test]
fn codes_without_a_class_count_as_completed_only() {
    let registry = Registry::new(Limits::default());
    let cluster = EnvoyStats::new(&registry).cluster("c");
    let shard = registry.shard();
    for code in [0, 99, 600, 999, u16::MAX] {
        cluster.response(&shard, code);
    }
    let (_, plain) = both(&registry);
    assert_eq!(plain, "cluster.c.upstream_rq_completed: 5\n");
}

#[test]
fn a_removed_cluster_is_shown_no_more_until_it_comes_back() {
    let registry = Registry::new(Limits::default());
    let envoy = EnvoyStats::new(&registry);
    let shard = registry.shard();
    let (codes, other) = (envoy.cluster_codes("gone"), envoy.cluster_codes("not-gone"));
    codes.response(&shard, 200);
    other.response(&shard, 200);
    envoy.forget_cluster("gone");
    // A worker that has not heard yet does no harm.
    codes.response(&shard, 200);
    let (text, plain) = both(&registry);
    assert!(!text.contains("\"gone\"") && !plain.contains("cluster.gone."), "{text}{plain}");
    assert!(
        text.contains("envoy_cluster_upstream_rq{response_code=\"200\",cluster_name=\"not-gone\"} 1\n"),
        "{text}"
    );
    envoy.cluster("gone");
    let (_, plain) = both(&registry);
    assert!(plain.contains("cluster.gone.upstream_rq_completed: 2\n"), "{plain}");
}

#[test]
fn removed_listeners_and_what_they_held_are_shown_no_more_until_they_come_back() {
    let registry = Registry::new(Limits::default());
    let envoy = EnvoyStats::new(&registry);
    let shard = registry.shard();
    let listener = envoy.listener("0.0.0.0:15006");
    for stats in [&listener, &envoy.listener("0.0.0.0:9080")] {
        shard.inc(stats.downstream_cx_total);
    }
    shard.inc(envoy.http("inbound").downstream_rq_total);
    shard.inc(envoy.tcp("echo").downstream_cx_total);
    let all = || both(&registry).1;
    assert_eq!(all().lines().count(), 4);
    let one = |name: &'static str| std::iter::once(name);
    envoy.show_only(one("0.0.0.0:15006").map(str::to_owned), one("inbound"), std::iter::empty());
    shard.inc(listener.downstream_cx_total);
    assert_eq!(all(), "http.inbound.downstream_rq_total: 1\nlistener.0.0.0.0_15006.downstream_cx_total: 2\n");
    envoy.show_only(one("0.0.0.0:9080").map(str::to_owned), std::iter::empty(), one("echo"));
    assert_eq!(all(), "listener.0.0.0.0_9080.downstream_cx_total: 1\ntcp.echo.downstream_cx_total: 1\n");
}
