//! Memory while one reader stands still. Alone in its program: what is measured is the whole process.

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::cost::resident;
use common::*;

/// A reader that does not read stops the host, not the proxy's memory.
#[test]
fn a_big_body_to_a_slow_reader_stays_small_here() {
    const BODY: usize = 64 << 20;
    let host = Host::start(|connection| {
        connection.request();
        connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n"));
        let block = vec![b'x'; 1 << 20];
        for _ in 0..BODY >> 20 {
            if connection.stream.write_all(&block).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let before = resident();
    client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let head = read_head(&mut client.stream, &mut client.buffer).unwrap();
    assert_eq!(header(&head, "content-length"), Some(BODY.to_string().as_str()));
    // The body comes to a halt when the kernel's buffers are full.
    let received = || proxy.count("envoy_cluster_upstream_cx_rx_bytes_total", &["\"up\""]);
    let mut seen = (received(), Instant::now());
    eventually("the flow has stopped", || {
        let now = received();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        seen.1.elapsed() > Duration::from_millis(200)
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
    let mut total = client.buffer.len();
    let mut chunk = vec![0; 1 << 20];
    while total < BODY {
        let length = client.stream.read(&mut chunk).unwrap();
        assert!(length > 0, "cut at {total}");
        total += length;
    }
    assert_eq!(total, BODY);
}
