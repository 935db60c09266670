//! Messages and requests for tests, as short as they can be written.
#![allow(dead_code)]
use std::borrow::Cow;
use std::sync::Arc;

use model::view::{ForwardedProto, any_of, one_of};
use model::{Cluster, Config, HttpConnection, NetworkAction, RequestView, Resource, RouteTable};
use serde_json::{Value, json};
use xds::type_url;

/// A message from proto3 JSON; tests write configuration as it stands in Envoy's documentation.
pub fn message<M: xds::Name + Default>(value: Value) -> M {
    xds::json::from_json(&value).unwrap_or_else(|e| panic!("{e}: {value:#}"))
}

pub fn resource<M: xds::Name>(name: &str, message: &M) -> Resource {
    Resource { name: name.into(), version: "1".into(), body: xds::pack(message) }
}

pub fn listener(value: Value) -> xds::listener::Listener {
    message(value)
}

pub fn routes(value: Value) -> xds::route::RouteConfiguration {
    message(value)
}

/// A chain to one cluster; `rule` is its `filter_chain_match`.
pub fn tcp_chain(name: &str, rule: Value, cluster: &str) -> Value {
    json!({"name": name, "filterChainMatch": rule, "filters": [tcp_proxy(cluster)]})
}

pub fn tcp_proxy(cluster: &str) -> Value {
    let url = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    json!({"name": "tcp", "typedConfig": {"@type": url, "statPrefix": "s", "cluster": cluster}})
}

/// A connection manager; `routes` is its `rds` or `route_config`.
pub fn http(routes: Value) -> Value {
    let url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let mut config = json!({"@type": url, "statPrefix": "s",
        "httpFilters": [{"name": "envoy.filters.http.router", "typedConfig": {"@type": router}}]});
    for (key, value) in routes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    json!({"name": "http", "typedConfig": config})
}

pub fn rds(name: &str) -> Value {
    json!({"rds": {"routeConfigName": name, "configSource": {"ads": {}}}})
}

pub fn tls_socket(certificate: &str, mutual: bool) -> Value {
    let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    json!({"name": "envoy.transport_sockets.tls", "typedConfig": {"@type": url,
        "requireClientCertificate": mutual,
        "commonTlsContext": {"tlsCertificateSdsSecretConfigs": [{"name": certificate}]}}})
}

pub fn inspector(kind: &str) -> Value {
    let package = match kind {
        "TlsInspector" => "tls_inspector",
        _ => "http_inspector",
    };
    let url = format!("type.googleapis.com/envoy.extensions.filters.listener.{package}.v3.{kind}");
    json!({"name": format!("envoy.filters.listener.{package}"), "typedConfig": {"@type": url}})
}

pub fn address(ip: &str, port: u16) -> Value {
    json!({"socketAddress": {"address": ip, "portValue": port}})
}

/// A config that took the route configuration, refusing nothing.
pub fn config_with_routes(message: &xds::route::RouteConfiguration) -> Config {
    let mut config = Config::new();
    let refused = config.apply(xds::type_url::ROUTE, &[resource(&message.name, message)], &[]);
    assert!(refused.is_empty(), "{refused:?}");
    config
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub host: String,
    pub scheme: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
}

pub fn get(host: &str, path: &str) -> Request {
    Request { method: "GET", path: path.into(), host: host.into(), scheme: "http", headers: Vec::new() }
}

impl Request {
    pub fn with(mut self, name: &'static str, value: &'static str) -> Request {
        self.headers.push((name, value));
        self
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_bytes())
    }
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn scheme(&self) -> &[u8] {
        self.scheme.as_bytes()
    }
    fn forwarded_proto(&self) -> ForwardedProto {
        if self.scheme == "https" { ForwardedProto::Https } else { ForwardedProto::Http }
    }
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool> {
        any_of(name, self.lines(name), test)
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        one_of(name, self.lines(name))
    }
}

/// The table of a route configuration.
pub fn table(value: Value) -> Arc<RouteTable> {
    let message = routes(value);
    let mut config = config_with_routes(&message);
    config.snapshot().route_tables().next().expect("one was applied").clone()
}

/// The table of one virtual host with these routes; their names say which one is meant.
pub fn one_host(routes: Value) -> Arc<RouteTable> {
    table(json!({"name": "r", "virtualHosts": [{"name": "v", "domains": ["*"], "routes": routes}]}))
}

/// `more` over `whole`, field by field.
pub fn merged(mut whole: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    whole
}

/// The compiled cluster, or why it was refused.
pub fn static_cluster(more: Value) -> Result<Arc<Cluster>, String> {
    let whole = merged(json!({"name": "c", "type": "STATIC"}), more);
    let mut config = Config::new();
    let message: xds::cluster::Cluster = message(whole);
    match config.apply(type_url::CLUSTER, &[resource("c", &message)], &[]).as_slice() {
        [] => {}
        [refused, ..] => return Err(refused.reason.clone()),
    }
    let snapshot = config.snapshot();
    let id = snapshot.cluster_id("c").expect("it has one");
    Ok(snapshot.cluster(id).expect("static clusters are warm").cluster.clone())
}

/// With `HttpProtocolOptions`.
pub fn with_options(options: Value) -> Value {
    let url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({"typedExtensionProtocolOptions": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": merged(json!({"@type": url}), options)}})
}

/// The compiled connection manager of a listener, or why it was refused.
pub fn connection(more: Value) -> Result<Arc<HttpConnection>, String> {
    let routes = json!({"routeConfig": {"name": "r"}});
    let value = json!({"name": "l", "address": address("127.0.0.1", 80),
        "filterChains": [{"filters": [http(merged(routes, more))]}]});
    let mut config = Config::new();
    match config.apply(type_url::LISTENER, &[resource("l", &listener(value))], &[]).as_slice() {
        [] => {}
        [refused, ..] => return Err(refused.reason.clone()),
    }
    let snapshot = config.snapshot();
    let chain = snapshot.listener("l").expect("it is warm").all_chains().next().expect("one chain");
    match &chain.action {
        NetworkAction::Http(http) => Ok(http.clone()),
        other => panic!("{other:?}"),
    }
}
