//! Frames and heads cut at every byte, then silence, the client's end, or the rest (HAProxy 2026-110353: a frame cut short
//! burnt a core).

use std::io::Read;
use std::net::{Shutdown, TcpStream};

use serde_json::json;

use crate::common::cost::{alone, hold_quietly, settled};
use crate::common::*;
use crate::{all_of, answers, connect, offer};

/// Everything is answered here; whatever waits, waits three seconds at most.
fn impatient() -> Proxy {
    let mut manager = http(json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]));
    manager["common_http_protocol_options"] = json!({ "idle_timeout": "3s" });
    manager["stream_idle_timeout"] = "3s".into();
    manager["request_headers_timeout"] = "3s".into();
    Proxy::start(http_listener(manager), &[])
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Silence,
    End,
    Rest,
}

/// What a client says first and then, cut at `at` within the second.
fn cut(proxy: &Proxy, before: &[u8], what: &[u8], at: usize) -> TcpStream {
    let mut client = connect(proxy.address);
    offer(&mut client, &[before, &what[..at]].concat());
    client
}

/// Each of the messages behind its beginning, cut at every byte, all connections at once.
fn try_all(proxy: &Proxy, messages: &[(&str, Vec<u8>, Vec<u8>)], check_whole: impl Fn(&str, &[u8])) {
    for then in [Then::Silence, Then::End, Then::Rest] {
        let mut clients = vec![];
        for (name, before, what) in messages {
            for at in 0..what.len() {
                let client = cut(proxy, before, what, at);
                clients.push((format!("{name} cut at {at}, then {then:?}"), *name, &what[at..], client));
            }
        }
        settled();
        if then == Then::Silence {
            hold_quietly(&format!("{} cut messages", clients.len()));
        }
        for (_, _, rest, client) in &mut clients {
            match then {
                Then::Silence => {}
                Then::End => drop(client.shutdown(Shutdown::Write)),
                Then::Rest => offer(client, rest),
            }
        }
        for (what, name, _, client) in &mut clients {
            let mut said = vec![];
            if then == Then::Rest {
                // A connection half closed is closed, whatever it still has coming: the client ends when it has its answer.
                let mut chunk = [0; 4096];
                let length =
                    client.read(&mut chunk).unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
                said.extend_from_slice(&chunk[..length]);
                let _ = client.shutdown(Shutdown::Write);
            }
            said.extend(all_of(client).unwrap_or_else(|error| panic!("{what}: not closed: {error}")));
            if then == Then::Rest {
                check_whole(name, &said);
            } else {
                assert!(answers(&said) <= 1, "{what}: {}", String::from_utf8_lossy(&said));
            }
        }
        println!("{then:?}: {} connections", clients.len());
    }
    eventually("none is left", || proxy.count("envoy_http_downstream_cx_active", &[]) == 0);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_head_of_http1_cut_at_every_byte_costs_nothing_and_is_closed() {
    let _alone = alone();
    let proxy = impatient();
    let plain = "GET /a?b HTTP/1.1\r\nhost: a\r\nx-y:  z \r\n\r\n".to_owned();
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: t\r\n\r\n".to_owned();
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned();
    let messages = [("plain", plain), ("chunked", chunked), ("upgrade", upgrade)]
        .map(|(name, head)| (name, vec![], head.into_bytes()));
    try_all(&proxy, &messages, |name, said| assert_eq!(answers(said), 1, "{name}"));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

#[test]
fn every_frame_of_http2_cut_at_every_byte_costs_nothing_and_is_closed() {
    let _alone = alone();
    let proxy = impatient();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat();
    // GET, http, path /, authority a; the same without its end.
    let block = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let open = |flags| [begin.clone(), frame(1, flags, 1, &block)].concat();
    let half = [begin.clone(), frame(1, 0, 1, &block[..3])].concat();
    let messages = [
        ("preface", vec![], begin.clone()),
        ("DATA", open(4), frame(0, 1, 1, b"hello")),
        ("padded DATA", open(4), frame(0, 9, 1, b"\x03hello\0\0\0")),
        ("empty DATA", open(4), frame(0, 1, 1, b"")),
        ("HEADERS", begin.clone(), frame(1, 5, 1, &block)),
        ("HEADERS with priority", begin.clone(), frame(1, 0x25, 1, &[&[0, 0, 0, 0, 9], &block[..]].concat())),
        ("trailers", open(4), frame(1, 5, 1, b"\x00\x01t\x01x")),
        ("PRIORITY", begin.clone(), frame(2, 0, 1, &[0, 0, 0, 0, 9])),
        ("RST_STREAM", open(4), frame(3, 0, 1, &[0, 0, 0, 8])),
        ("SETTINGS", begin.clone(), frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("WINDOW_UPDATE of no length", begin.clone(), frame(8, 6, 0, &[])),
        ("PUSH_PROMISE", begin.clone(), frame(5, 4, 1, &[&[0, 0, 0, 2], &block[..]].concat())),
        ("PING", begin.clone(), frame(6, 0, 0, b"12345678")),
        ("GOAWAY", begin.clone(), frame(7, 0, 0, &[0; 8])),
        ("WINDOW_UPDATE", begin.clone(), frame(8, 0, 0, &[0, 0, 1, 0])),
        ("CONTINUATION", half, frame(9, 4, 1, &block[3..])),
        ("unknown", begin.clone(), frame(0xfa, 0xff, 3, b"whatever")),
    ];
    try_all(&proxy, &messages, |name, said| {
        // Our SETTINGS come first, whatever came.
        assert_eq!(said.get(3), Some(&4), "{name}: {said:?}");
    });
}
