use std::time::Duration;

use super::*;

#[test]
fn lines_as_the_format_allows_them() {
    let text = "# HELP x y\n# TYPE x counter\nx 1\n  x{} 2 1395066363000\r\n\nx{a=\"b\",c=\"\\\"\\\\\\n\\x\",} +Inf\nns:y_1 { a = \"\u{7f51}\" , b=\"\"}\t-1.5e3\nnan NaN";
    let samples = parse(text).unwrap();
    assert_eq!(samples.len(), 5);
    assert_eq!((samples[0].name, samples[0].value, samples[0].timestamp), ("x", 1.0, None));
    assert_eq!((samples[1].value, samples[1].timestamp), (2.0, Some(1_395_066_363_000)));
    assert_eq!(samples[2].value, f64::INFINITY);
    assert_eq!(samples[2].label("c"), Some("\"\\\n\\x"));
    assert_eq!(
        (samples[3].name, samples[3].label("a"), samples[3].value),
        ("ns:y_1", Some("\u{7f51}"), -1500.0)
    );
    assert!(samples[4].value.is_nan());
}

#[test]
fn refusals_name_the_line() {
    for (text, line, why) in [
        ("x", 1, "a metric name holds an odd character"),
        ("ok 1\nx-y 1", 2, "a metric name holds an odd character"),
        ("{a=\"b\"} 1", 1, "no metric name"),
        ("1x 1", 1, "no metric name"),
        ("x ", 1, "a metric name holds an odd character"),
        ("x{} ", 1, "no value"),
        ("x{a=\"b\"", 1, "labels are not separated by commas"),
        ("x{a=\"b} 1", 1, "a label value does not end"),
        ("x{a=\"b\\", 1, "a label value does not end"),
        ("x{a=b} 1", 1, "a label value is not quoted"),
        ("x{a} 1", 1, "a label has no '='"),
        ("x{=\"b\"} 1", 1, "a label has no name"),
        ("x{a=\"b\"c=\"d\"} 1", 1, "labels are not separated by commas"),
        ("x one", 1, "the value is no number"),
        ("x infinity", 1, "the value is no number"),
        ("x 1 2 3", 1, "something follows the timestamp"),
        ("x 1 soon", 1, "the timestamp is no number"),
    ] {
        assert_eq!(parse(text), Err(ParseError { line, why }), "{text:?}");
    }
}

/// Prometheus' `histogram_quantile` over the same buckets.
#[test]
fn quantiles_interpolate_as_prometheus_does() {
    const INF: f64 = f64::INFINITY;
    let even: &[(f64, f64)] = &[(1.0, 10.0), (5.0, 20.0), (10.0, 20.0), (INF, 20.0)];
    let tail: &[(f64, f64)] = &[(1.0, 5.0), (INF, 10.0)];
    for (buckets, q, expected) in [
        (even, 0.5, Some(1.0)),
        (even, 0.25, Some(0.5)),
        (even, 0.75, Some(3.0)),
        (even, 1.0, Some(5.0)),
        (even, 0.0, Some(0.0)),
        (even, 7.0, Some(5.0)),
        (tail, 0.99, Some(1.0)),
        (&[(1.0, 0.0), (INF, 0.0)], 0.5, None),
        (&[(INF, 3.0)], 0.5, None),
        (&[], 0.5, None),
        (even, f64::NAN, None),
    ] {
        assert_eq!(quantile(buckets, q), expected, "q {q} of {buckets:?}");
    }
}

#[test]
fn traffic_is_what_grew_between_two_scrapes() {
    let before = "istio_requests_total{destination_workload=\"r\",response_code=\"200\"} 100\n\
        istio_requests_total{destination_workload=\"r\",response_code=\"503\"} 50\n\
        istio_request_duration_milliseconds_bucket{destination_workload=\"r\",le=\"1\"} 100\n\
        istio_request_duration_milliseconds_bucket{destination_workload=\"r\",le=\"+Inf\"} 100\n";
    // The 503s shrank: that series was restarted. The labels of one changed places.
    let after = "istio_requests_total{response_code=\"200\",destination_workload=\"r\"} 190\n\
        istio_requests_total{destination_workload=\"r\",response_code=\"503\"} 10\n\
        istio_requests_total{destination_workload=\"g\",response_code=\"200\",grpc_response_status=\"14\"} 1\n\
        istio_requests_total{destination_workload=\"g\",response_code=\"0\",grpc_response_status=\"\"} 1\n\
        istio_requests_total{destination_workload=\"g\",response_code=\"404\",grpc_response_status=\"0\"} 2\n\
        istio_request_duration_milliseconds_bucket{destination_workload=\"r\",le=\"1\"} 150\n\
        istio_request_duration_milliseconds_bucket{destination_workload=\"r\",le=\"5\"} 100\n\
        istio_request_duration_milliseconds_bucket{destination_workload=\"r\",le=\"+Inf\"} 200\n\
        istio_tcp_sent_bytes_total{destination_workload=\"t\"} 7\n\
        something_else{destination_workload=\"r\"} 9\n";
    let (before, after) = (parse(before).unwrap(), parse(after).unwrap());
    let groups = traffic(&before, &after, Duration::from_secs(10), |sample| {
        sample.label("destination_workload").map(str::to_owned)
    });
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["g", "r", "t"]);
    let reviews = &groups["r"];
    assert_eq!((reviews.requests, reviews.failures, reviews.rate), (100.0, 10.0, 10.0));
    assert_eq!(reviews.success(), Some(0.9));
    assert_eq!(reviews.latency, [(1.0, 50.0), (5.0, 100.0), (f64::INFINITY, 100.0)]);
    assert_eq!((reviews.latency_ms(0.5), reviews.latency_ms(0.75)), (Some(1.0), Some(3.0)));
    assert_eq!((groups["g"].requests, groups["g"].failures), (4.0, 2.0));
    assert_eq!((groups["t"].success(), groups["t"].tcp_sent), (None, 7.0));
}
