//! A proxy from a static configuration, hosts that do as they are told, a client that speaks bytes.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod cost;
pub mod envoy;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy::{ProxyHandle, ProxyOptions, StaticProxy, start_static};
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn typed(url: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/{url}").into();
    value
}

/// A connection manager over these routes of one virtual host `*`.
pub fn http(routes: Value) -> Value {
    json!({
        "stat_prefix": "test",
        "server_name": "istio-envoy",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "proxy_100_continue": true,
        "route_config": { "name": "routes", "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": true } ] },
        "http_filters": [
            { "name": "envoy.filters.http.fault", "typed_config": typed("envoy.extensions.filters.http.fault.v3.HTTPFault", json!({})) },
            { "name": "envoy.filters.http.cors", "typed_config": typed("envoy.extensions.filters.http.cors.v3.Cors", json!({})) },
            { "name": "istio.stats", "typed_config": typed("stats.PluginConfig", json!({})) },
            { "name": "envoy.filters.http.router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({})) } ],
    })
}

/// Everything to one cluster.
pub fn to(cluster: &str) -> Value {
    json!([{ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }])
}

pub fn listener(name: &str, filter: Value) -> Value {
    json!({
        "name": name,
        "traffic_direction": "OUTBOUND",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "terminal", "typed_config": filter }] }],
    })
}

pub fn http_listener(manager: Value) -> Value {
    const URL: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    listener("main", typed(URL, manager))
}

pub fn cluster(name: &str, hosts: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = hosts
        .iter()
        .map(|host| {
            json!({ "endpoint": { "address": { "socket_address": {
                "address": host.ip().to_string(), "port_value": host.port() } } } })
        })
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

pub struct Proxy {
    pub proxy: StaticProxy,
    pub address: SocketAddr,
}

pub fn bootstrap(listener: &Value, clusters: &[Value]) -> xds::bootstrap::Bootstrap {
    let value = json!({ "static_resources": { "listeners": [listener], "clusters": clusters } });
    xds::json::from_json(&value).unwrap()
}

impl Proxy {
    pub fn start(listener: Value, clusters: &[Value]) -> Proxy {
        Proxy::with(
            listener,
            clusters,
            ProxyOptions { drain: Duration::from_secs(1), ..ProxyOptions::default() },
        )
    }

    pub fn with(listener: Value, clusters: &[Value], options: ProxyOptions) -> Proxy {
        let proxy = start_static(&bootstrap(&listener, clusters), options).unwrap();
        let address = proxy.runtime.handle().listening()[0].1[0];
        Proxy { proxy, address }
    }

    pub fn handle(&self) -> ProxyHandle {
        self.proxy.runtime.handle()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.client().ask(&format!("GET {path} HTTP/1.1\r\nhost: test.local\r\n\r\n"))
    }

    pub fn metrics(&self) -> String {
        let mut out = vec![];
        telemetry::metrics::prometheus(self.handle().registry(), &Default::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The sum of all series of a metric whose labels hold these texts.
    pub fn count(&self, metric: &str, labels: &[&str]) -> u64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(metric));
        lines
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::yield_now();
    }
}

/// A host: every connection is handled by `serve`, on a thread of its own.
pub struct Host {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<Mutex<Vec<String>>>,
}

/// The host's end of one connection.
pub struct Served {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
    /// Which connection of the host this is, from 1.
    pub number: usize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub fn start(serve: impl Fn(&mut Served) + Send + Sync + 'static) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
        let (counter, seen, serve) = (connections.clone(), requests.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = counter.fetch_add(1, SeqCst) + 1;
                let (serve, requests) = (serve.clone(), seen.clone());
                std::thread::spawn(move || serve(&mut Served { stream, buffer: vec![], number, requests }));
            }
        });
        Host { address, connections, requests }
    }

    /// Answers every request with these bytes.
    pub fn answering(answer: &str) -> Host {
        let answer = answer.to_owned();
        Host::start(move |connection| while connection.request().is_some() && connection.say(&answer) {})
    }

    /// Answers 200 with a text.
    pub fn saying(text: &str) -> Host {
        Host::answering(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
    }

    pub fn last_request(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// A port nobody listens on.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that takes no connection and refuses none: its queue is full. To be kept for as long as that is wanted.
pub struct BlackHole {
    pub address: SocketAddr,
    _full: (socket2::Socket, Vec<socket2::Socket>),
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let tcp = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = tcp();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let filling = (0..4).map(|_| {
            let socket = tcp();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        let filling = filling.collect();
        BlackHole { address, _full: (listener, filling) }
    }
}

impl Served {
    /// The next request's head; its body (by content-length) is read and kept out of it.
    pub fn request(&mut self) -> Option<String> {
        let head = read_head(&mut self.stream, &mut self.buffer)?;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        self.requests.lock().unwrap().push(head.clone());
        if header(&head, "expect").is_none() {
            self.body(length);
        }
        Some(head)
    }

    pub fn body(&mut self, length: usize) -> Vec<u8> {
        read_exactly(&mut self.stream, &mut self.buffer, length)
    }

    pub fn say(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }

    pub fn read_some(&mut self) -> Vec<u8> {
        if !self.buffer.is_empty() {
            return std::mem::take(&mut self.buffer);
        }
        let mut chunk = vec![0; 65536];
        let length = self.stream.read(&mut chunk).unwrap_or(0);
        chunk.truncate(length);
        chunk
    }
}

pub struct Client {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: vec![] }
    }

    pub fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        self.say(request);
        let no_body = request.starts_with("HEAD ");
        self.answer_to(no_body)
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    fn answer_to(&mut self, no_body: bool) -> Answer {
        let head = read_head(&mut self.stream, &mut self.buffer).expect("a response");
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if no_body || status < 200 || status == 204 || status == 304 {
            vec![]
        } else if header(&head, "transfer-encoding").is_some() {
            self.chunked()
        } else if let Some(length) = header(&head, "content-length") {
            read_exactly(&mut self.stream, &mut self.buffer, length.parse().unwrap())
        } else {
            self.rest()
        };
        Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = vec![];
        loop {
            let line = read_line(&mut self.stream, &mut self.buffer);
            let length = usize::from_str_radix(line.trim().split(';').next().unwrap(), 16).unwrap();
            if length == 0 {
                while !read_line(&mut self.stream, &mut self.buffer).trim().is_empty() {}
                return body;
            }
            body.extend(read_exactly(&mut self.stream, &mut self.buffer, length));
            read_line(&mut self.stream, &mut self.buffer);
        }
    }

    /// All up to the end of the connection; a reset ends it too.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return rest,
                Ok(length) => rest.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("the connection stays open: {error}"),
            }
        }
    }
}

pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16384];
    match stream.read(&mut chunk) {
        Ok(length @ 1..) => {
            buffer.extend_from_slice(&chunk[..length]);
            true
        }
        _ => false,
    }
}

pub fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 2]).into_owned();
            buffer.drain(..end + 4);
            return Some(head);
        }
        if !fill(stream, buffer) {
            return None;
        }
    }
}

fn read_exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Vec<u8> {
    while buffer.len() < length && fill(stream, buffer) {}
    let rest = buffer.split_off(length.min(buffer.len()));
    std::mem::replace(buffer, rest)
}

fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return String::from_utf8_lossy(&line).into_owned();
        }
        assert!(fill(stream, buffer), "the connection ended in a line");
    }
}
