//! WebSockets between HTTP/1 and HTTP/2, towards peers that know nothing of us and between two of our proxies.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use wire::h2::{Config, ErrorCode, OpenError, Stream};

use crate::common::{Client, PATIENCE, Proxy, cluster, eventually, header, http_listener, read_head, to};
use crate::peer::{Peer, Seen};
use crate::rig::{Rig, host, manager, start};

const MIB: usize = 1024 * 1024;
/// RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// As browsers ask by HTTP/1; without the key, what becomes an extended CONNECT.
fn handshake(key: bool) -> String {
    let key = if key { format!("Sec-WebSocket-Key: {KEY}\r\n") } else { String::new() };
    format!(
        "GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// One end of a tunnel, whatever it speaks.
trait End {
    fn send(&mut self, bytes: &[u8]);
    fn finish(&mut self);
    /// So many bytes; fewer only at the end of the other direction.
    fn receive(&mut self, length: usize) -> Vec<u8>;
    /// Nothing more comes.
    fn ended(&mut self) -> bool;
}

impl End for Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut got = std::mem::take(&mut self.buffer);
        let mut chunk = vec![0; 64 * 1024];
        while got.len() < length {
            match self.stream.read(&mut chunk) {
                Ok(0) => return got,
                Ok(read) => got.extend_from_slice(&chunk[..read]),
                Err(error) => panic!("{error} after {} bytes", got.len()),
            }
        }
        self.buffer = got.split_off(length);
        got
    }

    fn ended(&mut self) -> bool {
        assert!(self.buffer.is_empty());
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

struct Tunnel<'p>(&'p mut Peer, Stream);

impl End for Tunnel<'_> {
    fn send(&mut self, bytes: &[u8]) {
        self.0.data(self.1, bytes, false);
        let mut rounds = 0;
        while self.0.codec.send_state(self.1).is_some_and(|state| state.queued > 0) {
            self.0.poll(Duration::from_millis(10));
            rounds += 1;
            assert!(rounds < 1000, "the other end does not read");
        }
    }

    fn finish(&mut self) {
        self.0.data(self.1, b"", true);
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        self.0.body_exactly(self.1, length)
    }

    fn ended(&mut self) -> bool {
        match self.0.next_of(self.1) {
            Seen::Data { bytes, end, .. } => bytes.is_empty() && end,
            other => panic!("{other:?}"),
        }
    }
}

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

/// A mebibyte each way at once, and half a second's worth of small ones; then each direction ends by itself.
fn play(client: &mut impl End, app: &mut (impl End + Send), client_first: bool) {
    for round in 0..10u8 {
        client.send(&[round; 5]);
        assert_eq!(app.receive(5), [round; 5]);
        app.send(&[round; 7]);
        assert_eq!(client.receive(7), [round; 7]);
    }
    let (ping, pong) = (pattern(1, MIB), pattern(2, MIB));
    std::thread::scope(|scope| {
        let (ping, pong) = (&ping, &pong);
        let app = &mut *app;
        scope.spawn(move || {
            assert!(app.receive(MIB) == *ping);
            app.send(pong);
        });
        client.send(ping);
        assert!(client.receive(MIB) == *pong);
    });
    // The direction that is left carries on, and all of it arrives.
    if client_first {
        client.finish();
        assert!(app.ended());
        std::thread::scope(|scope| {
            let pong = &pong;
            scope.spawn(|| {
                app.send(pong);
                app.finish();
            });
            assert!(client.receive(MIB) == *pong);
        });
        assert!(client.ended());
    } else {
        app.finish();
        assert!(client.ended());
        std::thread::scope(|scope| {
            let ping = &ping;
            let app = &mut *app;
            scope.spawn(move || {
                assert!(app.receive(MIB) == *ping);
                assert!(app.ended());
            });
            client.send(ping);
            client.finish();
        });
    }
}

/// An application that speaks WebSocket over HTTP/1, strictly: with the key that it demands.
fn accept_http1(listener: &TcpListener) -> (Client, String) {
    listener.set_nonblocking(true).unwrap();
    let mut socket: Option<TcpStream> = None;
    eventually("a connection to the application", || {
        socket = listener.accept().ok().map(|(socket, _)| socket);
        socket.is_some()
    });
    let mut stream = socket.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![];
    let head = read_head(&mut stream, &mut buffer).unwrap();
    (Client { stream, buffer }, head)
}

fn grant_http1(app: &mut Client, head: &str) {
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(head, "upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(header(head, "connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(header(head, "sec-websocket-version"), Some("13"));
    let accept = wire::websocket::accept(header(head, "sec-websocket-key").expect("a key").as_bytes());
    app.say(&format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        str::from_utf8(&accept).unwrap()
    ));
}

fn ask_http1(client: &mut Client) {
    client.say(&handshake(true));
    let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept"), Some(ACCEPT), "{head}");
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("chat"));
    assert_eq!(header(&head, "upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
}

/// The proxy's SETTINGS have to come before it may be asked.
fn upgrade(client: &mut Peer) -> Stream {
    loop {
        match client.try_open(&handshake(false), false) {
            Ok(stream) => return stream,
            Err(OpenError::NoExtendedConnect) => client.poll(Duration::from_millis(10)),
            Err(other) => panic!("{other}"),
        }
    }
}

fn granted(client: &mut Peer, asked: Stream) {
    let answer = client.next_of(asked);
    // Seen as the 101 that the 200 stands for.
    assert!(matches!(answer, Seen::Response { status: 101, end: false, .. }), "{answer:?}");
    assert_eq!(answer.field("sec-websocket-protocol"), Some("chat"));
    assert_eq!(answer.field("sec-websocket-accept"), None, "RFC 8441 §5 has none");
}

fn before_http1(address: SocketAddr) -> Proxy {
    start(http_listener(manager(to("app"))), &[cluster("app", &[address])])
}

#[test]
fn from_http2_to_an_http1_application() {
    let (listener, address) = host();
    let proxy = before_http1(address);
    let mut client = Peer::connect(proxy.address);
    for client_first in [true, false] {
        let asked = upgrade(&mut client);
        let (mut app, head) = accept_http1(&listener);
        grant_http1(&mut app, &head);
        granted(&mut client, asked);
        play(&mut Tunnel(&mut client, asked), &mut app, client_first);
    }
    eventually("all is over", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
}

#[test]
fn an_application_that_proves_nothing_or_declines() {
    let (listener, address) = host();
    let proxy = before_http1(address);
    let mut client = Peer::connect(proxy.address);
    for (answer, status) in [
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned(), 502),
        (
            format!(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            ),
            502,
        ),
        ("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n".to_owned(), 403),
        // A client of HTTP/2 would take it for a tunnel.
        ("HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n".to_owned(), 502),
    ] {
        let asked = upgrade(&mut client);
        let (mut app, _) = accept_http1(&listener);
        app.say(&answer);
        let seen = client.answer(asked);
        assert_eq!(seen.status, status, "{answer}");
        drop(app);
    }
}

#[test]
fn from_http1_to_an_http2_host() {
    for with_proof in [false, true] {
        let rig = Rig::new();
        let mut kept: Option<Peer> = None;
        for client_first in [true, false] {
            let mut client = rig.proxy.client();
            client.say(&handshake(true));
            let host = kept.get_or_insert_with(|| rig.host());
            let request = host.request();
            let stream = request.stream();
            assert_eq!(request.field("sec-websocket-protocol"), Some("chat"));
            assert_eq!(request.field("upgrade"), Some("websocket"));
            let proof =
                if with_proof { format!("sec-websocket-accept: {ACCEPT}\r\n") } else { String::new() };
            host.respond(stream, 101, &format!("{proof}sec-websocket-protocol: chat\r\n"), false);
            let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert_eq!(header(&head, "sec-websocket-accept"), Some(ACCEPT), "{head}");
            assert_eq!(head.to_lowercase().matches("sec-websocket-accept").count(), 1);
            play(&mut client, &mut Tunnel(host, stream), client_first);
        }
        eventually("all is over", || rig.proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    }
}

#[test]
fn a_host_that_takes_no_extended_connect() {
    let rig = Rig::new();
    let mut client = rig.proxy.client();
    client.say(&handshake(true));
    let mut host = rig.host_with(Config { extended_connect: false, ..Config::default() });
    host.poll(Duration::from_millis(10));
    let answer = client.answer();
    assert_eq!(answer.status, 503, "{answer:?}");
    // Known by now: no second one waits.
    let mut client = rig.proxy.client();
    assert_eq!(client.ask(&handshake(true)).status, 503);
    // And what it takes it is sent.
    let mut client = rig.proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let stream = host.request().stream();
    host.respond(stream, 204, "", true);
    assert_eq!(client.answer().status, 204);
}

/// Nothing is sent before the host has said what it takes, and giving up meanwhile harms nobody.
#[test]
fn waits_for_the_settings_of_the_host() {
    let (listener, address) = host();
    let proxy = start(http_listener(manager(to("app"))), &[crate::rig::http2_cluster("app", &[address])]);
    let (mut gone, mut staying) = (proxy.client(), proxy.client());
    gone.say(&handshake(true));
    staying.say(&handshake(true));
    listener.set_nonblocking(false).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The preface and SETTINGS of the proxy; no HEADERS follow them.
    let mut seen = vec![];
    let mut chunk = [0; 4096];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => panic!("closed"),
            Ok(length) => seen.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let frames = &seen[wire::h2::PREFACE.len()..];
    assert!(!kinds(frames).contains(&1), "no HEADERS: {:?}", kinds(frames));
    drop(gone);
    eventually("one is given up", || proxy.count("envoy_http_downstream_rq_active", &[]) == 1);
    let mut host = Peer::serve(socket, &seen, Config::default());
    let stream = host.request().stream();
    host.respond(stream, 101, "sec-websocket-protocol: chat\r\n", false);
    let head = read_head(&mut staying.stream, &mut staying.buffer).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    play(&mut staying, &mut Tunnel(&mut host, stream), true);
    // The one that gave up was never sent.
    let mut client = proxy.client();
    client.say("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let next = host.request();
    assert!(next.head().starts_with("GET /\n"), "{next:?}");
}

#[test]
fn a_host_that_ends_before_its_settings() {
    let (listener, address) = host();
    let proxy = start(http_listener(manager(to("app"))), &[crate::rig::http2_cluster("app", &[address])]);
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.say(&handshake(true));
    }
    // Some may be tried once more on another connection, which ends the same way.
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.read_exact(&mut [0; 24]);
        }
    });
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!(answer.status, 503, "{answer:?}");
    }
}

fn kinds(mut frames: &[u8]) -> Vec<u8> {
    let mut kinds = vec![];
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        kinds.push(head[3]);
        frames = &rest[length..];
    }
    kinds
}

/// A tunnel that breaks is not taken for one that has ended.
#[test]
fn a_broken_tunnel() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = upgrade(&mut client);
    let mut host = rig.host();
    let stream = host.request().stream();
    host.respond(stream, 101, "sec-websocket-protocol: chat\r\n", false);
    granted(&mut client, asked);
    host.reset(stream, ErrorCode::INTERNAL_ERROR);
    assert!(matches!(client.next_of(asked), Seen::Reset { .. }));
    let asked = upgrade(&mut client);
    let stream = host.request().stream();
    host.respond(stream, 101, "sec-websocket-protocol: chat\r\n", false);
    granted(&mut client, asked);
    client.reset(asked, ErrorCode::CANCEL);
    assert_eq!(host.next_of(stream), Seen::Reset { stream, code: ErrorCode::CANCEL });
}

/// Two of our proxies with the multiplexed hop between them.
fn two_hops(app: SocketAddr) -> (Proxy, Proxy) {
    let mut inbound = http_listener(manager(to("app")));
    inbound["traffic_direction"] = "INBOUND".into();
    // As the control plane writes a sidecar's: without a word about extended CONNECT.
    let filter = &mut inbound["filter_chains"][0]["filters"][0]["typed_config"];
    filter.as_object_mut().unwrap().remove("http2_protocol_options");
    let second = start(inbound, &[cluster("app", &[app])]);
    let mut next = cluster("next", &[second.address]);
    next["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({ "filter_metadata": { "filamesh": { "hop": "h2" } } });
    let first = start(http_listener(manager(to("next"))), &[Value::clone(&next)]);
    (first, second)
}

#[test]
fn through_two_of_our_proxies() {
    let (listener, address) = host();
    let (first, second) = two_hops(address);
    for client_first in [true, false] {
        let mut client = first.client();
        client.say(&handshake(true));
        let (mut app, head) = accept_http1(&listener);
        // Restored exactly, case and all.
        assert!(head.contains(&format!("\r\nSec-WebSocket-Key: {KEY}\r\n")), "{head}");
        grant_http1(&mut app, &head);
        let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(header(&head, "Sec-WebSocket-Accept"), Some(ACCEPT));
        play(&mut client, &mut app, client_first);
    }
    let mut client = Peer::connect(first.address);
    for client_first in [true, false] {
        let asked = upgrade(&mut client);
        let (mut app, head) = accept_http1(&listener);
        grant_http1(&mut app, &head);
        granted(&mut client, asked);
        play(&mut Tunnel(&mut client, asked), &mut app, client_first);
    }
    assert_eq!(second.count("envoy_http_downstream_cx_http2_total", &[]), 1, "one connection carried all");
    eventually("all is over", || second.count("envoy_http_downstream_rq_active", &[]) == 0);
}

#[test]
fn an_ordinary_handshake_stays_as_it_is() {
    let (listener, address) = host();
    let proxy = before_http1(address);
    let mut client = proxy.client();
    let asking = std::thread::spawn(move || {
        ask_http1(&mut client);
        client
    });
    let (mut app, head) = accept_http1(&listener);
    grant_http1(&mut app, &head);
    let mut client = asking.join().unwrap();
    play(&mut client, &mut app, true);
}
