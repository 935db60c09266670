//! Requests of the proxy's own, beside a real Envoy's: what copies of requests say, and when hosts leave by their health
//! checks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

use proxy::{ProxyOptions, StaticProxy, start_static};
use serde_json::{Value, json};

use super::common::{Client, Host, cluster, eventually, header, typed};

/// Either proxy, from the same bootstrap.
enum Side {
    Envoy { child: Child, admin: SocketAddr, address: SocketAddr, _directory: tempfile::TempDir },
    Ours { proxy: StaticProxy, address: SocketAddr },
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Side::Envoy { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn bootstrap(routes: Value, clusters: &[Value]) -> Value {
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "calls",
            "http_protocol_options": { "enable_trailers": true },
            "route_config": { "name": "r", "virtual_hosts": [
                { "name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": true }] },
            "http_filters": [{ "name": "router", "typed_config":
                typed("envoy.extensions.filters.http.router.v3.Router", json!({})) }],
        }),
    );
    json!({
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "clusters": clusters, "listeners": [{ "name": "main",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }] },
    })
}

fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

impl Side {
    fn ours(bootstrap: &Value) -> Side {
        let message = xds::json::from_json(bootstrap).unwrap();
        let proxy = start_static(&message, ProxyOptions { drain: Duration::ZERO, ..ProxyOptions::default() })
            .unwrap();
        let address = proxy.runtime.handle().listening()[0].1[0];
        Side::Ours { proxy, address }
    }

    #[allow(clippy::zombie_processes, reason = "its owner waits for it when it is dropped")]
    fn envoy(program: &Path, bootstrap: &Value) -> Side {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("envoy.json"), bootstrap.to_string()).unwrap();
        let mut child = Command::new(program)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "-c"])
            .arg(path("envoy.json"))
            .arg("--admin-address-path")
            .arg(path("admin"))
            .arg("--log-path")
            .arg(path("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let found = || -> Option<(SocketAddr, SocketAddr)> {
                let admin = std::fs::read_to_string(path("admin")).ok()?.trim().parse().ok()?;
                let text = ask(admin, "/listeners")?;
                let address: SocketAddr = text.split_once("main::")?.1.lines().next()?.trim().parse().ok()?;
                (address.port() != 0).then_some((admin, address))
            };
            if let Some((admin, address)) = found() {
                return Side::Envoy { child, admin, address, _directory: directory };
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("Envoy does not serve:\n{}", std::fs::read_to_string(path("log")).unwrap_or_default());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn client(&self) -> Client {
        match self {
            Side::Envoy { address, .. } | Side::Ours { address, .. } => Client::connect(*address),
        }
    }

    /// A statistic by Envoy's dotted name.
    fn stat(&self, name: &str) -> u64 {
        let text = match self {
            Side::Envoy { admin, .. } => ask(*admin, "/stats").unwrap(),
            Side::Ours { proxy, .. } => {
                let mut out = vec![];
                telemetry::metrics::stats(proxy.runtime.handle().registry(), &Default::default(), &mut out);
                String::from_utf8(out).unwrap()
            }
        };
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

fn sides(program: &Path, bootstrap: impl Fn() -> Value, mut both: impl FnMut(&Side, &'static str)) {
    both(&Side::envoy(program, &bootstrap()), "Envoy");
    both(&Side::ours(&bootstrap()), "ours");
}

/// A head's lines, sorted, without what is random. A list is the same with and without blanks behind its commas.
fn lines(head: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        head.lines().map(|line| line.to_ascii_lowercase().replace(", ", ",")).collect();
    lines.retain(|line| !line.is_empty() && !line.starts_with("x-request-id:"));
    lines.sort();
    lines
}

#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn mirrored_requests_are_as_envoys() {
    let Some(program) = super::envoy() else { return };
    let policies = [
        json!({ "cluster": "v2" }),
        json!({ "cluster": "v2", "disable_shadow_host_suffix_append": true, "trace_sampled": false }),
        json!({ "cluster": "v2", "host_rewrite_literal": "other.host" }),
        json!({ "cluster_header": "x-to" }),
    ];
    let requests = [
        "GET /old/a?b HTTP/1.1\r\nhost: a.b:80\r\nx-to: v2\r\n\r\n",
        "HEAD /old HTTP/1.1\r\nhost: a.b\r\nx-to: v2\r\n\r\n",
        "POST /old HTTP/1.1\r\nhost: a.b\r\nx-to: v2\r\ncontent-length: 5\r\n\r\nhello",
        "POST /old HTTP/1.1\r\nhost: a.b\r\nx-to: v2\r\nx-forwarded-for: 9.9.9.9\r\ncontent-length: 0\r\n\r\n",
    ];
    for policy in policies {
        let (v1, v2) = (Host::saying("v1"), Host::saying("v2"));
        let make = || {
            let route = json!({ "cluster": "v1", "timeout": "3s", "prefix_rewrite": "/new", "request_mirror_policies": [policy],
                "retry_policy": { "retry_on": "5xx" } });
            let routes = json!([{ "match": { "prefix": "/old" }, "route": route,
                "request_headers_to_add": [{ "header": { "key": "x-added", "value": "1" } }] }]);
            bootstrap(routes, &[cluster("v1", &[v1.address]), cluster("v2", &[v2.address])])
        };
        let mut all: Vec<Vec<Vec<String>>> = vec![];
        let mut counted = vec![];
        sides(&program, make, |side, name| {
            let mut copies = vec![];
            for request in requests {
                let before = v2.requests.lock().unwrap().len();
                assert_eq!(side.client().ask(request).status, 200, "{name}");
                eventually(name, || v2.requests.lock().unwrap().len() > before);
                copies.push(lines(&v2.last_request()));
            }
            all.push(copies);
            let stats = [
                "cluster.v1.upstream_rq_200",
                "cluster.v2.upstream_rq_total",
                "cluster.v2.upstream_rq_200",
                "cluster.v2.upstream_cx_total",
            ];
            eventually(name, || side.stat("cluster.v2.upstream_rq_200") == 4);
            counted.push(stats.map(|stat| side.stat(stat)));
        });
        for (copy, request) in requests.iter().enumerate() {
            assert_eq!(all[0][copy], all[1][copy], "Envoy's and ours, {policy}: {request}");
        }
        assert_eq!(counted[0], counted[1], "{policy}");
        println!("{policy}: {} copies alike, counted {:?}", requests.len(), counted[0]);
    }
}

#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn hosts_leave_and_return_by_their_checks_as_with_envoy() {
    let Some(program) = super::envoy() else { return };
    for (kind, threshold) in [("status", 3), ("retriable", 3), ("silent", 2)] {
        let status = Arc::new(AtomicU16::new(200));
        let now = status.clone();
        let host = Host::start(move |connection| {
            while let Some(head) = connection.request() {
                match (head.contains(" /healthz "), now.load(SeqCst)) {
                    (true, 0) => {}
                    (true, status) => {
                        connection.say(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
                    }
                    _ => {
                        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    }
                }
            }
        });
        let make = || {
            let mut up = cluster("up", &[host.address]);
            up["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
            up["health_checks"] = json!([{ "timeout": "0.2s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                "unhealthy_threshold": threshold, "healthy_threshold": 2,
                "http_health_check": { "path": "/healthz", "host": "h",
                    "retriable_statuses": [{ "start": 500, "end": 504 }] } }]);
            bootstrap(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]), &[up])
        };
        let bad = match kind {
            "status" => 404,
            "retriable" => 503,
            _ => 0,
        };
        let mut stories: Vec<Value> = vec![];
        sides(&program, make, |side, name| {
            let checks =
                || host.requests.lock().unwrap().iter().filter(|head| head.contains("/healthz")).count();
            let get = || side.client().ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            let healthy = || side.stat("cluster.up.membership_healthy");
            status.store(200, SeqCst);
            eventually(name, || healthy() == 1);
            assert_eq!(get().status, 200);
            let before = (checks(), side.stat("cluster.up.health_check.failure"));
            status.store(bad, SeqCst);
            eventually(name, || {
                let _ = get();
                healthy() == 0
            });
            let failures = side.stat("cluster.up.health_check.failure") - before.1;
            let answer = get();
            status.store(200, SeqCst);
            eventually(name, || {
                let _ = get();
                healthy() == 1
            });
            let check = host
                .requests
                .lock()
                .unwrap()
                .iter()
                .rfind(|head| head.contains("/healthz"))
                .cloned()
                .unwrap();
            stories.push(json!({ "while failing": [answer.status, answer.body], "failures": failures >= if kind == "status" { 1 } else { threshold },
                "check": lines(&check), "host": header(&check, "host"),
                "network": side.stat("cluster.up.health_check.network_failure") > 0,
                "requests counted": side.stat("cluster.up.upstream_rq_total") > 0 }));
            assert!(checks() > before.0);
            drop(answer);
        });
        assert_eq!(stories[0], stories[1], "Envoy's and ours, {kind}");
        println!("{kind}: {}", stories[0]);
    }
}
