//! Proxies from static bootstraps, one behind the other, and the paths through them.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{client, program, until};

/// What a cluster speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http2,
    /// What the client spoke (`use_downstream_protocol_config`).
    Same,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Http1, Kind::Http2, Kind::Same];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Http1 => "http1",
            Kind::Http2 => "http2",
            Kind::Same => "same",
        }
    }

    /// Whether HTTP/2 is spoken to the host of a request that came so.
    pub fn http2(self, from: bool) -> bool {
        match self {
            Kind::Http1 => false,
            Kind::Http2 => true,
            Kind::Same => from,
        }
    }
}

/// A way to the origin: what each cluster on it speaks, the client's side first.
#[derive(Clone, Debug)]
pub struct Path {
    pub name: String,
    pub url: String,
    pub kinds: Vec<Kind>,
}

impl Path {
    /// Whether the origin sees HTTP/2 of a client that speaks it or not.
    pub fn ends_as_http2(&self, client: bool) -> bool {
        self.kinds.iter().fold(client, |spoken, kind| kind.http2(spoken))
    }

    /// As the scripts take it.
    pub fn plan(&self, http2: bool) -> Value {
        let origin = if self.ends_as_http2(http2) { "2.0" } else { "1.1" };
        let spoken = if http2 { "h2" } else { "h1" };
        json!({ "name": format!("{spoken} {}", self.name), "url": self.url, "http2": http2, "origin": origin })
    }
}

/// Two proxies before an origin: each kind of cluster after one hop, each pair of kinds after two.
pub struct Chain {
    pub paths: Vec<Path>,
    near: Proxy,
    far: Proxy,
}

impl Chain {
    pub fn to(origin: SocketAddr) -> Chain {
        Chain::with(origin, |manager| manager, |_, manager| manager)
    }

    /// With connection managers adjusted: those before the origin, and those before them by their kinds.
    pub fn with(
        origin: SocketAddr,
        near: impl Fn(Value) -> Value,
        far: impl Fn(&[Kind; 2], Value) -> Value,
    ) -> Chain {
        let (mut listeners, mut clusters) = (vec![], vec![]);
        for kind in Kind::ALL {
            listeners.push(listener(kind.name(), near(manager(routed(kind.name())))));
            clusters.push(cluster(kind.name(), kind, origin));
        }
        let near = Proxy::start(&listeners, &clusters);
        let mut paths: Vec<Path> = Kind::ALL
            .into_iter()
            .map(|kind| Path { name: kind.name().to_owned(), url: near.url(kind.name()), kinds: vec![kind] })
            .collect();

        let (mut listeners, mut clusters, mut longer) = (vec![], vec![], vec![]);
        for first in Kind::ALL {
            for second in Kind::ALL {
                let name = format!("{} {}", first.name(), second.name());
                listeners.push(listener(&name, far(&[first, second], manager(routed(&name)))));
                clusters.push(cluster(&name, first, near.listeners[second.name()]));
                longer.push((name, vec![first, second]));
            }
        }
        let far = Proxy::start(&listeners, &clusters);
        paths.extend(longer.into_iter().map(|(name, kinds)| Path { url: far.url(&name), name, kinds }));
        Chain { paths, near, far }
    }

    /// Both proxies still run: none fell over what a client sent.
    pub fn end(mut self) {
        self.near.assert_alive();
        self.far.assert_alive();
    }
}

/// A proxy of ours, or a real Envoy when that is asked for, ended with the test.
pub struct Proxy {
    child: Child,
    log: tempfile::NamedTempFile,
    pub listeners: BTreeMap<String, SocketAddr>,
    _bootstrap: tempfile::NamedTempFile,
}

impl Proxy {
    pub fn start(listeners: &[Value], clusters: &[Value]) -> Proxy {
        let anywhere = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        let text = json!({
            "admin": { "address": anywhere },
            "static_resources": { "listeners": listeners, "clusters": clusters },
        });
        let mut bootstrap = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        bootstrap.write_all(text.to_string().as_bytes()).unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let (child, admin) = match std::env::var("FILAMESH_CLIENTS_VIA").as_deref() {
            Ok("envoy") => start_envoy(bootstrap.path(), &log),
            _ => start_ours(bootstrap.path(), &log),
        };
        let mut proxy = Proxy { child, log, listeners: BTreeMap::new(), _bootstrap: bootstrap };
        until("the listeners are up", Duration::from_secs(10), || {
            proxy.listeners = listening(&admin);
            proxy.listeners.len() == listeners.len()
        });
        proxy
    }

    pub fn url(&self, listener: &str) -> String {
        format!("http://{}", self.listeners[listener])
    }

    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        assert!(ended.is_none(), "a proxy ended: {ended:?}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_ours(bootstrap: &std::path::Path, log: &tempfile::NamedTempFile) -> (Child, String) {
    let mut command = Command::new(program());
    command.args(["proxy", "-o", "json", "-c"]).arg(bootstrap);
    let errors = log.reopen().unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_default();
    let Some(admin) = ready["admin"].as_str() else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("no ready event: {line}{}", std::fs::read_to_string(log.path()).unwrap_or_default());
    };
    (child, admin.to_owned())
}

fn start_envoy(bootstrap: &std::path::Path, log: &tempfile::NamedTempFile) -> (Child, String) {
    let envoy = std::env::var_os("ENVOY").unwrap_or_else(|| "envoy".into());
    let address = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(envoy);
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn", "-c"]).arg(bootstrap);
    command.arg("--admin-address-path").arg(address.path());
    command.stdout(Stdio::null()).stderr(log.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let mut admin = String::new();
    until("Envoy is up", Duration::from_secs(10), || {
        admin = std::fs::read_to_string(address.path()).unwrap_or_default();
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "{}", std::fs::read_to_string(log.path()).unwrap_or_default());
        admin.contains(':')
    });
    (child, admin)
}

fn listening(admin: &str) -> BTreeMap<String, SocketAddr> {
    let (_, text) = client::get(&format!("http://{admin}/listeners?format=json"), &[]);
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let statuses = value["listener_statuses"].as_array().cloned().unwrap_or_default();
    let of = |status: &Value| {
        let port = status.pointer("/local_address/socket_address/port_value")?.as_u64()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok().filter(|p| *p != 0)?));
        Some((status["name"].as_str()?.to_owned(), address))
    };
    statuses.iter().filter_map(of).collect()
}

fn typed(url: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/{url}").into();
    value
}

/// HTTP/1 as it came: the case of names kept, trailers passed on.
pub fn http1_options() -> Value {
    let formatter = typed(
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        json!({}),
    );
    json!({
        "enable_trailers": true,
        "header_key_format": { "stateful_formatter": { "name": "preserve_case", "typed_config": formatter } },
    })
}

/// A connection manager that takes both protocols and hides nothing of either.
pub fn manager(routes: Value) -> Value {
    let router = json!({ "name": "envoy.filters.http.router",
        "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({})) });
    json!({
        "stat_prefix": "test",
        "codec_type": "AUTO",
        "http_protocol_options": http1_options(),
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "proxy_100_continue": true,
        "route_config": { "name": "routes", "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": routes } ] },
        "http_filters": [router],
    })
}

/// Everything to one cluster, for as long as it takes.
pub fn routed(cluster: &str) -> Value {
    json!([{ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }])
}

/// A filter before the router.
pub fn with_filter(mut manager: Value, name: &str, url: &str) -> Value {
    let filter = json!({ "name": name, "typed_config": typed(url, json!({})) });
    manager["http_filters"].as_array_mut().unwrap().insert(0, filter);
    manager
}

pub fn listener(name: &str, manager: Value) -> Value {
    const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [
            { "name": "envoy.filters.network.http_connection_manager", "typed_config": typed(MANAGER, manager) } ] }],
    })
}

pub fn cluster(name: &str, kind: Kind, host: SocketAddr) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let both = json!({ "http_protocol_options": http1_options(), "http2_protocol_options": {} });
    let options = match kind {
        Kind::Http1 => json!({ "explicit_http_config": { "http_protocol_options": http1_options() } }),
        Kind::Http2 => json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
        Kind::Same => json!({ "use_downstream_protocol_config": both }),
    };
    let endpoint = json!({ "endpoint": { "address": { "socket_address": {
        "address": host.ip().to_string(), "port_value": host.port() } } } });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": { OPTIONS: typed(OPTIONS, options) },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}
