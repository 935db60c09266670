//! A transport above TCP, as TLS will be one: its handshake takes two round trips, says only at its end which protocol is
//! spoken and who the peer is, and its bytes come in pieces that are not those of the network. Two proxies, one before the
//! other, speak it with each other: client, near proxy, this transport, far proxy, host.

mod common;
#[path = "common/layer.rs"]
mod layer;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{Host, Proxy, http, http_listener, to, typed};
use layer::{Late, LateLayers};
use proxy::ProxyOptions;
use serde_json::{Value, json};

fn options(late: &Arc<Late>) -> ProxyOptions {
    ProxyOptions { layers: Some(Arc::new(LateLayers(late.clone()))), workers: 1, ..ProxyOptions::default() }
}

fn tls(context: &str, value: Value) -> Value {
    let url = format!("envoy.extensions.transport_sockets.tls.v3.{context}");
    json!({ "name": "tls", "typed_config": typed(&url, value) })
}

/// Speaks by what is picked.
fn auto() -> Value {
    json!({ "options": typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", json!({
        "auto_config": { "http_protocol_options": {}, "http2_protocol_options": {} } })) })
}

/// The far proxy: its chain ends the transport.
fn far(late: &Arc<Late>, host: &Host, mut manager: Value) -> Proxy {
    manager["route_config"]["virtual_hosts"][0]["routes"] = to("app");
    let mut listener = http_listener(manager);
    listener["filter_chains"][0]["transport_socket"] =
        tls("DownstreamTlsContext", json!({ "require_client_certificate": true, "common_tls_context": {} }));
    Proxy::with(listener, &[common::cluster("app", &[host.address])], options(late))
}

fn near(late: &Arc<Late>, far: &Proxy, change: impl Fn(&mut Value)) -> Proxy {
    let mut cluster = common::cluster("far", &[far.address]);
    cluster["transport_socket"] =
        tls("UpstreamTlsContext", json!({ "common_tls_context": { "alpn_protocols": ["h2", "http/1.1"] } }));
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"] = json!({ key: auto()["options"] });
    change(&mut cluster);
    Proxy::with(http_listener(http(to("far"))), &[cluster], options(late))
}

fn plain(_: &mut Value) {}

/// How many of the near proxy's connections to the far one became which.
fn connections(near: &Proxy) -> (u64, u64, u64) {
    let count = |name: &str| near.count(name, &["far"]);
    (
        count("envoy_cluster_upstream_cx_total"),
        count("envoy_cluster_upstream_cx_http1_total"),
        count("envoy_cluster_upstream_cx_http2_total"),
    )
}

#[test]
fn what_is_picked_after_connecting_is_what_is_spoken() {
    for (pick, http1, http2) in [("h2", 0, 1), ("http/1.1", 1, 0), ("", 1, 0)] {
        let late = Late::picking(&[pick]);
        let host = Host::saying("from afar");
        let far = far(&late, &host, http(to("app")));
        let near = near(&late, &far, plain);
        let mut client = near.client();
        for _ in 0..3 {
            let answer = client.ask("GET /x HTTP/1.1\r\nhost: test.local\r\n\r\n");
            assert_eq!((answer.status, &*answer.body), (200, "from afar"), "{pick}");
        }
        assert_eq!(connections(&near), (1, http1, http2), "{pick}");
        assert_eq!(*late.offers.lock().unwrap(), ["h2,http/1.1"]);
        assert_eq!(late.finished.load(SeqCst), 2, "one on either side");
    }
}
