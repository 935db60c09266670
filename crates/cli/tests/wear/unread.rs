//! Clients that ask and never read: what waits for a peer is bounded, whatever answers the request, so that 100 MB of
//! requests leave the program's memory where it was.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::*;
use crate::frames;
use crate::program::until;
use crate::subject::{Subject, bootstrap};

const MIB: usize = 1 << 20;
const UNREAD: usize = 100 * MIB;
const MOST: usize = 4 * MIB;
/// A proxy that takes nothing for so long has stopped reading, as it should.
const STOPPED: Duration = Duration::from_secs(1);
/// One that takes everything, but slowly, has shown by then what it holds.
const PUSHING: Duration = Duration::from_secs(15);

/// Every kind of answer, at a path of its own.
fn routes() -> Value {
    json!([
        { "match": { "prefix": "/direct" },
          "direct_response": { "status": 200, "body": { "inline_string": "x".repeat(1000) } } },
        { "match": { "prefix": "/empty" }, "direct_response": { "status": 204 } },
        { "match": { "prefix": "/redirect" }, "redirect": { "path_redirect": format!("/{}", "z".repeat(200)) } },
        { "match": { "prefix": "/host" }, "route": { "cluster": "a", "timeout": "0s" } },
        { "match": { "prefix": "/closing" }, "route": { "cluster": "closing", "timeout": "0s" } },
        { "match": { "prefix": "/silent" }, "route": { "cluster": "silent", "timeout": "0s" } },
        { "match": { "prefix": "/hole" }, "route": { "cluster": "hole", "timeout": "0s" } },
        { "match": { "prefix": "/refused" }, "route": { "cluster": "refusing" } },
        { "match": { "prefix": "/nobody" }, "route": { "cluster": "nobody" } } ])
}

/// What answers. It lives in this process, not in the measured one.
struct Hosts {
    /// Two bytes for each request.
    plain: Host,
    /// The same, each on a connection of its own.
    closing: Host,
    /// Nothing.
    silent: Host,
    hole: BlackHole,
}

impl Hosts {
    fn start() -> Hosts {
        const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        Hosts {
            plain: Host::start(|connection| {
                while read_head(&mut connection.stream, &mut connection.buffer).is_some()
                    && connection.say(OK)
                {}
            }),
            closing: Host::start(|connection| {
                if read_head(&mut connection.stream, &mut connection.buffer).is_some() {
                    connection.say(LAST);
                }
            }),
            silent: Host::start(|connection| while !connection.read_some().is_empty() {}),
            hole: BlackHole::new(),
        }
    }

    fn clusters(&self) -> Vec<Value> {
        let mut hole = cluster("hole", &[self.hole.address]);
        hole["connect_timeout"] = "60s".into();
        vec![
            cluster("a", &[self.plain.address]),
            cluster("closing", &[self.closing.address]),
            cluster("silent", &[self.silent.address]),
            cluster("refusing", &[nobody()]),
            cluster("nobody", &[]),
            hole,
        ]
    }
}

/// Paths that are answered.
const PATHS: [&str; 8] =
    ["/direct", "/empty", "/redirect", "/host", "/closing", "/refused", "/nobody", "/none"];

/// Writes until all is gone, nothing is taken for a while, or it is sent away; how many bytes were taken. `watch` is
/// called after each piece, and for a while at the end.
fn push(stream: &mut TcpStream, mut piece: impl FnMut() -> Vec<u8>, mut watch: impl FnMut()) -> usize {
    stream.set_write_timeout(Some(STOPPED)).unwrap();
    let (mut sent, began) = (0, Instant::now());
    'pushing: while sent < UNREAD && began.elapsed() < PUSHING {
        let bytes = piece();
        let mut at = 0;
        while at < bytes.len() {
            match stream.write(&bytes[at..]) {
                Ok(length) => at += length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    sent += at;
                    break 'pushing;
                }
                Err(_) => break 'pushing,
            }
        }
        sent += bytes.len();
        watch();
    }
    // What becomes of what was taken.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(25));
        watch();
    }
    sent
}

/// Nothing may be resident beyond the mark that was not before, on any of these proxies.
fn stays_small(what: &str, subjects: &[&Subject], push: impl FnOnce(&mut dyn FnMut()) -> usize) {
    subjects.iter().for_each(|subject| subject.settle());
    let before: Vec<usize> = subjects.iter().map(|subject| subject.resident()).collect();
    let mut most = before.clone();
    let sent = push(&mut || {
        for (most, subject) in most.iter_mut().zip(subjects) {
            *most = (*most).max(subject.resident());
        }
    });
    let grown: Vec<usize> = most.iter().zip(&before).map(|(most, before)| most - before).collect();
    let text: Vec<String> = grown.iter().map(|grown| format!("{} KiB", grown / 1024)).collect();
    println!(
        "{what}: {:.1} of 100 MiB taken, {} more resident at most",
        sent as f64 / MIB as f64,
        text.join(" and ")
    );
    for grown in grown {
        assert!(grown <= MOST, "{what}: {grown} bytes more resident, {sent} bytes taken");
    }
}

fn http1(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

fn pipelined(address: SocketAddr, request: &str, watch: &mut dyn FnMut()) -> usize {
    let piece = request.repeat(65536 / request.len()).into_bytes();
    let mut stream = TcpStream::connect(address).unwrap();
    push(&mut stream, || piece.clone(), watch)
}

/// A client of HTTP/2 that opens all windows, and what it asks for path after path.
fn asking(address: SocketAddr, path: &str, watch: &mut dyn FnMut()) -> usize {
    let wide = frames::setting(4, 0x7fff_ffff);
    let mut client = frames::Peer::client(address, &wide);
    client.say(frames::frame(frames::WINDOW_UPDATE, 0, 0, 0x7fff_0000_u32.to_be_bytes()));
    let mut stream = 1_u32;
    let piece = || {
        let mut bytes = vec![];
        while bytes.len() < 65536 {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
            bytes.extend(frames::headers(stream, frames::END_STREAM, &fields));
            stream += 2;
        }
        bytes
    };
    push(&mut client.stream, piece, watch)
}

fn hosts_and_proxy() -> (Hosts, Subject) {
    let hosts = Hosts::start();
    let subject = Subject::ours(&bootstrap(&http_listener(http(routes())), &hosts.clusters()), 2);
    // Once through everything: what serving takes is in the base, on either worker.
    for _ in 0..4 {
        for path in PATHS {
            assert_ne!(subject.client().ask(&http1(path)).status, 0);
        }
        let mut client = frames::Peer::client(subject.address, &[]);
        for (number, path) in PATHS.into_iter().enumerate() {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
            client.say(frames::headers(2 * number as u32 + 1, frames::END_STREAM, &fields));
            client.until(|frame| frame.kind == frames::HEADERS).unwrap();
        }
    }
    (hosts, subject)
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn http1_requests_whose_answers_nobody_reads_leave_memory_as_it_was() {
    let (_hosts, subject) = hosts_and_proxy();
    for path in PATHS {
        stays_small(&format!("HTTP/1 {path}"), &[&subject], |watch| {
            pipelined(subject.address, &http1(path), watch)
        });
    }
    for (what, request) in [
        ("HEAD", "HEAD /host HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("POST", "POST /host HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
        (
            "an upgrade that is refused",
            "GET /host HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
        (
            "a request for h2c",
            "GET /direct HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        ),
        ("a host that says nothing", "GET /silent HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a host that is connected to", "GET /hole HTTP/1.1\r\nhost: a\r\n\r\n"),
        (
            "an upgrade that is not answered",
            "GET /silent HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            "an upgrade whose host is connected to",
            "GET /hole HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            "a body and its continue",
            "POST /direct HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
        ),
    ] {
        stays_small(&format!("HTTP/1 {what}"), &[&subject], |watch| {
            pipelined(subject.address, request, watch)
        });
    }
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn http2_requests_whose_answers_nobody_reads_leave_memory_as_it_was() {
    let (_hosts, subject) = hosts_and_proxy();
    for path in PATHS {
        stays_small(&format!("HTTP/2 {path}"), &[&subject], |watch| asking(subject.address, path, watch));
    }
}

/// The same through two proxies and the multiplexed hop between them: neither of them holds it.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn requests_over_the_multiplexed_hop_whose_answers_nobody_reads_leave_memory_as_it_was() {
    let (_hosts, near) = hosts_and_proxy();
    let mut hop = cluster("a", &[near.address]);
    hop["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({ "filter_metadata": { "filamesh": { "hop": "h2" } } });
    let far = Subject::ours(&bootstrap(&http_listener(http(to("a"))), &[hop]), 2);
    for path in PATHS {
        assert_ne!(far.client().ask(&http1(path)).status, 0);
    }
    assert!(near.stat("http.test.downstream_cx_http2_total") > 0, "the hop was not taken");
    for path in ["/direct", "/redirect", "/host"] {
        stays_small(&format!("HTTP/1, then the hop, {path}"), &[&far, &near], |watch| {
            pipelined(far.address, &http1(path), watch)
        });
        stays_small(&format!("HTTP/2, then the hop, {path}"), &[&far, &near], |watch| {
            asking(far.address, path, watch)
        });
    }
}

/// Bytes of a TCP host that nobody reads stay with the host, and those of a client with the client.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn bytes_of_tcp_that_nobody_reads_leave_memory_as_it_was() {
    let host = Host::start(|connection| {
        // Says ever more, and reads nothing.
        while connection.say(&"x".repeat(65536)) {}
    });
    let filter = json!({ "stat_prefix": "tcp", "cluster": "up" });
    let listener = listener("main", typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", filter));
    let subject = Subject::ours(&bootstrap(&listener, &[cluster("up", &[host.address])]), 2);
    drop(subject.client());
    stays_small("TCP, both ways", &[&subject], |watch| {
        let mut stream = TcpStream::connect(subject.address).unwrap();
        push(&mut stream, || vec![b'x'; 65536], watch)
    });
}

/// Answers that are whole here, of streams whose client opens no window: reset after the stream's idle time (Envoy:
/// `stream_flush_timeout`, which is `stream_idle_timeout` where it is not set), and what they held is free again.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_thousand_unread_finished_answers_are_reset_after_the_streams_idle_time() {
    const STREAMS: usize = 1000;
    const IDLE: Duration = Duration::from_secs(3);
    let body = "x".repeat(32 * 1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let over_http1 = Host::answering(&answer);
    let direct = json!([{ "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "y".repeat(4000) } } }]);
    let over_http2 = Subject::ours(&bootstrap(&http_listener(http(direct)), &[]), 1);
    let mut second = cluster("second", &[over_http2.address]);
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    second["typed_extension_protocol_options"] = json!({ OPTIONS: typed(OPTIONS, json!({ "explicit_http_config": { "http2_protocol_options": {} } })) });
    let mut manager = http(json!([
        { "match": { "prefix": "/direct" },
          "direct_response": { "status": 200, "body": { "inline_string": "x".repeat(4000) } } },
        { "match": { "prefix": "/http2" }, "route": { "cluster": "second", "timeout": "0s" } },
        { "match": { "prefix": "/http1" }, "route": { "cluster": "first", "timeout": "0s" } } ]));
    manager["stream_idle_timeout"] = json!(format!("{}s", IDLE.as_secs()));
    let clusters = [cluster("first", &[over_http1.address]), second];
    let subject = Subject::ours(&bootstrap(&http_listener(manager), &clusters), 2);
    for path in ["/direct", "/http1", "/http2"] {
        let mut client = frames::Peer::client(subject.address, &frames::setting(4, 0));
        let mut asks = vec![];
        for number in 0..STREAMS as u32 {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
            asks.extend(frames::headers(2 * number + 1, frames::END_STREAM, &fields));
        }
        let before = subject.stat("http.test.downstream_rq_tx_reset");
        client.say(asks);
        let (mut heads, mut resets, mut first, mut last) = (0, 0, None, Instant::now());
        while resets < STREAMS {
            let frame = client.next().expect("a reset");
            match frame.kind {
                frames::HEADERS => {
                    heads += 1;
                    last = Instant::now();
                }
                frames::DATA => assert!(frame.payload.is_empty(), "{path}: a body without a window"),
                frames::GOAWAY => panic!("{path}: GOAWAY {} after {resets} resets", frame.code()),
                frames::RST_STREAM => {
                    resets += 1;
                    first.get_or_insert_with(|| last.elapsed());
                }
                _ => {}
            }
        }
        println!(
            "{path}: {heads} heads, {resets} resets, the first {:.1?} and the last {:.1?} after the last head",
            first.unwrap(),
            last.elapsed()
        );
        assert_eq!(heads, STREAMS, "{path}");
        assert!(last.elapsed() > IDLE / 2 && last.elapsed() < IDLE * 3, "{path}: {:?}", last.elapsed());
        until("none is under way", PATIENCE, || subject.stat("http.test.downstream_rq_active") == 0);
        assert_eq!(subject.stat("http.test.downstream_rq_tx_reset") - before, STREAMS as u64, "{path}");
        assert!(client.say(frames::frame(frames::PING, 0, 0, "12345678")));
        assert!(client.until(|frame| frame.kind == frames::PING).is_some(), "the connection goes on");
    }
}
