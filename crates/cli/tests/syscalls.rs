//! How often a small HTTP/1 request enters the kernel for its bytes, counted by the real strace.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Running;
use serde_json::{Value, json};

const REQUESTS: usize = 2000;
/// One receive and one send on either side.
const MOST_EACH: f64 = 4.0;
/// Calls that make and end the two connections.
const CONNECTIONS: f64 = 20.0;

fn host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{}", "x".repeat(1024));
                let (mut bytes, mut chunk) = (vec![], [0; 4096]);
                while let Ok(length @ 1..) = stream.read(&mut chunk) {
                    bytes.extend_from_slice(&chunk[..length]);
                    if bytes.ends_with(b"\r\n\r\n") {
                        bytes.clear();
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}

fn bootstrap(host: u16) -> Value {
    let typed = |url: &str, mut value: Value| {
        value["@type"] = format!("type.googleapis.com/{url}").into();
        value
    };
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let stats = typed("stats.PluginConfig", json!({}));
    let log = typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({ "path": "/dev/null" }));
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "calls",
            "access_log": [{ "name": "file", "typed_config": log }],
            "route_config": { "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "host" } }] }] },
            "http_filters": [{ "name": "istio.stats", "typed_config": stats }, { "name": "router", "typed_config": router }],
        }),
    );
    let endpoint = json!({ "endpoint": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": host } } } });
    json!({ "static_resources": {
        "listeners": [{ "name": "main", "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }],
        "clusters": [{ "name": "host", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": "host", "endpoints": [{ "lb_endpoints": [endpoint] }] } }],
    } })
}

/// The calls of strace's summary that move bytes on sockets.
fn network_calls(summary: &str) -> f64 {
    const NAMES: [&str; 10] = [
        "recvfrom", "recvmsg", "read", "readv", "sendto", "sendmsg", "write", "writev", "recvmmsg",
        "sendmmsg",
    ];
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.last().filter(|name| NAMES.contains(name))?;
        columns.get(3)?.parse::<f64>().ok()
    };
    summary.lines().filter_map(line).sum()
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_small_request_takes_four_network_calls() {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: network system calls of a request (strace is not installed)");
        return;
    }
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    file.write_all(bootstrap(host()).to_string().as_bytes()).unwrap();
    let proxy = Running::start(&["proxy", "--concurrency", "1", "-c", file.path().to_str().unwrap()]);
    let address = proxy.ready["listeners"][0].as_str().unwrap().to_owned();
    let mut client = BufReader::new(TcpStream::connect(&address).unwrap());
    client.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.get_ref().set_nodelay(true).unwrap();
    let mut ask = || {
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(client.read_line(&mut line).unwrap() > 0);
        }
        client.read_exact(&mut [0; 1024]).unwrap();
    };
    ask();
    let summary = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(summary.path())
        .args(["-p", &proxy.child.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    if !line.contains("attached") {
        let _ = strace.wait();
        eprintln!("SKIPPED: network system calls of a request (strace may not trace here: {})", line.trim());
        return;
    }
    (0..REQUESTS).for_each(|_| ask());
    // Asked to end, it lets go of the proxy and writes its summary.
    assert!(Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap().success());
    let until = Instant::now() + Duration::from_secs(20);
    while strace.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "strace does not end");
        std::thread::yield_now();
    }
    let text = std::fs::read_to_string(summary.path()).unwrap();
    let each = (network_calls(&text) - CONNECTIONS).max(0.0) / REQUESTS as f64;
    println!("{each:.3} network system calls a request");
    assert!(each > 1.0, "nothing was counted:\n{text}");
    assert!(each <= MOST_EACH, "{each:.3} network system calls a request:\n{text}");
}
