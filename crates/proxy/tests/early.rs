//! Answers that come before their question is complete.

mod common;

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
