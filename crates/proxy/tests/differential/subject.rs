//! Envoy and this proxy, started from one bootstrap, and a client that sends a case to either.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use proxy::{ProxyOptions, StaticProxy, start_static};
use serde_json::{Value, json};

use crate::common::envoy::Envoy;
use crate::generate::Case;
use crate::host::{Host, Seen};

/// Cases under way at once, each with a listener and a host of its own.
pub const LANES: usize = 8;

/// What became of a case.
pub struct Outcome {
    /// Of final responses.
    pub statuses: Vec<u16>,
    pub interim: Vec<u16>,
    /// The proxy closed of its own accord.
    pub closed: bool,
    pub requests: Vec<Seen>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} interim {:?} closed {}", self.statuses, self.interim, self.closed)?;
        self.requests.iter().try_for_each(|seen| write!(out, "\n        {seen}"))
    }
}

pub fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(1500)];
    format!("`{}`{}", start.escape_ascii(), if start.len() < bytes.len() { "..." } else { "" })
}

pub struct Subject {
    pub lanes: Vec<SocketAddr>,
    pub hosts: Vec<Host>,
    _running: Running,
}

#[expect(dead_code, reason = "held until the end")]
enum Running {
    Envoy(Envoy),
    Ours(StaticProxy),
}

fn bootstrap(hosts: &[Host]) -> Value {
    let typed = |url: &str, mut value: Value| {
        value["@type"] = format!("type.googleapis.com/{url}").into();
        value
    };
    let listeners: Vec<Value> = (0..hosts.len())
        .map(|lane| {
            let manager = typed(
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                json!({
                    "stat_prefix": "lane",
                    "codec_type": "AUTO",
                    "stream_idle_timeout": "0s",
                    // Envoy lets a client read for so long after a connection's end.
                    "delayed_close_timeout": "0.1s",
                    "normalize_path": true,
                    "proxy_100_continue": true,
                    "http_protocol_options": { "enable_trailers": true },
                    "upgrade_configs": [{ "upgrade_type": "websocket" }],
                    "route_config": { "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                        { "match": { "prefix": "/" }, "route": { "cluster": format!("lane-{lane}"), "timeout": "0s" } } ] }] },
                    "http_filters": [{ "name": "router", "typed_config":
                        typed("envoy.extensions.filters.http.router.v3.Router", json!({})) }],
                }),
            );
            json!({ "name": format!("lane-{lane}"),
                "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] })
        })
        .collect();
    let clusters: Vec<Value> = hosts
        .iter()
        .enumerate()
        .map(|(lane, host)| {
            let name = format!("lane-{lane}");
            json!({ "name": name, "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    json!({ "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } } })) },
                "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": {
                    "socket_address": { "address": "127.0.0.1", "port_value": host.address.port() } } } }] }] } })
        })
        .collect();
    json!({
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

impl Subject {
    pub fn ours() -> Subject {
        let hosts: Vec<Host> = (0..LANES).map(|_| Host::start()).collect();
        let bootstrap = xds::json::from_json(&bootstrap(&hosts)).unwrap();
        let proxy =
            start_static(&bootstrap, ProxyOptions { drain: Duration::ZERO, ..ProxyOptions::default() })
                .unwrap();
        let listening = proxy.runtime.handle().listening();
        let lanes = (0..LANES).map(|lane| {
            let name = format!("lane-{lane}");
            listening.iter().find(|(listener, _)| **listener == *name).unwrap().1[0]
        });
        Subject { lanes: lanes.collect(), hosts, _running: Running::Ours(proxy) }
    }

    pub fn envoy(program: &Path) -> Subject {
        let hosts: Vec<Host> = (0..LANES).map(|_| Host::start()).collect();
        let names: Vec<String> = (0..LANES).map(|lane| format!("lane-{lane}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let envoy = Envoy::start(program, &bootstrap(&hosts), 1, &names);
        Subject { lanes: envoy.listeners.clone(), hosts, _running: Running::Envoy(envoy) }
    }

    /// Sends a case and waits for all that comes of it: until the proxy closes, or has said nothing for so long.
    pub fn send(&self, lane: usize, case: &Case, quiet: Duration) -> Outcome {
        let mut stream = TcpStream::connect(self.lanes[lane]).unwrap();
        stream.set_nodelay(true).unwrap();
        self.hosts[lane].take();
        let mut from = 0;
        for &to in case.cuts.iter().chain([&case.bytes.len()]) {
            if stream.write_all(&case.bytes[from..to]).is_err() {
                break;
            }
            from = to;
            if to < case.bytes.len() {
                // So that the pieces arrive as pieces.
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        let mut bytes = vec![];
        let mut closed = true;
        stream.set_read_timeout(Some(quiet)).unwrap();
        let mut chunk = [0; 16384];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && closed => {
                    closed = false;
                    let _ = stream.shutdown(Shutdown::Write);
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                }
                Err(_) => break,
            }
        }
        let (interim, statuses) =
            statuses(&bytes).into_iter().partition(|status| (102..200).contains(status) || *status == 100);
        Outcome { statuses, interim, closed, requests: self.hosts[lane].take() }
    }
}

/// The statuses of the responses in these bytes; 0 for what is no response, 400 for a refusal told as gRPC (the host
/// speaks none).
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let mut all = vec![];
    let mut rest = bytes;
    while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
        let status: u16 =
            head.strip_prefix("http/1.1 ").and_then(|text| text.get(..3)?.parse().ok()).unwrap_or(0);
        all.push(if head.contains("\r\ngrpc-status:") { 400 } else { status });
        rest = &rest[end + 4..];
        if status < 200 {
            if status == 101 || status == 0 {
                return all;
            }
            continue;
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0usize);
        // The host's answers to HEAD announce two bytes and send none; ours to it none either.
        let bare = rest.is_empty() || rest.starts_with(b"HTTP/1.1 ");
        rest = &rest[if bare { 0 } else { length.min(rest.len()) }..];
    }
    if !rest.is_empty() {
        all.push(0);
    }
    all
}
