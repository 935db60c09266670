//! The sample application as it runs on a laptop: workloads that registered themselves, no API server, no certificates.

use std::collections::BTreeMap;

use api::{MeshConfig, parse_documents};
use control::proxy::{Profile, Proxy, ProxyKind};
use control::translate::{Options, Resources, resources};
use control::workload::{Workload, WorkloadPort};
use control::world::{Settings, World};
use model::simulate::{Call, CallResult, Simulation};
use model::{Config, Resource};
use xds::{Name, type_url};

const WORKLOADS: &[(&str, &str, &str)] = &[
    ("productpage", "v1", "127.77.0.2"),
    ("details", "v1", "127.77.0.3"),
    ("ratings", "v1", "127.77.0.4"),
    ("reviews", "v1", "127.77.0.5"),
    ("reviews", "v2", "127.77.0.6"),
    ("reviews", "v3", "127.77.0.7"),
];

fn world(extra: &str) -> World {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/bookinfo");
    let mut text = String::new();
    for file in [
        "platform/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-all.yaml",
        "networking/virtual-service-reviews-test-v2.yaml",
    ] {
        text += &std::fs::read_to_string(format!("{sample}/{file}")).expect("the sample is there");
        text += "\n---\n";
    }
    text += extra;
    let parsed = parse_documents("bookinfo", &text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    let workloads = WORKLOADS.iter().map(|(service, version, address)| Workload {
        name: format!("{service}-{version}"),
        namespace: "default".into(),
        service: Some((*service).into()),
        version: Some((*version).into()),
        labels: BTreeMap::new(),
        service_account: String::new(),
        cluster: String::new(),
        address: address.parse().expect("an address"),
        ports: vec![WorkloadPort { port: 9080, target_port: 9080, name: "http".into() }],
        pid: None,
        proxy_pid: None,
        start_time: None,
        admin: None,
        hop: false,
    });
    let settings = Settings { assign_addresses: true, ..Default::default() };
    World::build(parsed.objects, workloads.collect(), MeshConfig::istio_default(), settings)
}

fn proxy(kind: ProxyKind, address: &str) -> Proxy {
    let labels: &[(&str, &str)] = match kind {
        ProxyKind::Gateway => &[("istio", "ingressgateway")],
        ProxyKind::Sidecar => &[],
    };
    Proxy {
        kind,
        ip: address.into(),
        ips: Vec::new(),
        namespace: "default".into(),
        id: String::new(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        metadata: BTreeMap::new(),
        locality: String::new(),
    }
}

fn made(world: &World, proxy: &Proxy) -> Resources {
    resources(world, proxy, &Options { profile: Profile::Mesh, ..Default::default() })
}

fn packed<M: Name>(all: &[M], name: impl Fn(&M) -> String) -> Vec<Resource> {
    all.iter().map(|one| Resource { name: name(one), version: "1".into(), body: xds::pack(one) }).collect()
}

/// What our own proxy refuses of it.
fn refused(made: &Resources) -> Vec<String> {
    let mut config = Config::new();
    let mut refused = Vec::new();
    let batches = [
        (type_url::CLUSTER, packed(&made.clusters, |one| one.name.clone())),
        (type_url::ENDPOINT, packed(&made.endpoints, |one| one.cluster_name.clone())),
        (type_url::LISTENER, packed(&made.listeners, |one| one.name.clone())),
        (type_url::ROUTE, packed(&made.routes, |one| one.name.clone())),
    ];
    for (type_url, batch) in batches {
        let rejections = config.apply(type_url, &batch, &[]);
        refused.extend(rejections.iter().map(|one| format!("{type_url} {}: {}", one.resource, one.reason)));
    }
    refused
}

fn ask(made: &Resources, call: serde_json::Value) -> CallResult {
    let (simulation, rejections) = Simulation::new(&made.listeners, &made.routes);
    assert!(rejections.is_empty(), "{rejections:?}");
    let call: Call = serde_json::from_value(call).expect("a call");
    simulation.decide(&call)
}

#[test]
fn every_sidecar_is_sent_what_our_proxy_takes() {
    let world = world("");
    for (service, version, address) in WORKLOADS {
        let made = made(&world, &proxy(ProxyKind::Sidecar, address));
        assert_eq!(refused(&made), Vec::<String>::new(), "{service} {version}");
        assert_eq!(made.notes, Vec::new(), "{service} {version}");
        let answer = ask(
            &made,
            serde_json::json!({"mode": "inbound", "address": address, "port": 9080, "protocol": "http",
                "tls": "plaintext", "host": service, "path": "/", "method": "GET"}),
        );
        assert_eq!(
            (answer.virtual_host.as_str(), answer.cluster.as_str(), answer.error.as_str()),
            ("inbound|http|9080", "inbound|9080||", "")
        );
    }
}

#[test]
fn a_user_goes_to_the_version_the_rule_names() {
    let made = made(&world(""), &proxy(ProxyKind::Sidecar, "127.77.0.2"));
    let names = &made.name_table.as_ref().expect("a sidecar has one").table;
    let reviews = &names["reviews.default.svc.cluster.local"];
    assert_eq!((reviews.shortname.as_str(), reviews.namespace.as_str()), ("reviews", "default"));
    assert!(reviews.ips[0].starts_with("240.240."), "{reviews:?}");
    for (headers, cluster) in [
        (serde_json::json!({}), "outbound|9080|v1|reviews.default.svc.cluster.local"),
        (serde_json::json!({"end-user": ["jason"]}), "outbound|9080|v2|reviews.default.svc.cluster.local"),
    ] {
        let answer = ask(
            &made,
            serde_json::json!({"mode": "outbound", "address": reviews.ips[0], "port": 9080, "protocol": "http",
                "tls": "plaintext", "host": "reviews:9080", "path": "/reviews/0", "method": "GET", "headers": headers}),
        );
        assert_eq!((answer.cluster.as_str(), answer.error.as_str()), (cluster, ""));
    }
    let of = |cluster: &str| -> Vec<String> {
        let assignment = made.endpoints.iter().find(|one| one.cluster_name == cluster).expect("endpoints");
        let json = xds::json::to_json(assignment).expect("it is JSON");
        let text = json.to_string();
        WORKLOADS
            .iter()
            .map(|(_, _, address)| (*address).to_owned())
            .filter(|one| text.contains(one))
            .collect()
    };
    assert_eq!(of("outbound|9080|v2|reviews.default.svc.cluster.local"), ["127.77.0.6"]);
    assert_eq!(
        of("outbound|9080||reviews.default.svc.cluster.local"),
        ["127.77.0.5", "127.77.0.6", "127.77.0.7"]
    );
}

#[test]
fn the_gateway_lets_the_page_in() {
    let made = made(&world(""), &proxy(ProxyKind::Gateway, "127.0.0.1"));
    assert_eq!(refused(&made), Vec::<String>::new());
    for (path, cluster, error) in [
        ("/productpage", "outbound|9080||productpage.default.svc.cluster.local", ""),
        ("/elsewhere", "", "no_route"),
    ] {
        let answer = ask(
            &made,
            serde_json::json!({"mode": "gateway", "address": "127.0.0.1", "port": 8080, "protocol": "http",
                "tls": "plaintext", "host": "127.0.0.1:18080", "path": path, "method": "GET"}),
        );
        assert_eq!((answer.cluster.as_str(), answer.error.as_str()), (cluster, error), "{path}");
    }
}

#[test]
fn a_service_nobody_wrote_is_implied_by_its_workload() {
    let workload = Workload {
        name: "echo-1".into(),
        namespace: "default".into(),
        service: Some("echo".into()),
        version: None,
        labels: BTreeMap::new(),
        service_account: String::new(),
        cluster: String::new(),
        address: "127.77.0.9".parse().expect("an address"),
        ports: vec![WorkloadPort { port: 80, target_port: 3000, name: "http".into() }],
        pid: None,
        proxy_pid: None,
        start_time: None,
        admin: None,
        hop: false,
    };
    let settings = Settings { assign_addresses: true, ..Default::default() };
    let world = World::build(Vec::new(), vec![workload], MeshConfig::istio_default(), settings);
    let client = made(&world, &proxy(ProxyKind::Sidecar, "127.77.0.2"));
    let answer = ask(
        &client,
        serde_json::json!({"mode": "outbound", "address": "240.240.1.1", "port": 80, "protocol": "http",
            "tls": "plaintext", "host": "echo", "path": "/", "method": "GET"}),
    );
    assert_eq!(answer.cluster, "outbound|80||echo.default.svc.cluster.local");
    let own = made(&world, &proxy(ProxyKind::Sidecar, "127.77.0.9"));
    let answer = ask(
        &own,
        serde_json::json!({"mode": "inbound", "address": "127.77.0.9", "port": 3000, "protocol": "http",
            "tls": "plaintext", "host": "echo", "path": "/", "method": "GET"}),
    );
    assert_eq!(
        (answer.virtual_host.as_str(), answer.cluster.as_str()),
        ("inbound|http|80", "inbound|3000||")
    );
}

/// What is asked for and not there yet is said once, by name.
#[test]
fn what_is_not_available_is_noted() {
    let world = world(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\n\
         spec: {mtls: {mode: STRICT}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: tls}\n\
         spec: {host: ratings, trafficPolicy: {tls: {mode: SIMPLE}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: secure}\n\
         spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, \
         hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]}\n",
    );
    let sidecar = made(&world, &proxy(ProxyKind::Sidecar, "127.77.0.2"));
    let notes: Vec<(String, &str)> =
        sidecar.notes.iter().map(|note| (note.subject(), note.path.as_str())).collect();
    assert!(notes.contains(&("PeerAuthentication/default/strict".to_owned(), "spec.mtls.mode")), "{notes:?}");
    assert!(notes.iter().any(|(_, path)| *path == "spec.trafficPolicy.tls"), "{notes:?}");
    assert_eq!(refused(&sidecar), Vec::<String>::new());
    let gateway = made(&world, &proxy(ProxyKind::Gateway, "127.0.0.1"));
    let notes: Vec<String> = gateway.notes.iter().map(|note| note.subject()).collect();
    assert!(notes.contains(&"Gateway/default/secure".to_owned()), "{notes:?}");
    assert_eq!(refused(&gateway), Vec::<String>::new());
}

/// Whatever else is configured: our proxy refuses nothing that it is sent.
#[test]
fn our_proxy_refuses_nothing_of_everything() {
    let text = include_str!("data/everything.yaml");
    let parsed = parse_documents("everything", text, &Default::default());
    let settings = Settings { assign_addresses: true, ..Default::default() };
    let world = World::build(parsed.objects, Vec::new(), MeshConfig::istio_default(), settings);
    for (kind, namespace, labels) in [
        (ProxyKind::Sidecar, "default", ("app", "web")),
        (ProxyKind::Sidecar, "prod", ("app", "strict")),
        (ProxyKind::Gateway, "istio-system", ("istio", "ingressgateway")),
    ] {
        let proxy = Proxy {
            namespace: namespace.into(),
            labels: [(labels.0.to_owned(), labels.1.to_owned())].into(),
            ..proxy(kind, "127.77.0.2")
        };
        assert_eq!(refused(&made(&world, &proxy)), Vec::<String>::new(), "{kind:?} in {namespace}");
    }
}

/// A format our own proxy would refuse would cost every listener; an Envoy is sent what was written.
#[test]
fn an_access_log_format_that_cannot_be_written_is_noted_and_left_out() {
    let made_with = |format: &str, encoding: &str, profile: Profile| {
        let mesh = MeshConfig {
            access_log_file: "/dev/stdout".into(),
            access_log_format: format.into(),
            access_log_encoding: match encoding {
                "JSON" => api::mesh_config::AccessLogEncoding::Json,
                _ => api::mesh_config::AccessLogEncoding::Text,
            },
            ..MeshConfig::istio_default()
        };
        let world = World::build(Vec::new(), Vec::new(), mesh, Settings::default());
        let options = Options { profile, ..Default::default() };
        resources(&world, &proxy(ProxyKind::Sidecar, "127.77.0.2"), &options)
    };
    let noted = |made: &Resources| made.notes.iter().any(|note| note.path == "accessLogFormat");
    let table = [
        ("%RESPONSE_CODE%", "TEXT", true),
        ("%NOPE%", "TEXT", false),
        (r#"{"code": "%RESPONSE_CODE%"}"#, "JSON", true),
        (r#"{"code": "%NOPE%"}"#, "JSON", false),
    ];
    for (format, encoding, good) in table {
        let ours = made_with(format, encoding, Profile::Mesh);
        assert_eq!((noted(&ours), refused(&ours)), (!good, Vec::new()), "{format}");
        let envoy = made_with(format, encoding, Profile::Istio);
        assert!(!noted(&envoy), "{format}");
        assert_eq!(refused(&envoy).is_empty(), good, "{format}");
    }
}
