//! Active health checks. Sources: Envoy's `health_check.proto`, its documentation "Health checking" and "Panic threshold".
mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::*;
use proxy::ProxyOptions;
use serde_json::{Value, json};

/// A host whose health page answers with a status that can be changed, and that answers all else with its name.
struct Checked {
    host: Host,
    status: Arc<AtomicU16>,
}

/// Answers nothing.
const SILENT: u16 = 0;

impl Checked {
    fn start(name: &'static str) -> Checked {
        let status = Arc::new(AtomicU16::new(200));
        let now = status.clone();
        let host = Host::start(move |connection| {
            while let Some(head) = connection.request() {
                if !head.contains(" /healthz ") {
                    connection
                        .say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()));
                    continue;
                }
                match now.load(SeqCst) {
                    SILENT => {}
                    status => {
                        connection.say(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
                    }
                }
            }
        });
        Checked { host, status }
    }

    fn set(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    fn checks(&self) -> Vec<String> {
        let seen = self.host.requests.lock().unwrap();
        seen.iter().filter(|head| head.contains(" /healthz ")).cloned().collect()
    }
}

fn check(more: Value) -> Value {
    let mut check = json!({ "timeout": "0.2s", "interval": "0.03s", "no_traffic_interval": "0.03s",
        "unhealthy_threshold": 2, "healthy_threshold": 2 });
    for (key, value) in more.as_object().unwrap() {
        check[key] = value.clone();
    }
    check
}

fn http_check() -> Value {
    check(json!({ "http_health_check": { "path": "/healthz" } }))
}

fn checked(hosts: &[SocketAddr], check: Value) -> Value {
    let mut cluster = cluster("up", hosts);
    cluster["health_checks"] = json!([check]);
    cluster["ignore_health_on_host_removal"] = true.into();
    cluster
}

fn start(cluster: Value) -> Proxy {
    Proxy::start(http_listener(http(to("up"))), &[cluster])
}

fn stat(proxy: &Proxy, name: &str) -> u64 {
    proxy.count(&format!("envoy_cluster_{name}"), &["\"up\""])
}

fn failing(proxy: &Proxy, address: SocketAddr) -> bool {
    let hosts = proxy.handle().hosts();
    hosts.iter().find(|host| host.address == address && &*host.cluster == "up").unwrap().fails_checks
}

/// Who answers so many requests.
fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut client = proxy.client();
    (0..count).map(|_| client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body).collect()
}

#[test]
fn a_host_that_fails_leaves_and_comes_back() {
    let (good, other) = (Checked::start("good"), Checked::start("other"));
    let (a, b) = (good.host.address, other.host.address);
    for workers in [1, 3] {
        other.set(200);
        let options = ProxyOptions { workers, ..ProxyOptions::default() };
        let cluster = checked(&[a, b], http_check());
        let proxy = Proxy::with(http_listener(http(to("up"))), &[cluster], options);
        // The first check decides alone, and nothing is served before it.
        assert_eq!(stat(&proxy, "health_check_healthy"), 2);
        assert!(!failing(&proxy, a) && !failing(&proxy, b));
        let all = answers(&proxy, 10);
        assert!(all.contains(&"good".to_owned()) && all.contains(&"other".to_owned()), "{all:?}");
        // A wrong answer: unhealthy at once.
        other.set(503);
        eventually("it leaves", || failing(&proxy, b));
        // Every worker knows.
        for _ in 0..10 {
            assert_eq!(answers(&proxy, 3), ["good"; 3]);
        }
        assert_eq!(stat(&proxy, "health_check_healthy"), 1);
        assert_eq!(stat(&proxy, "membership_total"), 2);
        eventually("one is a healthy member", || stat(&proxy, "membership_healthy") == 1);
        other.set(200);
        eventually("it comes back", || !failing(&proxy, b));
        eventually("it is used", || answers(&proxy, 10).contains(&"other".to_owned()));
        // A worker that planned while it changed says so with its next request.
        eventually("both are members again", || {
            answers(&proxy, 1);
            stat(&proxy, "membership_healthy") == 2
        });
        // A check is an attempt before it is anything else.
        let (successes, failures) =
            (stat(&proxy, "health_check_success"), stat(&proxy, "health_check_failure"));
        let attempts = stat(&proxy, "health_check_attempt");
        assert!(
            failures >= 1 && attempts >= successes + failures && successes > 3,
            "{attempts} {successes} {failures}"
        );
        // One checker for the process, on a connection a host, and none of it among what requests count.
        // A client has its answer before the worker has done with the request.
        eventually("no request is under way", || stat(&proxy, "upstream_rq_active") == 0);
        assert!(stat(&proxy, "upstream_cx_active") <= 2 * workers as u64);
    }
    let check = good.checks().pop().unwrap();
    assert!(check.starts_with("GET /healthz HTTP/1.1\r\n"), "{check}");
    assert_eq!((header(&check, "host"), header(&check, "user-agent")), (Some("up"), Some("Envoy/HC")));
    assert_eq!(header(&check, "x-envoy-expected-rq-timeout-ms"), None);
}

/// No answer counts towards the threshold, as does a status that is said to.
#[test]
fn thresholds_count_what_is_no_answer() {
    let host = Checked::start("up");
    let mut asked = check(json!({ "unhealthy_threshold": 3, "timeout": "0.05s",
        "http_health_check": { "path": "/healthz", "retriable_statuses": [{ "start": 500, "end": 600 }] } }));
    asked["http_health_check"]["expected_statuses"] = json!([{ "start": 200, "end": 300 }]);
    for bad in [SILENT, 500] {
        host.set(204);
        let proxy = start(checked(&[host.host.address], asked.clone()));
        assert!(!failing(&proxy, host.host.address));
        let before = host.checks().len();
        host.set(bad);
        eventually("unhealthy", || failing(&proxy, host.host.address));
        assert!(host.checks().len() - before >= 3, "{bad}");
        let network = stat(&proxy, "health_check_network_failure");
        assert_eq!(network >= 3, bad == SILENT, "{bad}: {network}");
        let before = host.checks().len();
        host.set(200);
        eventually("healthy", || !failing(&proxy, host.host.address));
        assert!(host.checks().len() - before >= 2, "two in a row");
    }
}

/// Panic threshold: by default with fewer than half of the hosts healthy all are used; with 0 none is.
#[test]
fn too_few_healthy_hosts_are_panic() {
    let (a, b) = (Checked::start("a"), Checked::start("b"));
    let hosts = [a.host.address, b.host.address];
    a.set(500);
    b.set(500);
    let mut cluster = checked(&hosts, http_check());
    let proxy = start(cluster.clone());
    let all = answers(&proxy, 10);
    assert!(all.contains(&"a".to_owned()) && all.contains(&"b".to_owned()));
    assert!(stat(&proxy, "lb_healthy_panic") >= 10);
    cluster["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
    let proxy = start(cluster);
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (503, "no healthy upstream"));
    a.set(200);
    eventually("one is healthy", || proxy.get("/").body == "a");
}

/// `no_traffic_interval` holds until the cluster has had a connection for a request; jitter only adds.
#[test]
fn a_cluster_that_is_not_used_is_asked_less_often() {
    let host = Checked::start("up");
    let asked = check(json!({ "no_traffic_interval": "600s", "http_health_check": { "path": "/healthz" } }));
    let proxy = start(checked(&[host.host.address], asked.clone()));
    assert_eq!(stat(&proxy, "health_check_attempt"), 1);
    let mut jittered = asked;
    jittered["no_traffic_interval"] = "0.1s".into();
    jittered["interval_jitter"] = "0.02s".into();
    jittered["interval_jitter_percent"] = 20.into();
    let began = Instant::now();
    let proxy = start(checked(&[host.host.address], jittered));
    eventually("five checks", || stat(&proxy, "health_check_attempt") >= 5);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

/// What each host is asked, and where: headers, another port, another name, not at all; a connection for each check.
#[test]
fn endpoints_say_how_they_are_asked() {
    let (first, second, third) = (Checked::start("first"), Checked::start("second"), Checked::start("third"));
    let asked = check(
        json!({ "reuse_connection": false, "http_health_check": { "path": "/healthz", "host": "h",
        "method": "POST", "request_headers_to_add": [{ "header": { "key": "x-a", "value": "%UPSTREAM_HOST%" } }] } }),
    );
    let mut cluster = checked(&[first.host.address, nobody()], asked);
    let endpoints = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"];
    endpoints[0]["endpoint"]["health_check_config"] =
        json!({ "port_value": second.host.address.port(), "hostname": "own" });
    endpoints[1]["endpoint"]["health_check_config"] = json!({ "disable_active_health_check": true });
    let proxy = start(cluster);
    eventually("checks", || second.checks().len() >= 3);
    assert!(first.checks().is_empty() && third.checks().is_empty());
    let check = second.checks().pop().unwrap();
    assert!(check.starts_with("POST /healthz "), "{check}");
    let address = second.host.address.to_string();
    assert_eq!((header(&check, "host"), header(&check, "x-a")), (Some("own"), Some(address.as_str())));
    assert_eq!(header(&check, "content-length"), Some("0"));
    eventually("a connection each", || second.host.connections.load(SeqCst) >= 3);
    assert_eq!(proxy.handle().hosts().iter().filter(|host| host.fails_checks).count(), 0);
}

#[test]
fn tcp_checks_connect_say_and_hear() {
    let asked = AtomicUsize::new(0);
    let good = Arc::new(AtomicU16::new(1));
    let (now, counted) = (good.clone(), Arc::new(asked));
    let count = counted.clone();
    let speaking = Host::start(move |connection| {
        let mut ping = [0; 4];
        while connection.stream.read_exact(&mut ping).is_ok() && &ping == b"ping" {
            count.fetch_add(1, SeqCst);
            let answer: &[u8] = if now.load(SeqCst) == 1 { b"..po..ng" } else { b"nothing" };
            connection.stream.write_all(answer).unwrap();
        }
    });
    let hex = |text: &str| json!({ "text": text.bytes().map(|b| format!("{b:02x}")).collect::<String>() });
    for reuse in [true, false] {
        good.store(1, SeqCst);
        let before = speaking.connections.load(SeqCst);
        let probe = check(json!({ "timeout": "0.1s", "reuse_connection": reuse,
            "tcp_health_check": { "send": hex("ping"), "receive": [hex("po"), hex("ng")] } }));
        let proxy = start(checked(&[speaking.address], probe));
        assert!(!failing(&proxy, speaking.address));
        let asked = counted.load(SeqCst);
        eventually("several checks", || counted.load(SeqCst) >= asked + 3);
        let connections = speaking.connections.load(SeqCst) - before;
        assert_eq!(connections == 1, reuse, "{connections}");
        good.store(0, SeqCst);
        eventually("unhealthy", || failing(&proxy, speaking.address));
        good.store(1, SeqCst);
        eventually("healthy", || !failing(&proxy, speaking.address));
    }
    // Without anything to say a connection is enough.
    let (open, shut) = (Host::saying("open"), nobody());
    let proxy = start(checked(&[open.address, shut], check(json!({ "tcp_health_check": {} }))));
    assert!(!failing(&proxy, open.address) && failing(&proxy, shut));
    assert_eq!(answers(&proxy, 4), ["open"; 4]);
}

/// TCP sessions to a host that becomes unhealthy are closed where the cluster asks for it.
#[test]
fn sessions_end_with_the_health_of_their_host() {
    let host = Checked::start("up");
    let mut cluster = checked(&[host.host.address], http_check());
    cluster["close_connections_on_host_health_failure"] = true.into();
    let tcp = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "t", "cluster": "up" }),
    );
    let proxy = Proxy::start(listener("main", tcp), &[cluster]);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body, "up");
    host.set(500);
    assert_eq!(client.rest(), b"");
}

/// `grpc.health.v1`: serving, not serving, an error of its own.
#[test]
fn grpc_checks_ask_the_health_service() {
    let answer = Arc::new(std::sync::Mutex::new((1u8, 0u8)));
    let (now, seen) = (answer.clone(), Arc::new(std::sync::Mutex::new(String::new())));
    let asked = seen.clone();
    let service = Host::start(move |connection| {
        while let Some(head) = read_head(&mut connection.stream, &mut connection.buffer) {
            let body = connection.body(header(&head, "content-length").unwrap().parse().unwrap());
            *asked.lock().unwrap() = format!("{head}{}", String::from_utf8_lossy(&body));
            let (status, grpc) = *now.lock().unwrap();
            let mut text = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n7\r\n".to_vec();
            text.extend_from_slice(&[0, 0, 0, 0, 2, 8, status]);
            text.extend_from_slice(format!("\r\n0\r\ngrpc-status: {grpc}\r\n\r\n").as_bytes());
            connection.stream.write_all(&text).unwrap();
        }
    });
    // Between them a proxy that takes HTTP/2 and speaks HTTP/1.
    let between = Proxy::start(http_listener(http(to("service"))), &[cluster("service", &[service.address])]);
    let probe = check(
        json!({ "timeout": "5s", "grpc_health_check": { "service_name": "shop", "authority": "shop.local" } }),
    );
    let proxy = start(checked(&[between.address], probe));
    assert!(!failing(&proxy, between.address));
    let head = seen.lock().unwrap().clone();
    assert!(head.starts_with("POST /grpc.health.v1.Health/Check HTTP/1.1\r\n"), "{head}");
    assert!(head.ends_with("\0\0\0\0\u{6}\n\u{4}shop"), "{head:?}");
    assert_eq!((header(&head, "host"), header(&head, "te")), (Some("shop.local"), Some("trailers")));
    assert_eq!(header(&head, "grpc-timeout"), Some("5000m"));
    assert_eq!(header(&head, "content-type"), Some("application/grpc"));
    for bad in [(2, 0), (0, 0), (1, 12)] {
        *answer.lock().unwrap() = bad;
        eventually("unhealthy at once", || failing(&proxy, between.address));
        *answer.lock().unwrap() = (1, 0);
        eventually("healthy", || !failing(&proxy, between.address));
    }
    assert_eq!(stat(&proxy, "health_check_network_failure"), 0);
}

/// Envoy: a host that says `x-envoy-immediate-health-check-fail` in an answer to a request has failed its checks at once, and
/// comes back by them. In the answer to a check it says nothing.
#[test]
fn a_host_may_say_itself_that_it_takes_no_more() {
    let leaving = Arc::new(AtomicU16::new(0));
    let asked = leaving.clone();
    let host = Host::start(move |connection| {
        while let Some(head) = connection.request() {
            let says = match asked.load(SeqCst) {
                0 => false,
                1 => head.contains(" /healthz "),
                _ => !head.contains(" /healthz "),
            };
            let field = if says { "x-envoy-immediate-health-check-fail: true\r\n" } else { "" };
            connection.say(&format!("HTTP/1.1 200 OK\r\n{field}content-length: 2\r\n\r\nok"));
        }
    });
    let mut cluster = checked(&[host.address], http_check());
    cluster["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
    for name in ["interval", "no_traffic_interval"] {
        cluster["health_checks"][0][name] = "0.2s".into();
    }
    let proxy = start(cluster);
    assert_eq!(proxy.get("/").status, 200);
    assert!(!failing(&proxy, host.address));
    leaving.store(1, SeqCst);
    let before = stat(&proxy, "health_check_success");
    eventually("checks have passed", || stat(&proxy, "health_check_success") > before + 2);
    assert_eq!((proxy.get("/").status, failing(&proxy, host.address)), (200, false));
    leaving.store(2, SeqCst);
    // It answers the request all the same.
    assert_eq!(proxy.get("/").status, 200);
    eventually("it leaves", || failing(&proxy, host.address));
    assert_eq!(proxy.get("/").status, 503);
    assert_eq!(stat(&proxy, "health_check_healthy"), 0);
    leaving.store(0, SeqCst);
    eventually("it comes back", || !failing(&proxy, host.address));
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(stat(&proxy, "health_check_healthy"), 1);
}
