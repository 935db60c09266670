//! DestinationRules and endpoints.

use control::world::{Owners, Reads, Settings, World};
use serde_json::json;

use super::*;

const A: &str = "outbound|80||a.default.svc.cluster.local";

fn rule(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn max_connections(cluster: &Value) -> u64 {
    cluster["circuitBreakers"]["thresholds"][0]["maxConnections"].as_u64().expect("a limit")
}

fn limited(connections: u32) -> String {
    format!("connectionPool: {{tcp: {{maxConnections: {connections}}}}}")
}

#[test]
fn which_rule_counts_rule_29() {
    let host = "host: a.default.svc.cluster.local";
    let with = |connections| format!("{host}, trafficPolicy: {{{}}}", limited(connections));
    let own = rule("own", "client", &with(1));
    let service_ns = rule("service", "default", &with(2));
    let root = rule("root", "istio-system", &with(3));
    let hidden = rule("hidden", "default", &format!("{}, exportTo: ['.']", with(4)));
    let wide = rule(
        "wide",
        "client",
        &format!("host: '*.default.svc.cluster.local', trafficPolicy: {{{}}}", limited(5)),
    );
    let client = r#"{"type": "sidecar", "ip": "10.0.0.5", "namespace": "client", "labels": {}}"#;
    for (rules, expected) in [
        (String::new(), u64::from(u32::MAX)),
        (root.clone(), 3),
        (root.clone() + &service_ns, 2),
        (root.clone() + &service_ns + &own, 1),
        (root.clone() + &hidden, 3),
        // The client's namespace decides, even with less specific hosts.
        (service_ns.clone() + &wide, 5),
        (wide.clone() + &own, 1),
    ] {
        let made = made_for(&(service("a", "default") + &rules), client);
        assert_eq!(max_connections(&cluster(&made, A)), expected, "{rules}");
    }
}

#[test]
fn rules_of_one_host_add_up_rule_30() {
    let text = service("a", "default")
        + &rule("one", "default", "host: a, subsets: [{name: v1, labels: {version: v1}}]")
        + &rule(
            "two",
            "default",
            &format!(
                "host: a, trafficPolicy: {{{}}}, subsets: [{{name: v1, labels: {{version: x}}}}, {{name: v2}}]",
                limited(7)
            ),
        );
    let made = made(&text);
    assert_eq!(max_connections(&cluster(&made, A)), 7);
    let second = cluster(&made, "outbound|80|v2|a.default.svc.cluster.local");
    let metadata = &second["metadata"]["filterMetadata"];
    assert_eq!(metadata["filamesh"]["rule"], "spec.subsets[1]");
    assert_eq!(
        metadata["istio"]["config"],
        "/apis/networking.istio.io/v1/namespaces/default/destination-rule/two"
    );
}

#[test]
fn the_narrowest_policy_counts_rule_31() {
    let policy = |body: &str| {
        format!(
            "host: a, trafficPolicy: {{{body}}}, subsets: [{{name: v1, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 9}}}}}}]"
        )
    };
    let made = made(
        &(service("a", "default")
            + &rule(
                "r",
                "default",
                &policy(&format!(
                    "{}, outlierDetection: {{consecutive5xxErrors: 3}}, portLevelSettings: [{{port: {{number: 81}}, loadBalancer: {{simple: RANDOM}}}}]",
                    limited(5)
                )),
            )),
    );
    let subset = cluster(&made, "outbound|80|v1|a.default.svc.cluster.local");
    assert_eq!(max_connections(&subset), 5, "inherited block by block");
    assert_eq!(subset["outlierDetection"]["consecutive5xx"], 9, "overridden");
    assert_eq!(cluster(&made, A)["outlierDetection"]["consecutive5xx"], 3);
    let of_port = super::made(
        &(service("a", "default")
            + &rule(
                "r",
                "default",
                &policy(&format!(
                    "{}, portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{simple: RANDOM}}}}]",
                    limited(5)
                )),
            )),
    );
    let whole = cluster(&of_port, A);
    assert_eq!(whole["lbPolicy"], "RANDOM");
    assert_eq!(max_connections(&whole), u64::from(u32::MAX), "a port's settings inherit nothing");
}

#[test]
fn what_requests_are_hashed_by_rule_33() {
    let by = |key: &str| format!("loadBalancer: {{consistentHash: {{httpHeaderName: {key}}}}}");
    let of_subset = |body: String| format!(", trafficPolicy: {{{body}}}");
    let at_port = |key: &str| format!("portLevelSettings: [{{port: {{number: 80}}, {}}}]", by(key));
    for (top, subset, expected) in [
        (by("top"), String::new(), "top"),
        (by("top"), of_subset(by("subset")), "subset"),
        (format!("{}, {}", by("top"), at_port("port")), String::new(), "port"),
        (at_port("port"), of_subset(by("subset")), "subset"),
        (by("top"), of_subset(format!("{}, {}", by("subset"), at_port("subset-port"))), "subset-port"),
    ] {
        let text = service("a", "default")
            + &rule(
                "r",
                "default",
                &format!("host: a, trafficPolicy: {{{top}}}, subsets: [{{name: v1{subset}}}]"),
            )
            + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
               spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: v1, port: {number: 80}}}]}]}\n";
        let host = host(&made(&text), "80", "a.default.svc.cluster.local:80");
        let action = &host["routes"][0]["route"];
        assert_eq!(action["hashPolicy"][0]["header"]["headerName"], expected);
        assert_eq!(action["retryPolicy"].get("retryHostPredicate"), None, "a retry goes to the same host");
    }
}

#[test]
fn mutual_tls_by_endpoint_rules_45_to_47() {
    let pods = pod("a", "10.0.0.7", "version: v1") + &pod("a", "10.0.0.8", "tls: 'no'");
    let off = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {selector: {matchLabels: {tls: 'no'}}, mtls: {mode: DISABLE}}\n---\n";
    let made = made(&(service("a", "default") + &pods + off));
    let own = cluster(&made, A);
    let tls = &own["transportSocketMatches"][0];
    assert_eq!(tls["name"], "tlsMode-istio");
    assert_eq!(tls["transportSocket"]["typedConfig"]["sni"], "outbound_.80_._.a.default.svc.cluster.local");
    let text = tls.to_string();
    assert!(text.contains("spiffe://cluster.local/ns/default/sa/sa-a"), "{text}");
    let endpoints = endpoints(&made, A).to_string();
    assert_eq!(endpoints.matches("tlsMode").count(), 1, "not where the policy turns it off: {endpoints}");
    // A rule that says anything about TLS turns the automatism off.
    let plain = super::made(
        &(service("a", "default")
            + &pods
            + &rule("r", "default", "host: a, trafficPolicy: {tls: {mode: DISABLE}}")),
    );
    let own = cluster(&plain, A);
    assert_eq!((own.get("transportSocketMatches"), own.get("transportSocket")), (None, None));
}

/// Priorities by locality, the client being in r1/z1/s1.
#[test]
fn localities_rules_58_to_60() {
    let place = |address: &str, region: &str, zone: &str, subzone: &str| {
        pod(
            "a",
            address,
            &format!(
                "topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {zone}, topology.istio.io/subzone: {subzone}, rack: {subzone}"
            ),
        )
    };
    let pods = place("10.0.0.1", "r1", "z1", "s1")
        + &place("10.0.0.2", "r1", "z1", "s2")
        + &place("10.0.0.3", "r1", "z2", "s1")
        + &place("10.0.0.4", "r2", "z1", "s1")
        + &place("10.0.0.6", "r3", "z1", "s1");
    let priorities = |policy: &str| -> Vec<(String, u64, u64)> {
        let text = service("a", "default")
            + &pods
            + &rule("r", "default", &format!("host: a, trafficPolicy: {{{policy}}}"));
        let endpoints = endpoints(&made(&text), A);
        let localities = endpoints["endpoints"].as_array().expect("localities").iter();
        localities
            .map(|one| {
                let place = format!(
                    "{}/{}/{}",
                    one["locality"]["region"].as_str().unwrap_or_default(),
                    one["locality"]["zone"].as_str().unwrap_or_default(),
                    one["locality"]["subZone"].as_str().unwrap_or_default()
                );
                let weight = one["loadBalancingWeight"].as_u64().unwrap_or_default();
                (place, one["priority"].as_u64().unwrap_or_default(), weight)
            })
            .collect()
    };
    let of = |list: &[(String, u64, u64)]| -> Vec<(String, u64)> {
        list.iter().map(|(place, priority, _)| (place.clone(), *priority)).collect()
    };
    let expect = |list: &[(&str, u64)]| -> Vec<(String, u64)> {
        list.iter().map(|(place, priority)| ((*place).to_owned(), *priority)).collect()
    };
    // Without outlier detection nobody would notice that hosts are bad: one priority for all.
    assert!(
        of(&priorities("loadBalancer: {simple: ROUND_ROBIN}")).iter().all(|(_, priority)| *priority == 0)
    );
    assert_eq!(
        of(&priorities("outlierDetection: {}")),
        expect(&[("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2/s1", 2), ("r2/z1/s1", 3), ("r3/z1/s1", 3)])
    );
    assert_eq!(
        of(&priorities(
            "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}"
        )),
        expect(&[("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2/s1", 2), ("r3/z1/s1", 3), ("r2/z1/s1", 4)])
    );
    let by_label = of(&priorities(
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: ['rack=s1']}}",
    ));
    assert_eq!(by_label.iter().filter(|(_, priority)| *priority == 1).count(), 1, "{by_label:?}");
    let distributed = priorities(
        "loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {'r1/z1/*': 80, 'r2/*': 20}}]}}",
    );
    assert_eq!(
        distributed,
        [("r1/z1/s1".to_owned(), 0, 40), ("r1/z1/s2".to_owned(), 0, 40), ("r2/z1/s1".to_owned(), 0, 20)]
    );
}

#[test]
fn automatic_addresses_stay_when_services_come() {
    let build = |names: &[&str]| {
        let text: String = names
            .iter()
            .map(|name| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: tcp, port: 80}}]}}\n---\n"))
            .collect();
        let objects = parse_documents("test", &text, &Default::default()).objects;
        let settings = Settings { assign_addresses: true, ..Default::default() };
        let world = World::build(objects, Vec::new(), MeshConfig::istio_default(), settings);
        let reads = Reads::default();
        let all = world.view(&reads).services_seen_from("default", Owners::All);
        let all = all.into_iter().map(|service| (service.name.clone(), service.address.clone()));
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    let few = build(&["a", "b"]);
    let many: Vec<String> = (0..500).map(|at| format!("s{at}")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names.extend(["a", "b"]);
    let all = build(&names);
    assert_eq!((&few["a"], &few["b"]), (&all["a"], &all["b"]));
    let distinct: std::collections::BTreeSet<&String> = all.values().collect();
    assert_eq!(distinct.len(), all.len(), "no two services share an address");
    assert!(all.values().all(|address| {
        address.starts_with("240.240.") && !address.ends_with(".0") && !address.ends_with(".255")
    }));
}

#[test]
fn services_by_dns_and_address_ranges() {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: dns}\n\
                spec: {hosts: [x.example.com], resolution: DNS, location: MESH_EXTERNAL, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: range}\n\
                spec: {hosts: [r.example.com], addresses: [10.9.0.0/16], resolution: NONE, ports: [{number: 5432, name: tcp, protocol: TCP}]}\n";
    let made = made(text);
    let dns = cluster(&made, "outbound|80||x.example.com");
    assert_eq!(dns["type"], "STRICT_DNS");
    let address =
        &dns["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]["socketAddress"];
    assert_eq!(address, &json!({"address": "x.example.com", "portValue": 8080}));
    let listener = json(made.listeners.iter().find(|one| one.name == "0.0.0.0_5432").expect("a listener"));
    assert_eq!(
        listener["filterChains"][0]["filterChainMatch"]["prefixRanges"],
        json!([{"addressPrefix": "10.9.0.0", "prefixLen": 16}])
    );
}

/// Which HTTP is spoken to a service: by its port (rule 34), by DestinationRule and MeshConfig (rule 42). Istio:
/// `shouldH2Upgrade`, `setUpstreamProtocol`, `applyConnectionPool`.
#[test]
fn which_http_is_spoken_to_a_service_rules_34_and_42() {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let gateway = r#"{"type": "router", "ip": "10.0.0.6", "namespace": "default", "labels": {}}"#;
    let spoken = |port: &str, pool: &str, mesh_upgrade: bool, proxy: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: default}}\n\
             spec: {{clusterIP: 10.1.0.9, ports: [{{port: 80, {port}}}]}}\n---\n"
        ) + &match pool {
            "" => String::new(),
            pool => rule(
                "a",
                "default",
                &format!("host: a, trafficPolicy: {{connectionPool: {{http: {{{pool}}}}}}}"),
            ),
        };
        let parsed = parse_documents("test", &text, &Default::default());
        assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
        let mut mesh = MeshConfig::istio_default();
        if mesh_upgrade {
            mesh.h2_upgrade_policy = api::mesh_config::MeshH2UpgradePolicy::Upgrade;
        }
        let world = World::build(parsed.objects, Vec::new(), mesh, Settings::default());
        let proxy: Proxy = serde_json::from_str(proxy).expect("a proxy");
        let options = Options { profile: Profile::Istio, identity: true, ..Default::default() };
        let cluster = cluster(&resources(&world, &proxy, &options), A);
        let options = &cluster["typedExtensionProtocolOptions"][OPTIONS];
        let explicit = &options["explicitHttpConfig"];
        match () {
            () if !options["useDownstreamProtocolConfig"].is_null() => "client's".to_owned(),
            () if !explicit["http2ProtocolOptions"].is_null() => {
                match explicit["http2ProtocolOptions"]["maxConcurrentStreams"].as_u64() {
                    Some(streams) => format!("HTTP/2 of {streams}"),
                    None => "HTTP/2".into(),
                }
            }
            () => "HTTP/1".into(),
        }
    };
    let upgrade = "h2UpgradePolicy: UPGRADE";
    let not = "h2UpgradePolicy: DO_NOT_UPGRADE";
    let client = "useClientProtocol: true";
    for (port, pool, mesh, sidecar, router) in [
        ("name: http", "", false, "HTTP/1", "HTTP/1"),
        ("name: http2-a", "", false, "HTTP/2", "HTTP/2"),
        ("name: grpc", "", false, "HTTP/2", "HTTP/2"),
        ("name: grpc-web", "", false, "HTTP/2", "HTTP/2"),
        ("appProtocol: http2", "", false, "HTTP/2", "HTTP/2"),
        ("appProtocol: grpc", "", false, "HTTP/2", "HTTP/2"),
        ("appProtocol: kubernetes.io/h2c", "", false, "HTTP/2", "HTTP/2"),
        ("appProtocol: kubernetes.io/ws", "", false, "HTTP/1", "HTTP/1"),
        ("appProtocol: http, name: grpc", "", false, "HTTP/1", "HTTP/1"),
        // Sniffed: the client decides, except at a gateway, whose clients speak HTTP/2 to anybody.
        ("name: web", "", false, "client's", "HTTP/1"),
        ("name: web", client, false, "client's", "client's"),
        ("name: web", upgrade, false, "HTTP/2", "HTTP/2"),
        ("name: web", "", true, "client's", "HTTP/1"),
        ("name: http", upgrade, false, "HTTP/2", "HTTP/2"),
        ("name: http", "", true, "HTTP/2", "HTTP/2"),
        ("name: http", not, true, "HTTP/1", "HTTP/1"),
        ("name: tcp", "", true, "HTTP/1", "HTTP/1"),
        // What is declared HTTP/2 is not taken back.
        ("name: grpc", not, false, "HTTP/2", "HTTP/2"),
        ("name: http", client, true, "client's", "client's"),
        ("name: grpc", client, false, "client's", "client's"),
        (
            "name: http",
            "h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7",
            false,
            "HTTP/2 of 7",
            "HTTP/2 of 7",
        ),
        ("name: grpc", "maxConcurrentStreams: 8", false, "HTTP/2 of 8", "HTTP/2 of 8"),
        ("name: http", "maxConcurrentStreams: 9", false, "HTTP/1", "HTTP/1"),
    ] {
        let found = [spoken(port, pool, mesh, CLIENT), spoken(port, pool, mesh, gateway)];
        assert_eq!(found, [sidecar, router], "{port} {pool} {mesh}");
    }
}
