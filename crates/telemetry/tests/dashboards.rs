//! Istio's dashboards find every metric and label they ask a proxy for. The list is a fact recorded
//! elsewhere and read where it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use telemetry::istio::{IstioMetrics, Peer, Principals, Reporter, Request, RequestProtocol, SeriesKey};
use telemetry::metrics::{Filter, Limits, prometheus};
use telemetry::{Flags, Registry, envoy, scrape};

#[test]
fn every_label_the_dashboards_ask_for_is_there() {
    let shared = std::env::var_os("FILAMESH_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let Ok(list) = std::fs::read_to_string(shared.join("observability/required-metrics-labels.txt")) else {
        eprintln!("SKIPPED: labels Istio's dashboards ask for (no shared corpus)");
        return;
    };
    let registry = Registry::new(Limits::default());
    let metrics = IstioMetrics::new(&registry, Principals::Spiffe);
    metrics.build("proxy", "test");
    let peer = Arc::new(Peer::default());
    let key = SeriesKey {
        reporter: Reporter::Source,
        source: peer.clone(),
        destination: peer,
        service_host: String::new(),
        service_name: String::new(),
        mutual_tls: false,
    };
    let shard = registry.shard();
    let request = Request {
        code: 200,
        flags: Flags::NONE,
        grpc_status: None,
        duration: Duration::ZERO,
        received_bytes: 0,
        sent_bytes: 0,
    };
    metrics.requests(&key, RequestProtocol::Http).record(&shard, &request);
    metrics.tcp(&key, Flags::NONE).opened(&shard);
    envoy::EnvoyStats::new(&registry).cluster("xds-grpc");
    let mut text = Vec::new();
    prometheus(&registry, &Filter::default(), &mut text);
    let text = String::from_utf8(text).unwrap();
    let samples = scrape::parse(&text).unwrap();

    let (mut metric, mut checked) = ("", 0);
    for line in list.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with(' ') {
            metric = line;
            continue;
        }
        // Istio's own alternative name for another implementation of the same histogram.
        let ours = (metric.starts_with("istio_") && !metric.contains("_seconds_"))
            || metric.starts_with("envoy_cluster_");
        if !ours {
            continue;
        }
        let sample =
            samples.iter().find(|sample| sample.name == metric).unwrap_or_else(|| panic!("no {metric}"));
        for label in line.split('\'').skip(1).step_by(2) {
            assert!(sample.label(label).is_some(), "{metric} has no label {label}");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} labels checked: the list changed its shape");
}
