//! Calls of every kind, and how they end.

use std::time::{Duration, Instant};

use serde_json::json;
use wire::h2::{Config, ErrorCode};

use crate::common::{cluster, eventually, http_listener, nobody};
use crate::peer::{Peer, Seen};
use crate::rig::{Rig, call, host, http2_cluster, manager, message};

const MIB: usize = 1024 * 1024;

#[test]
fn a_unary_call() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&call("grpc-encoding: identity\r\n"), false);
    client.data(asked, &message("two eggs"), true);
    let mut host = rig.host();
    let request = host.request();
    assert!(request.head().starts_with("POST /shop.Cart/Add\n"), "{request:?}");
    assert_eq!(request.field("content-type"), Some("application/grpc"));
    assert_eq!(request.field("te"), Some("trailers"));
    assert_eq!(request.field("grpc-encoding"), Some("identity"));
    let stream = request.stream();
    assert_eq!(host.next_of(stream), Seen::Data { stream, bytes: message("two eggs"), end: true });
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    host.data(stream, &message("added"), false);
    host.trailers(stream, "grpc-status: 0\r\ngrpc-message: fine\r\n");
    let answer = client.answer(asked);
    assert_eq!((answer.status, answer.body), (200, message("added")));
    assert_eq!(answer.trailers, "grpc-status: 0\ngrpc-message: fine");
    eventually("the call is counted as gRPC", || {
        let labels = ["request_protocol=\"grpc\"", "response_code=\"200\"", "grpc_response_status=\"0\""];
        rig.proxy.count("istio_requests_total", &labels) == 1
    });
}

#[test]
fn messages_go_both_ways_as_they_come() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&call(""), false);
    let mut host = rig.host();
    let stream = host.request().stream();
    // The host speaks first.
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    assert!(matches!(client.next_of(asked), Seen::Response { status: 200, end: false, .. }));
    for round in 0..20 {
        let (there, back) = (message(&format!("ping {round}")), message(&format!("pong {round}")));
        client.data(asked, &there, false);
        assert_eq!(host.body(stream, there.len()), there);
        host.data(stream, &back, false);
        assert_eq!(client.body(asked, back.len()), back);
    }
    // The client has said all; the host goes on.
    client.data(asked, b"", true);
    assert_eq!(host.next_of(stream), Seen::Data { stream, bytes: vec![], end: true });
    for _ in 0..3 {
        host.data(stream, &message("more"), false);
        assert_eq!(client.body(asked, 9), message("more"));
    }
    host.trailers(stream, "grpc-status: 0\r\n");
    assert_eq!(client.answer(asked).trailers, "grpc-status: 0");
}

#[test]
fn trailers_only_and_no_body() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&call(""), false);
    client.data(asked, &message("x"), true);
    let mut host = rig.host();
    let stream = host.request().stream();
    host.respond(
        stream,
        200,
        "content-type: application/grpc\r\ngrpc-status: 5\r\ngrpc-message: none such\r\n",
        true,
    );
    let answer = client.next_of(asked);
    assert!(matches!(answer, Seen::Response { status: 200, end: true, .. }), "{answer:?}");
    assert_eq!((answer.field("grpc-status"), answer.field("grpc-message")), (Some("5"), Some("none such")));
    eventually("its status is told", || {
        rig.proxy.count("istio_requests_total", &["grpc_response_status=\"5\"", "response_code=\"200\""]) == 1
    });
}

#[test]
fn an_answer_before_the_request_is_complete() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&call(""), false);
    client.data(asked, &message("first"), false);
    let mut host = rig.host();
    let stream = host.request().stream();
    assert_eq!(host.body(stream, 10), message("first"));
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    host.trailers(stream, "grpc-status: 8\r\ngrpc-message: too much\r\n");
    assert_eq!(client.answer(asked).trailers, "grpc-status: 8\ngrpc-message: too much");
    // RFC 9113 §8.1: it is told to stop, without this being an error.
    assert_eq!(client.next_of(asked), Seen::Reset { stream: asked, code: ErrorCode::NO_ERROR });
    assert!(matches!(host.next_of(stream), Seen::Reset { .. }));
    // The connections go on.
    let asked = client.open(&call(""), true);
    let stream = host.request().stream();
    host.respond(stream, 200, "content-type: application/grpc\r\ngrpc-status: 0\r\n", true);
    assert_eq!(client.answer(asked).status, 200);
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_host_at_once() {
    let rig = Rig::new();
    let mut client = rig.client();
    let mut kept: Option<Peer> = None;
    for answered in [false, true] {
        let asked = client.open(&call(""), false);
        client.data(asked, &message("x"), false);
        let host = kept.get_or_insert_with(|| rig.host());
        let stream = host.request().stream();
        assert_eq!(host.body(stream, 6), message("x"));
        if answered {
            host.respond(stream, 200, "content-type: application/grpc\r\n", false);
            assert!(matches!(client.next_of(asked), Seen::Response { .. }));
        }
        client.reset(asked, ErrorCode::CANCEL);
        assert_eq!(host.next_of(stream), Seen::Reset { stream, code: ErrorCode::CANCEL });
    }
    eventually("both are over", || rig.proxy.count("envoy_cluster_upstream_rq_active", &["app"]) == 0);
}

#[test]
fn resets_of_the_host_before_its_answer() {
    let rig = Rig::new();
    let mut client = rig.client();
    let mut kept: Option<Peer> = None;
    for (code, reason) in [
        (ErrorCode::INTERNAL_ERROR, "remote reset"),
        (ErrorCode::CANCEL, "remote reset"),
        (ErrorCode::NO_ERROR, "remote reset"),
        (ErrorCode::ENHANCE_YOUR_CALM, "remote reset"),
        (ErrorCode::REFUSED_STREAM, "remote refused stream reset"),
    ] {
        let asked = client.open(&call(""), false);
        client.data(asked, &message("x"), true);
        let host = kept.get_or_insert_with(|| rig.host());
        // What its host has refused, and so not seen, is tried once more.
        let times = if code == ErrorCode::REFUSED_STREAM { 2 } else { 1 };
        for _ in 0..times {
            let stream = host.request().stream();
            assert_eq!(host.body(stream, 6), message("x"));
            host.reset(stream, code);
        }
        let answer = client.next_of(asked);
        assert!(matches!(answer, Seen::Response { status: 200, end: true, .. }), "{code}: {answer:?}");
        assert_eq!(answer.field("grpc-status"), Some("14"), "{code}");
        let message =
            format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
        assert_eq!(answer.field("grpc-message"), Some(message.as_str()), "{code}");
    }
}

#[test]
fn a_reset_within_an_answer_is_passed_on_as_one() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&call(""), true);
    let mut host = rig.host();
    let stream = host.request().stream();
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    host.data(stream, &message("half"), false);
    assert!(matches!(client.next_of(asked), Seen::Response { .. }));
    assert_eq!(client.body(asked, 9), message("half"));
    host.reset(stream, ErrorCode::INTERNAL_ERROR);
    assert_eq!(client.next_of(asked), Seen::Reset { stream: asked, code: ErrorCode::INTERNAL_ERROR });
}

#[test]
fn own_replies_in_the_words_of_grpc() {
    // bad-inputs G-02, by HTTP/2; the HTTP statuses as Envoy maps them.
    let mut routes = vec![json!({ "match": { "prefix": "/dead" }, "route": { "cluster": "dead" } })];
    for status in [400, 401, 403, 404, 429, 500, 502, 503, 504] {
        routes.push(json!({ "match": { "prefix": format!("/{status}") },
            "direct_response": { "status": status, "body": { "inline_string": "so 5% \u{e9}" } } }));
    }
    let proxy = crate::rig::start(http_listener(manager(routes.into())), &[cluster("dead", &[nobody()])]);
    let mut client = Peer::connect(proxy.address);
    for (path, status, message) in [
        (
            "/dead",
            "14",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        ),
        ("/none", "12", ""),
        ("/400", "13", "so 5%25 %C3%A9"),
        ("/401", "16", "so 5%25 %C3%A9"),
        ("/403", "7", "so 5%25 %C3%A9"),
        ("/404", "12", "so 5%25 %C3%A9"),
        ("/429", "14", "so 5%25 %C3%A9"),
        ("/500", "2", "so 5%25 %C3%A9"),
        ("/502", "14", "so 5%25 %C3%A9"),
        ("/503", "14", "so 5%25 %C3%A9"),
        ("/504", "14", "so 5%25 %C3%A9"),
    ] {
        let asked = client.open(&call("").replace("/shop.Cart/Add", path), true);
        let answer = client.next_of(asked);
        assert!(matches!(answer, Seen::Response { status: 200, end: true, .. }), "{path}: {answer:?}");
        assert_eq!(answer.field("content-type"), Some("application/grpc"), "{path}");
        assert_eq!(answer.field("grpc-status"), Some(status), "{path}");
        let said = answer.field("grpc-message").unwrap_or_default();
        assert!(said.starts_with(message) && said.is_empty() == message.is_empty(), "{path}: {said}");
        eventually("it is told", || {
            let label = format!("grpc_response_status=\"{status}\"");
            proxy.count("istio_requests_total", &[&label, "request_protocol=\"grpc\""]) > 0
        });
    }
}

#[test]
fn a_deadline_of_the_client() {
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "app", "timeout": "10s",
        "max_stream_duration": { "grpc_timeout_header_max": "0s" } } }]);
    let rig = Rig::with(routes);
    let mut client = rig.client();
    let began = Instant::now();
    let asked = client.open(&call("grpc-timeout: 200m\r\n"), true);
    let mut host = rig.host();
    let stream = host.request().stream();
    let answer = client.next_of(asked);
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let status = answer.field("grpc-status");
    assert!(matches!(status, Some("4" | "14")), "{answer:?}");
    assert_eq!(host.next_of(stream), Seen::Reset { stream, code: ErrorCode::CANCEL });
}

#[test]
fn over_http1_to_an_http2_host() {
    let rig = Rig::new();
    let mut client = rig.proxy.client();
    client.say(&call("connection: te\r\n"));
    client.say("8\r\n\0\0\0\0\u{3}abc\r\n");
    let mut host = rig.host();
    let stream = host.request().stream();
    assert_eq!(host.body(stream, 8), message("abc"));
    client.say("0\r\n\r\n");
    assert_eq!(host.next_of(stream), Seen::Data { stream, bytes: vec![], end: true });
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    host.data(stream, &message("de"), false);
    host.trailers(stream, "grpc-status: 0\r\n");
    let text = String::from_utf8(until(&mut client, b"\r\n0\r\ngrpc-status: 0\r\n\r\n")).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(
        text.contains("transfer-encoding: chunked\r\n") && text.contains("7\r\n\0\0\0\0\u{2}de\r\n"),
        "{text}"
    );
}

/// What comes up to and with `end`.
pub fn until(client: &mut crate::common::Client, end: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut got = std::mem::take(&mut client.buffer);
    let mut chunk = [0; 4096];
    while !got.windows(end.len()).any(|window| window == end) {
        match client.stream.read(&mut chunk) {
            Ok(length @ 1..) => got.extend_from_slice(&chunk[..length]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&got)),
        }
    }
    got
}

/// Sends what goes until nothing has gone for a while; how much went.
fn press(from: &mut Peer, stream: wire::h2::Stream, most: usize) -> usize {
    let chunk = vec![7; 64 * 1024];
    let (mut given, mut still) = (0, 0);
    while still < 20 && given < most {
        let queued = from.codec.send_state(stream).expect("the stream lives").queued;
        if queued > 0 {
            still += 1;
            from.poll(Duration::from_millis(10));
            continue;
        }
        still = 0;
        from.data(stream, &chunk, false);
        given += chunk.len();
    }
    given - from.codec.send_state(stream).expect("the stream lives").queued
}

/// A reader that does not read: how much of what the other side could send lies between them, kernel included.
#[test]
fn a_stalled_reader_holds_less_than_a_mebibyte() {
    for upload in [true, false] {
        let rig = Rig::new();
        let mut client = Peer::connect_with(rig.proxy.address, Config::default());
        let asked = client.open(&call(""), false);
        let mut host = rig.host();
        let stream = host.request().stream();
        host.respond(stream, 200, "content-type: application/grpc\r\n", false);
        assert!(matches!(client.next_of(asked), Seen::Response { .. }));
        let (from, to, on, at) = match upload {
            true => (&mut client, &mut host, asked, stream),
            false => (&mut host, &mut client, stream, asked),
        };
        to.reads = false;
        let sent = press(from, on, 16 * MIB);
        // What the stalled reader lets come without taking it is in its own memory, not the proxy's.
        for _ in 0..20 {
            to.poll(Duration::from_millis(10));
        }
        let held = sent - to.unread;
        assert!(held < MIB, "upload {upload}: {held} bytes held");
        assert!(held > 0, "upload {upload}: nothing was held back");
        // And all of it comes when it reads again.
        to.reads = true;
        to.codec.consume(at, to.unread);
        to.flush();
        let mut got = to.unread;
        let seen = to.drain_seen(at);
        assert_eq!(seen, got);
        while got < sent {
            match to.next_of(at) {
                Seen::Data { bytes, .. } => got += bytes.len(),
                other => panic!("{other:?}"),
            }
            from.poll(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_stalled_stream_does_not_stop_its_neighbour() {
    let rig = Rig::new();
    let mut client = rig.client();
    let stalled = client.open(&call(""), false);
    let mut host = rig.host();
    let first = host.request().stream();
    host.respond(first, 200, "content-type: application/grpc\r\n", false);
    assert!(matches!(client.next_of(stalled), Seen::Response { .. }));
    client.reads = false;
    press(&mut host, first, 16 * MIB);
    client.poll(Duration::from_millis(10));
    client.reads = true;
    let asked = client.open(&call(""), true);
    let second = host.request().stream();
    host.respond(second, 200, "content-type: application/grpc\r\n", false);
    host.data(second, &message("fine"), false);
    host.trailers(second, "grpc-status: 0\r\n");
    assert_eq!(client.answer(asked).body, message("fine"));
}

#[test]
fn a_host_over_http1() {
    // As it is for a cluster that does not say HTTP/2: messages and trailers in chunks.
    let served = crate::common::Host::start(|connection| {
        while connection.request().is_some() {
            let mut body = vec![];
            while !body.ends_with(b"0\r\n\r\n") {
                body.extend(connection.read_some());
            }
            connection.say(
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            connection.say("8\r\n\0\0\0\0\u{3}abc\r\n0\r\nGrpc-Status: 3\r\n\r\n");
        }
    });
    let proxy = crate::rig::start(
        http_listener(manager(crate::common::to("app"))),
        &[cluster("app", &[served.address])],
    );
    let mut client = Peer::connect(proxy.address);
    let asked = client.open(&call(""), false);
    client.data(asked, &message("x"), true);
    let answer = client.answer(asked);
    assert_eq!(
        (answer.status, answer.body, answer.trailers.as_str()),
        (200, message("abc"), "grpc-status: 3")
    );
    eventually("its status is told", || {
        proxy.count("istio_requests_total", &["grpc_response_status=\"3\""]) == 1
    });
}

#[test]
fn two_hosts_one_of_them_leaving() {
    // A GOAWAY that leaves a call out: it goes to another connection, seen once.
    let (listener, address) = host();
    let proxy = crate::rig::start(
        http_listener(manager(crate::common::to("app"))),
        &[http2_cluster("app", &[address])],
    );
    let mut client = Peer::connect(proxy.address);
    let first = client.open(&call(""), true);
    let mut leaving = Peer::accept(&listener, Config::default());
    let served = leaving.request().stream();
    leaving.codec.leave_now(ErrorCode::NO_ERROR);
    leaving.flush();
    let second = client.open(&call(""), true);
    let mut other = Peer::accept(&listener, Config::default());
    let stream = other.request().stream();
    other.respond(stream, 200, "grpc-status: 0\r\n", true);
    assert_eq!(client.answer(second).status, 200);
    leaving.respond(served, 200, "grpc-status: 0\r\n", true);
    assert_eq!(client.answer(first).status, 200);
}

/// A deadline the client has set is exceeded, whoever finds out first: the proxy that was told of it says what the client's
/// own library would.
#[test]
fn the_clients_own_deadline_is_told_as_such() {
    let rig = Rig::with(json!([{ "match": { "prefix": "/" },
        "route": { "cluster": "app", "timeout": "0s", "max_grpc_timeout": "0s" } }]));
    let mut client = rig.client();
    let stream = client.open(&call("grpc-timeout: 50m\r\n"), false);
    client.data(stream, &message("milk"), true);
    let mut host = rig.host();
    let asked = host.request().stream();
    let answer = client.answer(stream);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("grpc-status: 4\n"), "{}", answer.head);
    // And the host learns that nobody waits.
    loop {
        if let Seen::Reset { code, .. } = host.next_of(asked) {
            assert_eq!(code, ErrorCode::CANCEL);
            break;
        }
    }
}
