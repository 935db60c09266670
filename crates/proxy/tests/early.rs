//! Answers that come before their question is complete, and questions that are not complete when they seem to be.

mod common;
mod h2client;

use std::io::{Read, Write};
use std::net::TcpListener;

use common::*;

/// RFC 9112 §9.6: a server may answer and close without reading the rest. What it said must not be lost to the reset that
/// the rest of the request meets.
#[test]
fn an_answer_before_the_reset_reaches_the_client() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = host.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in host.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n").unwrap();
            // Closed with bytes unread: the kernel answers what still comes with a reset.
        }
    });
    let proxy = Proxy::start(http_listener(http(to("a"))), &[cluster("a", &[address])]);
    for _ in 0..20 {
        let mut client = std::net::TcpStream::connect(proxy.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n").unwrap();
        let sender = {
            let mut client = client.try_clone().unwrap();
            // Ends with an error when the proxy closes.
            std::thread::spawn(move || (0..40).all(|_| client.write_all(&[b'x'; 100_000]).is_ok()))
        };
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
        drop(client);
        sender.join().unwrap();
    }
}

/// RFC 9113 §8.1.1: content-length may turn out to be wrong as long as the stream has not ended, and an HTTP/1 host that got
/// a head of length 0 has got the whole request. Envoy forwards nothing either.
#[test]
fn a_body_of_no_length_is_not_believed_before_its_end() {
    let host = Host::saying("ok");
    let proxy = Proxy::start(http_listener(http(to("a"))), &[cluster("a", &[host.address])]);
    let mut client = h2client::H2Client::connect(proxy.address);
    let good = client.open("POST", "/good", "content-length: 0\r\n", false);
    let bad = client.open("POST", "/bad", "content-length: 0\r\n", false);
    client.send(bad, b"smuggled", true);
    assert_eq!(proxy.get("/neighbour").status, 200);
    client.send(good, b"", true);
    assert_eq!(client.answer(good).status, 200);
    let seen: Vec<String> =
        host.requests.lock().unwrap().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(seen, ["/neighbour", "/good"]);
}
