//! What gRPC clients without a proxy are sent, by the names they ask for: Istio's `grpcgen`, and what grpc C-core takes.

use serde_json::json;

use super::*;

const CLIENT: &str =
    r#"{"type": "sidecar", "ip": "127.0.0.1", "namespace": "default", "labels": {"app": "client"}}"#;
const WEB: &str = "outbound|80||web.default.svc.cluster.local";

fn grpc(text: &str) -> Resources {
    let proxy: Proxy = serde_json::from_str(CLIENT).expect("a proxy");
    let options = Options { profile: Profile::Grpc, ..Default::default() };
    resources(&world(text), &proxy, &options)
}

fn rule(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: web, namespace: default}}\nspec: {spec}\n---\n"
    )
}

/// `tryFindFQDN` of lds.go: short names are of the client's own namespace.
#[test]
fn a_listener_answers_to_every_name_a_service_is_dialled_by() {
    let tcp = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: default}\n\
               spec: {ports: [{name: tcp, port: 5432}]}\n---\n";
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: default}\n\
                 spec: {hosts: [mail.default], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}\n---\n";
    let all = [&service("web", "default"), &service("mail", "default"), &service("web", "prod"), tcp, entry];
    let made = grpc(&all.concat());
    let own = "outbound|80||mail.default.svc.cluster.local";
    for (name, routes) in [
        ("web.default.svc.cluster.local:80", Some(WEB)),
        ("web:80", Some(WEB)),
        ("web.default:80", Some(WEB)),
        ("web.default.svc:80", Some(WEB)),
        ("web.prod.svc.cluster.local:80", Some("outbound|80||web.prod.svc.cluster.local")),
        ("mail:80", Some(own)),
        // A service's full name before another's short one.
        ("mail.default:80", Some("outbound|80||mail.default")),
        ("web.prod:80", None),
        ("web.prod.svc:80", None),
        ("web:81", None),
        ("web", None),
        ("db:5432", None),
        ("xds.istio.io/grpc/lds/inbound/127.0.0.1:80", None),
        ("virtualOutbound", None),
    ] {
        let found: Vec<_> = made.listeners.iter().filter(|one| one.name == name).map(json).collect();
        let named: Vec<&Value> =
            found.iter().map(|one| &one["apiListener"]["apiListener"]["rds"]["routeConfigName"]).collect();
        assert_eq!(named, routes.map(Value::from).iter().collect::<Vec<_>>(), "{name}");
        if let Some(routes) = routes {
            assert!(made.routes.iter().any(|one| one.name == routes), "{routes}");
            assert!(made.clusters.iter().any(|one| one.name == routes), "{routes}");
        }
    }
    // A listener has the two filters that are the same everywhere and no address to be bound.
    let listener = json(made.listeners.iter().find(|one| one.name == "web:80").expect("a listener"));
    let filters = listener["apiListener"]["apiListener"]["httpFilters"].as_array().expect("filters");
    let names: Vec<&Value> = filters.iter().map(|filter| &filter["name"]).collect();
    assert_eq!(names, ["envoy.filters.http.fault", "envoy.filters.http.router"]);
    assert!(made.name_table.is_none() && made.routes.iter().all(|one| one.name.starts_with("outbound|")));
}

/// rds.go: the virtual host a sidecar has, for whatever name was dialled.
#[test]
fn routes_are_those_of_a_sidecar_without_what_is_refused() {
    let spec = "{hosts: [web], http: [{match: [{uri: {prefix: /a.B/}, headers: {x: {exact: z}}}], timeout: 3s, \
                retries: {attempts: 4, retryOn: unavailable}, corsPolicy: {allowOrigins: [{exact: a}]}, \
                fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}, mirror: {host: web}, \
                route: [{destination: {host: web, subset: v1}, weight: 30}, {destination: {host: web}, weight: 70}]}]}";
    let made = grpc(&(service("web", "default") + &rule("VirtualService", spec)));
    let routes = routes(&made, WEB);
    let hosts = routes["virtualHosts"].as_array().expect("virtual hosts");
    let [host] = hosts.as_slice() else { panic!("{routes}") };
    assert_eq!(host["domains"], json!(["*"]));
    let route = &host["routes"][0];
    assert_eq!(route["match"]["prefix"], "/a.B/");
    let action = &route["route"];
    assert_eq!(action["maxStreamDuration"]["maxStreamDuration"], "3s");
    assert_eq!(
        (&action["retryPolicy"]["numRetries"], &action["retryPolicy"]["retryOn"]),
        (&json!(4), &json!("unavailable"))
    );
    let clusters = action["weightedClusters"]["clusters"].as_array().expect("clusters");
    let shares: Vec<_> = clusters.iter().map(|one| (one["name"].as_str(), one["weight"].as_u64())).collect();
    let v1 = WEB.replace("||", "|v1|");
    assert_eq!(shares, [(Some(v1.as_str()), Some(30)), (Some(WEB), Some(70))]);
    let filters: Vec<&String> = route["typedPerFilterConfig"].as_object().expect("settings").keys().collect();
    assert_eq!(filters, ["envoy.filters.http.fault"]);
    assert_eq!(
        (&action["requestMirrorPolicies"], &action["retryPolicy"]["retryHostPredicate"]),
        (&Value::Null, &Value::Null)
    );
}

/// cds.go, and `ParseLbPolicyConfig` of C-core, which refuses every other `lb_policy`.
#[test]
fn a_cluster_has_what_grpc_takes_and_a_note_says_what_it_has_not() {
    for (balancer, policy, config, noted) in [
        ("", "ROUND_ROBIN", json!(null), None),
        ("simple: ROUND_ROBIN", "ROUND_ROBIN", json!(null), None),
        ("simple: PASSTHROUGH", "ROUND_ROBIN", json!(null), Some("ROUND_ROBIN")),
        ("simple: RANDOM", "ROUND_ROBIN", json!(null), Some("ROUND_ROBIN")),
        ("simple: LEAST_REQUEST", "ROUND_ROBIN", json!(null), Some("ROUND_ROBIN")),
        (
            "consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 9}}",
            "RING_HASH",
            json!({"minimumRingSize": "9"}),
            None,
        ),
        (
            "consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 99999999}}",
            "RING_HASH",
            json!({"minimumRingSize": "8388608"}),
            None,
        ),
        (
            "consistentHash: {httpHeaderName: x, maglev: {tableSize: 7}}",
            "RING_HASH",
            json!({"minimumRingSize": "1024"}),
            None,
        ),
    ] {
        let spec = format!(
            "{{host: web, trafficPolicy: {{loadBalancer: {{{balancer}}}, connectionPool: {{http: {{http2MaxRequests: 7}}}}}}, \
             subsets: [{{name: v1, labels: {{version: v1}}}}]}}"
        );
        let text = service("web", "default")
            + &rule("DestinationRule", &spec)
            + &pod("web", "10.2.0.1", "version: v1");
        let made = grpc(&text);
        for name in [WEB.to_owned(), WEB.replace("||", "|v1|")] {
            let cluster = cluster(&made, &name);
            assert_eq!(
                (&cluster["type"], &cluster["edsClusterConfig"]["serviceName"]),
                (&json!("EDS"), &json!(name))
            );
            // The first of the names is protobuf's default, which JSON leaves out.
            let lb_policy = cluster["lbPolicy"].as_str().unwrap_or("ROUND_ROBIN");
            assert_eq!((lb_policy, &cluster["ringHashLbConfig"]), (policy, &config), "{balancer}");
            assert_eq!(cluster["circuitBreakers"], json!({"thresholds": [{"maxRequests": 7}]}));
            for absent in
                ["transportSocket", "transportSocketMatches", "typedExtensionProtocolOptions", "altStatName"]
            {
                assert_eq!(cluster[absent], Value::Null, "{absent}");
            }
            assert_eq!(
                endpoints(&made, &name)["endpoints"][0]["lbEndpoints"].as_array().map(Vec::len),
                Some(1)
            );
        }
        let notes: Vec<String> = made.notes.iter().map(|note| note.reason.to_string()).collect();
        assert_eq!(
            notes.iter().any(|note| note.contains("ROUND_ROBIN")),
            noted.is_some(),
            "{balancer}: {notes:?}"
        );
    }
}

/// A27: the types of clusters are EDS and LOGICAL_DNS with one address.
#[test]
fn clusters_of_types_grpc_does_not_know_become_others_or_are_left_out() {
    let entry = |more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: default}}\n\
             spec: {{hosts: [a.example], ports: [{{number: 80, name: http, protocol: HTTP}}], {more}}}\n---\n"
        )
    };
    for (more, expected) in [
        ("resolution: STATIC, endpoints: [{address: 10.3.0.1}, {address: 10.3.0.2}]", Some("EDS")),
        ("resolution: DNS", Some("LOGICAL_DNS")),
        ("resolution: DNS, endpoints: [{address: one.example}]", Some("LOGICAL_DNS")),
        ("resolution: DNS, endpoints: [{address: one.example}, {address: two.example}]", None),
        ("resolution: NONE", Some("EDS")),
    ] {
        let made = grpc(&entry(more));
        let found = made.clusters.iter().find(|one| one.name == "outbound|80||a.example").map(json);
        assert_eq!(found.as_ref().map(|one| &one["type"]), expected.map(Value::from).as_ref(), "{more}");
        let noted = made.notes.iter().any(|note| note.reason.to_string().contains("resolve one name"));
        assert_eq!(noted, expected.is_none(), "{more}: {:?}", made.notes);
    }
    let made = grpc(&entry(
        "resolution: STATIC, endpoints: [{address: 'unix:///a'}, {address: 10.3.0.2}, {address: 10.3.0.2}]",
    ));
    let endpoints = endpoints(&made, "outbound|80||a.example");
    let all = endpoints["endpoints"][0]["lbEndpoints"].as_array().expect("endpoints");
    assert_eq!(all.len(), 1, "{endpoints}");
}
