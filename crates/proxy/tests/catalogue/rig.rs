//! The proxy with its three listeners, and what a client sees of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use proxy::{ProxyHandle, ProxyOptions, StaticProxy, start_static};
use serde_json::{Value, json};

use crate::common::{Host, cluster, typed};
use crate::recorder::Recorder;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Tests that measure the process's memory have it to themselves.
static MEASURING: RwLock<()> = RwLock::new(());

pub fn beside_others() -> RwLockReadGuard<'static, ()> {
    MEASURING.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MEASURING.write().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of memory this process has resident.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A listener and how it is called in messages.
pub struct Door {
    pub name: &'static str,
    pub address: SocketAddr,
}

/// Judgements that failed: all are shown, not only the first.
#[derive(Default)]
pub struct Failures(Vec<String>);

impl Failures {
    pub fn gather(&mut self, judge: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge)) {
            let text = panic.downcast_ref::<String>().cloned();
            self.0.push(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default(),
            );
        }
    }

    pub fn none(self) {
        assert!(self.0.is_empty(), "{} failed:\n{}", self.0.len(), self.0.join("\n"));
    }
}

pub const GATEWAY: &str = "gateway";
pub const INBOUND: &str = "inbound";
pub const OUTBOUND: &str = "outbound";

/// How a rig differs from Istio's settings.
pub struct Plan {
    pub clusters: Vec<Value>,
    pub routes: Value,
    pub manager: fn(&mut Value),
    pub listener: fn(&mut Value),
    pub options: ProxyOptions,
    /// Who gets what shows no HTTP, instead of the rig's own recorder.
    pub raw: Option<SocketAddr>,
}

impl Plan {
    /// Everything to this host, over HTTP/1.
    pub fn to(host: SocketAddr) -> Plan {
        Plan {
            clusters: vec![cluster("app", &[host])],
            routes: json!([{ "match": { "prefix": "/" }, "route": { "cluster": "app", "timeout": "0s" } }]),
            manager: |_| {},
            listener: |_| {},
            options: ProxyOptions { drain: Duration::ZERO, ..ProxyOptions::default() },
            raw: None,
        }
    }
}

pub struct Rig {
    pub doors: Vec<Door>,
    /// Where a connection goes that shows no HTTP on the outbound listener.
    pub raw: Recorder,
    proxy: StaticProxy,
    log: tempfile::NamedTempFile,
    read: Mutex<usize>,
}

impl Rig {
    pub fn new(plan: Plan) -> Rig {
        let log = tempfile::NamedTempFile::new().unwrap();
        let raw = Recorder::silent();
        // Where neighbours go, so that the recorded host sees nothing of them.
        let beside = Host::saying("fine");
        let mut clusters = plan.clusters;
        clusters.push(cluster("raw", &[plan.raw.unwrap_or(raw.address)]));
        clusters.push(cluster("beside", &[beside.address]));
        let listeners: Vec<Value> = [gateway, inbound, outbound]
            .into_iter()
            .map(|made| {
                let mut listener = made(&plan.routes, log.path(), plan.manager);
                (plan.listener)(&mut listener);
                listener
            })
            .collect();
        let value = json!({ "static_resources": { "listeners": listeners, "clusters": clusters } });
        let bootstrap = xds::json::from_json(&value).unwrap();
        let proxy = start_static(&bootstrap, plan.options).unwrap();
        let listening = proxy.runtime.handle().listening();
        let door = |name: &'static str| {
            let (_, addresses) = listening.iter().find(|(listener, _)| **listener == *name).unwrap();
            Door { name, address: addresses[0] }
        };
        Rig { doors: [GATEWAY, INBOUND, OUTBOUND].map(door).into(), raw, proxy, log, read: Mutex::new(0) }
    }

    pub fn handle(&self) -> ProxyHandle {
        self.proxy.runtime.handle()
    }

    pub fn door(&self, name: &str) -> &Door {
        self.doors.iter().find(|door| door.name == name).unwrap()
    }

    /// A series of the proxy's own metrics, all its labels together.
    pub fn count(&self, metric: &str) -> u64 {
        let mut out = vec![];
        telemetry::metrics::prometheus(self.handle().registry(), &Default::default(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(metric));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Access-log lines since the last call: `STATUS FLAGS DETAILS PROTOCOL`.
    pub fn log_lines(&self) -> Vec<String> {
        self.handle().flush_logs();
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        let mut read: MutexGuard<'_, usize> = self.read.lock().unwrap();
        let lines = text[*read..].lines().map(str::to_owned).collect();
        *read = text.len();
        lines
    }

    /// Waits for a log line with these beginnings of its fields.
    pub fn logged(&self, case: &str, status: u16, flags: &str, details: &str) {
        let until = Instant::now() + PATIENCE;
        let mut seen = vec![];
        loop {
            seen.extend(self.log_lines());
            let met = seen.iter().any(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                fields[0] == status.to_string()
                    && (flags.is_empty() || fields[1].split(',').any(|flag| flag == flags))
                    && fields[2].starts_with(details)
            });
            if met {
                return;
            }
            assert!(Instant::now() < until, "{case}: no log line `{status} {flags} {details}`, but {seen:?}");
            std::thread::yield_now();
        }
    }
}

/// A connection of somebody else at the same listener, kept open throughout.
pub struct Neighbour {
    door: &'static str,
    stream: TcpStream,
}

impl Neighbour {
    pub fn at(door: &Door) -> Neighbour {
        let mut neighbour = Neighbour { door: door.name, stream: connect(door.address) };
        neighbour.unharmed("at first");
        neighbour
    }

    /// Its connection lives and is answered, on the same worker.
    pub fn unharmed(&mut self, case: &str) {
        self.stream.write_all(b"GET /beside HTTP/1.1\r\nhost: neighbour.test\r\n\r\n").unwrap();
        let mut seen = vec![];
        let mut chunk = [0; 4096];
        while !seen.ends_with(b"fine") {
            match self.stream.read(&mut chunk) {
                Ok(length @ 1..) => seen.extend_from_slice(&chunk[..length]),
                other => {
                    panic!("{case}: the neighbour at {} is harmed: {other:?} {}", self.door, shown(&seen))
                }
            }
        }
        assert!(seen.starts_with(b"HTTP/1.1 200 "), "{case}: neighbour at {}: {}", self.door, shown(&seen));
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What a client got until the end of its connection.
pub struct Got {
    pub answers: Vec<Answer>,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::common::header(&self.head, name)
    }
}

impl Got {
    pub fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|answer| answer.status).collect()
    }
}

/// Sends these pieces, each in a segment of its own, and reads to the end of the connection. Whoever is cut off while
/// it writes reads on.
pub fn send(address: SocketAddr, pieces: &[&[u8]]) -> Got {
    let mut stream = connect(address);
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    drain(stream)
}

pub fn drain(mut stream: TcpStream) -> Got {
    let bytes = read_to_end(&mut stream);
    Got { answers: answers(&bytes), bytes }
}

/// All until the end; a reset is an end too.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    let mut chunk = [0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("the connection is not closed: {error}; so far {}", shown(&bytes)),
        }
    }
}

/// HTTP/1 responses, one after another; the last may end with the connection.
pub fn answers(bytes: &[u8]) -> Vec<Answer> {
    let mut all = vec![];
    let mut rest = bytes;
    while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end + 2]).into_owned();
        rest = &rest[end + 4..];
        let status: u16 = head
            .strip_prefix("HTTP/1.1 ")
            .or(head.strip_prefix("HTTP/1.0 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .unwrap_or_else(|| {
                panic!("not a response: {}", shown(bytes));
            });
        let value = |name: &str| crate::common::header(&head, name).map(str::to_owned);
        let length = if status < 200 || status == 204 || status == 304 {
            0
        } else if value("transfer-encoding").is_some() {
            crate::recorder::chunked_end(rest).unwrap_or(rest.len())
        } else {
            value("content-length")
                .map_or(rest.len(), |length| length.parse::<usize>().unwrap().min(rest.len()))
        };
        let (body, after) = rest.split_at(length);
        all.push(Answer { status, head, body: body.to_vec() });
        rest = after;
    }
    assert!(rest.is_empty() || all.is_empty(), "bytes after the last response: {}", shown(rest));
    all
}

pub fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(400)];
    format!("`{}`{}", start.escape_ascii(), if start.len() < bytes.len() { "..." } else { "" })
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::yield_now();
    }
}

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Istio's connection manager, gateways and sidecars alike.
fn manager(class: &str, routes: &Value, log: &std::path::Path) -> Value {
    let log = typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        json!({ "path": log.to_str().unwrap(), "log_format": { "text_format_source": {
            "inline_string": "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %PROTOCOL%\n" } } }),
    );
    let filter =
        |name: &str, url: &str, config: Value| json!({ "name": name, "typed_config": typed(url, config) });
    let istio = json!({ "istio_headers": {} });
    let exchange = match class {
        INBOUND => json!({ "downstream_discovery": [istio], "downstream_propagation": [istio] }),
        _ => json!({ "upstream_discovery": [istio], "upstream_propagation": [istio] }),
    };
    let mut manager = json!({
        "stat_prefix": format!("{class};"),
        "codec_type": "AUTO",
        "use_remote_address": class == GATEWAY,
        "stream_idle_timeout": "0s",
        "normalize_path": true,
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "proxy_100_continue": true,
        "access_log": [{ "name": "file", "typed_config": log }],
        "route_config": { "name": "routes", "virtual_hosts": [
            { "name": "beside", "domains": ["neighbour.test"],
              "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "beside" } }] },
            { "name": "all", "domains": ["*"], "routes": routes },
        ] },
        "http_filters": [
            filter("istio.metadata_exchange", "io.istio.http.peer_metadata.Config", exchange),
            filter("envoy.filters.http.grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
                json!({ "emit_filter_state": true, "stats_for_all_methods": false })),
            filter("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault", json!({})),
            filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", json!({})),
            filter("istio.stats", "stats.PluginConfig", json!({ "disable_host_header_fallback": class != OUTBOUND })),
            filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({})),
        ],
    });
    match class {
        GATEWAY => {
            manager["server_name"] = "istio-envoy".into();
            manager["forward_client_cert_details"] = "SANITIZE_SET".into();
        }
        INBOUND => {
            manager["server_name"] = "istio-envoy".into();
            manager["forward_client_cert_details"] = "APPEND_FORWARD".into();
        }
        _ => {}
    }
    manager
}

fn listener(class: &str, direction: &str, inspectors: &[&str]) -> Value {
    let inspectors: Vec<Value> = inspectors
        .iter()
        .map(|name| {
            let title = match *name {
                "tls" => "TlsInspector",
                _ => "HttpInspector",
            };
            let url = format!("envoy.extensions.filters.listener.{name}_inspector.v3.{title}");
            json!({ "name": format!("envoy.filters.listener.{name}_inspector"), "typed_config": typed(&url, json!({})) })
        })
        .collect();
    json!({
        "name": class,
        "traffic_direction": direction,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "max_connections_to_accept_per_socket_event": 1,
        "listener_filters": inspectors,
    })
}

/// A plaintext HTTP server of an Istio gateway.
fn gateway(routes: &Value, log: &std::path::Path, adjust: fn(&mut Value)) -> Value {
    let mut made = listener(GATEWAY, "OUTBOUND", &[]);
    made["filter_chains"] = json!([{ "transport_socket_connect_timeout": "15s",
        "filters": [http_filter(GATEWAY, routes, log, adjust)] }]);
    made
}

/// A port its Service declares to be HTTP.
fn inbound(routes: &Value, log: &std::path::Path, adjust: fn(&mut Value)) -> Value {
    let mut made = listener(INBOUND, "INBOUND", &["tls"]);
    made["continue_on_listener_filters_timeout"] = true.into();
    made["listener_filters_timeout"] = "0s".into();
    made["filter_chains"] = json!([{ "filter_chain_match": { "transport_protocol": "raw_buffer" },
        "filters": [http_filter(INBOUND, routes, log, adjust)] }]);
    made
}

/// A port whose protocol is found out.
fn outbound(routes: &Value, log: &std::path::Path, adjust: fn(&mut Value)) -> Value {
    let mut made = listener(OUTBOUND, "OUTBOUND", &["tls", "http"]);
    made["continue_on_listener_filters_timeout"] = true.into();
    made["listener_filters_timeout"] = "0s".into();
    made["filter_chains"] = json!([{
        "filter_chain_match": { "transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"] },
        "filters": [http_filter(OUTBOUND, routes, log, adjust)] }]);
    made["default_filter_chain"] = json!({ "filters": [{ "name": "tcp", "typed_config": typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", json!({ "stat_prefix": "raw", "cluster": "raw" })) }] });
    made
}

fn http_filter(class: &str, routes: &Value, log: &std::path::Path, adjust: fn(&mut Value)) -> Value {
    let mut manager = manager(class, routes, log);
    adjust(&mut manager);
    json!({ "name": "http", "typed_config": typed(MANAGER, manager) })
}
