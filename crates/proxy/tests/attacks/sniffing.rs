//! A port whose protocol is sniffed: whoever can still become HTTP meets the chain for HTTP, whatever he sends or leaves out
//! (the worst of what was tried: a first line of 32,769 bytes went as raw TCP past a chain that denies everything).

use std::io::{Read, Write};

use serde_json::json;

use crate::common::cost::{alone, resident};
use crate::common::*;
use crate::{all_of, connect, offer};

/// HTTP is denied; all else goes to a host that answers 200 to whatever it is sent.
fn automatic(host: std::net::SocketAddr) -> Proxy {
    let mut denying = http(json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 403 } }]));
    denying["request_headers_timeout"] = "2s".into();
    let manager = http_listener(denying)["filter_chains"][0]["filters"].clone();
    let raw = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "tcp", "cluster": "up" }),
    );
    let listener = json!({
        "name": "main",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "listener_filters": [
            { "name": "tls", "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})) },
            { "name": "http", "typed_config": typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", json!({})) } ],
        "listener_filters_timeout": "0.5s",
        "continue_on_listener_filters_timeout": true,
        "filter_chains": [
            { "filter_chain_match": { "application_protocols": ["http/1.0", "http/1.1", "h2c"] }, "filters": manager },
            { "filters": [{ "name": "tcp", "typed_config": raw }] } ],
    });
    Proxy::start(listener, &[cluster("up", &[host])])
}

fn open_host() -> Host {
    Host::start(|connection| {
        while !connection.read_some().is_empty() {
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret");
        }
    })
}

/// In one piece, and with pauses; a line that ends, and one that only began when the sniffing gave up.
#[test]
fn no_first_line_of_http_passes_by_the_chain_that_denies() {
    let _alone = alone();
    let host = open_host();
    let proxy = automatic(host.address);
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length));
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("short", vec![line(1).into_bytes()]),
        ("32,000", vec![line(32_000).into_bytes()]),
        ("32,769", vec![line(32_769 - 15).into_bytes()]),
        ("33,000", vec![line(33_000).into_bytes()]),
        ("70,000", vec![line(70_000).into_bytes()]),
        (
            "in two",
            vec![line(40_000).as_bytes()[..32_700].to_vec(), line(40_000).as_bytes()[32_700..].to_vec()],
        ),
        ("slowly", vec![b"GET /".to_vec(), vec![], b"x HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()]),
        ("slowly, a method only", vec![b"GET ".to_vec(), vec![], b"/x HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()]),
        ("slowly, HTTP/1.0", vec![b"POST / HTTP/1.".to_vec(), vec![], b"0\r\n\r\n".to_vec()]),
        ("empty lines first", vec![[b"\r\n\r\n".as_slice(), line(33_000).as_bytes()].concat()]),
        ("a preface, slowly", vec![b"PRI * HTTP/2.0\r\n".to_vec(), vec![], b"\r\nSM\r\n\r\n".to_vec()]),
    ];
    for (name, pieces) in cases {
        let mut client = connect(proxy.address);
        for piece in pieces {
            if piece.is_empty() {
                // Longer than sniffing waits.
                std::thread::sleep(std::time::Duration::from_millis(700));
            }
            offer(&mut client, &piece);
        }
        let _ = client.shutdown(std::net::Shutdown::Write);
        let said = all_of(&mut client).unwrap();
        let text = String::from_utf8_lossy(&said);
        println!("{name}: {:?}", text.lines().next().unwrap_or_default());
        assert!(!text.contains("secret") && !text.starts_with("HTTP/1.1 200"), "{name}: {text}");
    }
    assert_eq!(host.connections.load(std::sync::atomic::Ordering::SeqCst), 0, "the host was reached");
    // What is not HTTP gets there: this is not a closed door.
    let mut client = connect(proxy.address);
    client.write_all(b"\x00\x01\x02hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(all_of(&mut client).unwrap().ends_with(b"secret"));
}

/// A head without end is read up to its limit (60 KiB), refused and closed.
#[test]
fn a_head_without_end_is_refused_at_its_limit() {
    let _alone = alone();
    let host = open_host();
    let proxy = automatic(host.address);
    let before = resident();
    // Kept, each with what the proxy holds for it.
    let mut clients = vec![];
    for _ in 0..20 {
        clients.push(connect(proxy.address));
        let Some(client) = clients.last_mut() else { continue };
        client.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
        let mut sent = 0;
        client.set_nonblocking(false).unwrap();
        // Piece by piece, until it is refused: the answer is there.
        client.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        let mut answer = vec![0; 4096];
        let said = loop {
            match client.read(&mut answer) {
                Ok(length) => break length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 1 << 20, "{sent} bytes of a head were taken");
            offer(client, &[b'a'; 1024]);
            sent += 1024;
        };
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        answer.truncate(said);
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "after {sent}: {}", String::from_utf8_lossy(&answer));
        all_of(client).unwrap();
    }
    let grown = resident().saturating_sub(before);
    println!("{} KiB more resident", grown / 1024);
    assert!(grown < 4 << 20, "{grown} bytes more resident");
    assert_eq!(host.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
}
