//! Class G: gRPC, and finding out what is spoken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;

use serde_json::json;

use crate::common::{cluster, nobody};
use crate::recorder::Recorder;
use crate::rig::{
    Failures, GATEWAY, INBOUND, Neighbour, OUTBOUND, Plan, Rig, beside_others, connect, drain, eventually,
    read_to_end, send, shown,
};
use crate::rows::Row;

pub const ROWS: &[Row] = &[
    Row("G-01", "ignored/400; no overflow"),
    Row(
        "G-02",
        "HTTP 200 + `grpc-status` trailers-only: 14 for 503/502/504/429(+8), 7 for 403, 16 for 401, 12 for 404",
    ),
    Row("G-03", "passed through in streaming; never buffered whole"),
    Row("G-04", "falls to TCP after detect timeout (Linkerd 10 s; Istio 5 s [K])"),
    Row("G-05", "correct detection with byte-by-byte feed; timeout"),
    Row("G-06", "400/close; log marks \"tls on plaintext port\""),
];

/// A gRPC request over HTTP/1, after which the connection closes.
fn call(path: &str, lines: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
         {lines}Content-Length: 5\r\n\r\n\0\0\0\0\0"
    )
}

#[test]
fn g01_timeouts_that_are_none() {
    let _turn = beside_others();
    let host = Recorder::http();
    let plan = Plan::to(host.address);
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "app",
        "timeout": "10s", "max_stream_duration": { "grpc_timeout_header_max": "0s" } } }]);
    let rig = Rig::new(Plan { routes, ..plan });
    let mut failures = Failures::default();
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        for value in
            ["99999999999H", "-1S", "1x", "", "9223372036854775807H", "99999999H", "1 S", "S", "0x1S"]
        {
            failures.gather(|| {
                let name = format!("G-01 at {}: {value:?}", door.name);
                let got =
                    send(door.address, &[call("/a.B/C", &format!("grpc-timeout: {value}\r\n")).as_bytes()]);
                // Ignored, or refused; at no price a timeout of zero.
                assert!([vec![200], vec![400]].contains(&got.statuses()), "{name}: {}", shown(&got.bytes));
                if got.answers[0].status == 200 {
                    assert_eq!(got.answers[0].body, b"ok", "{name}: {}", shown(&got.bytes));
                }
                neighbour.unharmed(&name);
            });
        }
    }
    failures.none();
}

/// The proxy's own errors: HTTP status of the route's direct response (or what happens to a path), and `grpc-status`.
pub const OWN: &[(&str, &str)] = &[
    ("/dead", "14"),
    ("/late", "14"),
    ("/none", "12"),
    ("/400", "13"),
    ("/401", "16"),
    ("/403", "7"),
    ("/404", "12"),
    ("/429", "14"),
    ("/502", "14"),
    ("/503", "14"),
    ("/504", "14"),
    ("/500", "2"),
];

/// The routes that lead to them.
pub fn own_errors(plan: Plan) -> Plan {
    let mut routes = vec![
        json!({ "match": { "prefix": "/dead" }, "route": { "cluster": "dead" } }),
        json!({ "match": { "prefix": "/late" }, "route": { "cluster": "silent", "timeout": "0.1s" } }),
        json!({ "match": { "prefix": "/fine" }, "route": { "cluster": "app" } }),
    ];
    for status in [400, 401, 403, 404, 429, 500, 502, 503, 504] {
        routes.push(
            json!({ "match": { "prefix": format!("/{status}") }, "direct_response": { "status": status } }),
        );
    }
    let silent = Recorder::silent();
    let mut clusters = plan.clusters.clone();
    clusters.extend([cluster("dead", &[nobody()]), cluster("silent", &[silent.address])]);
    Plan { routes: routes.into(), clusters, ..plan }
}

#[test]
fn g02_own_errors_are_told_as_grpc() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(own_errors(Plan::to(host.address)));
    let mut failures = Failures::default();
    for door in &rig.doors {
        for (path, status) in OWN {
            failures.gather(|| {
                let got = send(door.address, &[call(path, "").as_bytes()]);
                let name = format!("G-02 at {}: {path}", door.name);
                assert_eq!(got.statuses(), [200], "{name}: {}", shown(&got.bytes));
                let answer = &got.answers[0];
                assert_eq!(answer.header("grpc-status"), Some(*status), "{name}: {}", answer.head);
                assert_eq!(
                    answer.header("content-type"),
                    Some("application/grpc"),
                    "{name}: {}",
                    answer.head
                );
                assert!(answer.body.is_empty(), "{name}: {}", shown(&answer.body));
            });
        }
    }
    failures.none();
}

#[test]
fn g03_messages_pass_as_they_come() {
    let _turn = beside_others();
    let (sender, seen) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new(Plan::to(listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = vec![];
            let mut chunk = [0; 4096];
            // A message of 4 GiB is announced, compressed by nobody knows what; the first of it is here already.
            while !bytes.ends_with(b"\x01\xff\xff\xff\xffbegun") {
                match stream.read(&mut chunk) {
                    Ok(length @ 1..) => bytes.extend_from_slice(&chunk[..length]),
                    _ => break,
                }
            }
            sender.send(bytes.ends_with(b"begun")).unwrap();
            // An answer without trailers.
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0").unwrap();
        }
    });
    for door in &rig.doors {
        let mut stream = connect(door.address);
        let head = "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 4294967300\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\x01\xff\xff\xff\xffbegun").unwrap();
        assert!(seen.recv_timeout(crate::rig::PATIENCE).unwrap(), "G-03 at {}", door.name);
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200", "G-03 at {}", door.name);
        drop(stream);
        Neighbour::at(door).unharmed("G-03");
    }
}

/// Detection gives up soon, as a mesh may be told to (`protocolDetectionTimeout`).
fn soon(listener: &mut serde_json::Value) {
    if listener.get("listener_filters_timeout").is_some() {
        listener["listener_filters_timeout"] = "0.3s".into();
    }
}

#[test]
fn g04_a_server_that_speaks_first() {
    let _turn = beside_others();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Recorder::http();
    let plan = Plan::to(host.address);
    let rig = Rig::new(Plan { raw: Some(server.local_addr().unwrap()), listener: soon, ..plan });
    std::thread::spawn(move || {
        for mut stream in server.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"220 mail.test ESMTP\r\n");
        }
    });
    let got = read_to_end(&mut connect(rig.door(OUTBOUND).address));
    assert_eq!(shown(&got), "`220 mail.test ESMTP\\r\\n`", "G-04");
    Neighbour::at(rig.door(OUTBOUND)).unharmed("G-04");
}

#[test]
fn g05_detection_byte_by_byte() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan { listener: soon, ..Plan::to(host.address) });
    let door = rig.door(OUTBOUND);
    let mut neighbour = Neighbour::at(door);
    let mut failures = Failures::default();
    for input in [
        &b"GET \x00\x01\x02\xff\xfe binary \r\n\r\n"[..],
        b"GET / NOT HTTP\r\n\r\n",
        b"\x00\x01",
        b"G",
        b"PRI * HTTP/2.0\r\n\r\nno preface at all",
    ] {
        for whole in [true, false] {
            failures.gather(|| {
                let name = format!("G-05 {} whole {whole}", shown(input));
                rig.raw.forget();
                host.forget();
                let mut stream = connect(door.address);
                for piece in input.chunks(if whole { input.len() } else { 1 }) {
                    stream.write_all(piece).unwrap();
                }
                eventually(&name, || rig.raw.bytes() == input);
                assert_eq!(shown(&host.bytes()), "``", "{name}");
            });
            failures.gather(|| neighbour.unharmed("G-05"));
        }
    }
    let get = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let got = send(door.address, &get.chunks(1).collect::<Vec<_>>());
    assert_eq!(got.statuses(), [200], "G-05: {}", shown(&got.bytes));
    failures.none();
}

/// A ClientHello of TLS 1.2 for `a.test`, as short as may be.
pub fn client_hello() -> Vec<u8> {
    let name = b"a.test";
    let mut list = vec![0, 0, name.len() as u8];
    list.extend(name);
    let mut extension = vec![0, 0, 0, list.len() as u8 + 2, 0, list.len() as u8];
    extension.extend(&list);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend([0, extension.len() as u8]);
    body.extend(&extension);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(&body);
    hello
}

#[test]
fn g06_tls_on_a_plaintext_port() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let mut failures = Failures::default();
    // No inspector looks: the bytes meet the HTTP codec.
    failures.gather(|| {
        let got = send(rig.door(GATEWAY).address, &[&client_hello()]);
        assert_eq!(got.statuses(), [400], "G-06: {}", shown(&got.bytes));
        rig.logged("G-06", 400, "DPE", "");
    });
    // The inspector sees TLS, and no chain takes it.
    failures.gather(|| {
        let mut stream = connect(rig.door(INBOUND).address);
        stream.write_all(&client_hello()).unwrap();
        let got = drain(stream);
        assert!(got.bytes.is_empty(), "G-06: {}", shown(&got.bytes));
    });
    // Somebody else's TLS, passed on.
    failures.gather(|| {
        let mut stream = connect(rig.door(OUTBOUND).address);
        stream.write_all(&client_hello()).unwrap();
        eventually("G-06: passed on", || rig.raw.bytes() == client_hello());
    });
    for door in &rig.doors {
        failures.gather(|| Neighbour::at(door).unharmed("G-06"));
    }
    assert_eq!(shown(&host.bytes()), "``", "G-06");
    failures.none();
}
