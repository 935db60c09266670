//! What is complete here and not yet with its client when the proxy is told to go: delivered, however slowly it is read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proxy::ProxyOptions;
use serde_json::{Value, json};

use crate::answers;
use crate::common::cost::{alone, settled};
use crate::common::*;
use crate::h2client::H2Client;

const BODY: usize = 40_000;

fn routes() -> Value {
    json!([{ "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "x".repeat(BODY) } } }])
}

fn patient() -> ProxyOptions {
    ProxyOptions { drain: Duration::from_secs(20), ..ProxyOptions::default() }
}

/// A client whose kernel takes little for it.
fn narrow(address: std::net::SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads all, a little at a time, while the proxy stops.
fn read_slowly(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut chunk) = (vec![], vec![0; 32 * 1024]);
    loop {
        std::thread::sleep(Duration::from_millis(1));
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&chunk[..length]),
            Err(error) => panic!("cut off after {} bytes: {error}", all.len()),
        }
    }
}

#[test]
fn a_stopping_proxy_delivers_what_a_slow_http1_client_has_coming() {
    let _alone = alone();
    let proxy = Proxy::with(http_listener(http(routes())), &[], patient());
    let mut client = narrow(proxy.address);
    // Answers wait for the client until nothing more is read of it.
    client.write_all("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(400).as_bytes()).unwrap();
    settled();
    let answered = proxy.count("envoy_http_downstream_rq_total", &[]);
    assert!(answered < 400, "all {answered} answers found room");
    assert_eq!(proxy.count("envoy_http_downstream_rq_active", &[]), 0);
    let stopping = std::thread::spawn(move || proxy.proxy.runtime.stop());
    let all = read_slowly(&mut client);
    stopping.join().unwrap();
    let whole = answers(&all);
    println!("{answered} answered before, {whole} delivered, {} bytes", all.len());
    assert!(whole as u64 >= answered, "{whole} of {answered} were delivered");
    let payload = all.iter().filter(|byte| **byte == b'x').count();
    // `x` stands in the names of some headers too.
    assert!(payload >= whole * BODY, "the last of {whole} answers is cut: {payload} bytes");
}

#[test]
fn a_stopping_proxy_delivers_what_a_slow_http2_client_has_coming() {
    let _alone = alone();
    let host = Host::saying(&"x".repeat(100_000));
    let proxy = Proxy::with(http_listener(http(to("up"))), &[cluster("up", &[host.address])], patient());
    let mut client = H2Client::connect(proxy.address);
    let streams: Vec<_> = (0..5).map(|_| client.open("GET", "/", "", true)).collect();
    // Nothing is credited meanwhile: the client does not take a turn.
    eventually("all are complete here", || {
        proxy.count("envoy_http_downstream_rq_total", &[]) == 5
            && proxy.count("envoy_http_downstream_rq_active", &[]) == 0
    });
    let stopping = std::thread::spawn(move || proxy.proxy.runtime.stop());
    std::thread::sleep(Duration::from_millis(300));
    for stream in streams {
        let said = client.answer(stream);
        assert_eq!((said.body.len(), said.end, said.reset), (100_000, true, false));
    }
    drop(client);
    stopping.join().unwrap();
}
