use super::*;
use crate::metrics::{Filter, Limits, prometheus};
use crate::scrape;

fn peer(name: &str, version: &str) -> Arc<Peer> {
    Arc::new(Peer {
        workload: format!("{name}-{version}"),
        namespace: "default".into(),
        principal: format!("spiffe://cluster.local/ns/default/sa/bookinfo-{name}"),
        app: name.into(),
        version: version.into(),
        canonical_service: name.into(),
        canonical_revision: version.into(),
        cluster: "Kubernetes".into(),
    })
}

fn key(reporter: Reporter) -> SeriesKey {
    SeriesKey {
        reporter,
        source: peer("productpage", "v1"),
        destination: peer("details", "v1"),
        service_host: "details.default.svc.cluster.local".into(),
        service_name: "details".into(),
        mutual_tls: true,
    }
}

fn ok() -> Request {
    Request {
        code: 200,
        flags: Flags::NONE,
        grpc_status: None,
        duration: Duration::from_micros(1500),
        received_bytes: 700,
        sent_bytes: 300,
    }
}

fn text(registry: &Registry) -> String {
    let mut out = Vec::new();
    prometheus(registry, &Filter::default(), &mut out);
    String::from_utf8(out).unwrap()
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(&format!("{name}{{")))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The labels of one sample of `istio_requests_total` after one request.
fn labels_of(
    principals: Principals,
    key: &SeriesKey,
    protocol: RequestProtocol,
    request: Request,
) -> Vec<(String, String)> {
    let registry = Registry::new(Limits::default());
    let metrics = IstioMetrics::new(&registry, principals);
    metrics.requests(key, protocol).record(&registry.shard(), &request);
    let text = text(&registry);
    let samples = scrape::parse(line(&text, "istio_requests_total")).unwrap();
    samples[0].labels.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect()
}

fn label<'a>(labels: &'a [(String, String)], name: &str) -> &'a str {
    &labels.iter().find(|(label, _)| label == name).unwrap_or_else(|| panic!("no label {name}")).1
}

/// The whole line, in the order in which Istio's filter makes its tags.
#[test]
fn a_request_makes_istios_line() {
    let registry = Registry::new(Limits::default());
    let metrics = IstioMetrics::new(&registry, Principals::Spiffe);
    let series = metrics.requests(&key(Reporter::Destination), RequestProtocol::Http);
    let shard = registry.shard();
    for _ in 0..214 {
        series.record(&shard, &ok());
    }
    let text = text(&registry);
    assert_eq!(
        line(&text, "istio_requests_total"),
        "istio_requests_total{reporter=\"destination\",source_workload=\"productpage-v1\",\
         source_canonical_service=\"productpage\",source_canonical_revision=\"v1\",\
         source_workload_namespace=\"default\",\
         source_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-productpage\",\
         source_app=\"productpage\",source_version=\"v1\",source_cluster=\"Kubernetes\",\
         destination_workload=\"details-v1\",destination_workload_namespace=\"default\",\
         destination_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-details\",\
         destination_app=\"details\",destination_version=\"v1\",\
         destination_service=\"details.default.svc.cluster.local\",\
         destination_canonical_service=\"details\",destination_canonical_revision=\"v1\",\
         destination_service_name=\"details\",destination_service_namespace=\"default\",\
         destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\",\
         grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 214"
    );
    for (name, value) in [
        ("istio_request_duration_milliseconds_sum", "321"),
        ("istio_request_duration_milliseconds_count", "214"),
        ("istio_request_bytes_sum", "149800"),
        ("istio_response_bytes_sum", "64200"),
    ] {
        assert!(line(&text, name).ends_with(&format!("}} {value}")), "{}", line(&text, name));
    }
    let bucket = |bound: &str| {
        let le = format!("le=\"{bound}\"}}");
        text.lines()
            .find(|line| line.starts_with("istio_request_duration_milliseconds_bucket") && line.contains(&le))
            .unwrap()
    };
    assert!(bucket("1").ends_with(" 0") && bucket("5").ends_with(" 214"));
}

/// The sample series of the article this project began with names 22 labels.
#[test]
fn the_22_labels_are_there_and_principals_can_be_bare() {
    let labels = labels_of(Principals::Bare, &key(Reporter::Destination), RequestProtocol::Http, ok());
    for name in "connection_security_policy destination_app destination_canonical_service \
        destination_canonical_revision destination_principal destination_service destination_service_name \
        destination_service_namespace destination_version destination_workload destination_workload_namespace \
        reporter request_protocol response_code response_flags source_app source_canonical_service \
        source_canonical_revision source_principal source_version source_workload source_workload_namespace"
        .split_whitespace()
    {
        assert_ne!(label(&labels, name), "unknown", "{name}");
    }
    assert_eq!(label(&labels, "source_principal"), "cluster.local/ns/default/sa/bookinfo-productpage");
}

/// `istio_stats.cc`, populatePeerInfo.
#[test]
fn what_is_missing_is_filled_as_istio_fills_it() {
    let nobody = Arc::new(Peer::default());
    let local = peer("details", "v1");
    let client = SeriesKey {
        reporter: Reporter::Source,
        source: local.clone(),
        destination: nobody.clone(),
        service_host: String::new(),
        service_name: "PassthroughCluster".into(),
        mutual_tls: true,
    };
    let server = SeriesKey {
        reporter: Reporter::Destination,
        source: nobody,
        destination: local,
        service_host: String::new(),
        service_name: String::new(),
        mutual_tls: false,
    };
    let proven = SeriesKey {
        destination: Arc::new(Peer { namespace: "claimed".into(), ..(*peer("x", "v1")).clone() }),
        ..client.clone()
    };
    let cases: &[(&SeriesKey, &str, &str)] = &[
        (&client, "destination_workload", "unknown"),
        (&client, "destination_principal", "unknown"),
        (&client, "destination_canonical_revision", "latest"),
        (&client, "destination_service", "unknown"),
        (&client, "destination_service_name", "PassthroughCluster"),
        (&client, "destination_service_namespace", "unknown"),
        (&client, "connection_security_policy", "unknown"),
        (&server, "source_app", "unknown"),
        (&server, "source_canonical_revision", "latest"),
        // A server falls back to its own canonical service.
        (&server, "destination_service", "details"),
        (&server, "destination_service_name", "details"),
        (&server, "connection_security_policy", "none"),
        // The namespace in the certificate wins over what metadata claims.
        (&proven, "destination_workload_namespace", "default"),
    ];
    for (key, name, expected) in cases {
        let labels = labels_of(Principals::Spiffe, key, RequestProtocol::Http, ok());
        assert_eq!(label(&labels, name), *expected, "{name} at the {}", key.reporter.as_str());
    }
}

#[test]
fn endings_are_told_apart() {
    let grpc = |status| Request { grpc_status: status, ..ok() };
    let failed = Request {
        code: 503,
        flags: Flags::UPSTREAM_CONNECTION_FAILURE | Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
        ..ok()
    };
    let gone = Request { code: 0, flags: Flags::DOWNSTREAM_CONNECTION_TERMINATION, ..ok() };
    let cases = [
        (RequestProtocol::Grpc, grpc(Some(14)), "grpc", "200", "14", "-"),
        (RequestProtocol::Grpc, grpc(None), "grpc", "200", "", "-"),
        // A status header outside gRPC means nothing.
        (RequestProtocol::Http, grpc(Some(14)), "http", "200", "", "-"),
        (RequestProtocol::Http, failed, "http", "503", "", "UF,URX"),
        (RequestProtocol::Http, gone, "http", "0", "", "DC"),
    ];
    for (protocol, request, name, code, status, flags) in cases {
        let labels = labels_of(Principals::Spiffe, &key(Reporter::Source), protocol, request);
        assert_eq!(
            [
                label(&labels, "request_protocol"),
                label(&labels, "response_code"),
                label(&labels, "grpc_response_status"),
                label(&labels, "response_flags")
            ],
            [name, code, status, flags]
        );
    }
}

/// A status no gRPC knows is still a status, and not the lack of one.
#[test]
fn an_odd_grpc_status_is_not_a_missing_one() {
    let registry = Registry::new(Limits::default());
    let series = IstioMetrics::new(&registry, Principals::Spiffe)
        .requests(&key(Reporter::Source), RequestProtocol::Grpc);
    let shard = registry.shard();
    for grpc_status in [None, Some(255), None] {
        series.record(&shard, &Request { grpc_status, ..ok() });
    }
    let text = text(&registry);
    for (status, count) in [("", 2), ("255", 1)] {
        let label = format!("grpc_response_status=\"{status}\"");
        let found =
            text.lines().find(|line| line.starts_with("istio_requests_total") && line.contains(&label));
        assert!(found.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{status:?} in {text}");
    }
}

#[test]
fn every_code_and_back_again_counts_right() {
    let registry = Registry::new(Limits::default());
    let series = IstioMetrics::new(&registry, Principals::Spiffe)
        .requests(&key(Reporter::Source), RequestProtocol::Http);
    let shard = registry.shard();
    // More endings than a series tells apart locally, each met three times.
    for code in (100..600u16).chain(100..600).chain((100..600).rev()) {
        series.record(&shard, &Request { code, ..ok() });
    }
    let text = text(&registry);
    let samples = scrape::parse(&text).unwrap();
    let requests: Vec<_> = samples.iter().filter(|sample| sample.name == "istio_requests_total").collect();
    assert_eq!(requests.len(), 500);
    assert!(requests.iter().all(|sample| sample.value == 3.0));
}

#[test]
fn past_the_bound_rates_and_codes_stay_right() {
    let registry = Registry::new(Limits { rows: 3, ..Limits::default() });
    let metrics = IstioMetrics::new(&registry, Principals::Spiffe);
    let shard = registry.shard();
    for service in 0..10 {
        let key = SeriesKey { service_host: format!("s{service}"), ..key(Reporter::Source) };
        metrics.requests(&key, RequestProtocol::Http).record(&shard, &ok());
    }
    let text = text(&registry);
    let overflow = text
        .lines()
        .find(|line| line.starts_with("istio_requests_total") && line.contains("overflow"))
        .unwrap();
    assert!(overflow.ends_with(" 7"), "{overflow}");
    assert!(
        overflow.contains("reporter=\"source\"") && overflow.contains("response_code=\"200\""),
        "{overflow}"
    );
    assert!(overflow.contains("destination_service=\"overflow\""), "{overflow}");
}

#[test]
fn tcp_connections_and_the_build_are_announced() {
    let registry = Registry::new(Limits::default());
    let metrics = IstioMetrics::new(&registry, Principals::Spiffe);
    metrics.build("proxy", "1.0");
    let tcp = metrics.tcp(&key(Reporter::Destination), Flags::NONE);
    let shard = registry.shard();
    tcp.opened(&shard);
    tcp.transferred(&shard, 10, 20);
    tcp.transferred(&shard, 1, 2);
    tcp.closed(&shard);
    let text = text(&registry);
    assert!(text.contains("istio_build{component=\"proxy\",tag=\"1.0\"} 1\n"), "{text}");
    for (name, value) in [
        ("istio_tcp_sent_bytes_total", 11),
        ("istio_tcp_received_bytes_total", 22),
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
    ] {
        let line = line(&text, name);
        assert!(line.ends_with(&format!("request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"}} {value}")), "{line}");
        assert!(!line.contains("response_code="), "{line}");
    }
}

#[test]
fn namespaces_are_read_only_from_whole_spiffe_ids() {
    for (principal, expected) in [
        ("spiffe://cluster.local/ns/foo/sa/bar", Some("foo")),
        ("spiffe://td/ns/foo", Some("foo")),
        ("spiffe://td/ns//sa/x", None),
        ("cluster.local/ns/foo/sa/bar", None),
        ("spiffe://td/sa/foo", None),
        ("", None),
    ] {
        assert_eq!(spiffe_namespace(principal), expected, "{principal}");
    }
}
