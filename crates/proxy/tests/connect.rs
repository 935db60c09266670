//! CONNECT, forwarded and ended here, and upgrades by route, for every pair of protocols. Sources: RFC 9110 §9.3.6,
//! RFC 9113 §8.5, RFC 8441, Envoy's `RouteMatch.ConnectMatcher` and `RouteAction.UpgradeConfig` (what is expected was
//! seen at Envoy 1.40), bad inputs U-01, U-02, U-04 and U-05.
mod common;
mod h2client;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::*;
use h2client::H2Client;
use serde_json::{Value, json};

/// A proxy that takes CONNECT: tells what it got before it granted, then gives all back.
fn granting(status: &'static str) -> Host {
    Host::start(move |connection| {
        let Some(_) = connection.request() else { return };
        // That nothing comes can only be waited for.
        connection.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let mut chunk = [0; 64];
        let early = connection.buffer.len() + connection.stream.read(&mut chunk).unwrap_or(0);
        connection.stream.set_read_timeout(None).unwrap();
        connection.say(&format!("HTTP/1.1 {status}\r\nx-early: {early}\r\n\r\n"));
        echo(connection);
    })
}

fn echo(connection: &mut Served) {
    loop {
        let bytes = connection.read_some();
        if bytes.is_empty() || connection.stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn connect_to(cluster: &str, upgrades: Value) -> Value {
    json!([
        { "match": { "connect_matcher": {} }, "route": { "cluster": cluster, "upgrade_configs": upgrades } },
        { "match": { "prefix": "/" }, "route": { "cluster": cluster } },
    ])
}

fn forwarded() -> Value {
    json!([{ "upgrade_type": "CONNECT" }])
}

fn ended() -> Value {
    json!([{ "upgrade_type": "CONNECT", "connect_config": {} }])
}

fn http2(mut cluster: Value) -> Value {
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": { "allow_connect": true } } })) });
    cluster
}

fn manager(routes: Value) -> Value {
    let mut manager = http(routes);
    manager["http2_protocol_options"] = json!({ "allow_connect": true });
    manager
}

/// A proxy in front of this one, that speaks HTTP/2 to it.
fn over_http2(to: SocketAddr, upgrades: Value) -> Proxy {
    Proxy::start(http_listener(manager(connect_to("next", upgrades))), &[http2(cluster("next", &[to]))])
}

/// A tunnel by HTTP/1: what is said at once and later comes back.
fn through_http1(name: &str, door: SocketAddr) {
    let mut client = Client::connect(door);
    client.say("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nearly ");
    let head = read_head(&mut client.stream, &mut client.buffer).expect(name);
    assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
    assert_eq!(header(&head, "x-early").unwrap_or("0"), "0", "{name}");
    for none in ["transfer-encoding", "content-length", "connection", "x-envoy-upstream-service-time"] {
        assert_eq!(header(&head, none), None, "{name}: {head}");
    }
    client.say("late");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(String::from_utf8(client.rest()).unwrap(), "early late", "{name}");
}

/// The same by HTTP/2.
fn through_http2(name: &str, door: SocketAddr) {
    let mut client = H2Client::connect(door);
    let stream = client.open("CONNECT", "b:1", "", false);
    client.send(stream, b"early ", false);
    let said = client.until(stream, |said| said.status != 0);
    assert_eq!(said.status, 200, "{name}");
    assert_eq!(said.header("x-early").unwrap_or("0"), "0", "{name}");
    client.send(stream, b"late", true);
    let said = client.answer(stream);
    assert_eq!((said.body.as_slice(), said.reset), (&b"early late"[..], false), "{name}");
}

#[test]
fn a_connect_becomes_a_tunnel_and_nothing_goes_through_before() {
    for (kind, upgrades) in [("forwarded", forwarded()), ("ended here", ended())] {
        let host = if kind == "forwarded" { granting("200 OK") } else { Host::start(echo) };
        let near = Proxy::start(
            http_listener(manager(connect_to("up", upgrades))),
            &[cluster("up", &[host.address])],
        );
        let far = over_http2(near.address, forwarded());
        through_http1(&format!("{kind}, HTTP/1"), near.address);
        through_http2(&format!("{kind}, HTTP/2"), near.address);
        through_http1(&format!("{kind}, HTTP/1 to HTTP/2"), far.address);
        through_http2(&format!("{kind}, HTTP/2 to HTTP/2"), far.address);
        assert_eq!(host.connections.load(SeqCst), 4, "{kind}: a connection for each");
        if kind == "forwarded" {
            let seen = host.last_request();
            assert!(seen.starts_with("CONNECT b:1 HTTP/1.1\r\n"), "{seen}");
            assert_eq!(header(&seen, "host"), Some("b:1"));
        }
    }
}

/// Envoy CVE-2025-64763: what follows a CONNECT that is not granted is nobody's request.
#[test]
fn what_follows_a_connect_that_is_not_granted_goes_nowhere() {
    let host = granting("403 Forbidden\r\ncontent-length: 0\r\nconnection: close");
    let proxy = Proxy::start(
        http_listener(manager(connect_to("up", forwarded()))),
        &[cluster("up", &[host.address])],
    );
    let mut client = proxy.client();
    client.say("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = String::from_utf8(client.rest()).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("x-early: 0"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert_eq!(host.requests.lock().unwrap().len(), 1);
    let mut client = H2Client::connect(proxy.address);
    let stream = client.open("CONNECT", "b:1", "", false);
    client.send(stream, b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", false);
    let said = client.answer(stream);
    assert_eq!((said.status, said.header("x-early")), (403, Some("0")));
    assert_eq!(host.requests.lock().unwrap().len(), 2);
}

#[test]
fn a_connect_that_can_not_be_ended_here_is_not_granted() {
    let routes = connect_to("up", ended());
    let proxy = Proxy::start(http_listener(manager(routes)), &[cluster("up", &[nobody()])]);
    let mut client = proxy.client();
    let answer = client.ask("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nearly");
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    let mut client = H2Client::connect(proxy.address);
    let stream = client.open("CONNECT", "b:1", "", false);
    assert_eq!(client.answer(stream).status, 503);
}

/// A host's end, and a client's, of a tunnel that ends here.
#[test]
fn a_tunnel_ends_as_its_sides_do() {
    let host = Host::start(|connection| {
        // A server that speaks first, and has the last word.
        connection.say("hello ");
        let said = connection.read_some();
        connection.stream.write_all(&said).unwrap();
        assert!(connection.read_some().is_empty(), "the client's end comes through");
        connection.say(" bye");
    });
    let proxy =
        Proxy::start(http_listener(manager(connect_to("up", ended()))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nping");
    read_head(&mut client.stream, &mut client.buffer).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(String::from_utf8(client.rest()).unwrap(), "hello ping bye");
    let mut client = H2Client::connect(proxy.address);
    let stream = client.open("CONNECT", "b:1", "", false);
    client.send(stream, b"ping", true);
    let said = client.answer(stream);
    assert_eq!((said.body.as_slice(), said.reset), (&b"hello ping bye"[..], false));
    // An end together with the head.
    let stream = client.open("CONNECT", "b:1", "", true);
    let said = client.answer(stream);
    assert_eq!((said.status, said.body.as_slice()), (200, &b"hello  bye"[..]));
}

/// The words of connection manager and route, and what there is no route for.
#[test]
fn upgrades_are_taken_where_the_route_says_so() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            if let Some(protocol) = header(&head, "upgrade") {
                // A WebSocket that came by HTTP/2 has been given a key, and wants the proof.
                let proof = header(&head, "sec-websocket-key").map_or_else(String::new, |key| {
                    let proof = wire::websocket::accept(key.as_bytes());
                    format!("sec-websocket-accept: {}\r\n", str::from_utf8(&proof).unwrap())
                });
                connection.say(&format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n{proof}\r\n"
                ));
                return echo(connection);
            }
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let upgrades = |prefix: &str, upgrades: Value| json!({ "match": { "prefix": prefix }, "route": { "cluster": "up", "upgrade_configs": upgrades } });
    let routes = json!([
        upgrades("/off", json!([{ "upgrade_type": "websocket", "enabled": false }])),
        upgrades("/chat", json!([{ "upgrade_type": "chat" }])),
        { "match": { "prefix": "/direct" }, "direct_response": { "status": 200 } },
        { "match": { "prefix": "/plain" }, "route": { "cluster": "up" } },
        // A match for CONNECT does not switch it on.
        { "match": { "connect_matcher": {} }, "route": { "cluster": "up" } },
    ]);
    let proxy = Proxy::start(http_listener(manager(routes)), &[cluster("up", &[host.address])]);
    let cases = [
        ("/plain", "websocket", 101),
        ("/plain", "WebSocket", 101),
        ("/plain", "chat", 403),
        ("/off", "websocket", 403),
        ("/chat", "chat", 101),
        ("/chat", "websocket", 101),
        ("/direct", "websocket", 200),
        ("/direct", "chat", 403),
        ("/nowhere", "websocket", 404),
        ("/nowhere", "chat", 404),
    ];
    let mut refused = 0;
    for (path, protocol, status) in cases {
        let before = host.requests.lock().unwrap().len();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n");
        let mut client = proxy.client();
        client.say(&request);
        let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {protocol}: {head}");
        if status == 403 {
            refused += 1;
            assert_eq!(header(&head, "connection"), Some("close"), "{path} {protocol}");
            assert_eq!(host.requests.lock().unwrap().len(), before, "{path} {protocol}: forwarded");
        }
        // The same by an extended CONNECT, whose 200 the client's codec tells as 101.
        let mut client = H2Client::connect(proxy.address);
        let stream = client.upgrade(&request);
        let said = client.until(stream, |said| said.status != 0);
        // RFC 8441 §5: a 2xx would grant the tunnel, which nobody did.
        let status = if status == 200 { 502 } else { status };
        assert_eq!(said.status, status, "{path} {protocol} by HTTP/2");
        if status == 101 {
            client.send(stream, b"ping", true);
            assert_eq!(client.answer(stream).body, b"ping", "{path} {protocol} by HTTP/2");
        }
    }
    assert_eq!(proxy.count("envoy_http_downstream_rq_ws_on_non_ws_route", &[]), 2 * refused);
    let answer = proxy.client().ask("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
}

/// RFC 9113 §8.5 (bad inputs U-05): a CONNECT has neither `:scheme` nor `:path`, and needs a route of its own.
#[test]
fn a_connect_without_a_route_is_answered_404() {
    let host = Host::saying("never");
    let proxy = Proxy::start(http_listener(manager(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = H2Client::connect(proxy.address);
    let stream = client.open("CONNECT", "b:1", "", false);
    assert_eq!(client.answer(stream).status, 404);
    let answer = proxy.client().ask("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    assert_eq!(host.connections.load(SeqCst), 0);
}

/// The limits of streams hold for tunnels too.
#[test]
fn a_tunnel_lasts_no_longer_than_its_stream_may() {
    let host = Host::start(echo);
    let mut routes = connect_to("up", ended());
    routes[0]["route"]["max_stream_duration"] = json!({ "max_stream_duration": "0.3s" });
    let mut with = manager(routes);
    // A tunnel's request never ends: this is not for it.
    with["request_timeout"] = "0.05s".into();
    let proxy = Proxy::start(http_listener(with), &[cluster("up", &[host.address])]);
    let began = std::time::Instant::now();
    let mut client = proxy.client();
    client.say("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nping");
    read_head(&mut client.stream, &mut client.buffer).unwrap();
    assert_eq!(client.rest(), b"ping");
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
}
