//! What a client asks to become of its connection: another protocol, or to be kept by HTTP/1.0.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use serde_json::{Value, json};

/// Upgrades to `foo` and `websocket` are taken.
fn manager() -> Value {
    let mut manager = http(to("a"));
    manager["upgrade_configs"] = json!([{ "upgrade_type": "foo" }, { "upgrade_type": "websocket" }]);
    manager
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// nghttpx CVE-2026-58055: a host that does not switch, and does not read what was said to be a body, gets no part of it
/// before it has answered, and its connection is never used again; the client's takes no further request either. As Envoy
/// 1.40, which closes both.
#[test]
fn an_upgrade_not_granted_ends_both_connections_and_its_body_goes_nowhere() {
    // Reads no body, whatever length is said.
    let heads = Arc::new(Mutex::new(vec![]));
    let seen = heads.clone();
    let host = Host::start(move |connection| {
        while let Some(head) = read_head(&mut connection.stream, &mut connection.buffer) {
            seen.lock().unwrap().push(head);
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(http_listener(manager()), &[cluster("a", &[host.address])]);
    for (method, framing, body) in [
        ("POST", format!("content-length: {}\r\n", SMUGGLED.len()), SMUGGLED.to_owned()),
        (
            "POST",
            "transfer-encoding: chunked\r\n".into(),
            format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
        ),
        ("GET", String::new(), SMUGGLED.to_owned()),
    ] {
        let mut client = proxy.client();
        let head = format!(
            "{method} /first HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n{framing}\r\n"
        );
        let answer = client.ask(&format!("{head}{body}GET /second HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{framing}");
        assert_eq!(client.rest(), b"", "{framing}");
        // The next client gets its own answer, on a connection of its own.
        let before = host.connections.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(proxy.get("/next").status, 200);
        let after = host.connections.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(after, before + 1, "{framing}");
        assert!(heads.lock().unwrap().last().unwrap().starts_with("GET /next "));
    }
    let requests = heads.lock().unwrap().clone();
    assert_eq!(requests.len(), 6, "{requests:?}");
    assert!(
        !requests.iter().any(|head| head.contains("/smuggled") || head.contains("/second")),
        "{requests:?}"
    );
}

/// Measured beside Envoy 1.40: an Upgrade that lists several protocols is none of them; h2c alone is not listened to.
#[test]
fn a_list_of_protocols_is_not_one_of_them() {
    let host = Host::saying("ok");
    let proxy = Proxy::start(http_listener(manager()), &[cluster("a", &[host.address])]);
    for (value, status) in [
        ("websocket, h2c", 403),
        ("h2c, websocket", 403),
        ("websocket, foo", 403),
        ("tls", 403),
        ("h2c", 200),
        ("foo", 200),
    ] {
        let ask = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {value}\r\n\r\n");
        assert_eq!(proxy.client().ask(&ask).status, status, "{value}");
    }
    assert_eq!(host.requests.lock().unwrap().len(), 2);
}

/// A switch to HTTP/2 is made only where nothing of the request is lost by it.
#[test]
fn a_request_with_a_body_is_not_switched_to_http2() {
    let (bodies, got) = channel();
    let host = Host::start(move |connection| {
        while let Some(head) = connection.request() {
            bodies.send(head).unwrap();
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(http_listener(manager()), &[cluster("a", &[host.address])]);
    let upgrade =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    for version in ["1.1", "1.0"] {
        let mut client = proxy.client();
        client.say(&format!("POST / HTTP/{version}\r\nhost: a\r\n{upgrade}content-length: 5\r\n\r\nhello"));
        let mut head = String::new();
        while !head.contains("\r\n\r\n") {
            let mut chunk = [0; 1024];
            let length = client.stream.read(&mut chunk).unwrap();
            head += &String::from_utf8_lossy(&chunk[..length]);
        }
        let status = if version == "1.1" { "HTTP/1.1 200 " } else { "HTTP/1.1 426 " };
        assert!(head.starts_with(status), "{head}");
    }
    // The host has read the body: it waits for the next head, not for more.
    assert!(got.recv_timeout(PATIENCE).unwrap().contains("content-length: 5"));
    // Without a body it is made.
    let mut client = proxy.client();
    client.say(&format!("GET / HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n"));
    let mut chunk = [0; 1024];
    let length = client.stream.read(&mut chunk).unwrap();
    assert!(chunk[..length].starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&chunk[..length]));
}

/// C17: what a client sends ahead of the answer to its upgrade goes through the tunnel, however much it is.
#[test]
fn much_early_data_of_an_upgrade_goes_on_once_it_is_granted() {
    const EARLY: usize = 1 << 20;
    let host = Host::start(|connection| {
        connection.request();
        // The client is not read on by now.
        std::thread::sleep(Duration::from_millis(300));
        connection.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n");
        let length = connection.body(EARLY).len();
        connection.say(&format!("got {length}"));
    });
    let proxy = Proxy::start(http_listener(manager()), &[cluster("a", &[host.address])]);
    let mut client = proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let written = std::thread::spawn(move || writer.write_all(&vec![b'x'; EARLY]));
    assert_eq!(client.answer().status, 101);
    let said = client.rest();
    assert_eq!(String::from_utf8_lossy(&said), format!("got {EARLY}"));
    written.join().unwrap().unwrap();
}

fn raw(proxy: &Proxy, text: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let (mut bytes, mut chunk) = (vec![], [0; 4096]);
    let closed = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break true,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&bytes).into_owned(), closed)
}

/// HTTP/1.0 where it is switched on, measured beside Envoy 1.40 (`accept_http_10`, `default_host_for_http_10`): answered in its
/// own version, kept alive only where it asks and the length is said, never chunked. Unlike Envoy, which passes on a 103:
/// no interim answer, which the version does not know (RFC 9110 §15.2).
#[test]
fn http_1_0_is_served_in_its_own_words() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = match path.as_str() {
                "/chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                "/early" => {
                    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                }
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/close" => "HTTP/1.1 200 OK\r\n\r\nok",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            };
            connection.say(answer);
            if path == "/close" {
                return;
            }
        }
    });
    let routes = json!([
        { "match": { "prefix": "/direct" }, "direct_response": { "status": 200, "body": { "inline_string": "ok" } } },
        to("a")[0] ]);
    let mut manager = http(routes);
    manager["http_protocol_options"] =
        json!({ "accept_http_10": true, "default_host_for_http_10": "dflt.local" });
    let proxy = Proxy::start(http_listener(manager), &[cluster("a", &[host.address])]);
    for (path, kept) in [
        ("/x", true),
        ("/chunk", false),
        ("/close", false),
        ("/early", true),
        ("/204", false),
        ("/direct", true),
    ] {
        for asks in [false, true] {
            let option = if asks { "Connection: keep-alive\r\n" } else { "" };
            let (text, closed) = raw(&proxy, &format!("GET {path} HTTP/1.0\r\nHost: a\r\n{option}\r\n"));
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.0 20"), "{path}: {text}");
            assert_eq!(body, if path == "/204" { "" } else { "ok" }, "{path}");
            assert!(!head.contains("transfer-encoding") && !head.contains("103"), "{path}: {head}");
            let kept = kept && asks;
            let said = header(head, "connection");
            assert_eq!(said, Some(if kept { "keep-alive" } else { "close" }), "{path} {asks}");
            assert_eq!(closed, !kept, "{path} {asks}");
        }
    }
    // Without Host it is for the default one; with a body, and for HTTP/1.1, the rules are as ever.
    let (text, _) = raw(&proxy, "\r\nGET /none HTTP/1.0\r\nx: y\r\n\r\n");
    assert!(text.starts_with("HTTP/1.0 200 "), "{text}");
    assert_eq!(header(&host.last_request(), "host"), Some("dflt.local"));
    let (text, _) = raw(&proxy, "POST /none HTTP/1.0\r\ncontent-length: 2\r\n\r\nab");
    assert!(text.starts_with("HTTP/1.0 200 ") && host.last_request().starts_with("POST "), "{text}");
    let (text, _) = raw(&proxy, "GET /none HTTP/1.1\r\nx: HTTP/1.0\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    let (text, _) = raw(&proxy, "GET /none HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}

/// Report of an HTTP/1.0 host behind two of our proxies: over the multiplexed hop a body's framing is said once, as one proxy
/// would say it, whatever the host said.
#[test]
fn over_the_multiplexed_hop_framing_is_said_once() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = match path.as_str() {
                "/old" => "HTTP/1.0 200 OK\r\n\r\nok",
                "/close" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
                "/Empty" => "HTTP/1.1 200 OK\r\n\r\n",
                "/chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                "/trailers" => {
                    "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
                }
                "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "/zero" => "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 204 No Content\r\n\r\n",
            };
            connection.say(answer);
            if matches!(path.as_str(), "/old" | "/close" | "/Empty" | "/zero") {
                return;
            }
        }
    });
    let mut manager = http(to("a"));
    manager["http_protocol_options"] = json!({ "accept_http_10": true });
    let near = Proxy::start(http_listener(manager.clone()), &[cluster("a", &[host.address])]);
    let mut hop = cluster("a", &[near.address]);
    hop["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({ "filter_metadata": { "filamesh": { "hop": "h2" } } });
    let front = Proxy::start(http_listener(manager), &[hop]);
    for path in ["/old", "/close", "/Empty", "/chunk", "/trailers", "/length", "/zero", "/204"] {
        for version in ["1.1", "1.0"] {
            for method in ["GET", "HEAD"] {
                if method == "HEAD" && path != "/length" {
                    continue;
                }
                let ask = format!("{method} {path} HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n");
                let framing = |text: &str| {
                    let (head, body) = text.split_once("\r\n\r\n").unwrap();
                    let lines = head.lines().map(str::to_ascii_lowercase);
                    let mut lines: Vec<String> = lines
                        .filter(|line| {
                            ["transfer-encoding", "content-length", "connection"]
                                .iter()
                                .any(|name| line.starts_with(name))
                        })
                        .collect();
                    lines.sort();
                    (lines, body.to_ascii_lowercase())
                };
                let (one, two) = (raw(&near, &ask).0, raw(&front, &ask).0);
                assert_eq!(framing(&two), framing(&one), "{ask}: {two}");
                let said = two.to_ascii_lowercase().matches("transfer-encoding").count();
                assert!(said <= 1, "{two}");
                let body = two.split_once("\r\n\r\n").unwrap().1;
                if version == "1.1" && matches!(path, "/old" | "/close" | "/chunk") {
                    assert_eq!((said, body), (1, "2\r\nok\r\n0\r\n\r\n"), "{two}");
                }
            }
        }
    }
    assert!(near.count("envoy_http_downstream_rq_http2_total", &[]) > 0, "the hop was not taken");
}
