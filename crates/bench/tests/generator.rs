//! The generator against servers that answer, refuse, close and stay silent. No figure is judged here, only that
//! what is counted is what happened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bench::load::{Load, run};
use bench::relay::relay;
use bench::running::free_address;
use bench::upstream::{Answer, Service, serve};

fn load(target: SocketAddr) -> Load {
    Load { target, connections: 4, warm_up: 0.1, seconds: 0.2, rate: None, body: 0, watch: vec![] }
}

fn upstream(reply: usize) -> SocketAddr {
    let address = free_address().unwrap();
    std::thread::spawn(move || serve(&[Service { address, answer: Answer::Http1(reply) }]));
    listening(address)
}

fn relayed(upstream: SocketAddr) -> SocketAddr {
    let address = free_address().unwrap();
    std::thread::spawn(move || relay(address, upstream));
    listening(address)
}

fn listening(address: SocketAddr) -> SocketAddr {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "{address} does not listen");
        std::thread::yield_now();
    }
    address
}

/// Answers each read with the bytes; ends the connection if there are none.
fn scripted(reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) && !reply.is_empty() {
                    if stream.write_all(reply).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_closed_loop_counts_replies_of_every_size() {
    for (reply, body) in [(0, 0), (1024, 0), (1024, 1024), (300_000, 0)] {
        let measured = run(&Load { body, watch: vec![std::process::id()], ..load(upstream(reply)) }).unwrap();
        assert!(measured.replies > 0, "{measured:?}");
        assert_eq!(measured.errors, 0, "{measured:?}");
        assert!(measured.p50_us > Some(0.0) && measured.p50_us <= measured.max_us, "{measured:?}");
        assert!(measured.cpu_us().is_some());
    }
}

#[test]
fn a_relay_passes_on_all_of_both_directions() {
    // Beyond what a socket buffer and the relay's own buffer hold, in both directions.
    for (reply, body) in [(1024, 0), (10, 2_000_000), (3_000_000, 0)] {
        let through = relayed(upstream(reply));
        let load = Load { body, connections: 2, warm_up: 1.0, ..load(through) };
        let measured = run(&load).unwrap();
        assert!(measured.served > 0, "{measured:?}");
        assert_eq!(measured.errors, 0, "{measured:?}");
    }
}

#[test]
fn a_relay_closes_both_ends() {
    let through = relayed(scripted(b""));
    let mut stream = std::net::TcpStream::connect(through).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"x").unwrap();
    // Closed or reset, for the byte may not have been read.
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0)) || stream.write_all(b"x").is_err());
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let measured = run(&Load { rate: Some(500.0), seconds: 1.0, ..load(upstream(100)) }).unwrap();
    // 500 expected, five standard deviations of a Poisson count.
    assert!((measured.replies as f64 - 500.0).abs() < 112.0, "{measured:?}");
    assert_eq!(measured.errors, 0, "{measured:?}");
}

#[test]
fn a_stalled_server_shows_in_the_latency_of_an_open_loop() {
    // Two connections, each reply after 20 ms: 100 a second, and 200 a second fall due. The queue grows.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    std::thread::sleep(Duration::from_millis(20));
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                        break;
                    }
                }
            });
        }
    });
    let measured = run(&Load { connections: 2, rate: Some(200.0), seconds: 0.5, ..load(address) }).unwrap();
    assert!(
        measured.p99_us > Some(100_000.0),
        "counted from the sending, not from the due time: {measured:?}"
    );
}

#[test]
fn other_statuses_are_errors() {
    let refusing = scripted(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let error = run(&load(refusing)).unwrap_err().to_string();
    assert!(error.contains("status 503"), "{error}");
}

#[test]
fn a_target_that_closes_or_talks_nonsense_ends_the_run() {
    for (reply, reason) in [
        (&b""[..], "closed"),
        (b"hello\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "chunked"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "nobody asked for",
        ),
    ] {
        let error = run(&load(scripted(reply))).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_silent_target_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = run(&load(listener.local_addr().unwrap())).unwrap_err().to_string();
    assert!(error.contains("no reply"), "{error}");
}

#[test]
fn nobody_there_is_said() {
    let error = format!("{:#}", run(&load(free_address().unwrap())).unwrap_err());
    assert!(error.contains("connection 0"), "{error}");
}
