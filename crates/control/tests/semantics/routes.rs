//! VirtualServices.

use serde_json::json;

use super::*;

/// The routes of service `a` under one VirtualService with these `http` rules.
fn rules(http: &str) -> Vec<Value> {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n  http:\n{http}"
    );
    let made = made(&(service("a", "default") + &service("b", "default") + &rule));
    host(&made, "80", "a.default.svc.cluster.local:80")["routes"].as_array().expect("routes").clone()
}

fn names(routes: &[Value]) -> Vec<&str> {
    routes.iter().map(|route| route["name"].as_str().unwrap_or_default()).collect()
}

#[test]
fn nothing_follows_a_catch_all_rule_1() {
    for (http, expected) in [
        (
            "  - {name: x, route: [{destination: {host: b}}]}\n  - {name: w, route: [{destination: {host: a}}]}",
            &["x"][..],
        ),
        (
            "  - {name: x, match: [{uri: {prefix: /}}], route: [{destination: {host: b}}]}\n  - {name: w, route: [{destination: {host: a}}]}",
            &["x"],
        ),
        (
            "  - {name: x, match: [{uri: {prefix: /}, headers: {h: {}}}], route: [{destination: {host: b}}]}\n  - {name: w, route: [{destination: {host: a}}]}",
            &["x", "w"],
        ),
        (
            "  - {name: x, match: [{name: m, uri: {exact: /m}}, {uri: {regex: '.*'}}, {uri: {exact: /n}}], route: [{destination: {host: b}}]}",
            &["x.m", "x"],
        ),
    ] {
        assert_eq!(names(&rules(http)), expected, "{http}");
    }
}

#[test]
fn what_is_about_the_proxy_is_decided_before_rule_2() {
    for (condition, applies) in [
        ("sourceLabels: {app: client}", true),
        ("sourceLabels: {app: other}", false),
        ("sourceNamespace: default", true),
        ("sourceNamespace: prod", false),
        ("port: 80", true),
        ("port: 81", false),
        ("gateways: [other]", false),
        // Naming gateways turns the rest off.
        ("gateways: [mesh], sourceLabels: {app: other}", true),
    ] {
        let http = format!(
            "  - {{name: x, match: [{{uri: {{exact: /x}}, {condition}}}], route: [{{destination: {{host: b}}}}]}}\n\
             \x20 - {{name: w, route: [{{destination: {{host: a}}}}]}}"
        );
        let expected: &[&str] = if applies { &["x", "w"] } else { &["w"] };
        assert_eq!(names(&rules(&http)), expected, "{condition}");
    }
}

#[test]
fn without_headers_counts_a_missing_one_as_empty_rule_4() {
    for (condition, invert, missing_is_empty, present) in [
        ("{exact: x}", true, true, false),
        ("{prefix: x}", true, true, false),
        ("{}", true, false, true),
        ("{regex: '*'}", true, false, true),
        ("{regex: '.*'}", true, true, false),
    ] {
        let http = format!(
            "  - {{match: [{{withoutHeaders: {{h: {condition}}}}}], route: [{{destination: {{host: b}}}}]}}"
        );
        let route = &rules(&http)[0];
        let matcher = &route["match"]["headers"][0];
        assert_eq!(matcher["invertMatch"] == true, invert, "{condition}");
        assert_eq!(matcher["treatMissingHeaderAsEmpty"] == true, missing_is_empty, "{condition}");
        assert_eq!(matcher["presentMatch"] == true, present, "{condition}");
    }
}

#[test]
fn weights_are_relative_and_one_alone_is_ignored_rule_13() {
    let one = rules("  - {route: [{destination: {host: b}, weight: 0}]}");
    assert_eq!(one[0]["route"]["cluster"], "outbound|80||b.default.svc.cluster.local");
    let several = rules(
        "  - {route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 3}, {destination: {host: b, subset: v1}, weight: 1}]}",
    );
    assert_eq!(
        several[0]["route"]["weightedClusters"]["clusters"],
        json!([
            {"name": "outbound|80||b.default.svc.cluster.local", "weight": 3},
            {"name": "outbound|80|v1|b.default.svc.cluster.local", "weight": 1}
        ])
    );
}

#[test]
fn operations_on_headers_rule_17() {
    let routes = rules(
        "  - route: [{destination: {host: b}, headers: {request: {set: {host: from.destination, x-c: c}}}}]\n    \
         headers: {request: {add: {x-b: b}, set: {x-a: a, ':authority': from.route}, remove: [x-d]}}",
    );
    let route = &routes[0];
    assert_eq!(route["route"]["hostRewriteLiteral"], "from.route");
    let added: Vec<(&str, Option<&str>)> = route["requestHeadersToAdd"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|one| (one["header"]["key"].as_str().expect("a key"), one["appendAction"].as_str()))
        .collect();
    let overwrite = Some("OVERWRITE_IF_EXISTS_OR_ADD");
    assert_eq!(added, [("x-a", overwrite), ("x-b", None), ("x-c", overwrite)]);
    assert_eq!(route["requestHeadersToRemove"], json!(["x-d"]));
    let rewritten = rules("  - {route: [{destination: {host: b}}], rewrite: {authority: from.rewrite}}");
    assert_eq!(rewritten[0]["route"]["hostRewriteLiteral"], "from.rewrite");
}

#[test]
fn mirrors_rules_19_and_20() {
    for (written, expected) in [
        ("mirror: {host: b}", Some((100, json!(null)))),
        ("mirror: {host: b}, mirrorPercentage: {value: 0}", None),
        ("mirror: {host: b}, mirrorPercentage: {value: 0.5}", Some((5000, json!("MILLION")))),
        ("mirrors: [{destination: {host: b}, percentage: {value: 50}}]", Some((500_000, json!("MILLION")))),
    ] {
        let routes = rules(&format!("  - {{route: [{{destination: {{host: a}}}}], {written}}}"));
        let policies = routes[0]["route"]["requestMirrorPolicies"].as_array().cloned().unwrap_or_default();
        let found = policies.first().map(|policy| {
            assert_eq!(policy["disableShadowHostSuffixAppend"], true, "the copy keeps its host");
            let share = &policy["runtimeFraction"]["defaultValue"];
            (share["numerator"].as_u64().unwrap_or_default(), share["denominator"].clone())
        });
        assert_eq!(found, expected, "{written}");
    }
}

#[test]
fn timeouts_and_retries_rules_22_and_23() {
    let default = &rules("  - {route: [{destination: {host: b}}]}")[0]["route"];
    assert_eq!(default["timeout"], "0s");
    assert_eq!(default["retryPolicy"]["numRetries"], 2);
    assert_eq!(
        default["retryPolicy"]["retryOn"],
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    );
    assert_eq!(default["retryPolicy"]["hostSelectionRetryMaxAttempts"], "5");
    let limited = &rules("  - {route: [{destination: {host: b}}], timeout: 2.5s}")[0]["route"];
    assert_eq!((&limited["timeout"], &limited["maxGrpcTimeout"]), (&json!("2.500s"), &json!("2.500s")));
    for (written, conditions, codes) in [
        ("{attempts: 1, retryOn: '5xx, 503,reset'}", json!("5xx,reset,retriable-status-codes"), json!([503])),
        (
            "{attempts: 1, retryOn: 'retriable-status-codes,503'}",
            json!("retriable-status-codes"),
            json!([503]),
        ),
        ("{attempts: 0}", json!(null), json!(null)),
    ] {
        let routes = rules(&format!("  - {{route: [{{destination: {{host: b}}}}], retries: {written}}}"));
        let policy = &routes[0]["route"]["retryPolicy"];
        assert_eq!((&policy["retryOn"], &policy["retriableStatusCodes"]), (&conditions, &codes), "{written}");
    }
}

#[test]
fn redirects_derive_their_port() {
    for (redirect, port, code) in [
        ("{authority: x}", json!(null), json!(null)),
        ("{derivePort: FROM_REQUEST_PORT, redirectCode: 302}", json!(null), json!("FOUND")),
        ("{derivePort: FROM_REQUEST_PORT, scheme: https}", json!(80), json!(null)),
        ("{port: 443, scheme: https, redirectCode: 308}", json!(null), json!("PERMANENT_REDIRECT")),
        ("{port: 8443}", json!(8443), json!(null)),
    ] {
        let action = rules(&format!("  - {{redirect: {redirect}}}"))[0]["redirect"].clone();
        assert_eq!((&action["portRedirect"], &action["responseCode"]), (&port, &code), "{redirect}");
    }
}

#[test]
fn faults_without_a_percentage_never_happen_rule_21() {
    let fault = |written: &str| {
        let routes = rules(&format!("  - {{route: [{{destination: {{host: b}}}}], fault: {written}}}"));
        routes[0]["typedPerFilterConfig"]["envoy.filters.http.fault"].clone()
    };
    let delay = fault("{delay: {fixedDelay: 7s}}");
    assert_eq!(delay["delay"], json!({"fixedDelay": "7s", "percentage": {}}));
    let abort = fault("{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}");
    assert_eq!(
        abort["abort"],
        json!({"grpcStatus": 14, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}})
    );
}

#[test]
fn delegates_rule_12() {
    let root = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: root}\nspec:\n  hosts: [a]\n  http:\n  \
        - {name: outer, match: [{uri: {prefix: /api}, headers: {h: {exact: x}}}], delegate: {name: inner}, timeout: 3s}\n  \
        - {name: rest, route: [{destination: {host: a}}]}\n---\n";
    for (inner, expected) in [
        // No match of its own: the root's.
        ("[{name: leaf, route: [{destination: {host: b}}]}]", &["outer-leaf", "rest"][..]),
        ("[{match: [{uri: {prefix: /api/v1}}], route: [{destination: {host: b}}]}]", &["outer", "rest"]),
        // Outside of the root's.
        ("[{match: [{uri: {prefix: /other}}], route: [{destination: {host: b}}]}]", &["rest"]),
        // A regex on either side of one property.
        ("[{match: [{uri: {regex: '/api/.*'}}], route: [{destination: {host: b}}]}]", &["rest"]),
        ("[{match: [{headers: {h: {exact: other}}}], route: [{destination: {host: b}}]}]", &["rest"]),
        ("[{match: [{ignoreUriCase: true}], route: [{destination: {host: b}}]}]", &["rest"]),
    ] {
        let text = format!(
            "{}{}{root}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: inner}}\nspec: {{http: {inner}}}",
            service("a", "default"),
            service("b", "default")
        );
        let host = host(&made(&text), "80", "a.default.svc.cluster.local:80");
        let routes = host["routes"].as_array().expect("routes");
        assert_eq!(names(routes), expected, "{inner}");
        if expected.len() == 2 {
            assert_eq!(routes[0]["route"]["timeout"], "3s", "what the delegate leaves open it inherits");
            assert_eq!(routes[0]["match"]["headers"][0]["name"], "h");
            let metadata = &routes[0]["metadata"]["filterMetadata"];
            assert_eq!(metadata["filamesh"]["delegate"], "default/inner");
            assert_eq!(
                metadata["istio"]["config"],
                "/apis/networking.istio.io/v1/namespaces/default/virtual-service/root"
            );
        }
    }
}

#[test]
fn a_route_says_where_it_was_written() {
    let routes = rules(
        "  - {match: [{uri: {exact: /a}}, {uri: {exact: /b}}], route: [{destination: {host: b}}]}\n  - {route: [{destination: {host: a}}]}",
    );
    let paths: Vec<&Value> =
        routes.iter().map(|route| &route["metadata"]["filterMetadata"]["filamesh"]["rule"]).collect();
    assert_eq!(paths, ["spec.http[0].match[0]", "spec.http[0].match[1]", "spec.http[1]"]);
}
