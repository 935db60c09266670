//! What goes through a tunnel is bytes, whatever it looks like (Go 2026-94439: it was read as HTTP).

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::common::cost::alone;
use crate::common::*;
use crate::h2client::H2Client;

const ADMIN: &[u8] = b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyesHTTP/1.1 ";

/// A host that grants each CONNECT in these words, keeps what comes then, and says something that looks like an answer.
fn granting(head: &str) -> (Host, Arc<Mutex<Vec<Vec<u8>>>>) {
    let seen = Arc::new(Mutex::new(vec![]));
    let (kept, head) = (seen.clone(), head.to_owned());
    let host = Host::start(move |connection| {
        let Some(_) = connection.request() else { return };
        connection.say(&head);
        let bytes = connection.body(ADMIN.len());
        kept.lock().unwrap().push(bytes);
        let _ = connection.stream.write_all(REPLY);
    });
    (host, seen)
}

/// Also where the answer to the CONNECT says a length of nothing, which means nothing there (RFC 9110 §9.3.6).
#[test]
fn what_follows_a_granted_connect_reaches_the_host_as_bytes() {
    let _alone = alone();
    for grant in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 299 Whatever\r\nconnection: close\r\n\r\n",
    ] {
        let (host, seen) = granting(grant);
        let routes = json!([
            { "match": { "connect_matcher": {} },
              "route": { "cluster": "up", "upgrade_configs": [{ "upgrade_type": "CONNECT" }] } },
            { "match": { "prefix": "/" }, "direct_response": { "status": 418 } } ]);
        let mut manager = http(routes);
        manager["http2_protocol_options"] = json!({ "allow_connect": true });
        let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
        for at_once in [true, false] {
            let mut client = proxy.client();
            let connect = b"CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n";
            let first = if at_once { [connect.as_slice(), ADMIN].concat() } else { connect.to_vec() };
            client.stream.write_all(&first).unwrap();
            let head = read_head(&mut client.stream, &mut client.buffer).expect(grant);
            assert!(head.starts_with("HTTP/1.1 2"), "{grant}: {head}");
            if !at_once {
                client.stream.write_all(ADMIN).unwrap();
            }
            assert_eq!(String::from_utf8_lossy(&client.rest()), String::from_utf8_lossy(REPLY), "{grant}");
        }
        let mut client = H2Client::connect(proxy.address);
        let stream = client.open("CONNECT", "b:1", "", false);
        client.send(stream, ADMIN, false);
        let said = client.answer(stream);
        assert_eq!(String::from_utf8_lossy(&said.body), String::from_utf8_lossy(REPLY), "{grant} by HTTP/2");
        assert_eq!(*seen.lock().unwrap(), vec![ADMIN.to_vec(); 3], "{grant}");
        assert_eq!(host.requests.lock().unwrap().len(), 3, "{grant}");
        let requests = proxy.count("envoy_http_downstream_rq_total", &[]);
        assert_eq!(requests, 3, "{grant}: what went through was taken for requests");
    }
}

/// An answer that grants a tunnel and has a body at once is neither: as Envoy (`http1.content_length_not_allowed`,
/// `http1.transfer_encoding_not_allowed`), a protocol error. No host is sent what the client believes to be in its tunnel.
#[test]
fn a_connect_granted_with_a_body_is_a_bad_answer() {
    let _alone = alone();
    for framing in ["content-length: 5", "transfer-encoding: chunked"] {
        let (host, seen) = granting(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        let routes = json!([{ "match": { "connect_matcher": {} },
            "route": { "cluster": "up", "upgrade_configs": [{ "upgrade_type": "CONNECT" }] } }]);
        let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
        let mut client = proxy.client();
        client.say("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n");
        client.stream.write_all(ADMIN).unwrap();
        let said = String::from_utf8(client.rest()).unwrap();
        assert!(said.starts_with("HTTP/1.1 502 "), "{framing}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{framing}: {said}");
        eventually("the host's connection ends", || seen.lock().unwrap().len() == 1);
        assert_eq!(seen.lock().unwrap().concat(), b"", "{framing}");
    }
}
