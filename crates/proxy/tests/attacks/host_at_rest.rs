//! Hosts that take no connection, or have stopped reading: what clients leave behind then is bounded, and goes.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::ProxyOptions;
use serde_json::json;

use crate::common::cost::{alone, descriptors, resident};
use crate::common::*;
use crate::connect;

fn tcp_proxy(mut cluster: serde_json::Value, options: ProxyOptions) -> Proxy {
    cluster["connect_timeout"] = "6s".into();
    let filter = json!({ "stat_prefix": "tcp", "cluster": "up", "idle_timeout": "4s" });
    let filter = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", filter);
    Proxy::with(listener("main", filter), &[cluster], options)
}

/// Writes until nothing more is taken for a moment; how much was.
fn fill(client: &mut std::net::TcpStream, most: usize) -> usize {
    client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < most {
        match client.write(&piece) {
            Ok(length) => sent += length,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                break;
            }
        }
    }
    sent
}

/// A host that has stopped reading (stopped, or dead locked) and clients that give up: what waits for the host is waited for a
/// second after the session, then its socket is closed.
#[test]
fn sessions_given_up_towards_a_host_that_does_not_read_leave_no_descriptor() {
    let _alone = alone();
    const SESSIONS: usize = 8;
    let kept = Arc::new(Mutex::new(vec![]));
    let keep = kept.clone();
    let host =
        Host::start(move |connection| keep.lock().unwrap().push(connection.stream.try_clone().unwrap()));
    let proxy = tcp_proxy(cluster("up", &[host.address]), ProxyOptions::default());
    let before = descriptors();
    let mut clients: Vec<_> = (0..SESSIONS).map(|_| connect(proxy.address)).collect();
    for client in &mut clients {
        let sent = fill(client, 64 << 20);
        assert!(sent < 64 << 20, "everything was taken");
    }
    eventually("all are connected", || kept.lock().unwrap().len() == SESSIONS);
    // Half of the clients reset. The others end: they may still read, so that their sessions last until they are idle.
    for (number, client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    eventually("only the host's ends are left", || descriptors() <= before + SESSIONS);
    eventually("no session is left", || proxy.count("envoy_listener_downstream_cx_active", &[]) == 0);
    drop(kept);
}

/// 10,000 clients that send ahead towards a host that takes no connection, scaled down with the budget: what they send stays
/// with the kernel, whoever is too many is sent away, and all is free again when the connect has failed.
#[test]
fn what_clients_send_ahead_to_a_black_hole_stays_within_the_budget() {
    let _alone = alone();
    const BUDGET: usize = 8 << 20;
    const CLIENTS: usize = 1000;
    let hole = BlackHole::new();
    let options = ProxyOptions { memory_budget: Some(BUDGET), ..ProxyOptions::default() };
    let proxy = tcp_proxy(cluster("up", &[hole.address]), options);
    let before = resident();
    let piece = vec![b'x'; 256 * 1024];
    let mut clients = vec![];
    let mut most = 0;
    for _ in 0..CLIENTS {
        let mut client = connect(proxy.address);
        client.set_nonblocking(true).unwrap();
        let _ = client.write(&piece);
        clients.push(client);
        most = most.max(resident().saturating_sub(before));
    }
    eventually("all were seen", || {
        most = most.max(resident().saturating_sub(before));
        proxy.count("envoy_listener_downstream_cx_total", &[]) == CLIENTS as u64
    });
    let refused = || proxy.count("envoy_listener_downstream_cx_destroy", &[]);
    for _ in 0..20 {
        most = most.max(resident().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{} KiB more resident at most, {} of {CLIENTS} sent away", most / 1024, refused());
    assert!(most < BUDGET + BUDGET / 2, "{most} bytes more resident with a budget of {BUDGET}");
    drop(clients);
    eventually("all are gone with the connect timeout", || {
        proxy.count("envoy_listener_downstream_cx_active", &[]) == 0
    });
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A tunnel over HTTP/2 whose two sides have ended, with bytes left that its host opens no window for: the exchange is over, and
/// what is left is reset after the stream's idle time.
#[test]
fn what_is_left_of_a_tunnel_for_a_host_without_window_is_reset() {
    let _alone = alone();
    let (tell, told) = std::sync::mpsc::channel();
    let host = Host::start(move |connection| {
        // SETTINGS_INITIAL_WINDOW_SIZE 0, and the last word on the first stream.
        connection.stream.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
        let mut bytes = vec![];
        // Behind the preface.
        let mut at = 24;
        loop {
            let more = connection.read_some();
            if more.is_empty() {
                return;
            }
            bytes.extend(more);
            while let Some(head) = bytes.get(at..at + 9) {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                let kind = head[3];
                if bytes.len() < at + 9 + length {
                    break;
                }
                at += 9 + length;
                if kind == 1 {
                    let end = [frame(4, 1, 0, &[]), frame(1, 4, 1, &[0x88]), frame(0, 1, 1, b"bye")].concat();
                    connection.stream.write_all(&end).unwrap();
                }
                let _ = tell.send(kind);
            }
        }
    });
    let mut up = cluster("up", &[host.address]);
    up["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": { "allow_connect": true } } })) });
    let mut manager = http(json!([{ "match": { "connect_matcher": {} },
        "route": { "cluster": "up", "upgrade_configs": [{ "upgrade_type": "CONNECT" }] } }]));
    manager["stream_idle_timeout"] = "1s".into();
    let proxy = Proxy::start(http_listener(manager), &[up]);
    let mut client = proxy.client();
    client.say("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\nnever");
    let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"bye");
    let mut kinds = vec![];
    while !kinds.contains(&3) {
        kinds.push(told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no RST_STREAM in {kinds:?}")));
    }
    assert!(!kinds.contains(&0), "DATA without a window: {kinds:?}");
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_tx_reset", &[]), 1);
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_active", &[]), 0);
}
