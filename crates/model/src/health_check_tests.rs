//! Sources: Envoy's `health_check.proto` and its documentation "Health checking".
#![allow(clippy::single_range_in_vec_init, reason = "ranges of statuses are lists of one here")]

use super::*;

fn check(more: serde_json::Value) -> Compiled<HealthCheck> {
    let mut value = serde_json::json!({ "timeout": "1s", "interval": "10s", "unhealthy_threshold": 3,
        "healthy_threshold": 2, "http_health_check": { "path": "/healthz" } });
    for (key, part) in more.as_object().unwrap() {
        if key.ends_with("_health_check") {
            value.as_object_mut().unwrap().remove("http_health_check");
        }
        value[key] = part.clone();
    }
    HealthCheck::compile(&xds::json::from_json(&value).unwrap())
}

/// The first check decides alone; then thresholds do, and a wrong status at once.
#[test]
fn thresholds_decide_when_a_host_leaves_and_comes_back() {
    use CheckResult::*;
    use Transition::*;
    let check = check(serde_json::json!({})).unwrap();
    // What came, whether the host is healthy then, what changed.
    let histories: &[&[(CheckResult, bool, Transition)]] = &[
        &[(Passed, true, Changed), (Passed, true, Unchanged)],
        &[(Network, false, Unchanged), (Passed, false, Pending), (Passed, true, Changed)],
        &[
            (Passed, true, Changed),
            (Network, true, Pending),
            (Retriable, true, Pending),
            (Passed, true, Unchanged),
            (Network, true, Pending),
            (Network, true, Pending),
            (Network, false, Changed),
            (Passed, false, Pending),
            (Network, false, Unchanged),
            (Passed, false, Pending),
            (Passed, true, Changed),
            (Failed, false, Changed),
        ],
    ];
    for history in histories {
        let mut judgement = Judgement::default();
        assert!(!judgement.is_healthy() && !judgement.is_checked());
        for (step, (result, healthy, transition)) in history.iter().enumerate() {
            assert_eq!(judgement.judge(&check, *result), *transition, "step {step} of {history:?}");
            assert_eq!(judgement.is_healthy(), *healthy, "step {step} of {history:?}");
            assert!(judgement.is_checked());
        }
    }
}

#[test]
fn every_interval_has_its_time() {
    let seconds = Duration::from_secs;
    let plain = check(serde_json::json!({})).unwrap();
    for (passed, transition) in [(true, Transition::Unchanged), (false, Transition::Pending)] {
        assert_eq!(plain.wait(passed, transition, false, [7, 7]), seconds(60), "never used");
        assert_eq!(plain.wait(passed, transition, true, [7, 7]), seconds(10));
    }
    let all = check(serde_json::json!({ "no_traffic_interval": "1s", "no_traffic_healthy_interval": "2s",
        "unhealthy_interval": "3s", "unhealthy_edge_interval": "4s", "healthy_edge_interval": "5s" }))
    .unwrap();
    let cases = [
        (false, false, Transition::Changed, 1),
        (false, true, Transition::Pending, 2),
        (true, false, Transition::Unchanged, 3),
        (true, false, Transition::Changed, 3),
        (true, false, Transition::Pending, 4),
        (true, true, Transition::Pending, 5),
        (true, true, Transition::Changed, 10),
    ];
    for (used, passed, transition, expected) in cases {
        assert_eq!(
            all.wait(passed, transition, used, [0, 0]),
            seconds(expected),
            "{used} {passed} {transition:?}"
        );
    }
}

#[test]
fn jitter_only_adds_and_never_more_than_it_says() {
    let check = check(serde_json::json!({ "interval_jitter": "2s", "interval_jitter_percent": 50,
        "initial_jitter": "3s" }))
    .unwrap();
    let waits: Vec<Duration> = (0..1000u64)
        .map(|dice| {
            let dice = dice.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            check.wait(true, Transition::Unchanged, true, [dice, dice.rotate_left(17)])
        })
        .collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= Duration::from_secs(10) && *least < Duration::from_secs(11), "{least:?}");
    assert!(*most < Duration::from_secs(17) && *most > Duration::from_secs(15), "{most:?}");
    assert!(check.first_wait(u64::MAX) < Duration::from_secs(3));
}

#[test]
fn probes_are_read_as_written() {
    let read = |value| check(value).unwrap().probe;
    let Probe::Http(http) = read(serde_json::json!({})) else { panic!() };
    assert_eq!(
        (&*http.path, http.method, http.http2, http.expected.as_slice()),
        ("/healthz", "GET", false, &[200..201][..])
    );
    let Probe::Http(http) =
        read(serde_json::json!({ "http_health_check": { "path": "/x", "host": "h", "method": "HEAD",
        "codec_client_type": "HTTP2", "expected_statuses": [{ "start": 200, "end": 300 }],
        "retriable_statuses": [{ "start": 503, "end": 504 }],
        "request_headers_to_add": [{ "header": { "key": "x-a", "value": "1" } }] } }))
    else {
        panic!()
    };
    assert_eq!((&*http.host, http.method, http.http2), ("h", "HEAD", true));
    assert_eq!((http.expected, http.retriable, http.headers.set.len()), (vec![200..300], vec![503..504], 1));
    let Probe::Tcp { send, receive } = read(serde_json::json!({ "tcp_health_check": {
        "send": { "text": "0001fF" }, "receive": [{ "text": "4F4b" }, { "binary": "AQI=" }] } }))
    else {
        panic!()
    };
    assert_eq!(
        (&*send, receive),
        (&[0u8, 1, 255][..], vec![Arc::from(&b"OK"[..]), Arc::from(&[1u8, 2][..])])
    );
    let Probe::Grpc(grpc) = read(serde_json::json!({ "grpc_health_check": { "service_name": "s" } })) else {
        panic!()
    };
    assert_eq!((&*grpc.service, &*grpc.authority), ("s", ""));
}

#[test]
fn what_makes_no_sense_is_refused_by_its_path() {
    let cases = [
        (serde_json::json!({ "timeout": "0s" }), "timeout"),
        (serde_json::json!({ "no_traffic_interval": "0s" }), "no_traffic_interval"),
        (serde_json::json!({ "http_health_check": {} }), "http_health_check.path"),
        (serde_json::json!({ "http_health_check": { "path": "/a b" } }), "http_health_check.path"),
        (
            serde_json::json!({ "http_health_check": { "path": "/", "method": "CONNECT" } }),
            "http_health_check.method",
        ),
        (
            serde_json::json!({ "http_health_check": { "path": "/", "codec_client_type": "HTTP3" } }),
            "http_health_check.codec_client_type",
        ),
        (
            serde_json::json!({ "http_health_check": { "path": "/", "expected_statuses": [{ "start": 99, "end": 200 }] } }),
            "http_health_check.expected_statuses[0]",
        ),
        (
            serde_json::json!({ "tcp_health_check": { "send": { "text": "0" } } }),
            "tcp_health_check.send.text",
        ),
        (serde_json::json!({ "tcp_health_check": { "receive": [{}] } }), "tcp_health_check.receive[0]"),
        (serde_json::json!({ "custom_health_check": { "name": "redis" } }), "custom_health_check"),
    ];
    for (value, path) in cases {
        let refusal = check(value.clone()).expect_err(path).to_string();
        assert!(refusal.starts_with(&format!("{path}: ")), "{value}: {refusal}");
    }
}
