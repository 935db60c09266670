//! Static bootstraps as people write them after Envoy's documentation, each accepted by `envoy --mode validate` (1.40):
//! taken whole here too.
mod common;

use common::message;
use model::bootstrap::from_bootstrap;
use model::cluster::UpstreamProtocol;
use model::http_connection::HeaderCase;
use model::upgrade::Upgrade;
use model::{NetworkAction, Snapshot, Verdict};
use std::sync::Arc;

fn compiled(name: &str) -> Arc<Snapshot> {
    let path = format!("{}/tests/bootstraps/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("it is there");
    let message = message(serde_json::from_str(&text).expect("it is JSON"));
    let mut taken = from_bootstrap(&message).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
    assert!(taken.config.missing().is_empty(), "{name}");
    taken.config.snapshot()
}

fn http(snapshot: &Snapshot) -> Arc<model::HttpConnection> {
    let listener = snapshot.listeners().next().expect("a listener");
    match &listener.chains[0].action {
        NetworkAction::Http(http) => http.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn envoys_documented_bootstraps_compile_without_anything_missing() {
    let directory = format!("{}/tests/bootstraps", env!("CARGO_MANIFEST_DIR"));
    let names: Vec<String> = std::fs::read_dir(directory)
        .expect("it is there")
        .map(|entry| {
            entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        assert_eq!(compiled(&name).listeners().count(), 1, "{name}");
    }
}

#[test]
fn limits_header_case_upgrades_and_protocols_of_bootstraps_reach_the_configuration() {
    let edge = http(&compiled("edge"));
    assert_eq!((edge.http2.max_concurrent_streams, edge.http2.initial_stream_window), (100, 65536));
    assert!(edge.forwarded.use_remote_address && edge.path.merge_slashes);

    let snapshot = compiled("header_case");
    assert_eq!(http(&snapshot).http1.header_case, HeaderCase::Preserve);
    let case = |name| {
        let cluster = &snapshot.cluster(snapshot.cluster_id(name).unwrap()).unwrap().cluster;
        (cluster.protocol, cluster.http1.header_case, cluster.http1.enable_trailers)
    };
    assert_eq!(case("up"), (UpstreamProtocol::Http1, HeaderCase::Preserve, false));
    assert_eq!(case("proper"), (UpstreamProtocol::Http1, HeaderCase::Proper, true));

    let snapshot = compiled("upgrades");
    let manager = http(&snapshot);
    let table = snapshot.routes(&manager.routes).expect("its routes").clone();
    let upgrade = |method, path: &str, protocol: &[u8]| {
        let request = common::Request { method, path: path.into(), ..common::get("h", path) };
        match table.decide(&request, 0).verdict {
            Verdict::Forward { forward, .. } => manager.upgrade(Some(forward), protocol),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(upgrade("GET", "/chat", b"websocket"), Upgrade::Forward);
    assert_eq!(upgrade("GET", "/plain", b"websocket"), Upgrade::Refused);
    assert_eq!(upgrade("CONNECT", "", b"CONNECT"), Upgrade::Terminate);

    let grpc = compiled("grpc_bridge");
    assert_eq!(http(&grpc).http2.keepalive.interval.map(|i| i.as_secs()), Some(30));
    assert_eq!(grpc.clusters().next().unwrap().1.cluster.protocol, UpstreamProtocol::Http2);
}
