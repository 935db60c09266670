//! Requests and responses through real sockets.
mod common;

use common::*;
use serde_json::json;

#[test]
fn a_request_goes_through_with_its_headers_and_the_connections_are_kept() {
    let host = Host::saying("hello");
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.ask("GET /a?b=c HTTP/1.1\r\nHost: test.local\r\nX-Custom: kept\r\n\r\n");
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert_eq!(answer.header("server"), Some("istio-envoy"));
        assert!(answer.header("x-envoy-upstream-service-time").is_some());
        assert!(answer.header("date").is_some());
    }
    let sent = host.last_request();
    assert!(sent.starts_with("GET /a?b=c HTTP/1.1\r\nHost: test.local\r\nX-Custom: kept\r\n"), "{sent}");
    assert_eq!(header(&sent, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(&sent, "x-request-id").unwrap().len(), 36);
    assert_eq!(header(&sent, "x-envoy-attempt-count"), Some("1"));
    assert_eq!(host.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn weights_are_kept() {
    let (a, b) = (Host::saying("a"), Host::saying("b"));
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "weighted_clusters": { "clusters": [
        { "name": "a", "weight": 20 }, { "name": "b", "weight": 80 } ] } } }]);
    let clusters = [cluster("a", &[a.address]), cluster("b", &[b.address])];
    let proxy = Proxy::start(http_listener(http(routes)), &clusters);
    let mut client = proxy.client();
    let asked = |_| client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body == "a";
    let hits = (0..2000).map(asked).filter(|hit| *hit).count();
    // 400 expected; 5 standard deviations are 90.
    assert!((310..490).contains(&hits), "{hits}");
}

#[test]
fn headers_and_path_and_host_are_changed_as_the_route_says() {
    let host = Host::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-secret: 1\r\n\r\n");
    let routes = json!([{
        "match": { "prefix": "/old/" },
        "route": { "cluster": "up", "prefix_rewrite": "/new/", "host_rewrite_literal": "inside.local" },
        "request_headers_to_add": [
            { "header": { "key": "x-added", "value": "yes" } },
            { "header": { "key": "x-client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } } ],
        "request_headers_to_remove": ["x-removed"],
        "response_headers_to_remove": ["x-secret"],
        "response_headers_to_add": [{ "header": { "key": "x-seen", "value": "1" } }],
    }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let answer = proxy.client().ask("GET /old/x?q HTTP/1.1\r\nhost: out.local\r\nx-removed: 1\r\n\r\n");
    assert_eq!((answer.header("x-secret"), answer.header("x-seen")), (None, Some("1")));
    let sent = host.last_request();
    assert!(sent.starts_with("GET /new/x?q HTTP/1.1\r\n"), "{sent}");
    for (name, value) in [
        ("host", Some("inside.local")),
        ("x-envoy-original-path", Some("/old/x?q")),
        ("x-envoy-original-host", Some("out.local")),
        ("x-added", Some("yes")),
        ("x-client", Some("127.0.0.1")),
        ("x-removed", None),
    ] {
        assert_eq!(header(&sent, name), value, "{name} in {sent}");
    }
}

#[test]
fn redirects_and_direct_responses() {
    let routes = json!([
        { "match": { "path": "/r" }, "redirect": { "host_redirect": "other.local", "path_redirect": "/x" } },
        { "match": { "path": "/d" }, "direct_response": { "status": 418, "body": { "inline_string": "teapot" } } },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[]);
    let redirect = proxy.get("/r");
    assert_eq!((redirect.status, redirect.header("location")), (301, Some("http://other.local/x")));
    let direct = proxy.get("/d");
    assert_eq!((direct.status, direct.body.as_str()), (418, "teapot"));
    assert_eq!(direct.header("content-type"), Some("text/plain"));
    assert_eq!(proxy.get("/none").status, 404);
}

/// What a proxy of Istio's answers by itself: status, body, flag.
#[test]
fn local_replies_are_worded_as_envoys() {
    let routes = json!([
        { "match": { "path": "/nc" }, "route": { "cluster": "missing" } },
        { "match": { "path": "/uh" }, "route": { "cluster": "empty" } },
        { "match": { "path": "/uf" }, "route": { "cluster": "refused" } },
        { "match": { "path": "/uc" }, "route": { "cluster": "closing" } },
        { "match": { "path": "/ut" }, "route": { "cluster": "silent", "timeout": "0.05s" } },
        { "match": { "path": "/upe" }, "route": { "cluster": "nonsense" } },
    ]);
    let closing = Host::start(|connection| drop(connection.request()));
    let silent = Host::start(|connection| while connection.request().is_some() {});
    let nonsense = Host::answering("nonsense\r\n\r\n");
    let clusters = [
        cluster("empty", &[]),
        cluster("refused", &[nobody()]),
        cluster("closing", &[closing.address]),
        cluster("silent", &[silent.address]),
        cluster("nonsense", &[nonsense.address]),
    ];
    let mut manager = http(routes);
    manager["route_config"]["validate_clusters"] = false.into();
    let proxy = Proxy::start(http_listener(manager), &clusters);
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (path, status, body, flag) in [
        ("/nr", 404, String::new(), "NR"),
        ("/nc", 503, String::new(), "NC"),
        ("/uh", 503, "no healthy upstream".into(), "UH"),
        (
            "/uf",
            503,
            format!(
                "{reset}remote connection failure, transport failure reason: delayed connect error: Connection refused"
            ),
            "UF",
        ),
        ("/uc", 503, format!("{reset}connection termination"), "UC"),
        ("/ut", 504, "upstream request timeout".into(), "UT"),
        ("/upe", 502, format!("{reset}protocol error"), "UPE"),
    ] {
        let answer = proxy.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (status, body.as_str()), "{path}");
        let labels = [format!("response_code=\"{status}\""), format!("response_flags=\"{flag}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        eventually(path, || proxy.count("istio_requests_total", &labels) == 1);
    }
}

/// More than is kept comes while the host is being connected to, and goes out in one write when it is.
#[test]
fn a_large_body_goes_on_after_connecting() {
    let host = Host::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let body = "x".repeat(3 << 20);
    for _ in 0..10 {
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(proxy.client().ask(&request).status, 200);
    }
    assert_eq!(host.connections.load(std::sync::atomic::Ordering::SeqCst), 10);
}

#[test]
fn bodies_pass_however_they_are_framed() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ];
    for answer in answers {
        let until_close = !answer.contains("content-length") && !answer.contains("chunked");
        let host =
            Host::start(
                move |connection| {
                    while connection.request().is_some() && connection.say(answer) && !until_close {}
                },
            );
        let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
        let mut client = proxy.client();
        for _ in 0..2 {
            let got = client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            assert_eq!((got.status, got.body.as_str()), (200, "hello"), "{answer:?}");
        }
    }
}

#[test]
fn a_head_request_has_no_body_in_its_answer() {
    let host = Host::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    for _ in 0..2 {
        let got = client.ask("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!((got.status, got.header("content-length")), (200, Some("5")));
    }
}

#[test]
fn chunked_requests_and_their_trailers_arrive_whole() {
    let host = Host::start(|connection| {
        connection.request();
        let mut body = vec![];
        while !body.ends_with(b"\r\n\r\n") {
            body.extend(connection.read_some());
        }
        let text = String::from_utf8(body).unwrap();
        connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()));
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab");
    client.say("c\r\n2\r\nde\r");
    client.say("\n0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(client.answer().body, "3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n")).collect();
    client.say(&all);
    for n in 0..50 {
        assert_eq!(client.answer().body, format!("/{n}"));
    }
}

#[test]
fn continue_is_passed_on_and_answered_here_when_the_listener_says_so() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            if header(&head, "expect").is_some() {
                connection.say("HTTP/1.1 100 Continue\r\n\r\n");
                connection.body(2);
            }
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    for proxied in [true, false] {
        let mut manager = http(to("up"));
        manager["proxy_100_continue"] = proxied.into();
        let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
        let mut client = proxy.client();
        client.say("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
        assert_eq!(client.answer().status, 100);
        client.say("hi");
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert_eq!(header(&host.last_request(), "expect").is_some(), proxied);
    }
}

#[test]
fn a_websocket_becomes_a_pipe() {
    let host = Host::start(|connection| {
        let head = connection.request().unwrap();
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        connection
            .say("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
        loop {
            let bytes = connection.read_some();
            if bytes.is_empty() {
                connection.say("bye");
                return;
            }
            connection.say(&String::from_utf8(bytes).unwrap().to_uppercase());
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let request = "GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n";
    assert_eq!(client.ask(request).status, 101);
    client.say("abc");
    let mut got = [0; 3];
    std::io::Read::read_exact(&mut client.stream, &mut got).unwrap();
    assert_eq!(&got, b"ABC");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"bye");
    eventually("the tunnel is counted", || {
        proxy.count("istio_requests_total", &["response_code=\"101\""]) == 1
    });
}

#[test]
fn what_is_not_http_enough_is_refused() {
    let host = Host::saying("x");
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    for (request, status, body) in [
        ("GET / HTTP/1.0\r\n\r\n", 426, ""),
        ("GET / HTTP/1.1\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "Bad Request"),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "Bad Request",
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n", 403, ""),
    ] {
        let mut client = proxy.client();
        let answer = client.ask(request);
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request:?}");
        if status != 403 {
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(client.rest(), b"");
        }
    }
    let big = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    assert_eq!(proxy.client().ask(&big).status, 431);
    assert!(host.last_request().is_empty());
}

#[test]
fn a_client_over_the_edge_is_not_believed() {
    let host = Host::saying("x");
    let mut manager = http(to("up"));
    manager["use_remote_address"] = true.into();
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    proxy.client().ask(concat!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n",
        "x-envoy-internal: true\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-original-path: /a\r\n",
        "x-envoy-retry-on: 5xx\r\nx-request-id: mine\r\n\r\n"
    ));
    let sent = host.last_request();
    assert_eq!(header(&sent, "x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"), "{sent}");
    assert_eq!(header(&sent, "x-forwarded-proto"), Some("http"));
    assert_ne!(header(&sent, "x-request-id"), Some("mine"));
    for name in
        ["x-envoy-internal", "x-envoy-upstream-rq-timeout-ms", "x-envoy-original-path", "x-envoy-retry-on"]
    {
        assert_eq!(header(&sent, name), None, "{name}");
    }
}

/// As Envoy since 1.33 (`mutateRequestHeaders`): the rows without a list were measured with 1.40.
#[test]
fn nothing_is_internal_that_is_not_listed() {
    let host = Host::saying("x");
    let believed = |use_remote: bool, listed: &[&str], hops: u32, forwarded_for: Option<&str>| -> String {
        let mut manager = http(to("up"));
        manager["use_remote_address"] = use_remote.into();
        manager["xff_num_trusted_hops"] = hops.into();
        let range = |address| serde_json::json!({ "address_prefix": address, "prefix_len": 8 });
        if !listed.is_empty() {
            manager["internal_address_config"] =
                serde_json::json!({ "cidr_ranges": listed.iter().map(range).collect::<Vec<_>>() });
        }
        let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
        let told = forwarded_for.map(|list| format!("x-forwarded-for: {list}\r\n")).unwrap_or_default();
        proxy.client().ask(&format!(
            "GET / HTTP/1.1\r\nhost: x\r\n{told}x-envoy-internal: true\r\nx-envoy-ip-tags: a\r\n\
             x-envoy-force-trace: true\r\nx-envoy-expected-rq-timeout-ms: 9\r\n\
             x-envoy-upstream-rq-timeout-ms: 9000\r\nx-envoy-original-path: /a\r\n\
             x-envoy-decorator-operation: b\r\nx-envoy-attempt-count: 7\r\n\r\n"
        ));
        let sent = host.last_request();
        let names = ["internal", "ip-tags", "force-trace", "original-path", "external-address"];
        let kept = names.iter().filter_map(|name| {
            let value = header(&sent, &format!("x-envoy-{name}"))?;
            Some(format!("{name}={value}"))
        });
        kept.collect::<Vec<_>>().join(" ")
    };
    let all = "internal=true ip-tags=a force-trace=true original-path=/a";
    for (use_remote, listed, hops, forwarded_for, expected) in [
        (false, &[][..], 0, None, "original-path=/a"),
        (false, &[], 0, Some("10.0.0.1"), "original-path=/a"),
        (false, &[], 0, Some("127.0.0.1"), "original-path=/a"),
        (true, &[], 0, None, "external-address=127.0.0.1"),
        (true, &[], 0, Some("10.0.0.1"), "external-address=127.0.0.1"),
        (true, &["127.0.0.0"], 0, None, all),
        (true, &["127.0.0.0"], 0, Some("127.0.0.1"), "external-address=127.0.0.1"),
        (true, &["127.0.0.0"], 1, Some("9.9.9.9"), "external-address=9.9.9.9"),
        (false, &["10.0.0.0"], 0, None, "original-path=/a"),
        (false, &["10.0.0.0"], 0, Some("10.0.0.1"), all),
        (false, &["10.0.0.0"], 0, Some("10.0.0.1, 10.0.0.2"), "original-path=/a"),
        (false, &["10.0.0.0"], 0, Some("9.9.9.9"), "original-path=/a"),
    ] {
        assert_eq!(
            believed(use_remote, listed, hops, forwarded_for),
            expected,
            "{use_remote} {listed:?} {hops} {forwarded_for:?}"
        );
    }
}

#[test]
fn an_early_answer_reaches_the_client_and_ends_its_connection() {
    let host = Host::start(|connection| {
        let head = read_head(&mut connection.stream, &mut connection.buffer);
        assert!(head.is_some());
        connection.say("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno");
        connection.read_some();
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "no"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn faults_are_injected_by_their_dice() {
    let host = Host::saying("x");
    let fault = |delay: u32, abort: u32| {
        let percent = |n: u32| json!({ "numerator": n, "denominator": "HUNDRED" });
        typed(
            "envoy.extensions.filters.http.fault.v3.HTTPFault",
            json!({
            "delay": { "fixed_delay": "0.05s", "percentage": percent(delay) },
            "abort": { "http_status": 418, "percentage": percent(abort) } }),
        )
    };
    let route = |path: &str, config| {
        json!({ "match": { "path": path }, "route": { "cluster": "up" },
            "typed_per_filter_config": { "envoy.filters.http.fault": config } })
    };
    let routes =
        json!([route("/abort", fault(0, 100)), route("/delay", fault(100, 0)), route("/none", fault(0, 0))]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let aborted = proxy.get("/abort");
    assert_eq!((aborted.status, aborted.body.as_str()), (418, "fault filter abort"));
    let started = std::time::Instant::now();
    assert_eq!(proxy.get("/delay").status, 200);
    assert!(started.elapsed() >= std::time::Duration::from_millis(50));
    assert_eq!(proxy.get("/none").status, 200);
    for flag in ["response_flags=\"FI\"", "response_flags=\"DI\""] {
        eventually(flag, || proxy.count("istio_requests_total", &[flag]) == 1);
    }
}

#[test]
fn an_old_client_gets_a_body_without_chunks() {
    let host = Host::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    let mut manager = http(to("up"));
    manager["http_protocol_options"] = json!({ "accept_http_10": true });
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.0\r\nhost: x\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!((answer.header("transfer-encoding"), answer.header("connection")), (None, Some("close")));
}

#[test]
fn browsers_are_told_who_may_ask() {
    let host = Host::saying("x");
    let policy = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        json!({
        "allow_origin_string_match": [{ "exact": "https://ok.example" }],
        "allow_methods": "GET,POST", "allow_headers": "x-a", "expose_headers": "x-b", "max_age": "60",
        "allow_credentials": true, "forward_not_matching_preflights": false }),
    );
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" },
        "typed_per_filter_config": { "envoy.filters.http.cors": policy } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let mut ask = |method: &str, origin: &str, more: &str| {
        client.ask(&format!("{method} / HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n{more}\r\n"))
    };
    let asks = "access-control-request-method: POST\r\n";
    let preflight = ask("OPTIONS", "https://ok.example", asks);
    assert_eq!(preflight.status, 200);
    for (name, value) in [
        ("access-control-allow-origin", "https://ok.example"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-max-age", "60"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(preflight.header(name), Some(value));
    }
    assert!(host.last_request().is_empty());
    assert_eq!(ask("OPTIONS", "https://evil.example", asks).header("access-control-allow-origin"), None);
    let actual = ask("GET", "https://ok.example", "");
    assert_eq!(actual.header("access-control-allow-origin"), Some("https://ok.example"));
    assert_eq!(actual.header("access-control-expose-headers"), Some("x-b"));
    assert_eq!(ask("GET", "https://evil.example", "").header("access-control-allow-origin"), None);
}
