//! Upgrades and CONNECT: who may, where it goes, where it ends. What is refused was given to
//! `envoy --mode validate` (1.40), which refuses the same.
mod common;

use std::time::Duration;

use common::*;
use model::route::Action;
use model::upgrade::Upgrade;
use model::{RouteTable, Verdict};
use serde_json::{Value, json};
use std::sync::Arc;

fn table(list: Value) -> Result<Arc<RouteTable>, String> {
    let message =
        routes(json!({"name": "r", "virtualHosts": [{"name": "v", "domains": ["*"], "routes": list}]}));
    let mut config = model::Config::new();
    if let [refused, ..] = config.apply(xds::type_url::ROUTE, &[resource("r", &message)], &[]).as_slice() {
        return Err(refused.reason.clone());
    }
    Ok(config.snapshot().route_tables().next().expect("it was applied").clone())
}

/// Envoy's documentation of `RouteAction.upgrade_configs`: a route's word counts before the connection manager's, in
/// either direction; names are compared without case.
#[test]
fn a_routes_word_counts_before_the_connections() {
    use Upgrade::*;
    let websocket = |enabled: Option<bool>| json!([{"upgradeType": "websocket", "enabled": enabled}]);
    let connect = |config: Value| json!([{"upgradeType": "CONNECT", "connectConfig": config}]);
    let none = || json!([]);
    let table_of_cases = [
        (none(), none(), "websocket", Refused),
        (websocket(None), none(), "WebSocket", Forward),
        (websocket(Some(false)), none(), "websocket", Refused),
        (websocket(None), websocket(Some(false)), "websocket", Refused),
        (websocket(Some(false)), websocket(Some(true)), "websocket", Forward),
        (none(), websocket(None), "websocket", Forward),
        (websocket(None), none(), "h2c", Refused),
        (websocket(None), connect(Value::Null), "websocket", Forward),
        (websocket(None), none(), "CONNECT", Refused),
        (json!([{"upgradeType": "CONNECT"}]), none(), "CONNECT", Forward),
        (none(), connect(Value::Null), "CONNECT", Forward),
        (none(), connect(json!({})), "CONNECT", Terminate),
    ];
    for (manager, route, protocol, expected) in table_of_cases {
        let http = connection(json!({"upgradeConfigs": manager})).unwrap();
        let table =
            table(json!([{"match": {"prefix": "/"}, "route": {"cluster": "c", "upgradeConfigs": route}}]))
                .unwrap();
        let decision = table.decide(&get("h", "/"), 0);
        let Verdict::Forward { forward, .. } = decision.verdict else { panic!("{decision:?}") };
        assert_eq!(
            http.upgrade(Some(forward), protocol.as_bytes()),
            expected,
            "{manager} {route} {protocol}"
        );
    }
    // A redirect or a response of our own has no word of its own.
    let http = connection(json!({"upgradeConfigs": [{"upgradeType": "websocket"}]})).unwrap();
    assert_eq!(http.upgrade(None, b"websocket"), Forward);
}

/// `RouteMatch.connect_matcher`, and that no other match takes a request without a path.
#[test]
fn a_connect_meets_only_the_routes_for_it() {
    let to = |rule: Value, name: &str| json!({"name": name, "match": rule, "route": {"cluster": "c"}});
    let everything = json!([
        to(json!({"prefix": ""}), "any prefix"),
        to(json!({"safeRegex": {"regex": ".*"}}), "any path"),
        to(json!({"connectMatcher": {}, "headers": [{"name": "x", "presentMatch": true}]}), "with x"),
        to(json!({"connectMatcher": {}}), "connect"),
    ]);
    let table = table(everything).unwrap();
    let connect = Request { method: "CONNECT", path: "".into(), ..get("h:443", "") };
    let with_path = Request { method: "CONNECT", ..get("h", "/chat") };
    let table_of_cases = [
        (connect.clone(), "connect"),
        (connect.with("x", "1"), "with x"),
        // An extended CONNECT that is no upgrade has a path to match.
        (with_path, "any prefix"),
        (get("h", "/"), "any prefix"),
    ];
    for (request, expected) in table_of_cases {
        let decision = table.decide(&request, 0);
        assert_eq!(decision.route.map(|r| &*r.name), Some(expected), "{request:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let route = |upgrades: Value| {
        table(json!([{"match": {"prefix": "/"}, "route": {"cluster": "c", "upgradeConfigs": upgrades}}]))
    };
    let cases = [
        (
            json!([{"upgradeType": "websocket", "connectConfig": {}}]),
            "upgrade_configs[0].connect_config: only for",
        ),
        (json!([{"upgradeType": "a"}, {"upgradeType": "A"}]), "upgrade_configs[1]: \"A\" is there twice"),
        (
            json!([{"upgradeType": "CONNECT", "connectConfig": {"allowPost": true}}]),
            "upgrade_configs[0].connect_config.allow_post: is not supported",
        ),
        (
            json!([{"upgradeType": "CONNECT", "connectConfig": {"proxyProtocolConfig": {}}}]),
            "connect_config.proxy_protocol_config: is not supported",
        ),
    ];
    for (upgrades, reason) in cases {
        let refused = route(upgrades.clone()).expect_err(&upgrades.to_string());
        assert!(refused.contains(reason), "{refused}");
    }
    let twice = json!({"upgradeConfigs": [{"upgradeType": "websocket"}, {"upgradeType": "WebSocket"}]});
    assert!(connection(twice).unwrap_err().contains("upgrade_configs[1]: \"WebSocket\" is there twice"));
}

/// Envoy's documentation of `RouteAction.MaxStreamDuration`.
#[test]
fn how_long_a_stream_may_last() {
    let s = |n: u64| Some(Duration::from_secs(n));
    // (route's duration, route's cap of grpc-timeout, connection's, grpc-timeout) to the limit
    let cases = [
        (None, None, None, None, None),
        (None, None, s(9), None, s(9)),
        (Some("5s"), None, s(9), None, s(5)),
        (Some("0s"), None, s(9), None, None),
        (Some("5s"), None, s(9), s(1), s(5)),
        (Some("5s"), Some("3s"), s(9), s(1), s(1)),
        (Some("5s"), Some("3s"), s(9), s(7), s(3)),
        (Some("5s"), Some("0s"), s(9), s(7), s(7)),
        (None, Some("3s"), s(9), None, s(9)),
    ];
    for (own, cap, connection, grpc, expected) in cases {
        let durations = json!({"maxStreamDuration": own, "grpcTimeoutHeaderMax": cap});
        let table = table(
            json!([{"match": {"prefix": "/"}, "route": {"cluster": "c", "maxStreamDuration": durations}}]),
        )
        .unwrap();
        let decision = table.decide(&get("h", "/"), 0);
        let Some(Action::Forward(forward)) = decision.route.map(|r| &r.action) else { panic!() };
        assert_eq!(
            forward.stream_duration(connection, grpc),
            expected,
            "{own:?} {cap:?} {connection:?} {grpc:?}"
        );
        assert_eq!(forward.timeout, None, "Envoy 1.40: not beside a duration (`usingNewTimeouts`)");
    }
}

/// Envoy's documentation of `grpc_timeout_header_offset`: taken off behind the cap, never below 0.
#[test]
fn a_part_of_what_a_grpc_client_asks_for_is_kept_back() {
    for (asked, expected) in [(1000, 900), (5000, 1900), (50, 0)] {
        let durations = json!({"grpcTimeoutHeaderMax": "2s", "grpcTimeoutHeaderOffset": "0.1s"});
        let table = table(
            json!([{"match": {"prefix": "/"}, "route": {"cluster": "c", "maxStreamDuration": durations}}]),
        )
        .unwrap();
        let decision = table.decide(&get("h", "/"), 0);
        let Some(Action::Forward(forward)) = decision.route.map(|r| &r.action) else { panic!() };
        let limit = forward.stream_duration(None, Some(Duration::from_millis(asked)));
        assert_eq!(limit, Some(Duration::from_millis(expected)), "{asked}");
    }
}
