//! Retries, timeouts, breakers, slow readers: what happens when things go wrong.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::*;
use proxy::ProxyOptions;
use serde_json::{Value, json};

/// Istio's default policy, without its waits.
fn istio_retries() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "num_retries": 2,
        "retry_host_predicate": [{ "name": "envoy.retry_host_predicates.previous_hosts", "typed_config":
            typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({})) }],
        "host_selection_retry_max_attempts": "5",
        "retry_back_off": { "base_interval": "0.001s" },
    })
}

fn retried(policy: Value) -> Value {
    json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s", "retry_policy": policy } }])
}

#[test]
fn a_host_that_refuses_is_passed_over() {
    let good = Host::saying("good");
    let hosts = [nobody(), good.address];
    let proxy = Proxy::start(http_listener(http(retried(istio_retries()))), &[cluster("up", &hosts)]);
    let mut client = proxy.client();
    for _ in 0..20 {
        let answer = client.ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc");
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
    }
    assert!(proxy.count("envoy_cluster_upstream_rq_retry", &["cluster_name=\"up\""]) >= 1);
    assert_eq!(header(&good.last_request(), "content-length"), Some("3"));
}

#[test]
fn attempts_end_and_say_so() {
    let hosts = [nobody()];
    let proxy = Proxy::start(http_listener(http(retried(istio_retries()))), &[cluster("up", &hosts)]);
    assert_eq!(proxy.get("/").status, 503);
    eventually("flags", || proxy.count("istio_requests_total", &["response_flags=\"UF,URX\""]) == 1);
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_retry", &["cluster_name=\"up\""]), 2);
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_retry_limit_exceeded", &["\"up\""]), 1);
}

#[test]
fn a_retriable_status_is_tried_again_with_the_whole_body() {
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            let status = if connection.number == 1 { "503 Busy" } else { "200 OK" };
            connection.say(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let policy =
        json!({ "retry_on": "5xx", "num_retries": 3, "retry_back_off": { "base_interval": "0.001s" } });
    let proxy = Proxy::start(http_listener(http(retried(policy))), &[cluster("up", &[host.address])]);
    let answer = proxy.client().ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(answer.status, 200);
    let seen = host.requests.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert_eq!(header(&seen[1], "x-envoy-attempt-count"), Some("2"));
    assert_eq!(header(&seen[0], "x-request-id"), header(&seen[1], "x-request-id"));
}

/// RFC 9112 §9.3.1: a host may close a kept-alive connection just as a request is sent on it.
#[test]
fn a_connection_that_died_while_kept_is_replaced_for_requests_that_may_be_sent_twice() {
    let host = Host::start(|connection| {
        connection.request();
        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        if connection.number % 2 == 1 {
            // Close on the next request, before answering it.
            connection.request();
        } else {
            while connection.request().is_some()
                && connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            {}
        }
    });
    for (method, status) in [("GET", 200), ("POST", 503)] {
        let before = host.connections.load(SeqCst);
        if before % 2 == 1 {
            // Each round begins with a connection that dies.
            drop(std::net::TcpStream::connect(host.address));
            eventually("the extra connection", || host.connections.load(SeqCst) == before + 1);
        }
        let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
        let mut client = proxy.client();
        let request = format!("{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.ask(&request).status, 200);
        assert_eq!(client.ask(&request).status, status, "{method}");
        let flag = if status == 200 { "\"-\"" } else { "\"UC\"" };
        eventually(flag, || proxy.count("istio_requests_total", &[&format!("response_flags={flag}")]) >= 1);
    }
}

#[test]
fn timeouts_of_route_and_try() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            if !head.contains("/slow") || connection.number > 1 {
                connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let policy = json!({ "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.05s",
        "retry_back_off": { "base_interval": "0.001s" } });
    let routes = json!([{ "match": { "prefix": "/" }, "route": {
        "cluster": "up", "timeout": "5s", "retry_policy": policy } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.get("/slow").status, 200);
    let sent = host.last_request();
    assert_eq!(header(&sent, "x-envoy-expected-rq-timeout-ms"), Some("50"));
    assert_eq!(header(&sent, "x-envoy-attempt-count"), Some("2"));
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_per_try_timeout", &["\"up\""]), 1);
}

#[test]
fn connecting_takes_no_longer_than_the_cluster_says() {
    // A listening queue of one that nobody empties: the kernel drops what comes next.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _filling: Vec<_> =
        (0..2).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    let mut slow = cluster("up", &[address]);
    slow["connect_timeout"] = "0.1s".into();
    let proxy = Proxy::start(http_listener(http(to("up"))), &[slow]);
    let answer = proxy.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.body.ends_with("reset reason: connection timeout"), "{}", answer.body);
    eventually("counted", || proxy.count("envoy_cluster_upstream_cx_connect_timeout", &["\"up\""]) == 1);
}

#[test]
fn breakers_queue_one_and_refuse_the_next() {
    let (release, released) = channel::<()>();
    let released = std::sync::Mutex::new(released);
    let host = Host::start(move |connection| {
        while connection.request().is_some() {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut limited = cluster("up", &[host.address]);
    limited["circuit_breakers"] =
        json!({ "thresholds": [{ "max_connections": 1, "max_pending_requests": 1, "max_requests": 100 }] });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[limited]);
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = proxy.client();
    first.say(request);
    eventually("the first arrives", || host.requests.lock().unwrap().len() == 1);
    let mut second = proxy.client();
    second.say(request);
    eventually("the second waits", || {
        proxy.count("envoy_cluster_upstream_rq_pending_total", &["\"up\""]) == 2
    });
    let third = proxy.client().ask(request);
    assert_eq!((third.status, third.header("x-envoy-overloaded")), (503, Some("true")));
    assert!(third.body.ends_with("reset reason: overflow"), "{}", third.body);
    for client in [&mut first, &mut second] {
        release.send(()).unwrap();
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(host.connections.load(SeqCst), 1);
    eventually("flag", || proxy.count("istio_requests_total", &["response_flags=\"UO\""]) == 1);
}

#[test]
fn a_failing_host_is_left_out_for_a_while() {
    let bad = Host::answering("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
    let good = Host::saying("good");
    let mut watched = cluster("up", &[bad.address, good.address]);
    watched["outlier_detection"] = json!({ "consecutive_5xx": 3, "base_ejection_time": "60s",
        "max_ejection_percent": 100 });
    watched["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0.0 } });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[watched]);
    let mut client = proxy.client();
    let mut ask = || client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status;
    let failures = (0..100).filter(|_| ask() == 500).count();
    assert_eq!(failures, 3);
    assert_eq!(proxy.count("envoy_cluster_outlier_detection_ejections_total", &["\"up\""]), 1);
}

/// A proxy of several workers leaves a host out after three failures, not after three a worker; a host that does not
/// answer within the route's time, or not as HTTP must be, fails like one that says 500.
#[test]
fn failures_are_counted_over_all_workers_and_of_every_kind() {
    let broken = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n";
    for (how, said, workers) in [
        ("says 500", broken, 1),
        ("says 500", broken, 4),
        ("says nothing", "", 3),
        ("speaks nonsense", "SMTP 220 hello\r\n\r\n", 3),
    ] {
        let said = said.to_owned();
        let bad = Host::start(move |connection| {
            if connection.request().is_some() && !said.is_empty() {
                connection.say(&said);
            } else {
                // Until the proxy gives up.
                connection.read_some();
            }
        });
        let good = Host::saying("good");
        let mut watched = cluster("up", &[bad.address, good.address]);
        watched["outlier_detection"] = json!({ "consecutive_5xx": 3, "base_ejection_time": "60s",
            "max_ejection_percent": 100, "enforcing_consecutive_5xx": 100 });
        watched["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0.0 } });
        let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0.2s" } }]);
        let options = ProxyOptions { workers, drain: Duration::from_secs(1), ..ProxyOptions::default() };
        let proxy = Proxy::with(http_listener(http(routes)), &[watched], options);
        for _ in 0..40 {
            let mut client = proxy.client();
            client.say("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            client.rest();
        }
        let failures = bad.requests.lock().unwrap().len();
        println!("{how}, {workers} workers: {failures} requests before it was left out");
        assert_eq!(failures, 3, "{how}, {workers} workers");
        for name in ["enforced_total", "enforced_consecutive_5xx", "detected_consecutive_5xx", "active"] {
            let name = format!("envoy_cluster_outlier_detection_ejections_{name}");
            assert_eq!(proxy.count(&name, &["\"up\""]), 1, "{how}: {name}");
        }
        let members = ["membership_total", "membership_healthy"]
            .map(|name| proxy.count(&format!("envoy_cluster_{name}"), &["\"up\""]));
        assert_eq!(members, [2, 1], "{how}: the hosts are counted once, whatever the number of workers");
    }
}

#[test]
fn a_big_upload_arrives_whole_at_a_slow_host() {
    const BODY: usize = 8 << 20;
    let host = Host::start(|connection| {
        connection.request();
        let text = format!("{BODY}");
        connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()));
    });
    let proxy =
        Proxy::start(http_listener(http(retried(istio_retries()))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say(&format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY}\r\n\r\n"));
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&vec![b'y'; BODY]));
    assert_eq!(client.answer().body, BODY.to_string());
    sender.join().unwrap().unwrap();
}

#[test]
fn a_client_that_leaves_is_logged_as_gone_and_its_request_given_up() {
    let (told, asked) = channel();
    let host = Host::start(move |connection| {
        connection.request();
        told.send(()).unwrap();
        // Nothing: until the proxy gives up.
        connection.read_some();
        told.send(()).unwrap();
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    asked.recv_timeout(PATIENCE).unwrap();
    drop(client);
    asked.recv_timeout(PATIENCE).unwrap();
    let labels = ["response_code=\"0\"", "response_flags=\"DC\""];
    eventually("DC", || proxy.count("istio_requests_total", &labels) == 1);
}

#[test]
fn a_response_cut_short_is_not_passed_off_as_whole() {
    let host = Host::start(|connection| {
        connection.request();
        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let all = String::from_utf8(client.rest()).unwrap();
    assert!(all.ends_with("\r\n\r\nabc"), "{all}");
    let labels = ["response_code=\"200\"", "response_flags=\"UC\""];
    eventually("UC", || proxy.count("istio_requests_total", &labels) == 1);
}

/// 408 for a request that does not come, 504 for an answer that does not; silence ends an idle connection.
#[test]
fn a_silent_client_gets_408_a_silent_host_504_and_an_idle_connection_is_closed() {
    let silent = Host::start(|connection| while connection.request().is_some() {});
    let mut manager =
        http(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s" } }]));
    manager["stream_idle_timeout"] = "0.1s".into();
    manager["request_headers_timeout"] = "0.1s".into();
    manager["common_http_protocol_options"] = json!({ "idle_timeout": "0.1s" });
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[silent.address])]);
    for (sent, status, body) in [
        ("GET / HT", 408, ""),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc", 408, "stream timeout"),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 504, "stream timeout"),
    ] {
        let answer = proxy.client().ask(sent);
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{sent:?}");
    }
    assert_eq!(proxy.client().rest(), b"");
    eventually("SI", || proxy.count("istio_requests_total", &["response_flags=\"SI\""]) == 2);
}

/// An internal client may shorten its time by header; the router keeps the header to itself.
#[test]
fn the_router_obeys_its_own_headers() {
    let silent = Host::start(|connection| while connection.request().is_some() {});
    let mut manager = http(to("up"));
    manager["use_remote_address"] = true.into();
    manager["internal_address_config"] =
        json!({ "cidr_ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] });
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[silent.address])]);
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-envoy-upstream-rq-timeout-ms: 30\r\n\r\n";
    assert_eq!(proxy.client().ask(request).status, 504);
    let sent = silent.last_request();
    assert_eq!(header(&sent, "x-envoy-upstream-rq-timeout-ms"), None);
    assert_eq!(header(&sent, "x-envoy-expected-rq-timeout-ms"), Some("30"));
}

/// Envoy keeps a body of up to 1 MiB for another attempt, or as much as the route says; what is longer is counted.
#[test]
fn a_body_of_up_to_a_mebibyte_is_sent_again() {
    for (limit, length, status) in [
        (None, 262_145, 200),
        (None, 1 << 20, 200),
        (None, (1 << 20) + 1, 503),
        (Some(1000), 1000, 200),
        (Some(1000), 1001, 503),
        (Some(2 << 20), (1 << 20) + 1, 200),
    ] {
        let host = Host::start(|connection| {
            while connection.request().is_some() {
                let status = if connection.number == 1 { "503 Busy" } else { "200 OK" };
                connection.say(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        let policy =
            json!({ "retry_on": "5xx", "num_retries": 3, "retry_back_off": { "base_interval": "0.001s" } });
        let mut routes = retried(policy);
        if let Some(limit) = limit {
            routes[0]["request_body_buffer_limit"] = limit.into();
        }
        let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
        let body = "b".repeat(length);
        let answer = proxy
            .client()
            .ask(&format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"));
        assert_eq!(answer.status, status, "{limit:?} {length}");
        let abandoned = proxy.count("envoy_cluster_retry_or_shadow_abandoned", &["\"up\""]);
        assert_eq!(abandoned, u64::from(status == 503), "{limit:?} {length}");
    }
}

/// What a host is told of the time it has is of the attempt: what is left of the route's after earlier ones.
#[test]
fn an_attempt_is_told_the_time_that_is_left() {
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            // The first answer takes its time.
            std::thread::park_timeout(Duration::from_millis(if connection.number == 1 { 300 } else { 0 }));
            let status = if connection.number == 1 { "503 Busy" } else { "200 OK" };
            connection.say(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let policy =
        json!({ "retry_on": "5xx", "num_retries": 3, "retry_back_off": { "base_interval": "0.001s" } });
    let routes = json!([{ "match": { "prefix": "/" }, "route": {
        "cluster": "up", "timeout": "8s", "retry_policy": policy } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.get("/").status, 200);
    let seen = host.requests.lock().unwrap().clone();
    let told: Vec<u64> = seen
        .iter()
        .map(|head| header(head, "x-envoy-expected-rq-timeout-ms").unwrap().parse().unwrap())
        .collect();
    println!("told: {told:?}");
    assert_eq!(told[0], 8000);
    assert!(told[1] <= 7700 && told[1] > 0, "{told:?}");
    let attempts: Vec<_> = seen.iter().map(|head| header(head, "x-envoy-attempt-count")).collect();
    assert_eq!(attempts, [Some("1"), Some("2")]);
}
