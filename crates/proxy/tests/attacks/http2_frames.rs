//! Frames of HTTP/2 at the proxy itself, hosts behind it: bodies that end short of their length, windows raised to the brim,
//! settings of hosts that are none, text that looks like frames.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::common::cost::{alone, hold_quietly, settled};
use crate::common::*;
use crate::frames::*;

fn http2_cluster(name: &str, hosts: &[std::net::SocketAddr]) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut cluster = cluster(name, hosts);
    cluster["typed_extension_protocol_options"] = json!({ OPTIONS: typed(OPTIONS, json!({ "explicit_http_config": { "http2_protocol_options": {} } })) });
    cluster
}

/// HAProxy 2026-33555: an empty frame that ends the stream skipped the check of the length; and trailers that do. The
/// stream's host sees its connection end, or its stream, never the end of the body.
#[test]
fn a_body_that_ends_short_of_its_length_is_an_error_and_is_not_ended_towards_the_host() {
    let _alone = alone();
    let (told, seen) = channel();
    let host = Host::start(move |connection| {
        if read_head(&mut connection.stream, &mut connection.buffer).is_some() {
            let body = connection.body(43);
            told.send(body.len()).unwrap();
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let endings: [(&str, Vec<u8>); 4] = [
        ("an empty frame", frame(DATA, END_STREAM, 1, "")),
        ("a frame and an empty one", [frame(DATA, 0, 1, "five."), frame(DATA, END_STREAM, 1, "")].concat()),
        ("trailers", frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&[("x-sum", "1")]))),
        (
            "a frame and trailers",
            [
                frame(DATA, 0, 1, "five."),
                frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&[("x-sum", "1")])),
            ]
            .concat(),
        ),
    ];
    for (what, ending) in endings {
        let mut client = Peer::client(proxy.address, &[]);
        client.say(post(1, &[("content-length", "43")]));
        eventually("the host has the head", || proxy.count("envoy_cluster_upstream_rq_active", &[]) == 1);
        client.say(ending);
        let end = client.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS)).expect(what);
        assert!(end.kind == RST_STREAM && end.code() == 1, "{what}: frame {} {:?}", end.kind, end.payload);
        let length = seen.recv_timeout(PATIENCE).expect("the host's connection ends");
        assert!(length < 43, "{what}: the host had a whole body");
        assert!(
            client.say(frame(PING, 0, 0, "12345678")) && client.until(|frame| frame.kind == PING).is_some()
        );
    }
    eventually("none is left", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    eventually("nor a connection", || proxy.count("envoy_cluster_upstream_cx_active", &[]) == 0);
}

/// nginx 2026-123007: windows raised to the brim wrapped around. A hundred stalled streams, each raised as far as it goes,
/// then the size of all: one error of flow control, whatever came between.
#[test]
fn windows_beyond_the_brim_end_the_connection() {
    let _alone = alone();
    const BODY: usize = 100_000;
    let host =
        Host::answering(&format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n{}", "x".repeat(BODY)));
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    for between in [None, Some(0), Some(0x7fff_ffff)] {
        let mut client = Peer::client(proxy.address, &setting(4, 0));
        let asks: Vec<u8> = (0..100).flat_map(|number| get(2 * number + 1, &[])).collect();
        client.say(asks);
        for _ in 0..100 {
            client.until(|frame| frame.kind == HEADERS).expect("a head");
        }
        let raise = |stream: u32| frame(WINDOW_UPDATE, 0, stream, 0x7fff_0000_u32.to_be_bytes());
        // Its own window is used up, so that nothing of what is raised is used.
        let mut bytes: Vec<u8> = (1..100).flat_map(|number| raise(2 * number + 1)).collect();
        bytes.extend(frame(RST_STREAM, 0, 1, 8_u32.to_be_bytes()));
        if let Some(size) = between {
            bytes.extend(frame(SETTINGS, 0, 0, setting(4, size)));
        }
        bytes.extend(frame(SETTINGS, 0, 0, setting(4, 0x7fff_ffff)));
        bytes.extend(raise(3));
        client.say(bytes);
        let end = client.rest().into_iter().rev().find(|frame| matches!(frame.kind, GOAWAY | RST_STREAM));
        let end = end.expect("it is refused");
        assert_eq!(end.code(), 3, "FLOW_CONTROL_ERROR; between: {between:?}");
        eventually("none is left", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    }
    assert!(Peer::client(proxy.address, &[]).serves(1), "it serves others");
}

/// Go 2026-33814: a host that says SETTINGS_MAX_FRAME_SIZE 0 had its sender turn in a circle. It is an error of the
/// connection (RFC 9113 §6.5.2), and the request goes to another.
#[test]
fn a_host_that_says_a_frame_size_there_is_not_is_left() {
    let _alone = alone();
    for size in [0_u32, 1, 16_383, 1 << 24, u32::MAX] {
        let host = Host::start(move |connection| {
            let mut peer = Peer::over(connection.stream.try_clone().unwrap());
            if !peer.take_preface() {
                return;
            }
            // The first connection is as it must not be; those after it are in order.
            let settings = if connection.number == 1 { setting(5, size) } else { vec![] };
            peer.say(frame(SETTINGS, 0, 0, settings));
            peer.say(frame(SETTINGS, ACK, 0, ""));
            while let Some(request) = peer.until(|frame| frame.kind == HEADERS) {
                if connection.number > 1 {
                    peer.say(headers(
                        request.stream,
                        END_STREAM,
                        &[(":status", "200"), ("content-length", "0")],
                    ));
                }
            }
        });
        let mut routes = to("up");
        routes[0]["route"]["retry_policy"] = json!({ "retry_on": "reset,connect-failure", "num_retries": 2 });
        let proxy = Proxy::start(http_listener(http(routes)), &[http2_cluster("up", &[host.address])]);
        let long = "z".repeat(20 * 1024);
        let answer = proxy.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n"));
        assert_eq!(answer.status, 200, "size {size}: {}", answer.body);
        assert_eq!(host.connections.load(SeqCst), 2, "size {size}");
        settled();
        hold_quietly(&format!("a host said a frame size of {size}"));
    }
}

/// nginx 2026-42926: a header that configuration makes of the request's own text became a frame. What a host decodes is
/// exactly what was set, however long; and a body that is longer than a frame is more than one.
#[test]
fn text_that_looks_like_frames_stays_text() {
    let _alone = alone();
    let (told, seen) = channel();
    let host = Host::start(move |connection| {
        let mut peer = Peer::over(connection.stream.try_clone().unwrap());
        if !peer.take_preface() {
            return;
        }
        // No table, so that each field is spelt out.
        peer.say(frame(SETTINGS, 0, 0, setting(1, 0)));
        peer.say(frame(SETTINGS, ACK, 0, ""));
        let mut head: Option<Frame> = None;
        while let Some(next) = peer.next() {
            let whole = next.ends_block();
            match next.kind {
                HEADERS => head = Some(next),
                CONTINUATION => head.as_mut().unwrap().payload.extend(next.payload),
                SETTINGS | WINDOW_UPDATE | PING => continue,
                other => {
                    told.send(Err(other)).unwrap();
                    return;
                }
            }
            if whole && let Some(head) = head.take() {
                told.send(Ok(head.fields())).unwrap();
                peer.say(headers(head.stream, END_STREAM, &[(":status", "200"), ("content-length", "0")]));
            }
        }
    });
    let mut routes = json!([
        { "match": { "path": "/direct" },
          "direct_response": { "status": 200, "body": { "inline_string": "y".repeat(40_000) } } }]);
    let mut forwarded = to("up")[0].clone();
    forwarded["request_headers_to_add"] = json!([{ "header": { "key": "x-set", "value": "%REQ(x-given)%" }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" }]);
    routes.as_array_mut().unwrap().push(forwarded);
    let mut manager = http(routes);
    manager["route_config"]["max_direct_response_body_size_bytes"] = json!(65536);
    let proxy = Proxy::start(http_listener(manager), &[http2_cluster("up", &[host.address])]);
    // A DATA frame's and a HEADERS frame's first bytes, as far as a field's value may hold them.
    let framelike = "! ~!!\"@ ~ A";
    for length in [1, 16_383, 16_384, 16_385, 16_390, 30_000] {
        let value: String = framelike.chars().cycle().take(length - 1).collect::<String>() + "~";
        for http2 in [false, true] {
            if http2 {
                let mut client = Peer::client(proxy.address, &[]);
                let fields = block(&[GET, &[("x-given", &value)]].concat());
                let (first, rest) = fields.split_at(fields.len().min(16_384));
                let mut bytes =
                    frame(HEADERS, END_STREAM | if rest.is_empty() { END_HEADERS } else { 0 }, 1, first);
                if !rest.is_empty() {
                    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, rest));
                }
                client.say(bytes);
                let answer =
                    client.until(|frame| matches!(frame.kind, HEADERS | GOAWAY | RST_STREAM)).unwrap();
                assert!(answer.kind == HEADERS && answer.status() == 200, "{length}: frame {}", answer.kind);
            } else {
                let answer =
                    proxy.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-given: {value}\r\n\r\n"));
                assert_eq!(answer.status, 200, "{length}");
            }
            let fields = seen.recv_timeout(PATIENCE).unwrap().expect("nothing but heads came to the host");
            let set: Vec<&str> =
                fields.iter().filter(|(name, _)| name == "x-set").map(|(_, value)| value.as_str()).collect();
            assert!(set == [value.as_str()], "{length}, HTTP/2 {http2}: {} bytes", set.concat().len());
        }
    }
    let mut client = Peer::client(proxy.address, &[]);
    client.say(headers(
        1,
        END_STREAM,
        &[(":method", "GET"), (":scheme", "http"), (":path", "/direct"), (":authority", "a")],
    ));
    let mut body = vec![];
    while body.len() < 40_000 {
        let next = client.next().expect("more of the body");
        if next.kind == DATA {
            assert!(next.payload.len() <= 16_384, "{}", next.payload.len());
            body.extend(next.payload);
        }
    }
    assert!(body.iter().all(|byte| *byte == b'y') && body.len() == 40_000);
}
