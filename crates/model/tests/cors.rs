//! Envoy's CORS filter, as 1.40 answered each of these requests.
mod common;

use common::*;
use model::cors::{Cors, CorsDecision};
use serde_json::{Value, json};

fn policy(fields: Value) -> Value {
    let kind = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy" });
    json!({ "envoy.filters.http.cors": merged(kind, fields) })
}

/// The policy of the one route, as compiled.
fn with_cors<T>(route: Value, read: impl FnOnce(&Cors) -> T) -> T {
    let whole = merged(json!({ "match": { "prefix": "/" }, "route": { "cluster": "c" } }), route);
    let table = one_host(json!([whole]));
    let request = get("h", "/");
    let decision = table.decide(&request, 0);
    let filters = &decision.route.unwrap().filters;
    read(filters.cors(filters.settings().next()).unwrap())
}

/// The decision as text: `pass`, or what it is and its fields.
fn decided(cors: &Cors, request: &Request) -> String {
    let fields = |fields: Vec<model::cors::CorsField<'_>>| -> Vec<String> {
        let mut fields: Vec<String> = fields
            .into_iter()
            .map(|(name, value)| {
                let name = name.strip_prefix("access-control-").unwrap();
                format!("{name}={}", String::from_utf8_lossy(&value))
            })
            .collect();
        fields.sort();
        fields
    };
    match cors.decide(request, 0) {
        CorsDecision::Pass => "pass".to_owned(),
        CorsDecision::Foreign => "foreign".to_owned(),
        CorsDecision::Preflight { fields: told, .. } => format!("here {}", fields(told).join(" ")),
        CorsDecision::Actual { fields: told } => format!("sent {}", fields(told).join(" ")),
    }
}

fn from(origin: &'static str) -> Request {
    get("h", "/").with("origin", origin)
}

fn preflight(origin: &'static str) -> Request {
    Request { method: "OPTIONS", ..from(origin).with("access-control-request-method", "POST") }
}

#[test]
fn a_wildcard_written_as_an_exact_match_is_any_origin() {
    for star in
        [json!({ "exact": "*" }), json!({ "prefix": "*" }), json!({ "safe_regex": { "regex": ".+" } })]
    {
        let fields = json!({ "allow_origin_string_match": [star], "allow_methods": "GET" });
        with_cors(json!({ "typed_per_filter_config": policy(fields) }), |cors| {
            assert_eq!(decided(cors, &from("http://o")), "sent allow-origin=http://o");
            assert_eq!(decided(cors, &preflight("http://x")), "here allow-methods=GET allow-origin=http://x");
        });
    }
}

#[test]
fn an_asterisk_for_methods_and_headers_says_what_was_asked_for() {
    let fields = json!({ "allow_origin_string_match": [{ "exact": "*" }], "allow_methods": "*", "allow_headers": "*",
        "allow_credentials": true, "max_age": "5", "expose_headers": "*", "allow_private_network_access": true });
    with_cors(json!({ "typed_per_filter_config": policy(fields) }), |cors| {
        assert_eq!(
            decided(cors, &preflight("http://o")),
            "here allow-credentials=true allow-headers= allow-methods=POST allow-origin=http://o expose-headers=* max-age=5"
        );
        let request = preflight("http://o")
            .with("access-control-request-headers", "x-y,x-z")
            .with("access-control-request-private-network", "true");
        assert_eq!(
            decided(cors, &request),
            "here allow-credentials=true allow-headers=x-y,x-z allow-methods=POST allow-origin=http://o \
             allow-private-network=true expose-headers=* max-age=5"
        );
        let twice = preflight("http://o").with("access-control-request-method", "PUT");
        assert!(decided(cors, &twice).contains("allow-methods=POST,PUT"), "{}", decided(cors, &twice));
        let origins = from("http://o").with("origin", "http://p");
        assert!(decided(cors, &origins).contains("allow-origin=http://o,http://p"));
    });
}

#[test]
fn what_is_no_preflight_of_an_allowed_origin_is_sent_on() {
    let fields = json!({ "allow_origin_string_match": [{ "exact": "http://o" }], "allow_methods": "GET,POST",
        "allow_headers": "x-1", "expose_headers": "x-2" });
    with_cors(json!({ "typed_per_filter_config": policy(fields) }), |cors| {
        let options = |request: Request| Request { method: "OPTIONS", ..request };
        for (request, expected) in [
            (from("http://o"), "sent allow-origin=http://o expose-headers=x-2"),
            (from("http://x"), "foreign"),
            (from("*"), "foreign"),
            (from("http://o").with("origin", "http://p"), "foreign"),
            (options(from("http://o")), "sent allow-origin=http://o expose-headers=x-2"),
            (
                options(from("http://o").with("access-control-request-method", "")),
                "sent allow-origin=http://o expose-headers=x-2",
            ),
            (
                preflight("http://o"),
                "here allow-headers=x-1 allow-methods=GET,POST allow-origin=http://o expose-headers=x-2",
            ),
            (preflight("http://x"), "foreign"),
            (options(get("h", "/").with("access-control-request-method", "GET")), "pass"),
            (preflight(""), "pass"),
        ] {
            assert_eq!(decided(cors, &request), expected, "{request:?}");
        }
    });
}

#[test]
fn a_foreign_preflight_may_be_answered_here_without_an_origin() {
    let fields = json!({ "allow_origin_string_match": [{ "exact": "http://o" }], "allow_methods": "GET",
        "forward_not_matching_preflights": false, "allow_credentials": true, "max_age": "7" });
    with_cors(json!({ "typed_per_filter_config": policy(fields) }), |cors| {
        assert_eq!(
            decided(cors, &preflight("http://x")),
            "here allow-credentials=true allow-methods=GET max-age=7"
        );
    });
}

#[test]
fn a_policy_that_is_switched_off_does_nothing() {
    let fields = json!({ "allow_origin_string_match": [{ "exact": "http://o" }],
        "filter_enabled": { "default_value": { "numerator": 0 } } });
    with_cors(json!({ "typed_per_filter_config": policy(fields) }), |cors| {
        assert_eq!(decided(cors, &from("http://o")), "pass");
    });
}

/// Envoy: each field of the first policy that has it, the route's before the virtual host's; the deprecated policy inside of a
/// route's action only where there is none of these.
#[test]
fn policies_of_several_levels_are_laid_over_one_another() {
    let around = json!({ "allow_origin_string_match": [{ "exact": "http://o" }], "allow_methods": "GET",
        "allow_credentials": true, "max_age": "9", "expose_headers": "x-e" });
    let routes = json!([
        { "match": { "prefix": "/partial" }, "route": { "cluster": "c" },
          "typed_per_filter_config": policy(json!({ "allow_methods": "PUT" })) },
        { "match": { "prefix": "/inline" }, "route": { "cluster": "c", "cors": { "allow_methods": "PATCH" } } },
        { "match": { "prefix": "/" }, "route": { "cluster": "c" } },
    ]);
    let host =
        json!({ "name": "v", "domains": ["*"], "routes": routes, "typed_per_filter_config": policy(around) });
    let table = table(json!({ "name": "r", "virtual_hosts": [host] }));
    for (path, method) in [("/partial", "PUT"), ("/inline", "GET"), ("/", "GET")] {
        let request = Request { path: path.into(), ..preflight("http://o") };
        let decision = table.decide(&request, 0);
        let filters = &decision.route.unwrap().filters;
        let cors = filters.cors(filters.settings().next()).unwrap();
        let expected = format!(
            "here allow-credentials=true allow-methods={method} allow-origin=http://o expose-headers=x-e max-age=9"
        );
        assert_eq!(decided(cors, &request), expected, "{path}");
    }
    let inline = json!({ "route": { "cluster": "c", "cors": {
        "allow_origin_string_match": [{ "exact": "http://o" }], "allow_methods": "PATCH" } } });
    with_cors(inline, |cors| {
        assert_eq!(decided(cors, &preflight("http://o")), "here allow-methods=PATCH allow-origin=http://o");
    });
}
