//! Connections kept to hosts: when they are used again, and what becomes of a request whose host closes one just then.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::*;
use serde_json::json;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn request(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody")
}

/// The most reported failure of proxies, 503 UC: a host that closes each connection a moment after its last answer, under
/// load that comes back just then. Nothing fails, whatever the method.
#[test]
fn a_host_that_closes_idle_connections_costs_no_request() {
    const CLIENTS: u64 = 8;
    const ROUNDS: u64 = 25;
    const IDLE: Duration = Duration::from_millis(120);
    let host = Host::start(move |connection| {
        connection.stream.set_read_timeout(Some(IDLE)).unwrap();
        while connection.request().is_some() && connection.say(OK) {}
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    for _ in 0..2 {
        assert_eq!(proxy.client().ask(&request("POST")).status, 200);
        eventually("the host has closed it", || {
            proxy.count("envoy_cluster_upstream_cx_active", &["\"up\""]) == 0
        });
    }
    let failures = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (mut client, failures) = (proxy.client(), failures.clone());
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    let method = if (number + round) % 2 == 0 { "GET" } else { "POST" };
                    let answer = client.ask(&request(method));
                    if answer.status != 200 {
                        println!("{method}: {} {}", answer.status, answer.body);
                        failures.fetch_add(1, SeqCst);
                    }
                    // Around the time at which the host closes: from a little before it to as much after.
                    let around = Duration::from_millis(round * 3 % 25);
                    std::thread::park_timeout(IDLE - Duration::from_millis(12) + around);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let failures = failures.load(SeqCst);
    println!(
        "closed after {IDLE:?} idle: {failures} failures of {} requests over {} connections",
        CLIENTS * ROUNDS,
        host.connections.load(SeqCst)
    );
    assert_eq!(failures, 0);
}

/// The host's FIN is on its way, or lies in the kernel, when a request comes for the connection: a request of any method
/// goes by another one, once.
#[test]
fn a_request_that_met_a_closed_door_is_sent_again_whatever_its_method() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = elsewhere.local_addr().unwrap();
    let closed = Arc::new(Barrier::new(2));
    let closing = closed.clone();
    let host = Host::start(move |connection| {
        while connection.request().is_some() && connection.say(OK) {
            if connection.number.is_multiple_of(2) {
                drop(std::mem::replace(&mut connection.stream, TcpStream::connect(nowhere).unwrap()));
                closing.wait();
                return;
            }
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    drop(TcpStream::connect(host.address).unwrap());
    eventually("the odd one is gone", || host.connections.load(SeqCst) == 1);
    assert_eq!(client.ask(&request("POST")).status, 200);
    closed.wait();
    let answer = client.ask(&request("POST"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(host.requests.lock().unwrap().len(), 2, "each came to the host once");
}

/// A host that read the request and closes without a word may have done what it asks: only what may be done twice is sent
/// again (RFC 9110 §9.2.2).
#[test]
fn a_request_the_host_has_read_is_sent_again_only_if_it_may_be() {
    for (method, status, seen) in [("POST", 503, 2), ("GET", 200, 3)] {
        let host = Host::start(move |connection| {
            connection.request();
            connection.say(OK);
            if connection.number == 1 {
                connection.request();
            } else {
                while connection.request().is_some() && connection.say(OK) {}
            }
        });
        let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
        let mut client = proxy.client();
        assert_eq!(client.ask(&request(method)).status, 200);
        assert_eq!(client.ask(&request(method)).status, status, "{method}");
        assert_eq!(host.requests.lock().unwrap().len(), seen, "{method}");
    }
}

/// Bytes behind a response close the connection they came on. The request that waits for a connection goes by another,
/// and no other connection is touched.
#[test]
fn bytes_behind_a_response_close_their_connection_and_nobody_elses() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            let extra = if head.contains("/extra") {
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
            } else {
                ""
            };
            // The other request waits by then.
            std::thread::park_timeout(Duration::from_millis(if extra.is_empty() { 0 } else { 100 }));
            connection.say(&format!("{OK}{extra}"));
        }
    });
    let mut limited = cluster("up", &[host.address]);
    limited["circuit_breakers"] = json!({ "thresholds": [{ "max_connections": 1 }] });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[limited]);
    for round in 0..3 {
        let (mut first, mut second) = (proxy.client(), proxy.client());
        first.say("GET /extra HTTP/1.1\r\nhost: x\r\n\r\n");
        let waited = proxy.count("envoy_cluster_upstream_rq_pending_total", &["\"up\""]);
        eventually("the first is with the host", || host.last_request().contains("/extra"));
        second.say("GET /second HTTP/1.1\r\nhost: x\r\n\r\n");
        eventually("the second waits", || {
            proxy.count("envoy_cluster_upstream_rq_pending_active", &["\"up\""]) == 1
                || proxy.count("envoy_cluster_upstream_rq_pending_total", &["\"up\""]) > waited
        });
        assert_eq!(first.answer().body, "ok", "round {round}");
        assert_eq!(second.answer().body, "ok", "round {round}: not what lay behind the other's answer");
        let mut third: TcpStream = proxy.client().stream;
        third.set_nodelay(true).unwrap();
        std::io::Write::write_all(&mut third, b"GET /third HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut third = Client { stream: third, buffer: vec![] };
        assert_eq!(third.answer().body, "ok", "round {round}");
    }
    for gauge in ["upstream_rq_active", "upstream_rq_pending_active"] {
        let gauge = format!("envoy_cluster_{gauge}");
        eventually(&gauge, || proxy.count(&gauge, &["\"up\""]) == 0);
    }
}

/// The idle time of a cluster ends HTTP/2 connections too, once: nothing that is flushed on them makes them younger.
#[test]
fn an_idle_http2_connection_to_a_host_is_closed_after_its_time() {
    let answer = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": "h2" } } }]);
    let host = Proxy::start(http_listener(http(answer)), &[]);
    let mut shared = cluster("up", &[host.address]);
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    shared["typed_extension_protocol_options"] = json!({ OPTIONS: typed(OPTIONS, json!({
        "common_http_protocol_options": { "idle_timeout": "2.5s" },
        "explicit_http_config": { "http2_protocol_options": {} } })) });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[shared]);
    assert_eq!(proxy.get("/").body, "h2");
    let used = std::time::Instant::now();
    eventually("closed", || proxy.count("envoy_cluster_upstream_cx_active", &["\"up\""]) == 0);
    let idle = used.elapsed();
    println!("closed after {idle:?}");
    assert!(idle > Duration::from_secs(2), "{idle:?}");
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_idle_timeout", &["\"up\""]), 1);
}
