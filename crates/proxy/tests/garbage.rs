//! Nonsense from both sides, in any split: answered or dropped, never the end of a worker.
mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::*;
use wire::id::Random;

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    "GET http://x/%2e/..//a?b HTTP/1.1\r\nhost: x\r\nx-envoy-peer-metadata: AAAA\r\n\r\n",
    "GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nbytes",
    "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
    "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nbytes",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
];

/// One of the samples with a few bytes changed, taken out or put in.
fn mangled(random: &mut Random, samples: &[&str]) -> Vec<u8> {
    let mut bytes = samples[random.below(samples.len() as u64) as usize].as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(3) {
            0 => bytes[at] = random.next_u64() as u8,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.next_u64() as u8),
        }
    }
    bytes
}

/// Writes in pieces; whoever closes first is right.
fn write_split(stream: &mut std::net::TcpStream, random: &mut Random, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = 1 + random.below(rest.len() as u64) as usize;
        let (now, later) = rest.split_at(length);
        if stream.write_all(now).is_err() {
            return;
        }
        rest = later;
    }
}

#[test]
fn nothing_sent_from_either_side_ends_a_worker() {
    let seed = Arc::new(AtomicU64::new(1));
    let seeds = seed.clone();
    let mad = Host::start(move |connection| {
        let mut random = Random::from_seed(seeds.fetch_add(1, SeqCst));
        while !connection.read_some().is_empty() {
            let bytes = mangled(&mut random, RESPONSES);
            write_split(&mut connection.stream, &mut random, &bytes);
            if random.below(3) == 0 {
                return;
            }
        }
    });
    let good = Host::saying("fine");
    let routes = serde_json::json!([
        { "match": { "path": "/good" }, "route": { "cluster": "good" } },
        { "match": { "prefix": "/" }, "route": { "cluster": "mad", "timeout": "0.2s",
            "retry_policy": { "retry_on": "5xx,reset", "num_retries": 1 } } },
    ]);
    let clusters = [cluster("mad", &[mad.address]), cluster("good", &[good.address])];
    let proxy = Proxy::start(http_listener(http(routes)), &clusters);
    let address = proxy.address;
    let clients: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut random = Random::from_seed(1000 + number);
                for _ in 0..300 {
                    let mut client = Client::connect(address);
                    let bytes = mangled(&mut random, REQUESTS);
                    write_split(&mut client.stream, &mut random, &bytes);
                    if random.below(2) == 0 {
                        let _ = client.stream.shutdown(std::net::Shutdown::Write);
                        client.rest();
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(proxy.get("/good").body, "fine");
    // All that was begun has ended: nothing leaks.
    for gauge in [
        "envoy_http_downstream_rq_active",
        "envoy_http_downstream_cx_active",
        "envoy_cluster_upstream_rq_active",
    ] {
        eventually(gauge, || proxy.count(gauge, &[]) == 0);
    }
    assert_eq!(proxy.handle().active(), 0);
}

#[test]
fn peer_metadata_may_be_anything() {
    let mut random = Random::from_seed(7);
    for length in 0..400 {
        let bytes: Vec<u8> = (0..length).map(|_| b"ABCDabcd0123+/= "[random.below(16) as usize]).collect();
        proxy::fuzzing::fuzz_peer_metadata(&bytes);
    }
}
