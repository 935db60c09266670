//! How long a request, a stream and a try may last. What is expected was seen at Envoy 1.40 with the same
//! configuration, and is documented at `HttpConnectionManager.request_timeout`, `RouteAction.MaxStreamDuration`,
//! `HttpProtocolOptions.max_stream_duration` and `RetryPolicy.per_try_idle_timeout`.
mod common;
mod h2client;

use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::*;
use h2client::H2Client;
use serde_json::{Value, json};

/// Never answers; or begins to and never ends (`/drip`).
fn slow() -> Host {
    Host::start(|connection| {
        while let Some(head) = read_head(&mut connection.stream, &mut connection.buffer) {
            if head.contains("/drip") {
                connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            }
            if head.contains("/fine") {
                connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        }
    })
}

/// A connection manager that logs what became of each request.
fn logged(mut manager: Value, path: &std::path::Path) -> Value {
    manager["access_log"] = json!([{ "name": "log", "typed_config": typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        json!({ "path": path, "log_format": { "text_format_source": {
            "inline_string": "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n" } } })) }]);
    manager
}

fn last_line(path: &std::path::Path, count: usize) -> String {
    let mut text = String::new();
    eventually("a line in the log", || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().count() >= count
    });
    text.lines().nth(count - 1).unwrap().to_owned()
}

/// Sends byte after byte until the proxy has had enough of it.
fn dribble(client: &mut Client) -> Answer {
    let mut stream = client.stream.try_clone().unwrap();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = over.clone();
    let writer = std::thread::spawn(move || {
        while !ended.load(SeqCst) && stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let answer = client.answer();
    over.store(true, SeqCst);
    writer.join().unwrap();
    answer
}

/// Bad inputs L-02. Envoy: `request_timeout` runs from the request's beginning until it is complete, bytes or no bytes.
#[test]
fn a_request_that_does_not_end_is_answered_408() {
    let host = slow();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut manager = logged(http(to("up")), log.path());
    manager["request_timeout"] = "0.3s".into();
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let began = Instant::now();
    let mut client = proxy.client();
    client.say("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n");
    let answer = dribble(&mut client);
    assert_eq!((answer.status, answer.body.as_str()), (408, "request timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    assert_eq!(last_line(log.path(), 1), "408 - request_overall_timeout");
    assert_eq!(proxy.count("envoy_http_downstream_rq_timeout", &[]), 1);
    // One that is complete may take longer.
    let mut client = proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    client.stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    assert!(std::io::Read::read(&mut client.stream, &mut [0; 1]).is_err(), "answered though complete");
    // So may one whose answer has begun.
    let mut client = proxy.client();
    client.say("POST /fine HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}

/// The same where not even the head comes; `request_headers_timeout` where that is shorter.
#[test]
fn a_head_that_does_not_end_is_answered_408() {
    for (whole, head, details) in [
        ("0.2s", "0s", "request_overall_timeout"),
        ("5s", "0.2s", "request_header_timeout"),
        ("0.2s", "5s", "request_overall_timeout"),
    ] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut manager = logged(http(to("up")), log.path());
        manager["request_timeout"] = whole.into();
        manager["request_headers_timeout"] = head.into();
        let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[nobody()])]);
        let mut client = proxy.client();
        let answer = client.ask("GET / HTTP/1.1\r\nhost: x\r\n");
        assert_eq!(answer.status, 408, "{whole} {head}");
        assert_eq!(last_line(log.path(), 1), format!("408 - {details}"));
    }
}

#[test]
fn http2_requests_that_do_not_end_are_answered_408() {
    let host = slow();
    let mut manager = http(to("up"));
    manager["request_timeout"] = "0.2s".into();
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let mut client = H2Client::connect(proxy.address);
    let slow = client.open("POST", "/", "", false);
    let fine = client.open("GET", "/fine", "", true);
    assert_eq!(client.answer(fine).status, 200);
    let answer = client.answer(slow);
    assert_eq!((answer.status, answer.body.as_slice()), (408, &b"request timeout"[..]));
    // The connection lives on.
    let again = client.open("GET", "/fine", "", true);
    assert_eq!(client.answer(again).status, 200);
}

/// RFC 9113 §4.3: a field block must not be interrupted, so that nothing else is heard until it ends.
#[test]
fn an_http2_head_that_does_not_end_takes_its_connection_along() {
    let host = slow();
    let mut manager = http(to("up"));
    manager["request_headers_timeout"] = "0.3s".into();
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
    // HEADERS without END_HEADERS; HEADERS of which a part is missing.
    let heads: [&[u8]; 2] = [b"\0\0\x01\x01\x01\0\0\0\x01\x82", b"\0\0\x09\x01\x05\0\0\0\x01\x82"];
    for head in heads {
        let began = Instant::now();
        let mut client = proxy.client();
        client.stream.write_all(&[BEGIN, head].concat()).unwrap();
        let bytes = client.rest();
        assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // GOAWAY with ENHANCE_YOUR_CALM.
        assert!(bytes.windows(4).any(|code| code == [0, 0, 0, 11]), "{bytes:?}");
    }
    assert_eq!(proxy.count("envoy_http_downstream_rq_header_timeout", &[]), 2);
    // One that is merely idle lives on.
    let mut client = H2Client::connect(proxy.address);
    for _ in 0..2 {
        let fine = client.open("GET", "/fine", "", true);
        assert_eq!(client.answer(fine).status, 200);
    }
}

fn durations() -> Value {
    let route = |prefix: &str, timeout: &str, duration: Value| {
        json!({ "match": { "prefix": prefix }, "route": {
            "cluster": "up", "timeout": timeout, "max_stream_duration": duration } })
    };
    json!([
        route("/short", "5s", json!({ "max_stream_duration": "0.2s" })),
        route("/drip", "5s", json!({ "max_stream_duration": "0.2s" })),
        // A route that says anything about the duration has no timeout beside it.
        route("/instead", "0.05s", json!({ "max_stream_duration": "0.3s" })),
        route("/asked", "0.05s", json!({ "grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.1s" })),
        { "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s" } },
    ])
}

/// Envoy: `ConnectionManagerImpl::ActiveStream::onStreamMaxDurationReached`, `refreshDurationTimeout`.
#[test]
fn a_stream_lasts_no_longer_than_it_may() {
    let host = slow();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut manager = logged(http(durations()), log.path());
    manager["common_http_protocol_options"] = json!({ "max_stream_duration": "0.25s" });
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    const GRPC: &str = "content-type: application/grpc\r\ngrpc-timeout: 300m\r\n";
    // (path, head's lines, whole request, status, least milliseconds)
    let cases = [
        ("/short", "", true, 504, 190),
        ("/short", "content-length: 5\r\n", false, 408, 190),
        ("/instead", "", true, 504, 290),
        ("/of-the-connection", "", true, 504, 240),
        ("/asked", GRPC, true, 200, 190),
        ("/short", GRPC, true, 200, 190),
    ];
    for (at, (path, lines, whole, status, least)) in cases.into_iter().enumerate() {
        let began = Instant::now();
        let answer = proxy.client().ask(&format!("POST {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n"));
        assert_eq!(answer.status, status, "{path} {lines}");
        if lines == GRPC {
            assert_eq!(answer.header("grpc-status"), Some("4"), "{}", answer.head);
            assert_eq!(answer.header("grpc-message"), Some("downstream duration timeout"));
        } else {
            assert_eq!(answer.body, "downstream duration timeout");
        }
        assert_eq!(answer.header("connection") == Some("close"), !whole, "{path}");
        assert!(began.elapsed() >= Duration::from_millis(least), "{path}: {:?}", began.elapsed());
        assert_eq!(last_line(log.path(), at + 1), format!("{status} - max_duration_timeout"));
    }
    assert_eq!(proxy.count("envoy_http_downstream_rq_max_duration_reached", &[]), 6);
    // An answer under way is cut off.
    let mut client = proxy.client();
    client.say("GET /drip HTTP/1.1\r\nhost: x\r\n\r\n");
    let text = String::from_utf8(client.rest()).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("5\r\nhello\r\n"), "{text}");
    assert_eq!(last_line(log.path(), 7), "200 - max_duration_timeout");
}

#[test]
fn an_http2_stream_that_lasts_too_long_is_answered_or_reset() {
    let host = slow();
    let proxy = Proxy::start(http_listener(http(durations())), &[cluster("up", &[host.address])]);
    let mut client = H2Client::connect(proxy.address);
    let (short, drip) = (client.open("GET", "/short", "", true), client.open("GET", "/drip", "", true));
    let unfinished = client.open("POST", "/short", "", false);
    assert_eq!(client.answer(short).status, 504);
    assert_eq!(client.answer(unfinished).status, 408);
    let cut = client.answer(drip);
    assert_eq!((cut.status, cut.body.as_slice(), cut.reset), (200, &b"hello"[..], true));
    let fine = client.open("GET", "/fine", "", true);
    assert_eq!(client.answer(fine).status, 200);
}

/// Envoy sends on what it makes of a client's deadline.
#[test]
fn the_host_is_told_the_deadline_that_holds() {
    let host = Host::saying("ok");
    let proxy = Proxy::start(http_listener(http(durations())), &[cluster("up", &[host.address])]);
    for (asked, told) in [("300m", "200m"), ("2S", "1900m"), ("50m", "0m")] {
        let request = format!("POST /asked HTTP/1.1\r\nhost: x\r\ngrpc-timeout: {asked}\r\n\r\n");
        proxy.client().ask(&request);
        let seen = host.last_request();
        assert!(told == "0m" || header(&seen, "grpc-timeout") == Some(told), "{seen}");
    }
}

/// Envoy: `Router::Filter::onPerTryIdleTimeout`.
#[test]
fn a_try_without_a_byte_for_too_long_is_given_up() {
    let idle = |retries: u32| {
        json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "5s", "retry_policy": {
            "retry_on": "5xx", "num_retries": retries, "per_try_idle_timeout": "0.15s",
            "retry_back_off": { "base_interval": "0.001s" } } } }])
    };
    let host = slow();
    let log = tempfile::NamedTempFile::new().unwrap();
    let proxy =
        Proxy::start(http_listener(logged(http(idle(0)), log.path())), &[cluster("up", &[host.address])]);
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (504, "upstream request timeout"));
    assert_eq!(last_line(log.path(), 1), "504 UT upstream_per_try_idle_timeout");
    let mut client = proxy.client();
    client.say("GET /drip HTTP/1.1\r\nhost: x\r\n\r\n");
    let text = String::from_utf8(client.rest()).unwrap();
    assert!(text.ends_with("5\r\nhello\r\n"), "{text}");
    assert_eq!(last_line(log.path(), 2), "200 UT upstream_per_try_idle_timeout");
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_per_try_idle_timeout", &["\"up\""]), 2);
    // Another try where the policy names it; and bytes that keep coming keep a try alive.
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            if connection.number == 1 {
                continue;
            }
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(80));
                connection.say("x");
            }
        }
    });
    let proxy = Proxy::start(http_listener(http(idle(1))), &[cluster("up", &[host.address])]);
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "xxxx"));
    assert_eq!(host.connections.load(SeqCst), 2);
}
