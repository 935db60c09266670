//! What is logged and counted.
mod common;
#[path = "catalogue/frames.rs"]
mod frames;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::*;
use proxy::{NodeIdentity, ProxyOptions};
use serde_json::json;

/// Istio's default format.
const FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" ",
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

fn file_log(path: &std::path::Path, format: serde_json::Value) -> serde_json::Value {
    json!([{ "name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog",
        json!({ "path": path.to_str().unwrap(), "log_format": format })) }])
}

#[test]
fn a_line_in_istios_format_is_right_to_the_byte() {
    let host = Host::saying("hello");
    let file = tempfile::NamedTempFile::new().unwrap();
    let routes = json!([{ "name": "default", "match": { "prefix": "/old" },
        "route": { "cluster": "outbound|80||web.default.svc.cluster.local", "prefix_rewrite": "/new" } }]);
    let mut manager = http(routes);
    manager["access_log"] =
        file_log(file.path(), json!({ "text_format_source": { "inline_string": FORMAT } }));
    let clusters = [cluster("outbound|80||web.default.svc.cluster.local", &[host.address])];
    let proxy = Proxy::start(http_listener(manager), &clusters);
    let mut client = proxy.client();
    let answer = client.ask(concat!(
        "POST /old?a=\"b HTTP/1.1\r\nhost: web\r\nuser-agent: curl/8\r\nx-request-id: id-1\r\n",
        "content-length: 3\r\n\r\nabc"
    ));
    assert_eq!(answer.status, 200);
    eventually("counted", || proxy.count("istio_requests_total", &["response_code=\"200\""]) == 1);
    proxy.handle().flush_logs();
    let line = std::fs::read_to_string(file.path()).unwrap();
    let (time, rest) = line.split_once("] ").unwrap();
    assert_eq!(time.len(), "[2026-11-21T15:28:25.273Z".len(), "{line}");
    let local = client.stream.local_addr().unwrap();
    let mut fields: Vec<&str> = rest.split(' ').collect();
    // Duration and service time in milliseconds, and our address towards the host, are not known beforehand.
    for index in [10, 11, 18] {
        let field = std::mem::replace(&mut fields[index], "*");
        assert!(!field.is_empty() && field != "-", "{index}: {line}");
    }
    let expected = format!(
        "\"POST /old?a=\\\"b HTTP/1.1\" 200 - via_upstream - \"-\" 3 5 * * \"-\" \"curl/8\" \"id-1\" \"web\" \"{}\" \
         outbound|80||web.default.svc.cluster.local * {} {local} - default\n",
        host.address, proxy.address
    );
    assert_eq!(fields.join(" "), expected);
}

#[test]
fn json_logs_show_response_fields() {
    let host = Host::answering("HTTP/1.1 201 Made\r\ncontent-length: 0\r\nx-made: yes\r\n\r\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut manager = http(to("up"));
    let format = json!({ "json_format": { "code": "%RESPONSE_CODE%", "made": "%RESP(X-MADE)%" } });
    manager["access_log"] = file_log(file.path(), format);
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.get("/").status, 201);
    eventually("counted", || proxy.count("istio_requests_total", &["response_code=\"201\""]) == 1);
    proxy.handle().flush_logs();
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
    assert_eq!(line, json!({ "code": 201, "made": "yes" }));
}

#[test]
fn a_log_that_can_not_be_written_stops_nothing() {
    let host = Host::saying("x");
    let mut manager = http(to("up"));
    let nowhere = std::path::Path::new("/proc/filamesh-nowhere/access.log");
    manager["access_log"] = file_log(nowhere, json!({ "text_format_source": { "inline_string": "x\n" } }));
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status, 200);
        proxy.handle().flush_logs();
    }
    assert_eq!(proxy.handle().lost_log_lines(), 3);
    assert_eq!(proxy.count("filamesh_access_log_dropped_lines_total", &[]), 3);
}

/// What the end of the time to drain cuts has been asked for all the same.
#[test]
fn requests_that_a_stop_cuts_have_their_lines() {
    let host = Host::start(|connection| while !connection.read_some().is_empty() {});
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut manager = http(to("up"));
    let format =
        json!({ "text_format_source": { "inline_string": "%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%\n" } });
    manager["access_log"] = file_log(file.path(), format);
    let options = ProxyOptions { drain: Duration::ZERO, ..ProxyOptions::default() };
    let proxy = Proxy::with(http_listener(manager), &[cluster("up", &[host.address])], options);
    let mut first = proxy.client();
    first.say("GET / HTTP/1.1\r\nhost: test.local\r\n\r\n");
    let mut second = frames::Peer::client(proxy.address, &[]);
    second.say(frames::get(1, &[]));
    eventually("both are under way", || proxy.handle().active() >= 2 && host.connections.load(SeqCst) == 2);
    proxy.proxy.runtime.stop();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HTTP/1.1 0 DC", "HTTP/2 0 DC"]);
}

#[test]
fn every_request_is_counted_once() {
    let host = Host::saying("x");
    let routes = json!([
        { "match": { "path": "/direct" }, "direct_response": { "status": 200 } },
        { "match": { "prefix": "/up" }, "route": { "cluster": "up" } },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    for n in 0..300 {
        let path = ["/up", "/direct", "/none"][n % 3];
        client.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
    }
    eventually("all are counted", || proxy.count("istio_requests_total", &[]) == 300);
    assert_eq!(proxy.count("istio_requests_total", &["response_code=\"404\"", "response_flags=\"NR\""]), 100);
    assert_eq!(proxy.count("istio_request_duration_milliseconds_count", &[]), 300);
    assert_eq!(proxy.count("envoy_http_downstream_rq_total", &[]), 300);
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_total", &["\"up\""]), 100);
    for gauge in ["envoy_http_downstream_rq_active", "envoy_cluster_upstream_rq_active"] {
        assert_eq!(proxy.count(gauge, &[]), 0, "{gauge}");
    }
}

fn node(workload: &str) -> NodeIdentity {
    let metadata = json!({ "NAMESPACE": "default", "WORKLOAD_NAME": workload,
        "LABELS": { "app": workload, "version": "v1" }, "CLUSTER_ID": "Kubernetes" });
    NodeIdentity {
        id: format!("sidecar~127.77.0.1~{workload}"),
        cluster: workload.into(),
        metadata: Some(
            xds::json::from_json::<xds::core::Node>(&json!({ "metadata": metadata }))
                .unwrap()
                .metadata
                .unwrap(),
        ),
    }
}

/// Two sidecars: each names the other in its metrics, and neither the client nor the application sees how they know.
#[test]
fn peers_learn_who_the_other_is() {
    let application = Host::saying("x");
    let peer_metadata = |config| {
        json!({ "name": "istio.metadata_exchange",
            "typed_config": typed("io.istio.http.peer_metadata.Config", config) })
    };
    let with = |mut manager: serde_json::Value, filter: serde_json::Value| {
        manager["http_filters"].as_array_mut().unwrap().insert(0, filter);
        manager
    };
    let learn = peer_metadata(json!({ "downstream_discovery": [{ "istio_headers": {} }],
        "downstream_propagation": [{ "istio_headers": {} }] }));
    let mut inbound = http_listener(with(http(to("app")), learn));
    inbound["traffic_direction"] = "INBOUND".into();
    let options = ProxyOptions { node: node("reviews"), ..ProxyOptions::default() };
    let server = Proxy::with(inbound, &[cluster("app", &[application.address])], options);

    let tell = peer_metadata(json!({ "upstream_discovery": [{ "istio_headers": {} }],
        "upstream_propagation": [{ "istio_headers": {} }] }));
    let mut reviews = cluster("outbound|80||reviews.default.svc.cluster.local", &[server.address]);
    reviews["metadata"] = json!({ "filter_metadata": { "istio": { "services": [
        { "host": "reviews.default.svc.cluster.local", "name": "reviews", "namespace": "default" } ] } } });
    reviews["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = json!({ "filter_metadata": {
        "istio": { "workload": "reviews-v1;default;reviews;v1;Kubernetes" } } });
    let outbound = http_listener(with(http(to("outbound|80||reviews.default.svc.cluster.local")), tell));
    let options = ProxyOptions { node: node("productpage"), ..ProxyOptions::default() };
    let client_side = Proxy::with(outbound, &[reviews], options);

    let mut client = client_side.client();
    for _ in 0..3 {
        let answer = client.ask("GET / HTTP/1.1\r\nhost: reviews\r\n\r\n");
        assert_eq!((answer.status, answer.header("x-envoy-peer-metadata")), (200, None));
    }
    for sent in application.requests.lock().unwrap().iter() {
        assert!(!sent.contains("x-envoy-peer-metadata"), "{sent}");
    }
    let at_source = [
        "reporter=\"source\"",
        "source_workload=\"productpage\"",
        "destination_workload=\"reviews-v1\"",
        "destination_service=\"reviews.default.svc.cluster.local\"",
        "destination_service_name=\"reviews\"",
    ];
    eventually("source", || client_side.count("istio_requests_total", &at_source) == 3);
    let at_destination = [
        "reporter=\"destination\"",
        "source_workload=\"productpage\"",
        "source_app=\"productpage\"",
        "source_cluster=\"Kubernetes\"",
        "destination_workload=\"reviews\"",
    ];
    eventually("destination", || server.count("istio_requests_total", &at_destination) == 3);
}

/// As Envoy 1.40, name by name: the lines of a header that it has a place of its own for are one value, those of others are
/// told by their first.
#[test]
fn lines_of_one_header_are_logged_as_envoy_logs_them() {
    let host = Host::saying("ok");
    let file = tempfile::NamedTempFile::new().unwrap();
    let names = ["accept", "user-agent", "x-forwarded-host", "cookie", "x-custom", "range", "referer"];
    let format: Vec<String> = names.iter().map(|name| format!("%REQ({name})%")).collect();
    let mut manager = http(to("up"));
    manager["access_log"] = json!([{ "name": "file", "typed_config":
        typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({ "path": file.path().to_str().unwrap(),
            "log_format": { "text_format_source": { "inline_string": format!("{}\n", format.join("|")) } } })) }]);
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let twice: String = names.iter().map(|name| format!("{name}: 1\r\n{name}: 2\r\n")).collect();
    let mut client = proxy.client();
    assert_eq!(client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{twice}\r\n")).status, 200);
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\naccept: 1\r\n\r\n").status, 200);
    let mut log = String::new();
    eventually("two lines", || {
        proxy.handle().flush_logs();
        log = std::fs::read_to_string(file.path()).unwrap();
        log.lines().count() == 2
    });
    assert_eq!(log, "1,2|1,2|1,2|1|1|1|1,2\n1|-|-|-|-|-|-\n");
}
