//! The pages, by path.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use telemetry::metrics;

use crate::admin::inner::Inner;
use crate::admin::text::{has, parameter, pretty};
use crate::admin::{clusters, config_dump};

type Page = (StatusCode, &'static str, Bytes);

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

pub fn make(inner: &Arc<Inner>, path: &str, query: &str) -> Page {
    let json = has(query, "format", "json");
    match path {
        "/" | "/help" => (StatusCode::OK, TEXT, HELP.into()),
        "/config_dump" => (StatusCode::OK, JSON, config_dump::dump(inner, query).into()),
        "/stats/prometheus" => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", prometheus(inner, query).into())
        }
        "/stats" if has(query, "format", "prometheus") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", prometheus(inner, query).into())
        }
        "/stats" => (StatusCode::OK, TEXT, stats(inner, query).into()),
        "/clusters" if json => (StatusCode::OK, JSON, clusters::json(&inner.handle).into()),
        "/clusters" => (StatusCode::OK, TEXT, clusters::text(&inner.handle).into()),
        "/listeners" => (StatusCode::OK, if json { JSON } else { TEXT }, listeners(inner, json).into()),
        "/server_info" => (StatusCode::OK, JSON, server_info(inner).into()),
        "/drain_listeners" => {
            inner.handle.drain();
            (StatusCode::OK, TEXT, "OK\n".into())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, format!("no page {path}\n\n{HELP}").into()),
    }
}

const HELP: &str = "\
/clusters          hosts of all clusters in use (?format=json)
/config_dump       the configuration in use
/drain_listeners   POST: take no more connections
/listeners         where connections are taken (?format=json)
/quitquitquit      POST: stop
/ready             whether the first configuration is in use
/server_info       what this is
/stats             counters in Envoy's names (?usedonly, ?filter=TEXT, ?format=prometheus)
/stats/prometheus  metrics
";

fn prometheus(inner: &Inner, query: &str) -> Vec<u8> {
    let mut out = vec![];
    let used_only = parameter(query, "usedonly").is_some();
    metrics::prometheus(
        inner.handle.registry(),
        &metrics::Filter { used_only, ..Default::default() },
        &mut out,
    );
    out
}

fn stats(inner: &Inner, query: &str) -> Vec<u8> {
    let mut out = vec![];
    let wanted = parameter(query, "filter").unwrap_or("").to_owned();
    let matches = |name: &str| name.contains(&wanted);
    let filter = metrics::Filter { used_only: parameter(query, "usedonly").is_some(), name: Some(&matches) };
    metrics::stats(inner.handle.registry(), &filter, &mut out);
    out
}

fn listeners(inner: &Inner, json: bool) -> String {
    let listening = inner.handle.listening();
    if json {
        let statuses: Vec<_> = listening
            .iter()
            .flat_map(|(name, addresses)| {
                addresses.iter().map(move |address| {
                    json!({ "name": &**name, "local_address": { "socket_address": {
                        "address": address.ip().to_string(), "port_value": address.port() } } })
                })
            })
            .collect();
        return pretty(&json!({ "listener_statuses": statuses }));
    }
    let mut out = String::new();
    for (name, addresses) in listening {
        for address in addresses {
            out.push_str(&format!("{name}::{address}\n"));
        }
    }
    out
}

fn server_info(inner: &Inner) -> String {
    let uptime = inner.started.elapsed().as_secs();
    let state = if inner.handle.is_draining() {
        "DRAINING"
    } else if inner.ready.load(std::sync::atomic::Ordering::Relaxed) {
        "LIVE"
    } else {
        "PRE_INITIALIZING"
    };
    pretty(&json!({
        "version": format!("filamesh/{}", env!("CARGO_PKG_VERSION")),
        "state": state,
        "uptime_current_epoch": format!("{uptime}s"),
        "uptime_all_epochs": format!("{uptime}s"),
        "node": { "id": inner.node.id, "cluster": inner.node.cluster },
    }))
}
