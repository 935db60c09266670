//! What a proxy says of itself is what its code does: a feature it names is taken, and one it does not name is refused.
mod common;

use common::*;
use model::{Config, FEATURES, Resource};
use serde_json::{Value, json};
use xds::cluster::Cluster;
use xds::cluster::cluster::{ClusterDiscoveryType, CustomClusterType};
use xds::core::{TransportSocket, transport_socket};
use xds::node::Feature;
use xds::type_url;

fn cluster(more: &Value) -> (&'static str, Resource) {
    let mut whole = json!({"name": "c", "type": "EDS", "edsClusterConfig": {"edsConfig": {"ads": {}}}});
    for (key, value) in more.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    (type_url::CLUSTER, resource("c", &message::<Cluster>(whole)))
}

fn eds() -> Cluster {
    message(json!({"name": "c", "type": "EDS", "edsClusterConfig": {"edsConfig": {"ads": {}}}}))
}

/// An extension of Envoy's whose message nobody here knows, without settings.
fn empty(kind: &str) -> xds::Any {
    xds::Any { type_url: format!("type.googleapis.com/envoy.extensions.{kind}"), value: Vec::new() }
}

fn tcp(more: &Value) -> (&'static str, Resource) {
    let mut proxy = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "statPrefix": "s", "cluster": "c"});
    for (key, value) in more.as_object().expect("an object") {
        proxy[key] = value.clone();
    }
    let chains = json!([{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": proxy}]}]);
    let whole = json!({"name": "l", "address": address("127.0.0.1", 80), "filterChains": chains});
    (type_url::LISTENER, resource("l", &listener(whole)))
}

fn socket(name: &str, config: Value) -> Value {
    json!({"name": name, "typedConfig": config})
}

/// A resource that asks for it.
fn asking(feature: Feature) -> (&'static str, Resource) {
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    match feature {
        Feature::ConsistentHash => cluster(&json!({"lbPolicy": "RING_HASH"})),
        Feature::WarmUp => cluster(&json!({"lbPolicy": "LEAST_REQUEST",
            "leastRequestLbConfig": {"slowStartConfig": {"slowStartWindow": "30s"}}})),
        Feature::ConnectionHash => tcp(&json!({"hashPolicy": [{"sourceIp": {}}]})),
        Feature::Tunnel => tcp(&json!({"tunnelingConfig": {"hostname": "h:1"}})),
        Feature::Claims => {
            let matched = json!({"prefix": "/", "dynamicMetadata": [{"filter": "jwt", "path": [{"key": "sub"}],
                "value": {"stringMatch": {"exact": "x"}}}]});
            let whole = json!({"name": "r", "virtualHosts": [{"name": "v", "domains": ["*"],
                "routes": [{"match": matched, "route": {"cluster": "c"}}]}]});
            (type_url::ROUTE, resource("r", &routes(whole)))
        }
        Feature::UpstreamTls => {
            let context = json!({"@type": format!("{tls}.UpstreamTlsContext")});
            cluster(&json!({"transportSocket": socket("envoy.transport_sockets.tls", context)}))
        }
        Feature::ProxyProtocol => {
            let kind = "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
            let socket = TransportSocket {
                name: "envoy.transport_sockets.upstream_proxy_protocol".into(),
                config_type: Some(transport_socket::ConfigType::TypedConfig(empty(kind))),
            };
            (type_url::CLUSTER, resource("c", &Cluster { transport_socket: Some(socket), ..eds() }))
        }
        Feature::DynamicDns => {
            let kind = CustomClusterType {
                name: "envoy.clusters.dynamic_forward_proxy".into(),
                typed_config: Some(empty("clusters.dynamic_forward_proxy.v3.ClusterConfig")),
            };
            let kind = Some(ClusterDiscoveryType::ClusterType(kind));
            (type_url::CLUSTER, resource("c", &Cluster { cluster_discovery_type: kind, ..eds() }))
        }
        Feature::IngressTls => {
            let certificate =
                json!({"certificateChain": {"filename": "/c"}, "privateKey": {"filename": "/k"}});
            let context = json!({"@type": format!("{tls}.DownstreamTlsContext"),
                "commonTlsContext": {"tlsCertificates": [certificate]}});
            let chain = json!({"filters": [http(rds("r"))], "transportSocket": socket("envoy.transport_sockets.tls", context)});
            let whole = json!({"name": "l", "address": address("127.0.0.1", 80), "filterChains": [chain]});
            (type_url::LISTENER, resource("l", &listener(whole)))
        }
    }
}

#[test]
fn what_is_named_is_taken_and_nothing_else() {
    for feature in Feature::ALL {
        let mut config = Config::new();
        let (kind, resource) = asking(feature);
        let refused = config.apply(kind, &[resource], &[]);
        let reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
        // TLS is compiled as data by any proxy: whether it can be spoken is seen when a connection is made.
        let is_tls = matches!(feature, Feature::UpstreamTls | Feature::IngressTls);
        let taken = is_tls || FEATURES.contains(&feature);
        assert_eq!(reasons.is_empty(), taken, "{feature:?}: {reasons:?}");
    }
}
