//! What is taken from a circuit breaker, or counted in a gauge, is given back however the request or connection ends.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

use common::*;
use model::Resource;
use serde_json::{Value, json};

fn limited(hosts: &[SocketAddr], limits: Value) -> Value {
    let mut cluster = cluster("up", hosts);
    cluster["circuit_breakers"] = json!({ "thresholds": [limits] });
    cluster
}

fn retried(retries: u32) -> Value {
    json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s", "retry_policy": {
        "retry_on": "connect-failure", "num_retries": retries,
        "retry_back_off": { "base_interval": "0.001s" } } } }])
}

const GAUGES: [&str; 3] = ["upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"];

fn all_given_back(proxy: &Proxy) -> bool {
    GAUGES.iter().all(|gauge| proxy.count(&format!("envoy_cluster_{gauge}"), &["\"up\""]) == 0)
}

/// A limit of pending requests counts requests, not their attempts: retried connect failures eat nothing of it.
#[test]
fn a_retried_connect_failure_gives_back_its_pending_slot() {
    for limit in [1, 2] {
        let proxy = Proxy::start(
            http_listener(http(retried(3))),
            &[limited(&[nobody()], json!({ "max_pending_requests": limit }))],
        );
        let mut client = proxy.client();
        for round in 0..10 {
            let answer = client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            assert_eq!(answer.status, 503);
            assert!(answer.body.contains("Connection refused"), "{limit}, round {round}: {}", answer.body);
        }
        assert_eq!(proxy.count("envoy_cluster_upstream_rq_pending_overflow", &["\"up\""]), 0);
        assert!(all_given_back(&proxy), "{}", proxy.metrics());
    }
}

/// A bootstrap's clusters as a control plane sends them, so that they can change.
struct Pushed {
    config: model::Config,
    version: u32,
}

impl Pushed {
    fn push(&mut self, proxy: &Proxy, clusters: &[Value], removed: &[&str]) {
        self.version += 1;
        let added: Vec<Resource> = clusters
            .iter()
            .map(|cluster| {
                let cluster: xds::cluster::Cluster = xds::json::from_json(cluster).unwrap();
                Resource {
                    name: cluster.name.clone(),
                    version: self.version.to_string(),
                    body: xds::pack(&cluster),
                }
            })
            .collect();
        let removed: Vec<String> = removed.iter().map(|name| (*name).to_owned()).collect();
        let url = <xds::cluster::Cluster as xds::Name>::type_url();
        let rejected = self.config.apply(&url, &added, &removed);
        assert!(rejected.is_empty(), "{rejected:?}");
        assert!(proxy.handle().apply(self.config.snapshot()).everywhere);
    }
}

/// A proxy of this bootstrap whose clusters can be pushed anew.
fn pushed(listener: Value, clusters: &[Value]) -> (Proxy, Pushed) {
    let proxy = Proxy::start(listener.clone(), clusters);
    let config = model::bootstrap::from_bootstrap(&bootstrap(&listener, &[])).unwrap().config;
    let mut pushed = Pushed { config, version: 0 };
    pushed.push(&proxy, clusters, &[]);
    (proxy, pushed)
}

/// A cluster that flaps has its limits whole each time, and its gauges are those of what is open.
#[test]
fn a_cluster_removed_with_idle_connections_and_back_by_name_has_its_limits_whole() {
    let host = Host::saying("here");
    let clusters = [limited(&[host.address], json!({ "max_connections": 1 }))];
    let (proxy, mut pushed) = pushed(http_listener(http(to("up"))), &clusters);
    for round in 0..4 {
        assert_eq!(proxy.get("/").body, "here", "round {round}");
        assert_eq!(proxy.count("envoy_cluster_upstream_cx_active", &["\"up\""]), 1, "round {round}");
        pushed.push(&proxy, &[], &["up"]);
        assert_eq!(proxy.get("/").status, 503, "round {round}");
        pushed.push(&proxy, &clusters, &[]);
        assert_eq!(proxy.count("envoy_cluster_upstream_cx_active", &["\"up\""]), 0, "round {round}");
    }
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_overflow", &["\"up\""]), 0);
}

/// A host described anew (weight, labels) keeps its connections and its accounts; one whose connections are made in
/// another way takes none that were made before.
#[test]
fn connections_stay_while_they_would_be_made_the_same_way() {
    let host = Host::saying("here");
    let described = |weight: u32| {
        let mut cluster = limited(&[host.address], json!({ "max_connections": 1 }));
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["load_balancing_weight"] =
            weight.into();
        cluster
    };
    let (proxy, mut pushed) = pushed(http_listener(http(to("up"))), &[described(1)]);
    let opened = || host.connections.load(SeqCst);
    assert_eq!(proxy.get("/").body, "here");
    for weight in 2..6 {
        pushed.push(&proxy, &[described(weight)], &[]);
        assert_eq!(proxy.get("/").body, "here");
        let hosts = proxy.handle().hosts();
        assert_eq!((hosts.len(), hosts[0].connections, hosts[0].active), (1, 1, 0), "weight {weight}");
    }
    assert_eq!(opened(), 1, "one connection served them all");
    for (at, value) in [
        ("upstream_bind_config", json!({ "source_address": { "address": "127.0.0.3", "port_value": 0 } })),
        ("upstream_connection_options", json!({ "tcp_keepalive": { "keepalive_time": 77 } })),
    ] {
        let before = opened();
        let mut changed = described(1);
        changed[at] = value;
        pushed.push(&proxy, &[changed], &[]);
        assert_eq!(proxy.get("/").body, "here");
        assert_eq!(opened(), before + 1, "{at}");
        eventually("the old one is closed", || {
            proxy.count("envoy_cluster_upstream_cx_active", &["\"up\""]) == 1
        });
    }
}

/// A host whose transport is TLS by `transport_socket_matches` is not spoken to in the clear, by HTTP or TCP.
#[test]
fn a_host_that_matches_tls_gets_no_plain_byte() {
    let (mesh, plain) = (Host::saying("clear text"), Host::saying("plain"));
    let mut cluster = cluster("up", &[mesh.address, plain.address]);
    let tls =
        typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", json!({ "sni": "mesh.test" }));
    cluster["transport_socket_matches"] = json!([
        { "name": "tlsMode-istio", "match": { "tlsMode": "istio" },
          "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls } },
        { "name": "tlsMode-disabled", "match": {}, "transport_socket": {
            "name": "envoy.transport_sockets.raw_buffer", "typed_config":
            typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", json!({})) } } ]);
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({ "filter_metadata": { "envoy.transport_socket_match": { "tlsMode": "istio" } } });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster.clone()]);
    let mut answers: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers, [200, 503], "the plain host serves, the other fails");
    let tcp = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "tcp", "cluster": "up" }),
    );
    let proxy = Proxy::start(listener("main", tcp), &[cluster]);
    for _ in 0..10 {
        let mut client = proxy.client();
        client.say("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        // It may have been ended already, for the host that was picked.
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        client.rest();
    }
    assert_eq!(mesh.connections.load(SeqCst), 0, "nobody connected to the host that wants TLS");
    assert!(plain.connections.load(SeqCst) > 0);
}
