//! The walk through a chain's filters: their order, what a route says to each, what they do on every verdict. Envoy's
//! documentation of `HttpFilter`, `FilterConfig` and its fault filter; the answers are those of Envoy 1.40.
mod common;

use std::time::{Duration, Instant};

use common::*;
use serde_json::{Value, json};

const FAULT: &str = "envoy.filters.http.fault";
const CORS: &str = "envoy.filters.http.cors";

fn fault(fields: Value) -> Value {
    typed("envoy.extensions.filters.http.fault.v3.HTTPFault", fields)
}

fn always() -> Value {
    json!({ "numerator": 100 })
}

fn abort(status: u16) -> Value {
    fault(json!({ "abort": { "http_status": status, "percentage": always() } }))
}

fn cors() -> Value {
    let origins = json!([{ "exact": "http://o" }]);
    typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        json!({ "allow_origin_string_match": origins, "allow_methods": "GET" }),
    )
}

fn filter_config(fields: Value) -> Value {
    typed("envoy.config.route.v3.FilterConfig", fields)
}

/// A chain of these filters before the router.
fn chain(filters: Value, routes: Value) -> Value {
    let mut manager = http(routes);
    let router = manager["http_filters"].as_array().unwrap().last().unwrap().clone();
    let mut all = filters.as_array().unwrap().clone();
    all.push(router);
    manager["http_filters"] = all.into();
    manager
}

fn fault_filter() -> Value {
    json!({ "name": FAULT, "typed_config": fault(json!({})) })
}

fn cors_filter() -> Value {
    json!({ "name": CORS, "typed_config": typed("envoy.extensions.filters.http.cors.v3.Cors", json!({})) })
}

const PREFLIGHT: &str =
    "OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: http://o\r\naccess-control-request-method: GET\r\n\r\n";

#[test]
fn filters_act_in_the_order_of_the_chain() {
    let routes = || {
        json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" },
            "typed_per_filter_config": { FAULT: abort(418), CORS: cors() } }])
    };
    // The fault stands first: it answers the preflight, and nobody has decided on its origin.
    let proxy = Proxy::start(http_listener(chain(json!([fault_filter(), cors_filter()]), routes())), &[]);
    let answer = proxy.client().ask(PREFLIGHT);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (418, None));
    // Second: it never sees the preflight; what it answers to others is told to their origin.
    let proxy = Proxy::start(http_listener(chain(json!([cors_filter(), fault_filter()]), routes())), &[]);
    let answer = proxy.client().ask(PREFLIGHT);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("http://o")));
    let answer = proxy.client().ask("GET / HTTP/1.1\r\nhost: a\r\norigin: http://o\r\n\r\n");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (418, Some("http://o")));
}

#[test]
fn a_fault_acts_on_every_verdict_of_a_route() {
    let own = json!({ FAULT: abort(418) });
    let routes = json!([
        { "match": { "path": "/away" }, "redirect": { "path_redirect": "/x" }, "typed_per_filter_config": own },
        { "match": { "path": "/here" }, "direct_response": { "status": 200 }, "typed_per_filter_config": own },
        { "match": { "path": "/nowhere" }, "route": { "cluster": "unknown" }, "typed_per_filter_config": own },
        { "match": { "path": "/calm" }, "direct_response": { "status": 200 } },
    ]);
    let proxy = Proxy::start(http_listener(http(routes)), &[]);
    for (path, status) in [("/away", 418), ("/here", 418), ("/nowhere", 418), ("/calm", 200), ("/none", 404)]
    {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
    eventually("counted", || proxy.count("envoy_http_fault_aborts_injected", &[]) == 3);
    eventually("logged", || proxy.count("istio_requests_total", &["response_flags=\"FI\""]) == 3);
}

/// Envoy: the router's time begins when the filters have let the request pass.
#[test]
fn the_time_of_a_delay_is_not_the_routes() {
    let host = Host::saying("ok");
    let delay = fault(json!({ "delay": { "fixed_delay": "0.4s", "percentage": always() } }));
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0.3s" },
        "typed_per_filter_config": { FAULT: delay } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[cluster("up", &[host.address])]);
    let began = Instant::now();
    let answer = proxy.client().ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(began.elapsed() >= Duration::from_millis(400));
    eventually("counted", || proxy.count("envoy_http_fault_delays_injected", &[]) == 1);
}

#[test]
fn a_delay_may_be_followed_by_an_abort() {
    let both = fault(json!({ "delay": { "fixed_delay": "0.1s", "percentage": always() },
        "abort": { "http_status": 503, "percentage": always() } }));
    let routes = json!([{ "match": { "prefix": "/" }, "redirect": { "path_redirect": "/x" },
        "typed_per_filter_config": { FAULT: both } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[]);
    let began = Instant::now();
    assert_eq!(proxy.get("/").status, 503);
    assert!(began.elapsed() >= Duration::from_millis(100));
    eventually("logged", || proxy.count("istio_requests_total", &["response_flags=\"DI,FI\""]) == 1);
}

/// Most specific first: route, virtual host, route configuration, the filter's own settings.
#[test]
fn a_filter_is_told_by_the_nearest_level() {
    let mut manager = chain(
        json!([{ "name": FAULT, "typed_config": abort(501) }]),
        json!([
            { "match": { "path": "/route" }, "direct_response": { "status": 200 },
              "typed_per_filter_config": { FAULT: abort(504) } },
            { "match": { "prefix": "/" }, "direct_response": { "status": 200 } },
        ]),
    );
    let with = |manager: &Value| Proxy::start(http_listener(manager.clone()), &[]);
    assert_eq!(with(&manager).get("/").status, 501);
    manager["route_config"]["typed_per_filter_config"] = json!({ FAULT: abort(502) });
    assert_eq!(with(&manager).get("/").status, 502);
    manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = json!({ FAULT: abort(503) });
    let proxy = with(&manager);
    assert_eq!(proxy.get("/").status, 503);
    assert_eq!(proxy.get("/route").status, 504);
}

#[test]
fn a_filter_may_be_switched_off_and_on() {
    let here = |own: Value| json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 }, "typed_per_filter_config": own }]);
    let own = json!([{ "name": FAULT, "typed_config": abort(418) }]);
    let off = json!([{ "name": FAULT, "disabled": true, "typed_config": abort(418) }]);
    let disabled = json!({ FAULT: filter_config(json!({ "disabled": true })) });
    let enabled = json!({ FAULT: filter_config(json!({})) });
    let told = json!({ FAULT: filter_config(json!({ "config": abort(499) })) });
    let another = json!({ "somebody.else": abort(499) });
    for (filters, own, status) in [
        (&own, json!({}), 418),
        (&own, disabled.clone(), 200),
        (&own, told.clone(), 499),
        (&own, another, 418),
        (&off, json!({}), 200),
        (&off, enabled, 418),
        (&off, told, 499),
        (&off, disabled, 200),
    ] {
        let proxy = Proxy::start(http_listener(chain(filters.clone(), here(own.clone()))), &[]);
        assert_eq!(proxy.get("/").status, status, "{filters} {own}");
    }
}

/// `x-envoy-fault-*`: a client asks for its own fault, where the configuration lets it, and never more often than that says.
#[test]
fn a_client_may_ask_for_a_fault_where_it_may() {
    let asked = |percentage: Value| {
        fault(json!({ "abort": { "header_abort": {}, "percentage": percentage },
            "delay": { "header_delay": {}, "percentage": percentage } }))
    };
    let here = |own: Value| json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 }, "typed_per_filter_config": { FAULT: own } }]);
    let proxy = Proxy::start(http_listener(http(here(asked(always())))), &[]);
    let ask =
        |proxy: &Proxy, lines: &str| proxy.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n"));
    assert_eq!(ask(&proxy, "").status, 200);
    assert_eq!(ask(&proxy, "x-envoy-fault-abort-request: 429\r\n").status, 429);
    assert_eq!(ask(&proxy, "x-envoy-fault-abort-request: 99\r\n").status, 200);
    assert_eq!(ask(&proxy, "x-envoy-fault-abort-request: 4x9\r\n").status, 200);
    let grpc = ask(&proxy, "x-envoy-fault-abort-grpc-request: 5\r\n");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("5")));
    let never = "x-envoy-fault-abort-request: 429\r\nx-envoy-fault-abort-request-percentage: 0\r\n";
    assert_eq!(ask(&proxy, never).status, 200);
    let began = Instant::now();
    assert_eq!(ask(&proxy, "x-envoy-fault-delay-request: 150\r\n").status, 200);
    assert!(began.elapsed() >= Duration::from_millis(150));
    let seldom = Proxy::start(http_listener(http(here(asked(json!({ "numerator": 0 }))))), &[]);
    let more = "x-envoy-fault-abort-request: 429\r\nx-envoy-fault-abort-request-percentage: 100\r\n";
    assert_eq!(ask(&seldom, more).status, 200);
}

#[test]
fn faults_at_work_are_limited() {
    let own =
        fault(json!({ "delay": { "fixed_delay": "30s", "percentage": always() }, "max_active_faults": 1 }));
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 },
        "typed_per_filter_config": { FAULT: own } }]);
    let proxy = Proxy::start(http_listener(http(routes)), &[]);
    let mut held = proxy.client();
    held.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("one is delayed", || proxy.count("envoy_http_fault_delays_injected", &[]) == 1);
    assert_eq!(proxy.count("envoy_http_fault_active_faults", &[]), 1);
    assert_eq!(proxy.get("/").status, 200, "the second goes through");
    assert!(proxy.count("envoy_http_fault_faults_overflow", &[]) >= 1);
    // The client leaves: its fault is at work no more.
    drop(held);
    eventually("no fault is at work", || proxy.count("envoy_http_fault_active_faults", &[]) == 0);
    eventually("the place is free", || {
        let mut next = proxy.client();
        next.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        proxy.count("envoy_http_fault_delays_injected", &[]) >= 2
    });
}

#[test]
fn a_fault_meant_for_one_cluster_spares_the_others() {
    let host = Host::saying("ok");
    let own =
        fault(json!({ "abort": { "http_status": 418, "percentage": always() }, "upstream_cluster": "up" }));
    let routes = json!([
        { "match": { "path": "/up" }, "route": { "cluster": "up" } },
        { "match": { "path": "/other" }, "route": { "cluster": "other" } },
        { "match": { "path": "/here" }, "direct_response": { "status": 200 } },
    ]);
    let manager = chain(json!([{ "name": FAULT, "typed_config": own }]), routes);
    let clusters = [cluster("up", &[host.address]), cluster("other", &[host.address])];
    let proxy = Proxy::start(http_listener(manager), &clusters);
    for (path, status) in [("/up", 418), ("/other", 200), ("/here", 200)] {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
}

/// An extension nobody knows may be left out where the configuration says so, and refuses the listener where it does not.
#[test]
fn an_optional_filter_that_is_not_known_is_left_out() {
    let with = |optional: bool| {
        let unknown = json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x" });
        let filter = json!({ "name": "some.filter", "is_optional": optional, "typed_config": unknown });
        let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]);
        bootstrap(&http_listener(chain(json!([filter]), routes)), &[])
    };
    let options = proxy::ProxyOptions::default();
    let refused = proxy::start_static(&with(false), options.clone()).err().expect("refused").to_string();
    assert!(refused.contains("StringValue"), "{refused}");
    let proxy = proxy::start_static(&with(true), options).unwrap();
    let address = proxy.runtime.handle().listening()[0].1[0];
    assert_eq!(Client::connect(address).ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").status, 200);
}

/// Captures that are put in several times make a path grow: it arrives exactly, or is refused.
#[test]
fn a_rewritten_path_is_exact_or_refused() {
    let host = Host::saying("ok");
    let rewrite = |substitution: &str| {
        json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up",
            "regex_rewrite": { "pattern": { "regex": "^/((.*))$" }, "substitution": substitution } } }])
    };
    let path = "x".repeat(30 * 1024);
    let request = format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let proxy = Proxy::start(http_listener(http(rewrite(r"/\1\2\1"))), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.client().ask(&request).status, 200);
    let sent = host.last_request();
    let target = sent.split(' ').nth(1).unwrap();
    assert_eq!(target, format!("/{path}{path}{path}"));
    let tenfold = r"/\1\1\1\1\1\1\1\1\1\1";
    let proxy = Proxy::start(http_listener(http(rewrite(tenfold))), &[cluster("up", &[host.address])]);
    assert_eq!(proxy.client().ask(&request).status, 414);
    assert_eq!(host.requests.lock().unwrap().len(), 1);
}
