//! A transport above TCP, as TLS will be one: its handshake takes two round trips, says only at its end which protocol is
//! spoken and who the peer is, and its bytes come in pieces that are not those of the network. Two proxies, one before the
//! other, speak it with each other: client, near proxy, this transport, far proxy, host.

mod common;
#[path = "common/layer.rs"]
mod layer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{Host, Proxy, eventually, http, http_listener, to, typed};
use layer::{Late, LateLayers};
use proxy::ProxyOptions;
use serde_json::{Value, json};

fn options(late: &Arc<Late>) -> ProxyOptions {
    ProxyOptions { layers: Some(Arc::new(LateLayers(late.clone()))), workers: 1, ..ProxyOptions::default() }
}

fn tls(context: &str, value: Value) -> Value {
    let url = format!("envoy.extensions.transport_sockets.tls.v3.{context}");
    json!({ "name": "tls", "typed_config": typed(&url, value) })
}

/// What a server presents; the layers of these tests need none.
fn presented() -> Value {
    json!({ "tls_certificate_sds_secret_configs": [{ "name": "default" }] })
}

/// The far proxy: its chain ends the transport.
fn far(late: &Arc<Late>, host: &Host, mut manager: Value) -> Proxy {
    manager["route_config"]["virtual_hosts"][0]["routes"] = to("app");
    let mut listener = http_listener(manager);
    listener["traffic_direction"] = "INBOUND".into();
    listener["filter_chains"][0]["transport_socket"] = tls(
        "DownstreamTlsContext",
        json!({ "require_client_certificate": true, "common_tls_context": presented() }),
    );
    Proxy::with(listener, &[common::cluster("app", &[host.address])], options(late))
}

fn near(late: &Arc<Late>, far: &Proxy, change: impl Fn(&mut Value)) -> Proxy {
    near_at(late, far.address, http(to("far")), change)
}

fn near_at(late: &Arc<Late>, far: SocketAddr, manager: Value, change: impl Fn(&mut Value)) -> Proxy {
    let mut cluster = common::cluster("far", &[far]);
    cluster["transport_socket"] =
        tls("UpstreamTlsContext", json!({ "common_tls_context": { "alpn_protocols": ["h2", "http/1.1"] } }));
    let options_url = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let auto = json!({ "auto_config": { "http_protocol_options": {}, "http2_protocol_options": {} } });
    cluster["typed_extension_protocol_options"] = json!({ options_url: typed(options_url, auto) });
    change(&mut cluster);
    Proxy::with(http_listener(manager), &[cluster], options(late))
}

fn plain(_: &mut Value) {}

/// How many of the near proxy's connections to the far one became which.
fn connections(near: &Proxy) -> (u64, u64, u64) {
    let count = |name: &str| near.count(name, &["far"]);
    (
        count("envoy_cluster_upstream_cx_total"),
        count("envoy_cluster_upstream_cx_http1_total"),
        count("envoy_cluster_upstream_cx_http2_total"),
    )
}

#[test]
fn what_is_picked_after_connecting_is_what_is_spoken() {
    for (pick, http1, http2) in [("h2", 0, 1), ("http/1.1", 1, 0), ("", 1, 0)] {
        let late = Late::picking(&[pick]);
        let host = Host::saying("from afar");
        let far = far(&late, &host, http(to("app")));
        let near = near(&late, &far, plain);
        let mut client = near.client();
        for _ in 0..3 {
            let answer = client.ask("GET /x HTTP/1.1\r\nhost: test.local\r\n\r\n");
            assert_eq!((answer.status, &*answer.body), (200, "from afar"), "{pick}");
        }
        assert_eq!(connections(&near), (1, http1, http2), "{pick}");
        assert_eq!(*late.offers.lock().unwrap(), ["h2,http/1.1"]);
        assert_eq!(late.finished.load(SeqCst), 2, "one on either side");
    }
}

/// Eight clients ask before anything is known of the host.
fn burst(near: &Proxy, clients: usize) {
    let mut all: Vec<_> = (0..clients).map(|_| near.client()).collect();
    for client in &mut all {
        client.say("GET /x HTTP/1.1\r\nhost: test.local\r\n\r\n");
    }
    for client in &mut all {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn those_who_wait_for_the_handshake_share_what_turns_out_to_be_http2() {
    let late = Late::picking(&["h2"]);
    let host = Host::saying("ok");
    let far = far(&late, &host, http(to("app")));
    let near = near(&late, &far, plain);
    burst(&near, 8);
    assert_eq!(connections(&near), (1, 0, 1));
    assert_eq!(near.count("envoy_cluster_upstream_rq_pending_active", &["far"]), 0);
}

#[test]
fn those_who_wait_get_connections_of_their_own_where_it_turns_out_to_be_http1() {
    let late = Late::picking(&["http/1.1"]);
    let host = Host::saying("ok");
    let far = far(&late, &host, http(to("app")));
    let near = near(&late, &far, plain);
    burst(&near, 8);
    // A connection that nobody needed any more may still shake hands.
    eventually("all have their protocol", || matches!(connections(&near), (all, http1, _) if http1 == all));
    let (all, _, http2) = connections(&near);
    assert!((1..=8).contains(&all) && http2 == 0, "{all} {http2}");
    assert_eq!(near.count("envoy_cluster_upstream_rq_pending_active", &["far"]), 0);
    // Known by now: one connection for each at once.
    burst(&near, 12);
    assert!(connections(&near).0 <= 12);
}

#[test]
fn a_breaker_of_connections_holds_for_those_whose_protocol_is_not_known() {
    let late = Late::picking(&["http/1.1"]);
    let host = Host::saying("ok");
    let far = far(&late, &host, http(to("app")));
    let near = near(&late, &far, |cluster| {
        cluster["circuit_breakers"] = json!({ "thresholds": [{ "max_connections": 2 }] });
    });
    burst(&near, 8);
    assert!(connections(&near).0 <= 2, "{:?}", connections(&near));
}

#[test]
fn a_fixed_protocol_is_spoken_whatever_is_picked() {
    for (explicit, http1, http2) in [("http2_protocol_options", 0, 1), ("http_protocol_options", 1, 0)] {
        let late = Late::picking(&[""]);
        let host = Host::saying("ok");
        let far = far(&late, &host, http(to("app")));
        let near = near(&late, &far, |cluster| {
            let options = cluster["typed_extension_protocol_options"].as_object_mut().unwrap();
            let options = options.values_mut().next().unwrap().as_object_mut().unwrap();
            options.remove("auto_config");
            options.insert("explicit_http_config".into(), json!({ explicit: {} }));
        });
        burst(&near, 3);
        let (_, first, second) = connections(&near);
        assert_eq!((first > 0, second > 0), (http1 > 0, http2 > 0), "{explicit}");
    }
}

/// Large bodies both ways: much is held back by the layers, and short reads say nothing.
#[test]
fn bodies_pass_whole_whatever_the_layer_holds_back() {
    for pick in ["h2", "http/1.1"] {
        let late = Late::picking(&[pick]);
        let host = Host::start(|connection| {
            while connection.request().is_some() {
                let body = "y".repeat(3_000_000);
                connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            }
        });
        let far = far(&late, &host, http(to("app")));
        let near = near(&late, &far, plain);
        let mut client = near.client();
        let body = "x".repeat(2_000_000);
        client.say(&format!("POST / HTTP/1.1\r\nhost: test.local\r\ncontent-length: {}\r\n\r\n", body.len()));
        client.say(&body);
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (200, 3_000_000), "{pick}");
        assert!(answer.body.bytes().all(|byte| byte == b'y'), "{pick}");
    }
}

/// Per host, by `transport_socket_matches`: one speaks the transport, one does not.
#[test]
fn each_host_has_the_transport_its_metadata_matches() {
    let late = Late::picking(&["http/1.1"]);
    let (behind, beside) = (Host::saying("secure"), Host::saying("plain"));
    let far = far(&late, &behind, http(to("app")));
    let near = near(&late, &far, |cluster| {
        let secure = cluster["transport_socket"].take();
        cluster.as_object_mut().unwrap().remove("transport_socket");
        cluster.as_object_mut().unwrap().remove("typed_extension_protocol_options");
        cluster["transport_socket_matches"] =
            json!([{ "name": "mesh", "match": { "tlsMode": "istio" }, "transport_socket": secure }]);
        let endpoints = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"];
        endpoints[0]["metadata"] =
            json!({ "filter_metadata": { "envoy.transport_socket_match": { "tlsMode": "istio" } } });
        let other = common::cluster("other", &[beside.address]);
        let other = other["load_assignment"]["endpoints"][0]["lb_endpoints"][0].clone();
        endpoints.as_array_mut().unwrap().push(other);
    });
    let mut client = near.client();
    let mut said: Vec<String> =
        (0..4).map(|_| client.ask("GET / HTTP/1.1\r\nhost: test.local\r\n\r\n").body).collect();
    said.sort();
    assert_eq!(said, ["plain", "plain", "secure", "secure"]);
    assert_eq!(late.finished.load(SeqCst), 2);
}

#[test]
fn who_the_client_is_reaches_the_host_and_the_metrics() {
    for (forward, sent, wanted) in [
        ("SANITIZE", Some("By=forged"), None),
        ("SANITIZE_SET", Some("By=forged"), Some("By=spiffe://test/host;URI=spiffe://test/client")),
        ("APPEND_FORWARD", Some("By=a"), Some("By=a,By=spiffe://test/host;URI=spiffe://test/client")),
        ("APPEND_FORWARD", None, Some("By=spiffe://test/host;URI=spiffe://test/client")),
        ("FORWARD_ONLY", Some("By=a"), Some("By=a")),
    ] {
        let late = Late::picking(&["h2"]);
        let host = Host::saying("ok");
        let mut manager = http(to("app"));
        manager["forward_client_cert_details"] = forward.into();
        manager["set_current_client_cert_details"] = json!({ "uri": true });
        let far = far(&late, &host, manager);
        // The near proxy passes on what its client says.
        let mut outside = http(to("far"));
        outside["forward_client_cert_details"] = "ALWAYS_FORWARD_ONLY".into();
        let near = near_at(&late, far.address, outside, plain);
        let header = sent.map_or(String::new(), |sent| format!("x-forwarded-client-cert: {sent}\r\n"));
        let answer = near.client().ask(&format!("GET / HTTP/1.1\r\nhost: test.local\r\n{header}\r\n"));
        assert_eq!(answer.status, 200);
        let request = host.last_request();
        // Spaces behind commas of a list say nothing.
        let told = common::header(&request, "x-forwarded-client-cert").map(|told| told.replace(", ", ","));
        assert_eq!(told.as_deref(), wanted, "{forward} {sent:?}");
        let labels =
            ["connection_security_policy=\"mutual_tls\"", "source_principal=\"spiffe://test/client\""];
        eventually("the request is counted", || far.count("istio_requests_total", &labels) == 1);
    }
}

#[test]
fn a_handshake_that_fails_or_takes_too_long_is_a_failed_connect() {
    // It closes at once, or says what nobody can understand, or nothing.
    for (says, what) in [(None, "closes"), (Some("\0\u{3}abc"), "babbles"), (Some(""), "is silent")] {
        let late = Late::picking(&["h2"]);
        let deaf = Host::start(move |connection| {
            if let Some(says) = says {
                connection.say(says);
                while !connection.read_some().is_empty() {}
            }
        });
        let near = near_at(&late, deaf.address, http(to("far")), |cluster| {
            cluster["connect_timeout"] = "0.3s".into();
        });
        let mut clients = [near.client(), near.client(), near.client()];
        for client in &mut clients {
            client.say("GET /x HTTP/1.1\r\nhost: test.local\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!(answer.status, 503, "{what}");
            assert!(answer.body.contains("connection"), "{what}: {}", answer.body);
        }
        for gauge in ["rq_pending_active", "rq_active", "cx_active"] {
            let name = format!("envoy_cluster_upstream_{gauge}");
            eventually(&format!("{what}: {name} is 0"), || near.count(&name, &["far"]) == 0);
        }
        let timeouts = near.count("envoy_cluster_upstream_cx_connect_timeout", &["far"]);
        assert_eq!(timeouts > 0, what == "is silent", "{what}");
        assert!(near.count("envoy_cluster_upstream_cx_connect_fail", &["far"]) > 0, "{what}");
    }
}

/// TCP through it: each direction ends by itself, and the end is announced.
#[test]
fn a_tunnel_passes_all_bytes_and_each_end_by_itself() {
    let late = Late::picking(&[""]);
    let host = Host::start(|connection| {
        let mut all = vec![];
        loop {
            match connection.read_some() {
                bytes if bytes.is_empty() => break,
                bytes => all.extend(bytes),
            }
        }
        connection.say(&String::from_utf8(all).unwrap().to_uppercase());
    });
    let tcp = |cluster: &str| {
        let url = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        common::listener("main", typed(url, json!({ "stat_prefix": "tcp", "cluster": cluster })))
    };
    let mut inner = tcp("app");
    inner["filter_chains"][0]["transport_socket"] =
        tls("DownstreamTlsContext", json!({ "common_tls_context": presented() }));
    let far = Proxy::with(inner, &[common::cluster("app", &[host.address])], options(&late));
    let mut cluster = common::cluster("far", &[far.address]);
    cluster["transport_socket"] = tls("UpstreamTlsContext", json!({ "common_tls_context": {} }));
    let near = Proxy::with(tcp("far"), &[cluster], options(&late));
    let mut client = near.client();
    let text = "abcdefgh".repeat(100_000);
    client.say(&text);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), text.to_uppercase().into_bytes());
    assert_eq!(late.ends.load(SeqCst), 2, "by either proxy");
}

/// Checks are made as requests are: a host that cannot shake hands is not healthy, though it can be connected to.
#[test]
fn a_health_check_by_tcp_shakes_hands() {
    let late = Late::picking(&["http/1.1"]);
    let host = Host::saying("ok");
    let far = far(&late, &host, http(to("app")));
    let deaf = Host::start(|connection| while !connection.read_some().is_empty() {});
    for (address, status) in [(far.address, 200), (deaf.address, 503)] {
        let near = near_at(&late, address, http(to("far")), |cluster| {
            cluster["connect_timeout"] = "0.2s".into();
            cluster["common_lb_config"] = json!({ "healthy_panic_threshold": {} });
            cluster["health_checks"] = json!([{ "timeout": "0.2s", "interval": "0.1s",
                "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {} }]);
        });
        let name = if status == 200 { "success" } else { "failure" };
        let name = format!("envoy_cluster_health_check_{name}");
        eventually(&name, || near.count(&name, &["far"]) > 0);
        let answer = near.get("/");
        assert_eq!(answer.status, status);
        let unhealthy = answer.body.contains("no healthy upstream");
        assert_eq!(unhealthy, status == 503, "{}", answer.body);
    }
}
