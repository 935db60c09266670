//! Filters that wait while their client leaves (Envoy 2026-47205, 48090, 50572: what they had waited for came to a stream
//! that was gone): one ending and one log line for each request, every slot and gauge given back, no effect afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::cost::alone;
use crate::common::*;
use crate::frames::{self, Peer, RST_STREAM, frame};

const CONNECTIONS: u32 = 10;
const STREAMS: u32 = 100;

fn fault(path: &str, more: Value, target: (&str, Value)) -> Value {
    let always = json!({ "numerator": 100 });
    let mut fault = json!({ "delay": { "fixed_delay": "0.1s", "percentage": always } });
    for (key, value) in more.as_object().unwrap() {
        fault[key] = value.clone();
    }
    json!({ "match": { "prefix": path }, target.0: target.1, "typed_per_filter_config": {
        "envoy.filters.http.fault": typed("envoy.extensions.filters.http.fault.v3.HTTPFault", fault) } })
}

/// A thousand requests held by a filter for 0.1 s and reset around that time; what the wait ends in is an abort, an
/// answer of ours, a host's, a retry, or no host.
#[test]
fn a_filter_that_waited_has_no_effect_on_a_request_that_is_gone() {
    let _alone = alone();
    let host = Host::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let file = tempfile::NamedTempFile::new().unwrap();
    let abort = json!({ "abort": { "http_status": 403, "percentage": { "numerator": 100 } } });
    let mut manager = http(json!([
        fault("/abort", abort, ("route", json!({ "cluster": "up" }))),
        fault("/direct", json!({}), ("direct_response", json!({ "status": 200 }))),
        fault("/host", json!({}), ("route", json!({ "cluster": "up", "timeout": "5s" }))),
        fault(
            "/nobody",
            json!({}),
            (
                "route",
                json!({ "cluster": "nobody", "timeout": "5s",
            "retry_policy": { "retry_on": "5xx,connect-failure", "num_retries": 2 } })
            )
        ),
        fault("/none", json!({}), ("route", json!({ "cluster": "none" })))
    ]));
    manager["access_log"] = json!([{ "name": "file", "typed_config":
        typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({ "path": file.path().to_str().unwrap(),
            "log_format": { "text_format_source": { "inline_string": "%REQ(:PATH)%\n" } } })) }]);
    let mut limited = cluster("up", &[host.address]);
    limited["circuit_breakers"] =
        json!({ "thresholds": [{ "max_requests": 5000, "max_pending_requests": 5000 }] });
    let clusters = [limited, cluster("nobody", &[nobody()])];
    let proxy = Proxy::start(http_listener(manager), &clusters);
    let paths = ["/abort", "/direct", "/host", "/nobody", "/none"];
    let mut clients: Vec<Peer> = (0..CONNECTIONS)
        .map(|connection| {
            let mut client = Peer::client(proxy.address, &[]);
            let asks = (0..STREAMS).flat_map(|number| {
                let path = format!("{}/{connection}-{number}", paths[number as usize % paths.len()]);
                let fields =
                    [(":method", "GET"), (":scheme", "http"), (":path", &*path), (":authority", "a")];
                frames::headers(2 * number + 1, frames::END_STREAM, &fields)
            });
            client.say(asks.collect::<Vec<u8>>());
            client
        })
        .collect();
    // Some before the wait is over, some when it is just over, some after.
    for (at, client) in clients.iter_mut().enumerate() {
        if at == CONNECTIONS as usize / 2 {
            std::thread::park_timeout(Duration::from_millis(70));
        }
        for number in (0..STREAMS).filter(|number| number % 3 != at as u32 % 3) {
            client.say(frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes()));
        }
    }
    let all = u64::from(CONNECTIONS * STREAMS);
    eventually("all have begun", || proxy.count("envoy_http_downstream_rq_total", &[]) == all);
    eventually("all have ended", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
    eventually("no fault is at work", || proxy.count("envoy_http_fault_active_faults", &[]) == 0);
    for gauge in ["upstream_rq_active", "upstream_rq_pending_active"] {
        let gauge = format!("envoy_cluster_{gauge}");
        eventually(&gauge, || proxy.count(&gauge, &[]) == 0);
    }
    proxy.handle().flush_logs();
    let log = std::fs::read_to_string(file.path()).unwrap();
    let mut lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len() as u64, all, "one line each");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len() as u64, all, "and not two for one");
    for client in &mut clients {
        assert!(client.say(frame(frames::PING, 0, 0, "12345678")));
        assert!(client.until(|frame| frame.kind == frames::PING).is_some(), "the connection goes on");
    }
}
