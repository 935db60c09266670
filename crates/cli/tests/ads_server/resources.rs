//! Resources as JSON: the name, the version and the body in protobuf's JSON mapping.

use std::net::SocketAddr;

use serde_json::{Value, json};

fn resource(name: &str, version: &str, body: Value) -> Value {
    json!({ "name": name, "version": version, "body": body })
}

fn ads() -> Value {
    json!({ "ads": {}, "resourceApiVersion": "V3" })
}

fn address(address: &str, port: u16) -> Value {
    json!({ "socketAddress": { "address": address, "portValue": port } })
}

fn assignment(name: &str, host: Value) -> Value {
    json!({ "clusterName": name, "endpoints": [{ "lbEndpoints": [{ "endpoint": { "address": host } }] }] })
}

/// A cluster of one host.
pub fn fixed(name: &str, version: &str, host: SocketAddr) -> Value {
    let host = address(&host.ip().to_string(), host.port());
    let body = json!({
        "name": name, "type": "STATIC", "connectTimeout": "1s", "loadAssignment": assignment(name, host),
    });
    resource(name, version, body)
}

/// A cluster whose endpoints come under the name of a service.
pub fn cluster(name: &str, version: &str, service: &str) -> Value {
    let body = json!({
        "name": name, "type": "EDS", "connectTimeout": "1s",
        "edsClusterConfig": { "edsConfig": ads(), "serviceName": service },
    });
    resource(name, version, body)
}

pub fn endpoints(name: &str, version: &str, host: SocketAddr) -> Value {
    resource(name, version, assignment(name, address(&host.ip().to_string(), host.port())))
}

/// A host that nobody can reach: its address is a name, which nobody looks up for EDS.
pub fn bad_endpoints(name: &str, version: &str) -> Value {
    resource(name, version, assignment(name, address("no-address", 80)))
}

/// A listener of any port. `table`: its route configuration.
pub fn listener(name: &str, version: &str, table: &str) -> Value {
    const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
    let router =
        json!({ "name": "router", "typedConfig": { "@type": format!("{FILTERS}.http.router.v3.Router") } });
    let manager = json!({
        "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        "statPrefix": name,
        "rds": { "routeConfigName": table, "configSource": ads() },
        "httpFilters": [router],
    });
    let body = json!({
        "name": name,
        "trafficDirection": "OUTBOUND",
        "address": address("127.0.0.1", 0),
        "filterChains": [{ "filters": [{ "name": "http", "typedConfig": manager }] }],
    });
    resource(name, version, body)
}

/// A route configuration that leads everything to one cluster.
pub fn table(name: &str, version: &str, cluster: &str) -> Value {
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } });
    let host = json!({ "name": "all", "domains": ["*"], "routes": [route] });
    resource(name, version, json!({ "name": name, "virtualHosts": [host] }))
}

/// The same under another name in its envelope.
pub fn under(name: &str, mut resource: Value) -> Value {
    resource["name"] = name.into();
    resource
}

/// With a field of the body changed.
pub fn with(mut resource: Value, field: &str, value: Value) -> Value {
    resource["body"][field] = value;
    resource
}
