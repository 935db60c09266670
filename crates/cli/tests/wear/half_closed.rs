//! Connections of which one direction has ended and the other stays, and clients that end while their host is connected
//! to: nothing of it costs anything while nothing comes. (An end that was told in every turn kept a worker at 99 % of a
//! core for as long as the other side stayed: `nc -N`.)

use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::common::*;
use crate::frames;
use crate::program::until;
use crate::subject::{Subject, bootstrap};

/// Sessions of each kind.
const SESSIONS: usize = 8;

fn tcp_listener() -> Value {
    let filter = json!({ "stat_prefix": "tcp", "cluster": "up" });
    listener("main", typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", filter))
}

/// A host that hands its connections to the test, after a request's head has been granted with these words.
fn handing_over(grant: Option<&'static str>) -> (Host, Receiver<TcpStream>) {
    let (give, given) = channel();
    let host = Host::start(move |connection| {
        if let Some(grant) = grant {
            if connection.request().is_none() {
                return;
            }
            connection.say(grant);
        }
        let _ = give.send(connection.stream.try_clone().unwrap());
    });
    (host, given)
}

/// One session: the client's end, and the host's.
type Session = (TcpStream, TcpStream);
/// Ends half of one.
type End = fn(Session) -> Session;

/// Each way in which half of a session may end, and the rest stay.
fn each_half(what: &str, subject: &Subject, open: impl Fn() -> Session) {
    let ways: [(&str, End); 2] = [
        ("the client has ended, the host stays", |(client, host)| {
            client.shutdown(Shutdown::Write).unwrap();
            (client, host)
        }),
        ("the host has ended, the client stays", |(client, host)| {
            host.shutdown(Shutdown::Write).unwrap();
            (client, host)
        }),
    ];
    for (way, end) in ways {
        let held: Vec<Session> = (0..SESSIONS).map(|_| end(open())).collect();
        subject.hold_quietly(&format!("{SESSIONS} x {what}: {way}"));
        drop(held);
    }
    // Gone for good, while the client neither reads nor closes.
    let held: Vec<TcpStream> = (0..SESSIONS).map(|_| open().0).collect();
    subject.hold_quietly(&format!("{SESSIONS} x {what}: the host is gone, the client stays"));
    drop(held);
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn half_closed_tcp_sessions_cost_nothing() {
    let (host, given) = handing_over(None);
    let subject = Subject::ours(&bootstrap(&tcp_listener(), &[cluster("up", &[host.address])]), 2);
    each_half("TCP", &subject, || {
        let mut client = subject.client();
        client.say("x");
        (client.stream, given.recv_timeout(PATIENCE).unwrap())
    });
}

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const WEBSOCKET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const CONNECT: &str = "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n";

/// A listener that ends CONNECT here and takes upgrades to WebSocket.
fn tunnels() -> Value {
    let mut manager = http(json!([
        { "match": { "connect_matcher": {} }, "route": { "cluster": "up", "timeout": "0s",
            "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }] } },
        to("up")[0] ]));
    manager["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }, { "upgrade_type": "CONNECT" }]);
    manager["http2_protocol_options"] = json!({ "allow_connect": true });
    http_listener(manager)
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn half_closed_tunnels_cost_nothing() {
    let (host, given) = handing_over(Some(SWITCHED));
    let subject = Subject::ours(&bootstrap(&tunnels(), &[cluster("up", &[host.address])]), 2);
    each_half("WebSocket", &subject, || {
        let mut client = subject.client();
        assert_eq!(client.ask(WEBSOCKET).status, 101);
        (client.stream, given.recv_timeout(PATIENCE).unwrap())
    });
    let (host, given) = handing_over(None);
    let subject = Subject::ours(&bootstrap(&tunnels(), &[cluster("up", &[host.address])]), 2);
    each_half("CONNECT", &subject, || {
        let mut client = subject.client();
        client.say(CONNECT);
        let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        (client.stream, given.recv_timeout(PATIENCE).unwrap())
    });
    // The same over HTTP/2: the client's direction ends with its stream's, and its connection stays.
    let open = || {
        let mut client = frames::Peer::client(subject.address, &[]);
        client.say(frames::headers(1, 0, &[(":method", "CONNECT"), (":authority", "a:80")]));
        let answer = client.until(|frame| frame.kind == frames::HEADERS).unwrap();
        assert_eq!(answer.status(), 200);
        (client, given.recv_timeout(PATIENCE).unwrap())
    };
    let held: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (mut client, host) = open();
            client.say(frames::frame(frames::DATA, frames::END_STREAM, 1, ""));
            (client, host)
        })
        .collect();
    subject.hold_quietly("CONNECT over HTTP/2: the client has ended, the host stays");
    drop(held);
    let held: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (client, host) = open();
            host.shutdown(Shutdown::Write).unwrap();
            (client, host)
        })
        .collect();
    subject.hold_quietly("CONNECT over HTTP/2: the host has ended, the client stays");
    drop(held);
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn clients_that_end_while_their_host_is_connected_to_cost_nothing() {
    let hole = BlackHole::new();
    let mut slow = cluster("up", &[hole.address]);
    slow["connect_timeout"] = "60s".into();
    let clusters = [slow];
    for (what, listener, ask) in [
        ("TCP", tcp_listener(), "x"),
        ("HTTP", http_listener(http(to("up"))), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx"),
        ("WebSocket", tunnels(), WEBSOCKET),
        ("CONNECT", tunnels(), CONNECT),
    ] {
        let subject = Subject::ours(&bootstrap(&listener, &clusters), 2);
        for (ended, asked) in [(true, SESSIONS), (false, 2 * SESSIONS)] {
            let held: Vec<Client> = (0..SESSIONS)
                .map(|_| {
                    let mut client = subject.client();
                    client.say(ask);
                    if ended {
                        client.stream.shutdown(Shutdown::Write).unwrap();
                    }
                    client
                })
                .collect();
            until("their host is connected to", PATIENCE, || {
                subject.stat("cluster.up.upstream_cx_total") >= asked as u64
            });
            let how = if ended { "has ended" } else { "stays" };
            subject.hold_quietly(&format!("{what}: a host is connected to, the client {how}"));
            drop(held);
        }
    }
}
