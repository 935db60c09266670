//! Bodies for a route that answers itself: what is left of them is drained, for a while and up to a size (HAProxy 2026-110354:
//! the drain turned in a circle for ever).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::cost::{alone, hold_quietly, settled, worked};
use crate::common::*;
use crate::{all_of, answers, connect, offer};

const HEAD: &str = "POST /deny HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

/// Everything is denied here, without a host; a connection is drained for 1.5 s.
fn denying() -> Proxy {
    let mut manager = http(
        json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 403, "body": { "inline_string": "no" } } }]),
    );
    manager["delayed_close_timeout"] = "1.5s".into();
    Proxy::start(http_listener(manager), &[])
}

/// The body cut after every byte, then silence: one answer, nothing done while nothing comes, closed when the time is over.
/// The same with the client's end: closed.
#[test]
fn a_body_that_stops_is_answered_once_and_its_connection_closed_after_the_drain_time() {
    let _alone = alone();
    let proxy = denying();
    let zeros = "0".repeat(16 * 1024);
    let bodies: Vec<Vec<u8>> = (0.."5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nt: x\r\n".len())
        .map(|cut| "5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nt: x\r\n".as_bytes()[..cut].to_vec())
        .chain([zeros.clone().into_bytes(), format!("5\r\nhel{zeros}").into_bytes()])
        .collect();
    for (name, ends) in [("silence", false), ("end", true)] {
        // The body with its head, and behind the answer.
        let mut clients = vec![];
        for body in &bodies {
            let mut at_once = connect(proxy.address);
            offer(&mut at_once, &[HEAD.as_bytes(), body].concat());
            let mut later = connect(proxy.address);
            later.write_all(HEAD.as_bytes()).unwrap();
            let mut first = [0; 12];
            later.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 403");
            offer(&mut later, body);
            clients.extend([(at_once, 0), (later, 1)]);
        }
        let began = Instant::now();
        if ends {
            for (client, _) in &clients {
                let _ = client.shutdown(Shutdown::Write);
            }
        }
        settled();
        hold_quietly(name);
        for (client, begun) in &mut clients {
            let rest = all_of(client).unwrap_or_else(|error| panic!("{name}: not closed: {error}"));
            assert_eq!(answers(&rest) + *begun, 1, "{name}: {}", String::from_utf8_lossy(&rest));
        }
        println!("{name}: {} connections closed after {:?}", clients.len(), began.elapsed());
    }
    eventually("none is left", || proxy.count("envoy_http_downstream_cx_active", &[]) == 0);
    let lasting = proxy.client().ask(&format!("{HEAD}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!((lasting.status, lasting.body.as_str()), (403, "no"));
}

/// A body that goes on for ever behind its answer is read for some megabytes, as Envoy does, and no more (1.5 GB in a second
/// where nothing bounds it).
#[test]
fn an_endless_body_behind_the_answer_is_not_read_for_ever() {
    let _alone = alone();
    let proxy = denying();
    let before = worked();
    for chunked in [true, false] {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.connect(&proxy.address.into()).unwrap();
        let mut client: std::net::TcpStream = socket.into();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 100000000000" };
        client.write_all(format!("POST /deny HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n").as_bytes()).unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 403");
        let began = Instant::now();
        let piece = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        let mut written = 0;
        while client.write_all(&piece).is_ok() {
            written += piece.len();
            assert!(written < 64 << 20, "{written} bytes were taken");
        }
        println!("chunked {chunked}: {} KiB taken, ended after {:?}", written / 1024, began.elapsed());
        // What lies in the kernel's buffers is counted too.
        assert!(written < 12 << 20, "{written} bytes were taken");
        assert!(began.elapsed() < PATIENCE, "ended by the test, not the proxy");
    }
    let spent = worked() - before;
    println!("{spent:?} of worker");
    assert!(spent < Duration::from_secs(1), "{spent:?}");
    eventually("none is left", || proxy.count("envoy_http_downstream_cx_active", &[]) == 0);
}
