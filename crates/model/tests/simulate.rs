//! Every answer of a simulated call, over hand-written messages. The rules are those of Istio's
//! `pilot/test/simulation` and of Envoy's listener and route documentation.
mod common;

use common::*;
use model::simulate::{Call, CallResult, Simulation};
use serde_json::{Value, json};

fn call(value: Value) -> Call {
    let mut whole = json!({"name": "c", "mode": "outbound", "address": "10.0.0.1", "port": 80,
        "protocol": "http", "tls": "plaintext", "alpn": "", "sni": "", "host": "web.default", "path": "/",
        "method": "GET", "headers": {}});
    for (key, field) in value.as_object().expect("an object") {
        whole[key] = field.clone();
    }
    serde_json::from_value(whole).expect("a call")
}

fn simulation() -> Simulation {
    let match_http = json!({"applicationProtocols": ["http/1.1", "h2c"], "transportProtocol": "raw_buffer"});
    let mut sniffed = json!({"name": "0.0.0.0_8080", "address": address("0.0.0.0", 8080), "bindToPort": false,
        "listenerFilters": [inspector("TlsInspector"), inspector("HttpInspector")],
        "filterChains": [{"filterChainMatch": match_http, "filters": [http(rds("8080"))]}]});
    sniffed["defaultFilterChain"] =
        json!({"name": "PassthroughFilterChain", "filters": [tcp_proxy("PassthroughCluster")]});
    let listeners = [
        sniffed,
        json!({"name": "0.0.0.0_80", "address": address("0.0.0.0", 80), "bindToPort": false,
            "filterChains": [{"filters": [http(rds("80"))]}]}),
        json!({"name": "10.0.0.9_3306", "address": address("10.0.0.9", 3306), "bindToPort": false,
            "filterChains": [tcp_chain("", json!({}), "outbound|3306||db.default.svc.cluster.local")]}),
        json!({"name": "virtualOutbound", "address": address("0.0.0.0", 15001), "useOriginalDst": true,
            "filterChains": [tcp_chain("virtualOutbound-blackhole", json!({"destinationPort": 15001}), "BlackHoleCluster"),
                tcp_chain("virtualOutbound-catchall-tcp", json!({}), "PassthroughCluster")]}),
        json!({"name": "virtualInbound", "address": address("0.0.0.0", 15006),
        "listenerFilters": [inspector("TlsInspector"), inspector("HttpInspector")],
        "filterChains": [
            {"name": "0.0.0.0_8080", "transportSocket": tls_socket("default", true),
                "filterChainMatch": {"destinationPort": 8080, "transportProtocol": "tls"},
                "filters": [http(inline("inbound|http|80", "inbound|8080||"))]},
            {"name": "0.0.0.0_9090", "filterChainMatch": {"destinationPort": 9090},
                "filters": [http(inline("inbound|http|90", "inbound|9090||"))]},
        ]}),
        json!({"name": "0.0.0.0_443", "address": address("0.0.0.0", 443),
        "listenerFilters": [inspector("TlsInspector")],
        "filterChains": [
            {"filterChainMatch": {"serverNames": ["simple.example.com"]},
                "transportSocket": tls_socket("kubernetes://simple", false), "filters": [http(rds("https"))]},
            {"filterChainMatch": {"serverNames": ["*.example.com"]},
                "transportSocket": tls_socket("kubernetes://mutual", true), "filters": [http(rds("https"))]},
            tcp_chain("one", json!({"serverNames": ["twice.org"]}), "a"),
            tcp_chain("two", json!({"serverNames": ["twice.org"]}), "b"),
        ]}),
    ];
    let action = |cluster: &str| json!({"cluster": cluster});
    let tables = [
        json!({"name": "80", "ignorePortInHostMatching": true, "virtualHosts": [
            {"name": "web.default.svc.cluster.local:80", "domains": ["web.default.svc.cluster.local", "web.default"],
                "routes": [
                    {"name": "canary", "match": {"prefix": "/v2"}, "route": action("outbound|80|v2|web")},
                    {"name": "split", "match": {"path": "/split"}, "route": {"weightedClusters": {"clusters": [
                        {"name": "a", "weight": 50}, {"name": "b", "weight": 50}]}}},
                    {"name": "moved", "match": {"path": "/moved"}, "redirect": {"hostRedirect": "x"}},
                    {"name": "post", "match": {"prefix": "/", "headers": [
                        {"name": ":method", "stringMatch": {"exact": "POST"}}]}, "route": action("posts")},
                    {"name": "friend", "match": {"prefix": "/", "headers": [
                        {"name": "x-friend", "stringMatch": {"exact": "a,b"}}]}, "route": action("friends")},
                ]},
            {"name": "secure:80", "domains": ["secure.example.com"], "requireTls": "ALL",
                "routes": [{"match": {"prefix": "/"}, "route": action("s")}]},
        ]}),
        json!({"name": "8080", "virtualHosts": [{"name": "allow_any", "domains": ["*"],
            "routes": [{"name": "allow_any", "match": {"prefix": "/"}, "route": action("PassthroughCluster")}]}]}),
        json!({"name": "https", "virtualHosts": [{"name": "blackhole:443", "domains": ["*"]}]}),
    ];
    let listeners: Vec<_> = listeners.into_iter().map(listener).collect();
    let tables: Vec<_> = tables.into_iter().map(routes).collect();
    let (simulation, refused) = Simulation::new(&listeners, &tables);
    assert!(refused.is_empty(), "{refused:?}");
    simulation
}

fn inline(host: &str, cluster: &str) -> Value {
    json!({"routeConfig": {"name": cluster, "virtualHosts": [{"name": host, "domains": ["*"],
        "routes": [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}})
}

#[test]
fn a_call_meets_what_istio_says_it_meets() {
    let web = "web.default.svc.cluster.local:80";
    // The call, then listener, chain, route configuration, virtual host, route, cluster, error.
    let cases = [
        (json!({"path": "/v2/x"}), ["0.0.0.0_80", "", "80", web, "canary", "outbound|80|v2|web", ""]),
        (
            json!({"path": "/v2", "host": "WEB.default:80"}),
            ["0.0.0.0_80", "", "80", web, "canary", "outbound|80|v2|web", ""],
        ),
        (json!({"path": "/split?x"}), ["0.0.0.0_80", "", "80", web, "split", "", ""]),
        (json!({"path": "/moved"}), ["0.0.0.0_80", "", "80", web, "moved", "", ""]),
        (json!({"method": "POST"}), ["0.0.0.0_80", "", "80", web, "post", "posts", ""]),
        (json!({"headers": {"X-Friend": ["a,b"]}}), ["0.0.0.0_80", "", "80", web, "friend", "friends", ""]),
        // Two lines are two values.
        (json!({"headers": {"X-Friend": ["a", "b"]}}), ["0.0.0.0_80", "", "80", web, "", "", "no_route"]),
        (json!({}), ["0.0.0.0_80", "", "80", web, "", "", "no_route"]),
        (json!({"host": "other"}), ["0.0.0.0_80", "", "80", "", "", "", "no_virtual_host"]),
        (
            json!({"host": "secure.example.com"}),
            ["0.0.0.0_80", "", "80", "secure:80", "", "", "tls_redirect"],
        ),
        (json!({"protocol": "tcp"}), ["0.0.0.0_80", "", "", "", "", "", "protocol_error"]),
        (json!({"tls": "tls"}), ["0.0.0.0_80", "", "", "", "", "", "protocol_error"]),
        (
            json!({"address": "10.0.0.9", "port": 3306, "protocol": "tcp"}),
            ["10.0.0.9_3306", "", "", "", "", "outbound|3306||db.default.svc.cluster.local", ""],
        ),
        (
            json!({"address": "9.9.9.9", "port": 9999, "protocol": "tcp"}),
            ["virtualOutbound", "virtualOutbound-catchall-tcp", "", "", "", "PassthroughCluster", ""],
        ),
        (
            json!({"address": "9.9.9.9", "port": 15001, "protocol": "tcp"}),
            ["virtualOutbound", "virtualOutbound-blackhole", "", "", "", "BlackHoleCluster", ""],
        ),
        // Sniffed: HTTP to the HTTP chain, anything else to the default one.
        (
            json!({"port": 8080}),
            ["0.0.0.0_8080", "", "8080", "allow_any", "allow_any", "PassthroughCluster", ""],
        ),
        (
            json!({"port": 8080, "protocol": "http2"}),
            ["0.0.0.0_8080", "", "8080", "allow_any", "allow_any", "PassthroughCluster", ""],
        ),
        (
            json!({"port": 8080, "protocol": "tcp"}),
            ["0.0.0.0_8080", "PassthroughFilterChain", "", "", "", "PassthroughCluster", ""],
        ),
        (
            json!({"port": 8080, "tls": "tls", "alpn": "http/1.1"}),
            ["0.0.0.0_8080", "PassthroughFilterChain", "", "", "", "PassthroughCluster", ""],
        ),
        // Inbound: mesh mutual TLS wanted, plaintext chain, none.
        (
            json!({"mode": "inbound", "port": 8080, "tls": "mtls", "alpn": "istio"}),
            ["virtualInbound", "0.0.0.0_8080", "", "inbound|http|80", "default", "inbound|8080||", ""],
        ),
        (
            json!({"mode": "inbound", "port": 8080, "tls": "tls"}),
            ["virtualInbound", "0.0.0.0_8080", "", "", "", "", "mtls_error"],
        ),
        (json!({"mode": "inbound", "port": 8080}), ["virtualInbound", "", "", "", "", "", "no_filter_chain"]),
        (
            json!({"mode": "inbound", "port": 9090, "tls": "mtls"}),
            ["virtualInbound", "0.0.0.0_9090", "", "", "", "", "protocol_error"],
        ),
        // Gateway.
        (json!({"mode": "gateway", "port": 81}), ["", "", "", "", "", "", "no_listener"]),
        (
            json!({"mode": "gateway", "port": 443, "sni": "simple.example.com"}),
            ["0.0.0.0_443", "", "", "", "", "", "tls_error"],
        ),
        (
            json!({"mode": "gateway", "port": 443, "tls": "tls", "sni": "simple.example.com"}),
            ["0.0.0.0_443", "", "https", "blackhole:443", "", "", "no_route"],
        ),
        (
            json!({"mode": "gateway", "port": 443, "tls": "mtls", "sni": "simple.example.com"}),
            ["0.0.0.0_443", "", "", "", "", "", "mtls_error"],
        ),
        // A mutual credential only counts as mutual under its own name.
        (
            json!({"mode": "gateway", "port": 443, "tls": "tls", "sni": "m.example.com"}),
            ["0.0.0.0_443", "", "https", "blackhole:443", "", "", "no_route"],
        ),
        (
            json!({"mode": "gateway", "port": 443, "tls": "mtls", "sni": "M.example.com", "mtlsSecret": "kubernetes://mutual"}),
            ["0.0.0.0_443", "", "https", "blackhole:443", "", "", "no_route"],
        ),
        (
            json!({"mode": "gateway", "port": 443, "tls": "tls", "sni": "twice.org"}),
            ["0.0.0.0_443", "", "", "", "", "", "multiple_filter_chains"],
        ),
        (
            json!({"mode": "gateway", "port": 443, "tls": "tls", "sni": "else.org"}),
            ["0.0.0.0_443", "", "", "", "", "", "no_filter_chain"],
        ),
    ];
    let simulation = simulation();
    for (input, [listener, filter_chain, route_config, virtual_host, route, cluster, error]) in cases {
        let expected = CallResult {
            name: "c".into(),
            listener: listener.into(),
            filter_chain: filter_chain.into(),
            route_config: route_config.into(),
            virtual_host: virtual_host.into(),
            route: route.into(),
            cluster: cluster.into(),
            error: error.into(),
        };
        assert_eq!(simulation.decide(&call(input.clone())), expected, "{input}");
    }
}

#[test]
fn a_result_is_written_under_the_names_of_the_corpus_and_without_what_is_empty() {
    let result = simulation().decide(&call(json!({"path": "/v2/x"})));
    let written = serde_json::to_value(result).unwrap();
    let expected = json!({"name": "c", "listener": "0.0.0.0_80", "routeConfig": "80",
        "virtualHost": "web.default.svc.cluster.local:80", "route": "canary", "cluster": "outbound|80|v2|web"});
    assert_eq!(written, expected);
}

#[test]
fn the_filters_that_act_are_named_before_the_route_does() {
    let fault = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "abort": {"httpStatus": 418, "percentage": {"numerator": 1}}});
    let cors = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allowOriginStringMatch": [{"exact": "*"}]});
    let routes = json!([{"name": "r", "match": {"prefix": "/"}, "route": {"cluster": "c"},
        "typedPerFilterConfig": {"envoy.filters.http.fault": fault, "envoy.filters.http.cors": cors}}]);
    let mut chain = http(json!({"routeConfig": {"name": "inline", "virtualHosts": [
        {"name": "v", "domains": ["*"], "routes": routes}]}}));
    let filter = |name: &str, kind: &str| json!({"name": name, "typedConfig": {"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}")}});
    let filters = chain["typedConfig"]["httpFilters"].as_array_mut().unwrap();
    filters.insert(0, filter("envoy.filters.http.fault", "fault.v3.HTTPFault"));
    filters.insert(1, filter("envoy.filters.http.cors", "cors.v3.Cors"));
    let listener = json!({"name": "0.0.0.0_80", "address": address("0.0.0.0", 80), "filterChains": [{"filters": [chain]}]});
    let (simulation, refused) = Simulation::new(&[common::listener(listener)], &[]);
    assert!(refused.is_empty(), "{refused:?}");
    let origin = json!({"headers": {"Origin": ["http://o"]}});
    let (_, explained) = simulation.explain(&call(origin));
    assert_eq!(
        explained.unwrap()["filters"],
        json!([
            {"filter": "envoy.filters.http.fault", "fault": {"abort": {"status": 418}}},
            {"filter": "envoy.filters.http.cors", "cross_origin": [["access-control-allow-origin", "http://o"]]},
        ])
    );
}
