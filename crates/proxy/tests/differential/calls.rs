//! Requests of the proxy's own, beside a real Envoy's: what copies of requests say, and when hosts leave by their health
//! checks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

use proxy::{ProxyOptions, StaticProxy, start_static};
use serde_json::{Value, json};

use super::common::envoy::{self, Envoy};
use super::common::{Client, Host, cluster, eventually, header, typed};

/// Either proxy, from the same bootstrap.
enum Side {
    Envoy(Envoy),
    Ours { proxy: StaticProxy, address: SocketAddr },
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

impl Side {
    fn ours(bootstrap: &Value) -> Side {
        let message = xds::json::from_json(bootstrap).unwrap();
        let proxy = start_static(&message, ProxyOptions { drain: Duration::ZERO, ..ProxyOptions::default() })
            .unwrap();
        let address = proxy.runtime.handle().listening()[0].1[0];
        Side::Ours { proxy, address }
    }

    fn envoy(program: &Path, bootstrap: &Value) -> Side {
        Side::Envoy(Envoy::start(program, bootstrap, 1, &["main"]))
    }

    fn client(&self) -> Client {
        match self {
            Side::Envoy(envoy) => Client::connect(envoy.listeners[0]),
            Side::Ours { address, .. } => Client::connect(*address),
        }
    }

    /// A statistic by Envoy's dotted name.
    fn stat(&self, name: &str) -> u64 {
        let text = match self {
            Side::Envoy(envoy) => envoy::ask(envoy.admin, "/stats").unwrap(),
            Side::Ours { proxy, .. } => {
                let mut out = vec![];
                telemetry::metrics::stats(proxy.runtime.handle().registry(), &Default::default(), &mut out);
                String::from_utf8(out).unwrap()
            }
        };
        envoy::stat(&text, name)
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

/// A host that says a status at its health page, set by the test, and its number to all else.
fn numbered(number: usize, status: &Arc<AtomicU16>) -> Host {
    let status = status.clone();
    Host::start(move |connection| {
        while let Some(head) = connection.request() {
            let (status, body) = match head.contains(" /healthz ") {
                true => (status.load(SeqCst), String::new()),
                false => (200, number.to_string()),
            };
            connection.say(&format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// A share of the requests is copied, by either about the same.
#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn a_share_of_requests_is_mirrored_as_with_envoy() {
    let Some(program) = super::envoy() else { return };
    const REQUESTS: usize = 600;
    let shares = [
        (json!({ "default_value": { "numerator": 30 } }), 30.0),
        (json!({ "default_value": { "numerator": 700_000, "denominator": "MILLION" } }), 70.0),
        (json!({ "default_value": { "numerator": 0 } }), 0.0),
    ];
    for (fraction, percent) in shares {
        let (v1, v2) = (Host::saying("v1"), Host::saying("v2"));
        let make = || {
            let route = json!({ "cluster": "v1", "request_mirror_policies": [
                { "cluster": "v2", "runtime_fraction": fraction }] });
            bootstrap(
                json!([{ "match": { "prefix": "/" }, "route": route }]),
                &[cluster("v1", &[v1.address]), cluster("v2", &[v2.address])],
            )
        };
        let mut copied = vec![];
        sides(&program, make, |side, name| {
            let before = v2.requests.lock().unwrap().len();
            let mut client = side.client();
            for _ in 0..REQUESTS {
                assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a.b\r\n\r\n").body, "v1", "{name}");
            }
            let counted = || side.stat("cluster.v2.upstream_rq_total");
            eventually(name, || (v2.requests.lock().unwrap().len() - before) as u64 == counted());
            let heads = v2.requests.lock().unwrap();
            assert!(heads.iter().all(|head| header(head, "host") == Some("a.b-shadow")), "{name}");
            copied.push((heads.len() - before) as f64 * 100.0 / REQUESTS as f64);
        });
        println!("{percent} % wanted: Envoy copied {:.1} %, ours {:.1} %", copied[0], copied[1]);
        // Five deviations of as many throws of the dice.
        let bound = 5.0 * (percent * (100.0 - percent) / REQUESTS as f64).sqrt();
        for copied in copied {
            assert!((copied - percent).abs() <= bound, "{copied:.1} % copied of {percent} %");
        }
    }
}

/// Too few healthy hosts are panic: then all are asked, by either; and a threshold of 0 knows none.
#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn too_few_healthy_hosts_are_panic_as_with_envoy() {
    let Some(program) = super::envoy() else { return };
    // How many of four hosts pass, the threshold, who is asked then.
    let cases: [(usize, u32, &[usize]); 5] =
        [(4, 50, &[0, 1, 2, 3]), (3, 50, &[0, 1, 2]), (1, 50, &[0, 1, 2, 3]), (1, 20, &[0]), (0, 0, &[])];
    for (passing, threshold, expected) in cases {
        let statuses: Vec<Arc<AtomicU16>> = (0..4).map(|_| Arc::new(AtomicU16::new(200))).collect();
        let hosts: Vec<Host> = statuses.iter().enumerate().map(|(n, status)| numbered(n, status)).collect();
        let make = || {
            let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
            let mut up = cluster("up", &addresses);
            up["lb_policy"] = "ROUND_ROBIN".into();
            up["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": threshold } });
            up["health_checks"] = json!([{ "timeout": "0.3s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": { "path": "/healthz" } }]);
            bootstrap(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]), &[up])
        };
        let mut stories = vec![];
        sides(&program, make, |side, name| {
            let healthy = |wanted: usize| {
                eventually(name, || {
                    let _ = side.client().ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
                    side.stat("cluster.up.membership_healthy") == wanted as u64
                });
            };
            statuses.iter().for_each(|status| status.store(200, SeqCst));
            healthy(4);
            statuses.iter().skip(passing).for_each(|status| status.store(500, SeqCst));
            healthy(passing);
            let story = || {
                let panics = side.stat("cluster.up.lb_healthy_panic");
                let mut asked = [0; 4];
                let mut refused = 0;
                for _ in 0..40 {
                    match side.client().ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n") {
                        answer if answer.status == 200 => asked[answer.body.parse::<usize>().unwrap()] += 1,
                        answer => {
                            assert_eq!(
                                (answer.status, &*answer.body),
                                (503, "no healthy upstream"),
                                "{name}"
                            );
                            refused += 1;
                        }
                    }
                }
                let who: Vec<usize> = (0..4).filter(|host| asked[*host] > 0).collect();
                (who, refused, side.stat("cluster.up.lb_healthy_panic") > panics)
            };
            // Envoy's workers learn of a change up to a second after its statistics have.
            let mut last = story();
            eventually(name, || {
                last = story();
                last.0 == expected
            });
            stories.push(last);
        });
        println!("{passing} of 4 pass, threshold {threshold} %: {:?}", stories[0]);
        assert_eq!(stories[0], stories[1], "Envoy's and ours: {passing} of 4 pass, threshold {threshold} %");
        assert_eq!(stories[0].0, expected, "{passing} of 4 pass, threshold {threshold} %");
    }
}

/// A host that says in an answer to a request that it takes no more leaves, and comes back by its checks; what it says in
/// the answer to a check is its status.
#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn a_host_withdraws_in_an_answer_as_with_envoy() {
    let Some(program) = super::envoy() else { return };
    for of_check in [false, true] {
        let leaving = Arc::new(AtomicU16::new(0));
        let now = leaving.clone();
        let host = Host::start(move |connection| {
            while let Some(head) = connection.request() {
                let says = now.load(SeqCst) == 1 && head.contains(" /healthz ") == of_check;
                let field = if says { "x-envoy-immediate-health-check-fail: true\r\n" } else { "" };
                connection.say(&format!("HTTP/1.1 200 OK\r\n{field}content-length: 2\r\n\r\nok"));
            }
        });
        let make = || {
            let mut up = cluster("up", &[host.address]);
            up["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
            up["health_checks"] = json!([{ "timeout": "0.3s", "interval": "0.4s", "no_traffic_interval": "0.4s",
                "unhealthy_threshold": 3, "healthy_threshold": 2, "http_health_check": { "path": "/healthz" } }]);
            bootstrap(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]), &[up])
        };
        let mut stories = vec![];
        sides(&program, make, |side, name| {
            let get = || side.client().ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            leaving.store(0, SeqCst);
            eventually(name, || get().status == 200);
            leaving.store(1, SeqCst);
            let last = get();
            let told = last.header("x-envoy-immediate-health-check-fail").map(str::to_owned);
            let until = Instant::now() + Duration::from_secs(3);
            let mut left = false;
            while !left && Instant::now() < until {
                left = get().status == 503;
            }
            leaving.store(0, SeqCst);
            eventually(name, || get().status == 200);
            stories.push((last.status, told, left));
        });
        println!("of a check: {of_check}: {:?}", stories[0]);
        assert_eq!(stories[0], stories[1], "Envoy's and ours, of a check: {of_check}");
    }
}
