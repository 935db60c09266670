//! Clients that ask and do not read, or stay and do not ask: what they cost.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::cost::{alone, resident, sleeps};
use common::*;
use proxy::ProxyOptions;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// Writes `piece` after `piece` until the other side takes no more for a while, or `most` bytes are gone; how many are.
fn push(stream: &mut TcpStream, mut piece: impl FnMut() -> Vec<u8>, most: usize) -> (usize, Vec<u8>) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < most {
        let bytes = piece();
        let mut at = 0;
        while at < bytes.len() {
            match stream.write(&bytes[at..]) {
                Ok(length) => at += length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return (sent + at, bytes[at..].to_vec());
                }
                // Sent away.
                Err(_) => return (sent + at, vec![]),
            }
        }
        sent += bytes.len();
    }
    (sent, vec![])
}

/// A client whose kernel takes little for it: what answers wait in is full soon.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What makes answers long, so that few of them fill the buffers of the kernel.
fn long() -> String {
    "z".repeat(2000)
}

/// A host that answers at once and keeps nothing: it lives in the process whose memory is measured.
fn forgetful(answer: String) -> Host {
    Host::start(move |connection| {
        while read_head(&mut connection.stream, &mut connection.buffer).is_some() && connection.say(&answer) {
        }
    })
}

/// Everything at one address: direct answers, redirects, and a host.
fn proxy(host: SocketAddr) -> Proxy {
    let routes = json!([
        { "match": { "prefix": "/direct" },
          "direct_response": { "status": 200, "body": { "inline_string": "x".repeat(2000) } } },
        { "match": { "prefix": "/redirect" }, "redirect": { "path_redirect": format!("/{}", long()) } },
        { "match": { "prefix": "/host" }, "route": { "cluster": "a" } } ]);
    // Who holds more than this answers 503 and counts it.
    let options = ProxyOptions { memory_budget: Some(4 * MIB), ..ProxyOptions::default() };
    Proxy::with(http_listener(http(routes)), &[cluster("a", &[host])], options)
}

/// C2, HTTP/1: whatever answers a request, no request is begun while more than the high-water mark waits for the client; and
/// once the client reads, all is answered.
#[test]
fn an_http1_client_that_pipelines_and_does_not_read_is_not_read() {
    let _alone = alone();
    let host = forgetful(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-long: {}\r\n\r\nok", long()));
    let proxy = proxy(host.address);
    for path in ["/direct", "/redirect", "/host"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1000));
        let piece = request.repeat(65536 / request.len());
        let before = resident();
        let mut client = narrow(proxy.address);
        let (sent, rest) = push(&mut client, || piece.clone().into_bytes(), 100 * MIB);
        let grown = resident().saturating_sub(before);
        println!("{path}: {sent} bytes taken of 100 MiB, {} KiB more resident", grown / 1024);
        assert!(grown < 4 * MIB, "{path}: {grown} bytes more resident, {sent} bytes sent");
        // It reads: what was sent is answered, to the last. Read by another, so that the rest of the request can be written.
        let mut reader = client.try_clone().unwrap();
        let whole = sent + rest.len();
        client.set_write_timeout(None).unwrap();
        let writer = std::thread::spawn(move || client.write_all(&rest).map(|()| client));
        let expected = whole / request.len();
        let (mut answers, mut text, mut chunk) = (0, vec![], vec![0; 65536]);
        while answers < expected {
            let length = reader.read(&mut chunk).expect("an answer");
            assert!(length > 0, "{path}: ended after {answers} of {expected} answers");
            text.extend_from_slice(&chunk[..length]);
            answers += beginnings(&text);
            let keep = text.len().saturating_sub(8);
            text.drain(..keep);
        }
        assert_eq!(answers, expected, "{path}");
        writer.join().unwrap().unwrap();
    }
}

/// Beginnings of answers, but for those that begin in the last eight bytes.
fn beginnings(text: &[u8]) -> usize {
    memchr::memmem::find_iter(text, b"HTTP/1.1 ").count()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GET for a path, as literals that touch no table.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend([0x41, 1, b'a']);
    frame(1, 5, stream, &block)
}

/// The same with as much padding as there can be: what the kernel keeps of requests is few of them.
fn padded(headers: &[u8]) -> Vec<u8> {
    let (head, block) = headers.split_at(9);
    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
    frame(1, head[4] | 8, stream, &[&[255], block, &[0; 255]].concat())
}

/// Frames as they come: how many of each kind, and how many streams ended.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    kinds: HashMap<u8, usize>,
    ended: usize,
}

impl Frames {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(head) = self.bytes.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if self.bytes.len() < at + 9 + length {
                break;
            }
            *self.kinds.entry(head[3]).or_default() += 1;
            self.ended += usize::from(head[3] <= 1 && head[4] & 1 == 1);
            at += 9 + length;
        }
        self.bytes.drain(..at);
    }

    fn of(&self, kind: u8) -> usize {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

/// C2, HTTP/2: answers without a body end their streams at once, so that no limit on streams counts them.
#[test]
fn an_http2_client_that_asks_and_does_not_read_is_not_read() {
    let _alone = alone();
    let host = forgetful(format!("HTTP/1.1 204 No Content\r\nx-long: {}\r\n\r\n", long()));
    let proxy = proxy(host.address);
    for path in ["/redirect", "/direct", "/host"] {
        let before = resident();
        let mut stream = narrow(proxy.address);
        // A connection window and stream windows as wide as can be: small bodies are not held back by them. No table, so that
        // each answer is spelt out.
        let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0]);
        let wide = frame(8, 0, 0, &0x7fff_0000u32.to_be_bytes());
        stream.write_all(&[PREFACE, &settings, &frame(4, 1, 0, &[]), &wide].concat()).unwrap();
        let mut id = 1;
        let mut asked = 0;
        let more = || {
            (0..1000)
                .flat_map(|_| {
                    asked += 1;
                    id += 2;
                    padded(&get(id - 2, &format!("{path}?{}", "y".repeat(100))))
                })
                .collect()
        };
        let (sent, rest) = push(&mut stream, more, 20 * MIB);
        let grown = resident().saturating_sub(before);
        println!("{path}: {sent} bytes taken, {} KiB more resident", grown / 1024);
        let overloaded = proxy.count("envoy_http_downstream_rq_overload_close", &[]);
        assert_eq!(overloaded, 0, "{path}: requests met a spent budget");
        // The host's threads are in this process too, up to one for each stream that is open.
        assert!(path == "/host" || grown < 4 * MIB, "{path}: {grown} bytes more resident, {sent} bytes sent");
        let mut reader = stream.try_clone().unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(None).unwrap();
        let writer = std::thread::spawn(move || stream.write_all(&rest).map(|()| stream));
        let (mut frames, mut chunk) = (Frames::default(), vec![0; 65536]);
        let may_be_sent_away = matches!(path, "/direct" | "/host");
        // Some may have been refused for their number; none is forgotten.
        while frames.ended + frames.of(3) < asked {
            let length = reader.read(&mut chunk);
            // Bodies, and hosts that take their time, keep streams open: who opens ever more of them is sent away.
            if may_be_sent_away && !matches!(length, Ok(1..)) {
                break;
            }
            let length = length.expect("an answer");
            assert!(length > 0, "{path}: ended after {} of {asked}", frames.ended);
            frames.take(&chunk[..length]);
            if may_be_sent_away && frames.of(7) > 0 {
                break;
            }
            assert_eq!(frames.of(7), 0, "{path}: GOAWAY after {} of {asked}", frames.ended);
        }
        drop(reader);
        let written = writer.join().unwrap();
        assert!(written.is_ok() || may_be_sent_away, "{path}: {written:?}");
    }
}

fn with(mut manager: Value, key: &str, value: Value) -> Value {
    manager[key] = value;
    manager
}

/// C3: answers that are complete here and whose client opens no window are reset after the stream's idle time (Envoy:
/// `stream_flush_timeout`, which is `stream_idle_timeout` where it is not set).
#[test]
fn finished_answers_nobody_takes_are_reset_after_the_streams_idle_time() {
    let _alone = alone();
    let body = "x".repeat(32 * 1024);
    let host = Host::answering(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let manager = with(http(to("a")), "stream_idle_timeout", json!("2s"));
    let proxy = Proxy::start(http_listener(manager), &[cluster("a", &[host.address])]);
    const STREAMS: usize = 1000;
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    stream.write_all(&[PREFACE, &settings, &frame(4, 1, 0, &[])].concat()).unwrap();
    let asks: Vec<u8> = (0..STREAMS as u32).flat_map(|number| get(2 * number + 1, "/")).collect();
    let before = resident();
    stream.write_all(&asks).unwrap();
    let (mut frames, mut chunk) = (Frames::default(), vec![0; 65536]);
    let mut most = 0;
    while frames.of(3) < STREAMS {
        let length = stream.read(&mut chunk).expect("a reset");
        assert!(length > 0, "ended after {} resets", frames.of(3));
        frames.take(&chunk[..length]);
        most = most.max(resident().saturating_sub(before));
    }
    assert_eq!((frames.of(1), frames.of(0)), (STREAMS, 0), "heads and bodies");
    assert_eq!(proxy.count("envoy_http_downstream_rq_tx_reset", &[]), STREAMS as u64);
    eventually("no request is under way", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    // The connection goes on, and is idle in the end.
    println!("{} MiB held at most", most / MIB);
    stream.write_all(&frame(6, 0, 0, b"12345678")).unwrap();
    while frames.of(6) == 0 {
        let length = stream.read(&mut chunk).expect("a pong");
        frames.take(&chunk[..length]);
    }
}

/// A client of HTTP/2 that has asked once and been answered.
fn idle_client(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begin = [PREFACE, &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[]), &get(1, "/none")].concat();
    stream.write_all(&begin).unwrap();
    let (mut frames, mut chunk) = (Frames::default(), vec![0; 4096]);
    while frames.ended == 0 {
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0);
        frames.take(&chunk[..length]);
    }
    stream
}

/// C7: an idle HTTP/2 connection is closed after its idle time, wherever its memory was given back in between.
#[test]
fn idle_http2_connections_are_closed_after_the_idle_time() {
    let _alone = alone();
    let manager = with(http(json!([])), "common_http_protocol_options", json!({ "idle_timeout": "3s" }));
    let proxy = Proxy::start(http_listener(manager), &[]);
    let mut clients: Vec<_> = (0..50).map(|_| idle_client(proxy.address)).collect();
    let began = Instant::now();
    for client in &mut clients {
        let mut frames = Frames::default();
        let mut chunk = vec![0; 4096];
        while let Ok(length @ 1..) = client.read(&mut chunk) {
            frames.take(&chunk[..length]);
        }
        assert_eq!(frames.of(7), 1, "one GOAWAY");
    }
    println!("closed after {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(2));
    eventually("all are gone", || proxy.count("envoy_http_downstream_cx_active", &[]) == 0);
    assert_eq!(proxy.count("envoy_http_downstream_cx_idle_timeout", &[]), 50);
}

/// C7: connections without streams cause no wake-ups of their own; what is left is the timer wheel's tick.
#[test]
fn idle_http2_connections_wake_nobody() {
    let _alone = alone();
    let proxy = Proxy::with(
        http_listener(http(json!([]))),
        &[],
        ProxyOptions { workers: 1, ..ProxyOptions::default() },
    );
    let clients: Vec<_> = (0..300).map(|_| idle_client(proxy.address)).collect();
    // Their memory is given back after two seconds.
    std::thread::sleep(Duration::from_millis(3500));
    let before = sleeps();
    std::thread::sleep(Duration::from_secs(4));
    let woken = sleeps() - before;
    println!("{woken} wake-ups in 4 s with {} idle connections", clients.len());
    assert!(woken <= 12, "{woken} wake-ups in 4 s");
}

/// C8: what is too old is told so once, over HTTP/2 with a stream that stays, and over HTTP/1 with a head that does.
#[test]
fn a_connection_reaches_its_longest_duration_once() {
    let _alone = alone();
    let host = Host::start(|connection| {
        connection.request();
        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
        connection.read_some();
    });
    let options = json!({ "max_connection_duration": "0.5s" });
    let manager = with(http(to("a")), "common_http_protocol_options", options);
    let proxy = Proxy::with(
        http_listener(manager),
        &[cluster("a", &[host.address])],
        ProxyOptions { workers: 1, ..ProxyOptions::default() },
    );
    let mut long = TcpStream::connect(proxy.address).unwrap();
    long.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[]), &get(1, "/")].concat()).unwrap();
    let mut half = TcpStream::connect(proxy.address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nho").unwrap();
    let mut kept = proxy.client();
    let reached = || proxy.count("envoy_http_downstream_cx_max_duration_reached", &[]);
    eventually("two are too old, the idle third too", || reached() == 3);
    assert_eq!(kept.rest(), b"");
    let before = sleeps();
    std::thread::sleep(Duration::from_secs(1));
    let woken = sleeps() - before;
    println!("{woken} wake-ups in a second");
    assert!(woken < 20, "{woken} wake-ups in a second");
    assert_eq!(reached(), 3);
    // The head that is completed after all is answered, and told that it was the last.
    half.write_all(b"st: a\r\nconnection: keep-alive\r\n\r\n").unwrap();
    let mut chunk = vec![0; 4096];
    let length = half.read(&mut chunk).unwrap();
    let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
}
