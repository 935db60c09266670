//! What a request means: its scheme, its header lines. Each row is what Envoy 1.40 answered with the same configuration.
mod common;

use common::*;
use serde_json::{Value, json};

/// The four questions whose answer is the scheme, and a virtual host that takes TLS only.
fn scheme_listener(settings: &Value) -> Value {
    let scheme = |scheme: &str| {
        json!({ "match": { "path": "/scheme", "headers": [{ "name": ":scheme", "string_match": { "exact": scheme } }] },
            "direct_response": { "status": 200, "body": { "inline_string": scheme } } })
    };
    let mut manager = http(json!([
        { "match": { "path": "/redirect" }, "redirect": { "path_redirect": "/x" } },
        scheme("http"),
        scheme("https"),
        { "match": { "prefix": "/" }, "route": { "cluster": "up" },
          "request_headers_to_add": [{ "header": { "key": "x-scheme", "value": "%REQ(:SCHEME)%" } }] },
    ]));
    let secure = json!({ "name": "tls", "domains": ["tls"], "require_tls": "ALL",
        "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }] });
    manager["route_config"]["virtual_hosts"].as_array_mut().unwrap().push(secure);
    for (key, value) in settings.as_object().unwrap() {
        manager[key] = value.clone();
    }
    http_listener(manager)
}

#[test]
fn a_trusted_forwarded_proto_is_the_scheme_wherever_it_is_asked_for() {
    let host = Host::saying("ok");
    let trusting = [
        json!({}),
        json!({ "xff_num_trusted_hops": 1 }),
        json!({ "use_remote_address": true, "xff_num_trusted_hops": 1 }),
    ];
    // The lines of x-forwarded-proto, the scheme, whether a redirect to TLS is needed, what the host is told.
    let rows: [(&[&str], &str, bool, &str); 7] = [
        (&[], "http", true, "http"),
        (&["https"], "https", false, "https"),
        (&["http"], "http", true, "http"),
        (&["HTTPS"], "https", true, "HTTPS"),
        (&["https", "http"], "http", true, "https"),
        (&["https,http"], "http", true, "https,http"),
        (&["wss"], "http", true, "wss"),
    ];
    for settings in &trusting {
        let proxy = Proxy::start(scheme_listener(settings), &[cluster("up", &[host.address])]);
        for (lines, scheme, redirected, told) in rows {
            let lines: String = lines.iter().map(|line| format!("x-forwarded-proto: {line}\r\n")).collect();
            let mut client = proxy.client();
            let mut ask = |target: &str, name: &str| {
                client.ask(&format!("GET {target} HTTP/1.1\r\nhost: {name}\r\n{lines}\r\n"))
            };
            let row = format!("{settings} {lines:?}");
            assert_eq!(ask("/scheme", "a").body, scheme, "{row}");
            assert_eq!(ask("/redirect", "a").header("location"), Some(&*format!("{scheme}://a/x")), "{row}");
            assert_eq!(ask("/t", "tls").status, if redirected { 301 } else { 200 }, "{row}");
            assert_eq!(ask("/up", "a").status, 200);
            let sent = host.last_request();
            assert_eq!(header(&sent, "x-scheme"), Some(scheme), "{row}");
            assert_eq!(header(&sent, "x-forwarded-proto"), Some(told), "{row}");
            // A target that says its scheme knows better; a redirect to TLS asks the header all the same.
            assert_eq!(ask("https://a/scheme", "a").body, "https", "{row}");
            assert_eq!(ask("https://tls/x", "tls").status, if redirected { 301 } else { 200 }, "{row}");
        }
        let empty = proxy.client().ask("GET /scheme HTTP/1.1\r\nhost: a\r\nx-forwarded-proto:\r\n\r\n");
        assert_eq!(empty.status, 404, "{settings}: an empty one is of no scheme");
    }
}

#[test]
fn an_outsiders_forwarded_proto_says_nothing() {
    let host = Host::saying("ok");
    let settings = json!({ "use_remote_address": true });
    let proxy = Proxy::start(scheme_listener(&settings), &[cluster("up", &[host.address])]);
    for told in ["https", "HTTPS", "", "wss"] {
        let mut client = proxy.client();
        let mut ask = |target: &str, name: &str| {
            client.ask(&format!("GET {target} HTTP/1.1\r\nhost: {name}\r\nx-forwarded-proto: {told}\r\n\r\n"))
        };
        assert_eq!(ask("/scheme", "a").body, "http");
        assert_eq!(ask("/redirect", "a").header("location"), Some("http://a/x"));
        assert_eq!(ask("/t", "tls").status, 301);
        assert_eq!(ask("/up", "a").status, 200);
        assert_eq!(header(&host.last_request(), "x-forwarded-proto"), Some("http"));
        assert_eq!(ask("https://a/scheme", "a").status, 403);
    }
}

/// Where one value is asked for, it is that of the first line; of an inline header, of all.
#[test]
fn one_value_of_several_lines_is_the_first() {
    let host = Host::saying("ok");
    let add = |value: &str| json!([{ "header": { "key": "x-out", "value": value } }]);
    let routes = json!([
        { "match": { "path": "/cluster" }, "route": { "cluster_header": "x-c" } },
        { "match": { "path": "/host" }, "route": { "cluster": "up", "host_rewrite_header": "x-h" } },
        { "match": { "path": "/own" }, "route": { "cluster": "up" }, "request_headers_to_add": add("%REQ(x-a)%") },
        { "match": { "path": "/inline" }, "route": { "cluster": "up" },
          "request_headers_to_add": add("%REQ(accept)%") },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let mut ask = |path: &str, name: &str, lines: [&str; 2]| {
        let [one, two] = lines;
        let answer =
            client.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n{name}: {one}\r\n{name}: {two}\r\n\r\n"));
        answer.status
    };
    assert_eq!(ask("/cluster", "x-c", ["up", "nowhere"]), 200);
    assert_eq!(ask("/cluster", "x-c", ["nowhere", "up"]), 503);
    assert_eq!(ask("/host", "x-h", ["one", "two"]), 200);
    assert_eq!(header(&host.last_request(), "host"), Some("one"));
    assert_eq!(ask("/own", "x-a", ["one", "two"]), 200);
    assert_eq!(header(&host.last_request(), "x-out"), Some("one"));
    assert_eq!(ask("/inline", "accept", ["one", "two"]), 200);
    assert_eq!(header(&host.last_request(), "x-out"), Some("one,two"));
}

/// A rule is not passed by sending its header twice.
#[test]
fn each_line_of_a_header_is_matched_by_itself() {
    let denied = json!([
        { "match": { "prefix": "/", "headers": [{ "name": "x-role", "string_match": { "exact": "admin" } }] },
          "direct_response": { "status": 403 } },
        { "match": { "prefix": "/" }, "direct_response": { "status": 200 } },
    ]);
    let proxy = Proxy::start(http_listener(http(denied)), &[]);
    let mut client = proxy.client();
    for (lines, status) in [
        ("", 200),
        ("x-role: admin\r\n", 403),
        ("x-role: user\r\nX-Role: admin\r\n", 403),
        ("x-role: admin\r\nx-role: user\r\n", 403),
        ("x-role: user,admin\r\n", 200),
        ("x-role:\r\nx-role: admin\r\n", 403),
    ] {
        assert_eq!(
            client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).status,
            status,
            "{lines:?}"
        );
    }
}

/// A response's lines too, where a retry policy asks for them.
#[test]
fn each_line_of_a_response_is_matched_by_itself() {
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 200 OK\r\nx-again: no\r\nx-again: yes\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let policy = json!({ "retry_on": "retriable-headers", "num_retries": 1,
        "retriable_headers": [{ "name": "x-again", "string_match": { "exact": "yes" } }],
        "retry_back_off": { "base_interval": "0.001s" } });
    let routes =
        json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "retry_policy": policy } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(host.requests.lock().unwrap().len(), 2);
}

#[test]
fn a_wildcard_written_as_an_exact_origin_allows_any() {
    let host = Host::saying("ok");
    let cors = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        json!({ "allow_origin_string_match": [{ "exact": "*" }], "allow_methods": "POST,GET", "allow_credentials": true }),
    );
    let own = json!({ "envoy.filters.http.cors": cors });
    let routes = json!([
        { "match": { "path": "/away" }, "redirect": { "path_redirect": "/x" }, "typed_per_filter_config": own },
        { "match": { "prefix": "/" }, "route": { "cluster": "up" }, "typed_per_filter_config": own },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\norigin: https://page.test\r\n\r\n");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://page.test"))
    );
    let preflight =
        "HTTP/1.1\r\nhost: a\r\norigin: https://page.test\r\naccess-control-request-method: POST\r\n\r\n";
    let answer = client.ask(&format!("OPTIONS /x {preflight}"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST,GET"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(host.requests.lock().unwrap().len(), 1, "a preflight is answered here");
    let answer = client.ask(&format!("OPTIONS /away {preflight}"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (301, None));
}

/// Envoy has the lines of a content type as one value: twice gRPC is no gRPC, for routes and for answers alike.
#[test]
fn a_header_of_one_value_that_comes_twice_says_nothing() {
    let routes = json!([
        { "match": { "path": "/is", "grpc": {} }, "direct_response": { "status": 201 } },
        { "match": { "path": "/is" }, "direct_response": { "status": 202 } },
        { "match": { "prefix": "/" }, "direct_response": { "status": 403, "body": { "inline_string": "no" } } },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[]);
    let mut client = proxy.client();
    let mut ask = |path: &str, lines: &str| {
        let answer =
            client.ask(&format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{lines}\r\n"));
        (answer.status, answer.header("content-type").map(str::to_owned))
    };
    const GRPC: &str = "content-type: application/grpc\r\n";
    let grpc = Some("application/grpc".to_owned());
    assert_eq!(ask("/is", GRPC), (200, grpc.clone()));
    assert_eq!(ask("/", GRPC), (200, grpc));
    let twice = format!("{GRPC}{GRPC}");
    assert_eq!(ask("/is", &twice), (202, None));
    assert_eq!(ask("/", &twice), (403, Some("text/plain".to_owned())));
}

/// A scope is one machine's alone: who names a scoped address names nobody.
#[test]
fn a_scoped_address_is_nobodys() {
    let host = Host::saying("ok");
    let settings = json!({ "use_remote_address": true, "xff_num_trusted_hops": 1 });
    let proxy = Proxy::start(scheme_listener(&settings), &[cluster("up", &[host.address])]);
    for (told, client) in [("fe80::1", "fe80::1"), ("fe80::1%lo", "127.0.0.1"), ("fe80::1%1", "127.0.0.1")] {
        let answer =
            proxy.client().ask(&format!("GET /up HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {told}\r\n\r\n"));
        assert_eq!(answer.status, 200);
        assert_eq!(header(&host.last_request(), "x-envoy-external-address"), Some(client), "{told}");
    }
    let mut scoped = cluster("up", &[host.address]);
    let endpoint = &mut scoped["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"]["address"] = "fe80::1%lo".into();
    let whole = bootstrap(&http_listener(http(to("up"))), &[scoped]);
    let refused =
        proxy::start_static(&whole, proxy::ProxyOptions::default()).err().expect("refused").to_string();
    assert!(refused.contains("scoped"), "{refused}");
}

/// The same, where a header names the host.
#[test]
fn a_scoped_original_destination_is_ignored() {
    let original = json!({ "name": "up", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s",
        "original_dst_lb_config": { "use_http_header": true } });
    let host = Host::saying("ok");
    let proxy = Proxy::start(http_listener(http(to("up"))), &[original]);
    let ask = |told: &str| {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-envoy-original-dst-host: {told}\r\n\r\n");
        proxy.client().ask(&head).status
    };
    assert_eq!(ask(&host.address.to_string()), 200);
    assert_eq!(ask("[fe80::1%1]:80"), 503);
    assert_eq!(ask("[::1%1]:80"), 503);
}
