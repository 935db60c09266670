//! What the proxies of a simulation are configured with, and what it changes to meanwhile. Compiled once for all
//! histories.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use model::Snapshot;
use model::config::{Config, Resource};
use serde_json::{Value, json};

pub const MAIN: &str = "10.0.0.1:80";
pub const RAW: &str = "10.0.0.1:90";
pub const FAR: &str = "10.4.0.1:80";
pub const H1_HOSTS: [&str; 2] = ["10.1.0.1:80", "10.1.0.2:80"];
pub const H2_HOSTS: [&str; 2] = ["10.2.0.1:80", "10.2.0.2:80"];
pub const LIMITED: &str = "10.1.0.3:80";
pub const REFUSING: &str = "10.1.0.4:80";
pub const SWALLOWING: &str = "10.1.0.5:80";
/// Where copies of requests go.
pub const SHADOW: &str = "10.1.0.6:80";
pub const TCP_HOSTS: [&str; 2] = ["10.3.0.1:80", "10.3.0.2:80"];
pub const DIRECT: usize = 4_000;

/// Each is read once: connections are made by the thousand.
pub fn address(text: &'static str) -> SocketAddr {
    thread_local! {
        static KNOWN: RefCell<Vec<(&'static str, SocketAddr)>> = const { RefCell::new(vec![]) };
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, address)) = known.iter().find(|(other, _)| std::ptr::eq(*other, text)) {
            return *address;
        }
        let address = text.parse().expect("an address");
        known.push((text, address));
        address
    })
}

/// What the nearer proxy uses, one after the other; and the farther one.
pub struct Configurations {
    pub near: Vec<Arc<Snapshot>>,
    pub far: Arc<Snapshot>,
}

pub static ALL: LazyLock<Configurations> = LazyLock::new(|| Configurations { near: near(), far: far() });

fn near() -> Vec<Arc<Snapshot>> {
    let mut config = Config::new();
    let mut all = vec![];
    let clusters = [
        cluster("h1", &H1_HOSTS, json!({})),
        http2(cluster("h2", &H2_HOSTS, json!({}))),
        cluster("limited", &[LIMITED], limited(2, 2)),
        cluster("broken", &[REFUSING, SWALLOWING, H1_HOSTS[0]], limited(100, 3)),
        cluster("tcp", &TCP_HOSTS, json!({})),
        cluster("shadow", &[SHADOW], json!({})),
        hop(cluster("hop", &[FAR], json!({}))),
        cluster(
            "ejecting",
            &H1_HOSTS,
            json!({ "outlier_detection": {
            "consecutive_5xx": 2, "interval": "1s", "base_ejection_time": "2s", "max_ejection_percent": 100 } }),
        ),
    ];
    for cluster in clusters {
        add::<xds::cluster::Cluster>(&mut config, xds::type_url::CLUSTER, cluster);
    }
    for listener in [http_listener("main", MAIN), tcp_listener()] {
        add::<xds::listener::Listener>(&mut config, xds::type_url::LISTENER, listener);
    }
    all.push(config.snapshot());
    // A cluster goes, another loses a host.
    assert_eq!(config.apply(xds::type_url::CLUSTER, &[], &["limited".into()]), []);
    add::<xds::cluster::Cluster>(
        &mut config,
        xds::type_url::CLUSTER,
        cluster("h1", &H1_HOSTS[..1], json!({})),
    );
    all.push(config.snapshot());
    // Both come back, with another weight.
    add::<xds::cluster::Cluster>(
        &mut config,
        xds::type_url::CLUSTER,
        cluster("limited", &[LIMITED], limited(2, 2)),
    );
    let mut weighted = cluster("h1", &H1_HOSTS, json!({}));
    weighted["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["load_balancing_weight"] = 3.into();
    add::<xds::cluster::Cluster>(&mut config, xds::type_url::CLUSTER, weighted);
    all.push(config.snapshot());
    all
}

fn far() -> Arc<Snapshot> {
    let mut config = Config::new();
    for cluster in [cluster("h1", &H1_HOSTS, json!({})), http2(cluster("h2", &H2_HOSTS, json!({})))] {
        add::<xds::cluster::Cluster>(&mut config, xds::type_url::CLUSTER, cluster);
    }
    let routes = json!([route("/hop/h1/", "h1"), route("/hop/h2/", "h2")]);
    add::<xds::listener::Listener>(
        &mut config,
        xds::type_url::LISTENER,
        listener_of("far", FAR, http(routes, "far")),
    );
    config.snapshot()
}

fn add<M: xds::Name + Default>(config: &mut Config, url: &str, value: Value) {
    let name = value["name"].as_str().expect("a name").to_owned();
    let message: M = xds::json::from_json(&value).expect("a message");
    let resource = Resource { name, version: "1".into(), body: xds::pack(&message) };
    assert_eq!(config.apply(url, &[resource], &[]), []);
}

fn cluster(name: &str, hosts: &[&'static str], more: Value) -> Value {
    let endpoints: Vec<Value> = hosts
        .iter()
        .map(|host| {
            let host = address(host);
            json!({ "endpoint": { "address": { "socket_address": {
            "address": host.ip().to_string(), "port_value": host.port() } } } })
        })
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": { "idle_timeout": "5s" },
            "explicit_http_config": { "http_protocol_options": {} } } },
    });
    for (key, value) in more.as_object().expect("an object") {
        cluster[key] = value.clone();
    }
    cluster
}

fn http2(mut cluster: Value) -> Value {
    cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"] =
        json!({ "http2_protocol_options": { "allow_connect": true } });
    cluster
}

fn hop(mut cluster: Value) -> Value {
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({ "filter_metadata": { xds::node::HOP_NAMESPACE: { xds::node::HOP_KEY: xds::node::HOP_H2 } } });
    cluster
}

fn limited(connections: u32, pending: u32) -> Value {
    json!({ "circuit_breakers": { "thresholds": [{
        "max_connections": connections, "max_pending_requests": pending, "max_requests": 8, "max_retries": 2 }] } })
}

fn route(prefix: &str, cluster: &str) -> Value {
    json!({ "match": { "prefix": prefix }, "route": {
        "cluster": cluster,
        "timeout": "0s",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "retry_policy": { "retry_on": "connect-failure,refused-stream,unavailable,5xx", "num_retries": 2 } } })
}

fn mirrored(prefix: &str, cluster: &str) -> Value {
    let mut route = route(prefix, cluster);
    route["route"]["request_mirror_policies"] = json!([{ "cluster": "shadow" }]);
    route
}

fn typed(url: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/{url}").into();
    value
}

fn http(routes: Value, name: &str) -> Value {
    typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "access_log": [{ "name": "file", "typed_config": typed(
                "envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({ "path": "/dev/null", "log_format": {
                    "text_format_source": { "inline_string":
                        "%REQ(X-SIM)% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%\n" } } })) }],
            "stream_idle_timeout": "5s",
            "request_headers_timeout": "5s",
            "common_http_protocol_options": { "idle_timeout": "10s", "max_connection_duration": "4s" },
            "http2_protocol_options": { "allow_connect": true, "max_concurrent_streams": 50 },
            "route_config": { "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
            "http_filters": [
                { "name": "web", "typed_config": typed("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", json!({})) },
                { "name": "istio.stats", "typed_config": typed("stats.PluginConfig", json!({})) },
                { "name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({})) } ],
        }),
    )
}

fn listener_of(name: &str, at: &'static str, filter: Value) -> Value {
    let at = address(at);
    json!({
        "name": name,
        "traffic_direction": "OUTBOUND",
        "address": { "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } },
        "filter_chains": [{ "filters": [{ "name": "terminal", "typed_config": filter }] }],
    })
}

fn http_listener(name: &str, at: &'static str) -> Value {
    let direct = "d".repeat(DIRECT);
    let routes = json!([
        { "match": { "connect_matcher": {} }, "route": {
            "cluster": "tcp", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }] } },
        { "match": { "prefix": "/direct" }, "direct_response": { "status": 200, "body": { "inline_string": direct } } },
        { "match": { "prefix": "/redirect" }, "redirect": { "path_redirect": "/elsewhere" } },
        route("/h1/", "h1"),
        route("/h2/", "h2"),
        mirrored("/mirrored/", "h1"),
        route("/limited/", "limited"),
        route("/broken/", "broken"),
        route("/ejecting/", "ejecting"),
        route("/hop/", "hop"),
    ]);
    listener_of(name, at, http(routes, name))
}

fn tcp_listener() -> Value {
    let filter = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "raw", "cluster": "tcp", "idle_timeout": "10s", "max_connect_attempts": 2 }),
    );
    listener_of("raw", RAW, filter)
}
