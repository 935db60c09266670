//! A host that redirects while the request's body is still coming, and a client that resets meanwhile (Envoy 2026-47221: a
//! callback came to what had been redirected away).

use std::io::Write;

use serde_json::json;

use crate::common::cost::alone;
use crate::common::*;
use crate::connect;
use crate::h2client::H2Client;

const ROUNDS: usize = 60;

/// However the reset and the redirect meet: one ending and one log line for each request, nothing left, and the proxy serves.
#[test]
fn a_redirect_during_the_body_and_a_reset_end_a_request_once() {
    let _alone = alone();
    // Reads the head only; the body stays where it is.
    let host = Host::start(|connection| {
        while read_head(&mut connection.stream, &mut connection.buffer).is_some() {
            connection.say("HTTP/1.1 303 See Other\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut manager = http(to("up"));
    manager["access_log"] = json!([{ "name": "file", "typed_config":
        typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({
            "path": file.path().to_str().unwrap(),
            "log_format": { "text_format_source": { "inline_string": "%REQ(:PATH)%\n" } } })) }]);
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    for round in 0..ROUNDS {
        let mut client = connect(proxy.address);
        // Unread bytes or not, much or little of the body, the answer waited for or not.
        let head = format!("POST /{round} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        let _ = client.write_all(&vec![b'x'; (round % 7) * 5000]);
        if round % 3 == 1 {
            let _ = std::io::Read::read(&mut client, &mut [0; 1]);
        }
        if round % 2 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(client);
        let mut client = H2Client::connect(proxy.address);
        let stream = client.open("POST", &format!("/h2-{round}"), "content-length: 1000000\r\n", false);
        client.send(stream, &vec![b'x'; (round % 5) * 3000], false);
        if round % 2 == 1 {
            let said = client.until(stream, |said| said.status != 0);
            assert_eq!(said.status, 303);
        }
        drop(client);
    }
    eventually("all have ended", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    let begun = proxy.count("envoy_http_downstream_rq_total", &[]);
    eventually("all are counted once", || proxy.count("istio_requests_total", &[]) == begun);
    proxy.handle().flush_logs();
    let log = std::fs::read_to_string(file.path()).unwrap();
    let mut lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len() as u64, begun, "{log}");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len() as u64, begun, "a request has two lines: {log}");
    // A client that was reset at once may not have been seen at all.
    assert!(begun > ROUNDS as u64, "{begun} requests");
    println!("{begun} requests of {}", 2 * ROUNDS);
    for gauge in ["envoy_cluster_upstream_rq_active", "envoy_http_downstream_cx_active"] {
        eventually(gauge, || proxy.count(gauge, &[]) == 0);
    }
    assert_eq!(proxy.get("/after").status, 303);
}
