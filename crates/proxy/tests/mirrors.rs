//! Mirrored requests. Sources: Istio's task "Mirroring", Envoy's `RequestMirrorPolicy` and what Envoy 1.40 sends with the
//! same configuration (tests/differential/mirrors.rs).
mod common;
#[path = "h2client/mod.rs"]
mod h2client;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::*;
use h2client::H2Client;
use serde_json::{Value, json};

/// As Istio's objects are translated.
fn istio(cluster: &str) -> Value {
    json!({ "cluster": cluster, "disable_shadow_host_suffix_append": true, "trace_sampled": false,
        "runtime_fraction": { "default_value": { "numerator": 100 } } })
}

fn to_v1(mirrors: Value) -> Value {
    json!([{ "match": { "prefix": "/" },
        "route": { "cluster": "v1", "timeout": "0s", "request_mirror_policies": mirrors } }])
}

fn http2(mut cluster: Value) -> Value {
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": {} } })) });
    cluster
}

/// A host that keeps each whole request, head and body together, and answers.
fn recorder(status: &'static str) -> (Host, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let all = seen.clone();
    let host = Host::start(move |connection| {
        while let Some(head) = read_head(&mut connection.stream, &mut connection.buffer) {
            let mut whole = head.clone();
            if let Some(length) = header(&head, "content-length") {
                whole += &String::from_utf8(connection.body(length.parse().unwrap())).unwrap();
            } else if header(&head, "transfer-encoding").is_some() {
                while !whole.contains("\r\n0\r\n") || !whole.ends_with("\r\n\r\n") {
                    whole += &String::from_utf8(connection.read_some()).unwrap();
                }
            }
            all.lock().unwrap().push(whole);
            connection.say(&format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno"));
        }
    });
    (host, seen)
}

/// `istio-behaviour.md`, task 10: all of the traffic goes to v1, and from then on a copy of it to v2.
#[test]
fn v2_gets_a_copy_of_what_v1_answers() {
    let (v1, v2) = (Host::saying("v1"), Host::answering("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nv2"));
    let clusters = [cluster("v1", &[v1.address]), cluster("v2", &[v2.address])];
    let before = Proxy::start(http_listener(http(to_v1(json!([])))), &clusters);
    assert_eq!(before.get("/headers").body, "v1");
    let proxy = Proxy::start(http_listener(http(to_v1(json!([istio("v2")])))), &clusters);
    let answer = proxy.get("/headers");
    assert_eq!((answer.status, answer.body.as_str()), (200, "v1"));
    eventually("the copy", || v2.requests.lock().unwrap().len() == 1);
    assert_eq!(v1.requests.lock().unwrap().len(), 2);
    let copy = v2.last_request();
    assert!(copy.starts_with("GET /headers HTTP/1.1\r\n"), "{copy}");
    assert_eq!(header(&copy, "host"), Some("test.local"));
    assert_eq!(header(&copy, "x-envoy-internal"), Some("true"));
    assert_eq!(header(&copy, "x-request-id"), header(&v1.last_request(), "x-request-id"));
    eventually("counted", || {
        proxy.count("envoy_cluster_upstream_rq", &["\"v2\"", "response_code=\"500\""]) == 1
    });
    eventually("the client's request is counted", || proxy.count("istio_requests_total", &[]) > 0);
    assert_eq!(proxy.count("istio_requests_total", &[]), 1, "a copy is no request of a client");
    eventually("the copy is done", || proxy.count("envoy_cluster_upstream_rq_active", &["\"v2\""]) == 0);
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_active", &["\"v2\""]), 1, "kept for the next copy");
    for copies in 2..5 {
        proxy.get("/");
        // One that begins while another is under way would need a connection of its own.
        eventually("the copy is answered", || {
            proxy.count("envoy_cluster_upstream_rq", &["\"v2\"", "response_code=\"500\""]) == copies
        });
    }
    assert_eq!(v2.requests.lock().unwrap().len(), 4);
    assert_eq!(v2.connections.load(SeqCst), 1);
}

/// Envoy: `-shadow` behind the name unless that is switched off; `host_rewrite_literal`; `cluster_header`; the rewrites of
/// the route are in the copy.
#[test]
fn a_copy_is_for_the_host_the_policy_says() {
    let (v1, v2) = (Host::saying("v1"), Host::saying("v2"));
    let cases = [
        (json!({ "cluster": "v2" }), "a.b:80", "a.b-shadow:80"),
        (json!({ "cluster": "v2" }), "a.b", "a.b-shadow"),
        (json!({ "cluster": "v2", "host_rewrite_literal": "c.d" }), "a.b", "c.d"),
        (istio("v2"), "a.b:80", "a.b:80"),
        (json!({ "cluster_header": "x-to", "disable_shadow_host_suffix_append": true }), "a.b", "a.b"),
    ];
    for (policy, host, expected) in cases {
        let mut routes = to_v1(json!([policy]));
        routes[0]["route"]["prefix_rewrite"] = "/new/".into();
        let proxy = Proxy::start(
            http_listener(http(routes)),
            &[cluster("v1", &[v1.address]), cluster("v2", &[v2.address])],
        );
        let before = v2.requests.lock().unwrap().len();
        let text = format!("GET /old HTTP/1.1\r\nhost: {host}\r\nx-to: v2\r\n\r\n");
        assert_eq!(proxy.client().ask(&text).body, "v1");
        eventually("the copy", || v2.requests.lock().unwrap().len() == before + 1);
        let copy = v2.last_request();
        assert_eq!(header(&copy, "host"), Some(expected), "{policy}");
        assert!(copy.starts_with("GET /new/old HTTP/1.1"), "{copy}");
        assert_eq!(header(&v1.last_request(), "host"), Some(host));
    }
}

/// Bodies of either framing with their trailers, by HTTP/1 and HTTP/2 on both sides, are the same in the copy.
#[test]
fn copies_have_the_body_and_the_trailers() {
    let (v1, first) = recorder("200 OK");
    let (v2, second) = recorder("200 OK");
    // The copies go by HTTP/2, to a second proxy that makes HTTP/1 of them again.
    let behind = Proxy::start(http_listener(http(to("v2"))), &[cluster("v2", &[v2.address])]);
    let proxy = Proxy::start(
        http_listener(http(to_v1(json!([istio("v2")])))),
        &[cluster("v1", &[v1.address]), http2(cluster("v2", &[behind.address]))],
    );
    let bodies = |whole: &str| whole.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    let mut client = proxy.client();
    client.ask("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
    client.ask(
        "POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
    );
    let mut client = H2Client::connect(proxy.address);
    let stream = client.open("POST", "/c", "te: trailers\r\n", false);
    client.send(stream, b"hel", false);
    client.send(stream, b"lo", true);
    assert_eq!(client.answer(stream).status, 200);
    let stream = client.open("POST", "/d", "", true);
    assert_eq!(client.answer(stream).status, 200);
    eventually("all copies", || second.lock().unwrap().len() == 4);
    let (first, second) = (first.lock().unwrap().clone(), second.lock().unwrap().clone());
    for path in ["/a", "/b", "/c", "/d"] {
        let of = |all: &[String]| {
            all.iter().find(|whole| whole.contains(&format!("POST {path} "))).unwrap().clone()
        };
        let (original, copy) = (of(&first), of(&second));
        let joined =
            |whole: &str| bodies(whole).unwrap_or_default().replace("3\r\nhel\r\n2\r\nlo", "5\r\nhello");
        assert_eq!(joined(&copy), joined(&original), "{path}");
        assert_eq!(header(&copy, "content-length"), header(&original, "content-length"), "{path}");
        assert_eq!(header(&copy, "transfer-encoding"), header(&original, "transfer-encoding"), "{path}");
    }
    assert!(second.iter().any(|whole| whole.contains("x-t: 1\r\n")), "{second:?}");
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_http2_total", &["\"v2\""]), 1);
}

/// One dice decides on all policies of a request, as in Envoy.
#[test]
fn a_share_of_the_requests_is_copied() {
    let (v1, v2, v3) = (Host::saying("v1"), Host::saying("v2"), Host::saying("v3"));
    let share = |cluster: &str, percent: u32| json!({ "cluster": cluster, "runtime_fraction": { "default_value": { "numerator": percent } } });
    let proxy = Proxy::start(
        http_listener(http(to_v1(json!([
            share("v2", 50),
            share("v3", 50),
            share("none", 0),
            share("gone", 100)
        ])))),
        &[
            cluster("v1", &[v1.address]),
            cluster("v2", &[v2.address]),
            cluster("v3", &[v3.address]),
            cluster("none", &[v1.address]),
        ],
    );
    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
    }
    let count = |host: &Host| host.requests.lock().unwrap().len();
    let total = |cluster: &str| proxy.count("envoy_cluster_upstream_rq_total", &[&format!("\"{cluster}\"")]);
    eventually("copies sent are copies received", || {
        total("v2") as usize == count(&v2) && count(&v2) == count(&v3)
    });
    // As the table of Istio's tasks has it: 200, give or take 40.
    assert!((160..=240).contains(&count(&v2)), "{}", count(&v2));
    assert_eq!((count(&v1), total("none")), (400, 0));
}

/// Whatever becomes of the copies, the original does not wait for it.
#[test]
fn mirrors_that_hang_refuse_or_flood_leave_the_original_alone() {
    let v1 = Host::saying("v1");
    let hangs = Host::start(|connection| while connection.request().is_some() {});
    let floods = Host::start(|connection| {
        if connection.request().is_some() {
            connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while connection.say(&format!("10000\r\n{}\r\n", "x".repeat(65536))) {}
        }
    });
    let nonsense = Host::answering("HTTP/9 what\r\n\r\n");
    let mut bounded = cluster("floods", &[floods.address]);
    bounded["circuit_breakers"] = json!({ "thresholds": [{ "max_requests": 2 }] });
    let clusters = [
        cluster("v1", &[v1.address]),
        cluster("hangs", &[hangs.address]),
        cluster("refuses", &[nobody()]),
        cluster("nonsense", &[nonsense.address]),
        bounded,
        cluster("empty", &[]),
    ];
    let mirrors = json!(["hangs", "refuses", "nonsense", "floods", "empty"].map(istio));
    let mut routes = to_v1(mirrors);
    routes[0]["route"]["timeout"] = "0.3s".into();
    let proxy = Proxy::start(http_listener(http(routes)), &clusters);
    let began = Instant::now();
    let mut client = proxy.client();
    for _ in 0..50 {
        let answer = client.ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody");
        assert_eq!((answer.status, answer.body.as_str()), (200, "v1"));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let active =
        |cluster: &str| proxy.count("envoy_cluster_upstream_rq_active", &[&format!("\"{cluster}\"")]);
    // The copies end with the route's timeout, and all they held is given back.
    for cluster in ["hangs", "refuses", "nonsense", "floods", "empty"] {
        eventually(cluster, || active(cluster) == 0);
    }
    let of = |metric: &str, cluster: &str| proxy.count(metric, &[&format!("\"{cluster}\"")]);
    eventually("hanging copies time out", || of("envoy_cluster_upstream_rq_timeout", "hangs") == 50);
    assert_eq!(
        of("envoy_cluster_upstream_cx_active", "hangs"),
        0,
        "closed, for half an exchange can not be reused"
    );
    assert_eq!(of("envoy_cluster_upstream_cx_connect_fail", "refuses"), 50);
    assert!(of("envoy_cluster_upstream_rq_pending_overflow", "floods") > 0, "the mirror's own breaker holds");
    assert_eq!(of("envoy_cluster_upstream_rq_timeout", "v1"), 0);
    assert_eq!(proxy.handle().active(), 0);
}

/// Envoy: `retry_or_shadow_abandoned`.
#[test]
fn a_body_larger_than_the_buffer_is_not_copied() {
    let (v1, _) = recorder("200 OK");
    let v2 = Host::saying("v2");
    let mut routes = to_v1(json!([istio("v2")]));
    routes[0]["per_request_buffer_limit_bytes"] = 1000.into();
    let proxy = Proxy::start(
        http_listener(http(routes)),
        &[cluster("v1", &[v1.address]), cluster("v2", &[v2.address])],
    );
    let mut client = proxy.client();
    for length in [1000, 1001] {
        let body = "x".repeat(length);
        let text = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
        assert_eq!(client.ask(&text).status, 200);
    }
    client.ask("GET /last HTTP/1.1\r\nhost: x\r\n\r\n");
    eventually("the copies", || v2.last_request().contains("/last"));
    assert_eq!(v2.requests.lock().unwrap().len(), 2);
    assert_eq!(proxy.count("envoy_cluster_retry_or_shadow_abandoned", &["\"v1\""]), 1);
}
