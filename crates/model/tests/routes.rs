//! Virtual hosts, routes, splits, headers and redirects. Sources: Envoy's `route_components.proto`
//! documentation and Istio's simulate corpus README ("Easily got wrong").
mod common;

use std::sync::Arc;

use common::*;
use model::{Config, RouteTable, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

fn route(name: &str, rule: Value) -> Value {
    json!({"name": name, "match": rule, "route": {"cluster": name}})
}

fn met(table: &RouteTable, request: &Request) -> String {
    let decision = table.decide(request, 0);
    match decision.route {
        Some(route) => route.name.to_string(),
        None => decision.explain().verdict.to_owned(),
    }
}

#[test]
fn a_match_holds_when_all_of_its_parts_hold() {
    let header = |matcher: Value| {
        let mut whole = json!({"name": "x-h"});
        for (key, value) in matcher.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        json!({"prefix": "/", "headers": [whole]})
    };
    let query = |matcher: Value| json!({"prefix": "/", "queryParameters": [matcher]});
    let plain = |path: &str| get("h", path);
    let with = |value: &'static str| get("h", "/").with("x-h", value);
    // The match, a request, whether it holds.
    let cases = [
        // Envoy: a prefix is a plain string prefix; the query is no part of the path.
        (json!({"prefix": "/foo"}), plain("/foobar"), true),
        (json!({"prefix": "/foo"}), plain("/fo"), false),
        (json!({"prefix": "/Foo", "caseSensitive": false}), plain("/fOO/x"), true),
        (json!({"prefix": "/"}), plain("/"), true),
        (json!({"path": "/foo"}), plain("/foo?x=1"), true),
        (json!({"path": "/foo"}), plain("/foo#f"), true),
        (json!({"path": "/foo"}), plain("/foo/"), false),
        (json!({"path": "/Foo", "caseSensitive": false}), plain("/foo"), true),
        // Envoy: the whole path has to match the regex.
        (json!({"safeRegex": {"regex": "/b[io]t"}}), plain("/bot?a"), true),
        (json!({"safeRegex": {"regex": "/b[io]t"}}), plain("/bots"), false),
        // Gateway API PathPrefix, by path elements.
        (json!({"pathSeparatedPrefix": "/foo"}), plain("/foo"), true),
        (json!({"pathSeparatedPrefix": "/foo"}), plain("/foo/bar"), true),
        (json!({"pathSeparatedPrefix": "/foo"}), plain("/foobar"), false),
        (header(json!({"stringMatch": {"exact": "a"}})), with("a"), true),
        (header(json!({"stringMatch": {"exact": "A", "ignoreCase": true}})), with("a"), true),
        (header(json!({"stringMatch": {"prefix": "ab"}})), with("abc"), true),
        (header(json!({"stringMatch": {"suffix": "bc"}})), with("abc"), true),
        (header(json!({"stringMatch": {"contains": "B", "ignoreCase": true}})), with("abc"), true),
        (header(json!({"stringMatch": {"safeRegex": {"regex": "a.*"}}})), with("abc"), true),
        (header(json!({"stringMatch": {"safeRegex": {"regex": "b"}}})), with("abc"), false),
        (header(json!({"presentMatch": true})), with(""), true),
        (header(json!({"presentMatch": true})), plain("/"), false),
        (header(json!({"presentMatch": true, "invertMatch": true})), plain("/"), true),
        (header(json!({"presentMatch": false})), plain("/"), true),
        (header(json!({"rangeMatch": {"start": -10, "end": 0}})), with("-1"), true),
        (header(json!({"rangeMatch": {"start": -10, "end": 0}})), with("0"), false),
        (header(json!({"rangeMatch": {"start": -10, "end": 0}})), with("-1somestring"), false),
        // "An inverted match without treat_missing_header_as_empty never matches a missing header."
        (header(json!({"stringMatch": {"exact": "a"}, "invertMatch": true})), plain("/"), false),
        (
            header(
                json!({"stringMatch": {"exact": "a"}, "invertMatch": true, "treatMissingHeaderAsEmpty": true}),
            ),
            plain("/"),
            true,
        ),
        (
            header(
                json!({"stringMatch": {"safeRegex": {"regex": ".*"}}, "invertMatch": true, "treatMissingHeaderAsEmpty": true}),
            ),
            plain("/"),
            false,
        ),
        // Several lines are matched one by one (header_matchers.rs has them all).
        (header(json!({"stringMatch": {"exact": "a,b"}})), with("a").with("x-h", "b"), false),
        (header(json!({"stringMatch": {"exact": "b"}})), with("a").with("x-h", "b"), true),
        (query(json!({"name": "a", "stringMatch": {"exact": "1"}})), plain("/?b=2&a=1"), true),
        (query(json!({"name": "a", "stringMatch": {"exact": "1"}})), plain("/?a=2&a=1"), false),
        (query(json!({"name": "a", "presentMatch": true})), plain("/?a"), true),
        (query(json!({"name": "a", "presentMatch": true})), plain("/?aa=1"), false),
        (
            json!({"prefix": "/", "headers": [{"name": ":method", "stringMatch": {"exact": "GET"}}]}),
            plain("/"),
            true,
        ),
        (
            json!({"prefix": "/", "headers": [{"name": ":authority", "stringMatch": {"exact": "h"}}]}),
            plain("/"),
            true,
        ),
        (
            json!({"prefix": "/", "headers": [{"name": ":scheme", "stringMatch": {"exact": "https"}}]}),
            plain("/"),
            false,
        ),
        (
            json!({"prefix": "/", "grpc": {}}),
            get("h", "/").with("content-type", "application/grpc+proto"),
            true,
        ),
        (json!({"prefix": "/", "grpc": {}}), get("h", "/").with("content-type", "application/grpcx"), false),
        (json!({"prefix": "/", "runtimeFraction": {"defaultValue": {"numerator": 0}}}), plain("/"), false),
    ];
    for (rule, request, holds) in cases {
        let table = one_host(json!([route("hit", rule.clone())]));
        let expected = if holds { "hit" } else { "no_route" };
        assert_eq!(met(&table, &request), expected, "{rule} on {request:?}");
    }
}

/// Twenty exact paths make the virtual host keep an index; the order of the list still decides.
#[test]
fn the_index_of_exact_paths_keeps_the_order_of_the_list() {
    let mut list = vec![route("early", json!({"prefix": "/p5"}))];
    list.extend((0..20).map(|i| route(&format!("p{i}"), json!({"path": format!("/p{i}")}))));
    list.push(route("post", json!({"path": "/p3", "headers": [{"name": "x", "presentMatch": true}]})));
    list.insert(3, route("middle", json!({"safeRegex": {"regex": "/p1[0-9]?"}})));
    list.push(route("rest", json!({"prefix": "/"})));
    let table = one_host(json!(list));
    let cases = [
        ("/p5", "early"),
        ("/p0", "p0"),
        ("/p1", "p1"),
        ("/p12", "middle"),
        ("/p3?q", "p3"),
        ("/zz", "rest"),
    ];
    for (path, name) in cases {
        assert_eq!(met(&table, &get("h", path)), name, "{path}");
    }
}

/// Envoy's VirtualHost.domains: exact, longest suffix wildcard, longest prefix wildcard, `*`.
#[test]
fn a_virtual_host_is_found_in_envoys_order() {
    let host = |name: &str, domains: &[&str]| {
        json!({"name": name, "domains": domains,
        "routes": [route(name, json!({"prefix": "/"}))]})
    };
    let whole = |ignore_port: bool| {
        table(json!({"name": "r", "ignorePortInHostMatching": ignore_port, "virtualHosts": [
            host("exact", &["www.foo.com", "[::1]"]), host("suffix", &["*.foo.com"]), host("longer", &["*-bar.foo.com"]),
            host("prefix", &["www.foo.*"]), host("port", &["port.com:8080"]), host("any", &["*"])]}))
    };
    let cases = [
        (true, "www.foo.com", "exact"),
        (true, "WWW.Foo.Com:8080", "exact"),
        (true, "[::1]:80", "exact"),
        (true, "baz.foo.com", "suffix"),
        (true, "baz-bar.foo.com", "longer"),
        (true, "-bar.foo.com", "suffix"),
        (true, ".foo.com", "any"),
        (true, "www.foo.de", "prefix"),
        (true, "www.foo.", "any"),
        (true, "port.com:8080", "any"),
        (true, "", "any"),
        (false, "www.foo.com:8080", "prefix"),
        (false, "port.com:8080", "port"),
    ];
    for (ignore_port, host, name) in cases {
        assert_eq!(met(&whole(ignore_port), &get(host, "/")), name, "{host}");
    }
    let long = format!("{}.foo.com", "a".repeat(300));
    assert_eq!(met(&whole(true), &get(&long, "/")), "any");
}

#[test]
fn a_domain_of_two_virtual_hosts_is_refused_by_name() {
    let message = routes(json!({"name": "r", "virtualHosts": [
        {"name": "a", "domains": ["x.org", "*.x.org"]}, {"name": "b", "domains": ["X.org"]}]}));
    let refused = Config::new().apply(xds::type_url::ROUTE, &[resource("r", &message)], &[]);
    assert_eq!(
        refused[0].to_string(),
        r#"r: virtual_hosts.b: domain "x.org" is also one of virtual host "a""#
    );
}

/// All short texts as exact, suffix and prefix domains at once: none is taken for another.
#[test]
fn short_domains_of_different_kinds_are_different_domains() {
    let letters = ["a", "b", "c", "."];
    let mut texts: Vec<String> = letters.iter().map(|l| (*l).to_owned()).collect();
    for _ in 0..2 {
        let longer = texts.iter().flat_map(|t| letters.iter().map(move |l| format!("{t}{l}")));
        let all: std::collections::BTreeSet<String> = longer.chain(texts.clone()).collect();
        texts = all.into_iter().collect();
    }
    let domains: Vec<String> =
        texts.iter().flat_map(|t| [t.clone(), format!("*{t}"), format!("{t}*")]).collect();
    assert_eq!(domains.len(), 3 * (4 + 16 + 64));
    let message = routes(json!({"name": "r", "virtualHosts": [{"name": "all", "domains": domains}]}));
    let refused = Config::new().apply(xds::type_url::ROUTE, &[resource("r", &message)], &[]);
    assert!(refused.is_empty(), "{refused:?}");
}

fn naive(hosts: &[Vec<String>], host: &str) -> Option<usize> {
    let find = |test: &dyn Fn(&str) -> bool| hosts.iter().position(|d| d.iter().any(|d| test(d)));
    if let Some(exact) = find(&|d| d == host) {
        return Some(exact);
    }
    for kept in (1..host.len()).rev() {
        let suffix = format!("*{}", &host[host.len() - kept..]);
        if let Some(found) = find(&|d| d == suffix) {
            return Some(found);
        }
    }
    for kept in (1..host.len()).rev() {
        let prefix = format!("{}*", &host[..kept]);
        if let Some(found) = find(&|d| d == prefix) {
            return Some(found);
        }
    }
    find(&|d| d == "*")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Also over a history of changes: the incremental table must stay the one built at once.
    #[test]
    fn virtual_hosts_are_found_as_a_naive_search_finds_them(
        versions in proptest::collection::vec(
            proptest::collection::btree_set("(\\*[.ab]{0,3})|([ab.]{1,4})|([ab.]{1,2}\\*)", 1..10), 1..5),
        asked in proptest::collection::vec("[abAB.]{0,5}", 20),
    ) {
        let mut config = Config::new();
        for (version, domains) in versions.iter().enumerate() {
            let domains: Vec<String> = domains.iter().cloned().collect();
            // Two domains to a host, shifted with every version so that hosts move, stay and change.
            let mut hosts: Vec<Vec<String>> = domains.chunks(2).map(<[String]>::to_vec).collect();
            let shift = version % hosts.len();
            hosts.rotate_left(shift);
            let list: Vec<Value> = hosts.iter().enumerate().map(|(i, domains)| {
                json!({"name": i.to_string(), "domains": domains})
            }).collect();
            let message = routes(json!({"name": "r", "virtualHosts": list}));
            let refused = config.apply(xds::type_url::ROUTE, &[resource("r", &message)], &[]);
            prop_assert!(refused.is_empty(), "{:?}", refused);
            let snapshot = config.snapshot();
            let table = snapshot.route_tables().next().expect("applied");
            for host in &asked {
                let found = table.virtual_host(host.as_bytes()).map(|(_, v)| v.name.to_string());
                let expected = naive(&hosts, &host.to_ascii_lowercase()).map(|i| i.to_string());
                prop_assert_eq!(found, expected, "{} among {:?}", host, hosts);
            }
        }
    }
}

/// A deterministic stream of dice (splitmix64).
fn dice(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

#[test]
fn a_split_of_95_and_5_is_kept_within_one_percent_over_20_000_requests() {
    let table =
        one_host(json!([{"name": "s", "match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [
        {"name": "never", "weight": 0}, {"name": "most", "weight": 95}, {"name": "few", "weight": 5}]}}}]));
    let mut counts = [0u32; 3];
    for random in dice(42).take(20_000) {
        let Verdict::Forward { split: Some(split), .. } = table.decide(&get("h", "/"), random).verdict else {
            panic!("a split was expected");
        };
        counts[usize::from(split)] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!((800..=1200).contains(&counts[2]), "{counts:?}");
}

#[test]
fn a_fraction_of_the_requests_matches_independently_of_the_split() {
    let table = one_host(json!([
        {"name": "some", "match": {"prefix": "/", "runtimeFraction": {"defaultValue": {"numerator": 10}}},
            "route": {"weightedClusters": {"clusters": [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]}}},
        route("rest", json!({"prefix": "/"}))]));
    let mut counts = std::collections::BTreeMap::new();
    for random in dice(7).take(20_000) {
        let Verdict::Forward { cluster, .. } = table.decide(&get("h", "/"), random).verdict else { panic!() };
        *counts.entry(cluster.name.to_string()).or_insert(0) += 1;
    }
    assert!((800..=1200).contains(&counts["a"]) && (800..=1200).contains(&counts["b"]), "{counts:?}");
}

/// Envoy's "Custom request/response headers": weighted cluster, route, virtual host, route configuration.
#[test]
fn header_changes_come_most_specific_first_unless_the_most_specific_wins() {
    let add = |value: &str| json!([{"header": {"key": "X-Level", "value": value}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"}]);
    let of = |wins: bool| {
        table(
            json!({"name": "r", "mostSpecificHeaderMutationsWins": wins, "requestHeadersToAdd": add("table"),
            "virtualHosts": [{"name": "v", "domains": ["*"], "requestHeadersToAdd": add("host"), "requestHeadersToRemove": ["X-Gone"],
                "routes": [{"match": {"prefix": "/"}, "requestHeadersToAdd": add("route"), "route": {"weightedClusters":
                    {"clusters": [{"name": "a", "weight": 1, "requestHeadersToAdd": add("split")}]}}}]}]}),
        )
    };
    let levels = |table: &RouteTable| -> Vec<String> {
        let decision = table.decide(&get("h", "/"), 0);
        let plans = table.request_headers(&decision);
        plans.iter().flat_map(|p| &p.set).map(|s| s.value.as_literal().unwrap().to_owned()).collect()
    };
    assert_eq!(levels(&of(false)), ["split", "route", "host", "table"]);
    assert_eq!(levels(&of(true)), ["table", "host", "route", "split"]);
    let table = of(false);
    let decision = table.decide(&get("h", "/"), 0);
    let removed: Vec<_> = table.request_headers(&decision).iter().flat_map(|p| &p.remove).cloned().collect();
    assert_eq!(removed, [Arc::from("x-gone")]);
}

/// Envoy's RedirectAction; Istio's "redirect" and Gateway API RequestRedirect use all of its parts.
#[test]
fn a_redirect_leads_where_envoy_says() {
    let cases = [
        (json!({"hostRedirect": "new.org"}), "/a?q=1", "http://new.org/a?q=1"),
        (json!({"httpsRedirect": true}), "/a", "https://old.org/a"),
        (json!({"schemeRedirect": "https", "portRedirect": 8443}), "/", "https://old.org:8443/"),
        (json!({"pathRedirect": "/b"}), "/a?q=1", "http://old.org:80/b?q=1"),
        (json!({"pathRedirect": "/b?x=2"}), "/a?q=1", "http://old.org:80/b?x=2"),
        (json!({"pathRedirect": "/b", "stripQuery": true}), "/a?q=1", "http://old.org:80/b"),
        (json!({"prefixRewrite": "/new"}), "/a/b?q=1", "http://old.org:80/new/b?q=1"),
        (
            json!({"regexRewrite": {"pattern": {"regex": "^/a/(.*)$"}, "substitution": "/\\1/a"}}),
            "/a/b",
            "http://old.org:80/b/a",
        ),
    ];
    for (redirect, path, location) in cases {
        let table = one_host(json!([{"match": {"prefix": "/a"}, "redirect": redirect},
            {"match": {"prefix": "/"}, "redirect": redirect}]));
        let request = get("old.org:80", path);
        let decision = table.decide(&request, 0);
        let (Verdict::Redirect(redirect), Some(route)) = (decision.verdict, decision.route) else { panic!() };
        let mut out = Vec::new();
        redirect.location(&route.rule, &request, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), location, "{path}");
    }
}

#[test]
fn a_prefix_rewrite_replaces_what_matched_and_keeps_the_query() {
    let cases = [
        (json!({"prefix": "/api/"}), "/", "/api/x?q", Some("/x?q")),
        (json!({"path": "/api"}), "/new", "/api?q", Some("/new?q")),
        (json!({"pathSeparatedPrefix": "/api"}), "/v2", "/api/x", Some("/v2/x")),
        (json!({"safeRegex": {"regex": "/a.*"}}), "/new", "/abc", Some("/new")),
        (json!({"prefix": "/"}), "/base/", "/x", Some("/base/x")),
        (json!({"prefix": "/"}), "", "/x", None),
    ];
    for (rule, rewrite, path, expected) in cases {
        let table = one_host(json!([{"match": rule, "route": {"cluster": "c", "prefixRewrite": rewrite}}]));
        let decision = table.decide(&get("h", path), 0);
        let (Verdict::Forward { forward, .. }, Some(route)) = (decision.verdict, decision.route) else {
            panic!()
        };
        let new = forward
            .path
            .apply(&route.rule, path.as_bytes())
            .map(|p| String::from_utf8(p.into_owned()).unwrap());
        assert_eq!(new.as_deref(), expected, "{path}");
    }
}

#[test]
fn a_decision_is_explained_with_names_and_the_object_it_comes_from() {
    let table = one_host(
        json!([{"name": "canary", "match": {"prefix": "/"}, "route": {"cluster": "outbound|80||a"},
        "metadata": {"filterMetadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/d/virtual-service/a"},
            "filamesh": {"rule": "spec.http[0]"}}}}]),
    );
    let decision = table.decide(&get("h", "/"), 0);
    let expected = json!({"virtual_host": "v", "route": "canary", "route_index": 0, "verdict": "forward",
        "cluster": "outbound|80||a", "provenance": {
            "istio": "/apis/networking.istio.io/v1/namespaces/d/virtual-service/a", "rule": "spec.http[0]"}});
    assert_eq!(serde_json::to_value(decision.explain()).unwrap(), expected);
    assert!(table.resolve(decision.place).is_some_and(|(_, route)| &*route.name == "canary"));
}

/// Envoy's fault filter documentation.
#[test]
fn faults_are_decided_by_two_dice() {
    use model::fault::{Abort, FaultDecision};
    use model::filter::Settings;
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let table =
        one_host(json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typedPerFilterConfig": {
        "envoy.filters.http.fault": {"@type": fault,
            "delay": {"fixedDelay": "7s", "percentage": {"numerator": 100}},
            "abort": {"httpStatus": 555, "percentage": {"numerator": 50}},
            "headers": [{"name": "end-user", "stringMatch": {"exact": "jason"}}]}}}]));
    let request = get("h", "/");
    let route = table.decide(&request, 0).route.unwrap();
    let Some(Settings::Fault(faulty)) = route.filters.settings().next() else { panic!() };
    assert_eq!(faulty.decide(&request, Some("c"), [0, 0]), FaultDecision::default());
    let jason = get("h", "/").with("end-user", "jason");
    let delay = Some(std::time::Duration::from_secs(7));
    assert_eq!(
        faulty.decide(&jason, Some("c"), [9, 0]),
        FaultDecision { delay, abort: Some(Abort::Status(555)) }
    );
    assert_eq!(faulty.decide(&jason, Some("c"), [9, 500_000]), FaultDecision { delay, abort: None });
}

/// reliability.md's table: RetryStateImpl of Envoy, and Istio's default policy.
#[test]
fn a_retry_is_made_when_the_policy_names_the_outcome() {
    use model::retry::{NoRetry, Outcome, Retry, decide};
    let policy = |on: &str| {
        let table = one_host(json!([{"match": {"prefix": "/"}, "route": {"cluster": "c", "retryPolicy": {
            "retryOn": on, "numRetries": 2, "retriableStatusCodes": [418]}}}]));
        let Verdict::Forward { forward, .. } = table.decide(&get("h", "/"), 0).verdict else { panic!() };
        forward.retry.clone().unwrap()
    };
    let status =
        |status| Outcome::Response { status, grpc_status: None, rate_limited: false, overloaded: false };
    let grpc = |code| Outcome::Response {
        status: 200,
        grpc_status: Some(code),
        rate_limited: false,
        overloaded: false,
    };
    let limited = Outcome::Response { status: 503, grpc_status: None, rate_limited: true, overloaded: false };
    let overloaded =
        Outcome::Response { status: 503, grpc_status: None, rate_limited: false, overloaded: true };
    let istio = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    let cases = [
        ("5xx", status(500), true),
        ("5xx", status(503), true),
        ("5xx", status(404), false),
        ("5xx", status(200), false),
        ("5xx", Outcome::ConnectFailure, true),
        ("5xx", Outcome::RefusedStream, true),
        ("5xx", Outcome::PerTryTimeout, true),
        ("5xx", Outcome::RouteTimeout, false),
        ("5xx", Outcome::Overflow, false),
        ("5xx", limited, false),
        ("5xx,envoy-ratelimited", limited, true),
        ("5xx", overloaded, false),
        ("gateway-error", status(500), false),
        ("gateway-error", status(502), true),
        ("gateway-error", status(504), true),
        ("reset", Outcome::Reset { request_sent: true }, true),
        ("reset", status(503), false),
        ("reset-before-request", Outcome::Reset { request_sent: true }, false),
        ("reset-before-request", Outcome::Reset { request_sent: false }, true),
        ("connect-failure", Outcome::Reset { request_sent: false }, false),
        ("retriable-4xx", status(409), true),
        ("retriable-4xx", status(404), false),
        ("retriable-status-codes", status(418), true),
        ("503", status(503), true),
        ("503", status(500), false),
        ("unavailable", grpc(14), true),
        ("unavailable", grpc(13), false),
        ("cancelled", grpc(1), true),
        (istio, Outcome::ConnectFailure, true),
        (istio, Outcome::RefusedStream, true),
        (istio, status(503), false),
        (istio, Outcome::Reset { request_sent: true }, false),
        (istio, grpc(14), true),
        (istio, status(418), true),
    ];
    for (on, outcome, retried) in cases {
        let verdict = decide(&policy(on), 1, outcome, &|_, _| None, 0);
        assert_eq!(matches!(verdict, Retry::After(_)), retried, "{on} {outcome:?}: {verdict:?}");
    }
    let five = policy("5xx");
    assert_eq!(decide(&five, 3, status(503), &|_, _| None, 0), Retry::No(NoRetry::Exhausted));
    assert_eq!(decide(&five, 1, status(200), &|_, _| None, 0), Retry::No(NoRetry::Success));
    // 25, 50, 100, 200, 250, 250 ms: the greatest wait of each retry.
    let most = |attempt| five.backoff.wait(attempt, u64::MAX - 1).as_millis();
    for (attempt, ceiling) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
        assert!(most(attempt) < ceiling, "{attempt}");
        let waits: Vec<u128> = dice(1).take(200).map(|r| five.backoff.wait(attempt, r).as_millis()).collect();
        let greatest = *waits.iter().max().unwrap();
        assert!(greatest < ceiling && greatest > ceiling * 8 / 10, "{attempt}: {greatest}");
    }
}
