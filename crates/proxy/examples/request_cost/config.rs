//! What the workers are configured with: a sidecar's listener, routes, access log and metrics, as `./bench` has them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use model::Snapshot;
use model::config::{Config, Resource};
use serde_json::{Value, json};

/// What a cluster's hosts speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    Http1,
    Http2,
    /// A proxy of ours.
    Hop,
}

pub fn snapshot(
    direction: &str,
    listen: SocketAddr,
    to: SocketAddr,
    hosts: Hosts,
) -> anyhow::Result<Arc<Snapshot>> {
    let mut config = Config::new();
    add::<xds::cluster::Cluster>(&mut config, xds::type_url::CLUSTER, &cluster(to, hosts))?;
    add::<xds::listener::Listener>(&mut config, xds::type_url::LISTENER, &listener(direction, listen))?;
    Ok(config.snapshot())
}

fn add<M: xds::Name + Default>(config: &mut Config, url: &str, value: &Value) -> anyhow::Result<()> {
    let name = value["name"].as_str().context("a name")?.to_owned();
    let message: M = xds::json::from_json(value)?;
    let rejected =
        config.apply(url, &[Resource { name, version: "1".into(), body: xds::pack(&message) }], &[]);
    ensure!(rejected.is_empty(), "{rejected:?}");
    Ok(())
}

fn cluster(to: SocketAddr, hosts: Hosts) -> Value {
    let mut endpoint = json!({ "endpoint": { "address": address(to) } });
    if hosts == Hosts::Hop {
        let told = json!({ xds::node::HOP_KEY: xds::node::HOP_H2 });
        endpoint["metadata"] = json!({ "filter_metadata": { xds::node::HOP_NAMESPACE: told } });
    }
    let most = u32::MAX;
    let mut cluster = json!({
        "name": "items", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": { "thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most }] },
        "load_assignment": { "cluster_name": "items", "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if hosts == Hosts::Http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} } } });
    }
    cluster
}

fn listener(direction: &str, at: SocketAddr) -> Value {
    let route = |name: &str, prefix: &str| json!({ "name": name, "match": { "prefix": prefix }, "route": { "cluster": "items", "timeout": "0s" } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "codec_type": "AUTO",
        "generate_request_id": true,
        "normalize_path": true,
        "route_config": { "name": "items", "virtual_hosts": [
            { "name": "items", "domains": ["bench.local", "bench.local:*"],
              "routes": [route("admin", "/admin/"), route("pages", "/pages/"), route("default", "/")] },
            { "name": "any", "domains": ["*"], "routes": [route("default", "/")] } ] },
        "access_log": [{ "name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": { "text_format_source": { "inline_string": telemetry::access_log::ISTIO } } } }],
        "http_filters": [
            { "name": "istio.stats", "typed_config": { "@type": "type.googleapis.com/stats.PluginConfig" } },
            { "name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } } ],
    });
    json!({
        "name": "listener", "traffic_direction": direction, "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
