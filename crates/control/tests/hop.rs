//! The multiplexed hop, from what a sidecar registers to what our own proxy makes of it: which endpoints carry the mark,
//! who is told, that what is sent to anybody else does not change, and what an HTTP/2 connection meets at the far side.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{MeshConfig, parse_documents};
use control::classes::Classes;
use control::proxy::{Profile, Proxy, ProxyKind};
use control::translate::{Options, Resources, resources};
use control::workload::{Workload, WorkloadPort};
use control::world::{Settings, World};
use model::simulate::{Call, Simulation};
use model::{Config, config::Resource};
use serde_json::json;
use xds::type_url;

const SERVER: &str = "127.77.0.3";

/// A service `shop` with one port of this name and protocol, and the workload behind it.
fn world(port: &str, hop: bool, extra: &str) -> World {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: shop, namespace: default}}\n\
         spec: {{selector: {{app: shop}}, ports: [{{port: 80, targetPort: 8080, {port}}}]}}\n---\n{extra}"
    );
    let parsed = parse_documents("test", &text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    let workload = Workload {
        name: "shop-1".into(),
        namespace: "default".into(),
        service: None,
        version: None,
        labels: BTreeMap::from([("app".into(), "shop".into())]),
        service_account: String::new(),
        cluster: String::new(),
        address: SERVER.parse().expect("an address"),
        ports: vec![WorkloadPort { port: 80, target_port: 8080, name: String::new() }],
        pid: None,
        proxy_pid: None,
        start_time: None,
        admin: None,
        hop,
    };
    let settings = Settings { assign_addresses: true, ..Default::default() };
    World::build(parsed.objects, vec![workload], MeshConfig::istio_default(), settings)
}

fn proxy(address: &str, hop: bool) -> Proxy {
    let metadata = match hop {
        true => BTreeMap::from([("FILAMESH_HOP".to_owned(), json!("h2"))]),
        false => BTreeMap::new(),
    };
    Proxy {
        kind: ProxyKind::Sidecar,
        ip: address.into(),
        ips: Vec::new(),
        namespace: "default".into(),
        id: String::new(),
        labels: BTreeMap::new(),
        metadata,
        locality: String::new(),
    }
}

fn options(profile: Profile, identity: bool) -> Options {
    Options { profile, identity, ..Default::default() }
}

fn ours(world: &World) -> Resources {
    resources(world, &proxy("127.77.0.2", true), &options(Profile::Mesh, false))
}

/// Whether our own proxy shares connections to the one host of the service.
fn multiplexes(made: &Resources) -> bool {
    let name = "outbound|80||shop.default.svc.cluster.local";
    let cluster = made.clusters.iter().find(|c| c.name == name).expect("the cluster");
    let endpoints = made.endpoints.iter().find(|e| e.cluster_name == name).expect("its endpoints");
    let mut config = Config::new();
    let of = |name: &str, body| [Resource { name: name.into(), version: "1".into(), body }];
    let mut refused = config.apply(type_url::CLUSTER, &of(name, xds::pack(cluster)), &[]);
    refused.extend(config.apply(type_url::ENDPOINT, &of(name, xds::pack(endpoints)), &[]));
    assert!(refused.is_empty(), "{refused:?}");
    let snapshot = config.snapshot();
    let entry = snapshot.cluster(snapshot.cluster_id(name).expect("it is known")).expect("it is warm");
    let [host] = entry.endpoints.hosts.as_slice() else { panic!("one host") };
    entry.cluster.multiplexes(host)
}

/// The chain an HTTP/2 connection in plaintext meets at the workload, and the protocol error if it is none for HTTP.
fn met(world: &World) -> (String, String) {
    let made = resources(world, &proxy(SERVER, true), &options(Profile::Mesh, false));
    let (simulation, rejections) = Simulation::new(&made.listeners, &made.routes);
    assert!(rejections.is_empty(), "{rejections:?}");
    let call: Call = serde_json::from_value(json!({"mode": "inbound", "address": SERVER, "port": 8080,
        "protocol": "http2", "tls": "plaintext", "host": "shop", "path": "/", "method": "GET"}))
    .expect("a call");
    let result = simulation.decide(&call);
    (result.cluster, result.virtual_host)
}

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: all, namespace: default}\nspec: {mtls: {mode: STRICT}}\n---\n";

/// `istio-behaviour` rule 34 (protocol selection) and rule 43 (the inbound chains): the mark is there exactly where the
/// inbound side meets HTTP/2 with a chain for HTTP.
#[test]
fn the_mark_is_where_http2_meets_http() {
    let other = |protocol: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: zoo, namespace: default}}\n\
             spec: {{selector: {{app: shop}}, ports: [{{name: {protocol}, port: 81, targetPort: 8080}}]}}\n---\n"
        )
    };
    let rule = |pool: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: shop, namespace: default}}\n\
             spec: {{host: shop, trafficPolicy: {{connectionPool: {pool}}}}}\n---\n"
        )
    };
    let ingress = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: default}\n\
        spec: {workloadSelector: {labels: {app: shop}}, ingress: [{port: {number: 8080, protocol: TCP, name: t}, \
        defaultEndpoint: 127.0.0.1:8080}]}\n---\n"
        .to_owned();
    let none = String::new;
    let http = "name: http";
    let table = [
        (http, none(), true),
        ("name: http-web", none(), true),
        ("name: http2", none(), true),
        ("name: grpc-x", none(), true),
        ("name: grpc-web-x", none(), true),
        ("name: web", none(), true),
        ("appProtocol: http", none(), true),
        ("appProtocol: kubernetes.io/h2c", none(), true),
        ("appProtocol: grpc", none(), true),
        ("name: tcp", none(), false),
        ("name: https", none(), false),
        ("name: redis", none(), false),
        ("appProtocol: tcp, name: http", none(), false),
        // Mutual TLS is not live: STRICT is served as plaintext, which is noted.
        (http, STRICT.to_owned(), true),
        ("name: web", STRICT.to_owned(), true),
        // Two services of one port: only where they agree.
        (http, other("http"), true),
        (http, other("tcp"), false),
        (http, ingress, false),
        // Limits that count connections need connections to count.
        (http, rule("{tcp: {maxConnections: 1}}"), false),
        (http, rule("{http: {http1MaxPendingRequests: 1}}"), false),
        (http, rule("{http: {maxRequestsPerConnection: 1}}"), false),
        (http, rule("{http: {http2MaxRequests: 1}}"), true),
        (http, rule("{tcp: {connectTimeout: 1s}}"), true),
    ];
    for (port, extra, expected) in table {
        let world = world(port, true, &extra);
        assert_eq!(multiplexes(&ours(&world)), expected, "{port} {extra}");
        if expected {
            let inbound = ("inbound|8080||".to_owned(), "inbound|http|80".to_owned());
            assert_eq!(met(&world), inbound, "{port} {extra}");
        }
    }
    assert!(!multiplexes(&ours(&self::world("name: http", false, ""))), "nobody announced it");
}

/// Nobody else's resources change, and a proxy that does not send the hop is of another class.
#[test]
fn only_proxies_that_send_it_are_told() {
    let (with, without) = (world("name: http", true, ""), world("name: http", false, ""));
    for identity in [false, true] {
        for profile in [Profile::Vanilla, Profile::Istio, Profile::Grpc, Profile::Mesh] {
            for says in [false, true] {
                let options = options(profile, identity);
                let proxy = proxy("127.77.0.2", says);
                let same = resources(&with, &proxy, &options) == resources(&without, &proxy, &options);
                assert_eq!(same, profile != Profile::Mesh || !says, "{profile:?} {identity} {says}");
            }
        }
    }
    let options = options(Profile::Mesh, false);
    let mut classes = Classes::new(with, options);
    for (id, says) in [(1, true), (2, false), (3, true)] {
        classes.join(id, Arc::new(proxy("127.77.0.2", says)), Profile::Mesh);
    }
    let outbound = |id| classes.layers(id).expect("it has joined").outbound;
    assert!(!outbound(1).is(&outbound(2)) && Arc::ptr_eq(&outbound(1), &outbound(3)));
}
