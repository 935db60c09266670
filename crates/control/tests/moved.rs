//! What is made anew when only endpoints move is the same as what would be made from nothing: worlds by any way to them,
//! and resources by replacing what moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{MeshConfig, Object, parse_documents};
use control::translate::{Options, Profile, Proxy, Resources, class_key, own, shared, shared_of_hosts};
use control::workload::{Workload, WorkloadPort};
use control::world::{Moved, Settings, World, is_slice};
use proptest::prelude::*;

/// Services of every kind whose endpoints come from workloads or slices, and rules about them.
const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]}
---
apiVersion: v1
kind: Service
metadata: {name: sliced, namespace: default}
spec: {clusterIP: 10.1.0.7, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: default}
spec: {clusterIP: None, selector: {app: b}, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: other}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry, namespace: default}
spec: {hosts: [entry.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}],
  workloadSelector: {labels: {app: b}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dns, namespace: default}
spec: {hosts: [dns.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}],
  workloadSelector: {labels: {app: c}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}],
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: v1, namespace: default}
spec: {workloadSelector: {labels: {version: v1}}, egress: [{hosts: ['./*']}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: default}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec: {hosts: [a.test], gateways: [g], http: [{route: [{destination: {host: a, subset: v1}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: default}
spec: {selector: {matchLabels: {version: v2}}, mtls: {mode: STRICT}}
";

fn objects(text: &str) -> Vec<Arc<Object>> {
    let parsed = parse_documents("test", text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    parsed.objects
}

fn slices(addresses: &[u8]) -> Vec<Arc<Object>> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let listed: Vec<String> =
        addresses.iter().map(|last| format!("{{addresses: [10.2.0.{last}]}}")).collect();
    objects(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, namespace: default, \
         labels: {{kubernetes.io/service-name: sliced}}}}\naddressType: IPv4\nendpoints: [{}]\n\
         ports: [{{name: http, port: 8080}}]\n",
        listed.join(", ")
    ))
}

#[derive(Debug, Clone)]
struct Place {
    last: u8,
    app: &'static str,
    version: &'static str,
    other_namespace: bool,
    names_service: bool,
    hop: bool,
    port_name: &'static str,
}

fn place() -> impl Strategy<Value = Place> {
    let of = |all: &'static [&'static str]| proptest::sample::select(all);
    // Mostly of services whose endpoints may move by themselves.
    let app = prop_oneof![8 => Just("a"), 1 => Just("b"), 1 => Just("c"), 2 => Just("")];
    let named = proptest::bool::weighted(0.05);
    (1u8..5, app, of(&["v1", "v2", ""]), any::<bool>(), named, any::<bool>(), of(&["http", "tcp"])).prop_map(
        |(last, app, version, other, names_service, hop, port_name)| Place {
            last,
            app,
            version,
            other_namespace: other && last == 4,
            names_service,
            hop,
            port_name,
        },
    )
}

fn workload(place: &Place) -> Workload {
    let labels = [("app", place.app), ("version", place.version)];
    let labels = labels.iter().filter(|(_, value)| !value.is_empty());
    Workload {
        name: format!("w{}", place.last),
        namespace: if place.other_namespace { "other" } else { "default" }.into(),
        service: place.names_service.then(|| "implied".into()),
        version: None,
        labels: labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        service_account: String::new(),
        cluster: String::new(),
        address: format!("127.77.0.{}", place.last).parse().expect("an address"),
        ports: vec![WorkloadPort { port: 80, target_port: 8080, name: place.port_name.into() }],
        pid: None,
        proxy_pid: None,
        start_time: None,
        admin: None,
        hop: place.hop,
    }
}

fn proxies() -> Vec<Proxy> {
    let sidecar = |last: u8| {
        serde_json::from_str(&format!(
            r#"{{"type": "sidecar", "ip": "127.77.0.{last}", "namespace": "default", "labels": {{}},
                "metadata": {{"FILAMESH_HOP": "h2"}}, "locality": "r/z/s"}}"#
        ))
        .expect("a proxy")
    };
    let gateway = r#"{"type": "router", "ip": "127.77.0.9", "namespace": "default",
        "labels": {"istio": "ingressgateway"}, "metadata": {"FILAMESH_HOP": "h2"}}"#;
    (1..=5).map(sidecar).chain([serde_json::from_str(gateway).expect("a proxy")]).collect()
}

/// Everything by type and name, as text.
fn named(resources: &Resources) -> BTreeMap<(&'static str, String), String> {
    let mut all = BTreeMap::new();
    let mut put = |kind, name: &str, text: String| all.insert((kind, name.to_owned()), text);
    resources.clusters.iter().for_each(|c| drop(put("CDS", &c.name, format!("{c:?}"))));
    resources.endpoints.iter().for_each(|e| drop(put("EDS", &e.cluster_name, format!("{e:?}"))));
    resources.listeners.iter().for_each(|l| drop(put("LDS", &l.name, format!("{l:?}"))));
    resources.routes.iter().for_each(|r| drop(put("RDS", &r.name, format!("{r:?}"))));
    resources.name_table.iter().for_each(|n| drop(put("NDS", "", format!("{n:?}"))));
    all
}

fn settings() -> Settings {
    Settings { assign_addresses: true, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn moving_is_the_same_as_building(
        steps in proptest::collection::vec(
            (proptest::collection::vec(place(), 0..5), proptest::collection::vec(1u8..5, 0..3)),
            2..5,
        ),
        identity in any::<bool>(),
    ) {
        let rules = objects(OBJECTS);
        let options = Options { profile: Profile::Mesh, identity, ..Default::default() };
        let mut world: Option<World> = None;
        for (places, addresses) in &steps {
            let mut workloads: Vec<Workload> = places.iter().map(workload).collect();
            workloads.sort_by(|left, right| left.name.cmp(&right.name));
            workloads.dedup_by(|left, right| left.name == right.name);
            let slices = slices(addresses);
            prop_assert!(slices.iter().all(|slice| is_slice(slice)));
            let all = rules.iter().chain(&slices).cloned().collect();
            let fresh = World::build(all, workloads.clone(), MeshConfig::istio_default(), settings());
            let Some(moving) = &mut world else {
                world = Some(fresh);
                continue;
            };
            let before: Vec<_> = proxies()
                .iter()
                .map(|proxy| {
                    let made = (named(&shared(moving, proxy, &options)), named(&own(moving, proxy, &options)));
                    (class_key(moving, proxy, &options), made)
                })
                .collect();
            let moved = moving.move_endpoints(slices, workloads);
            for (proxy, (class, (before, before_own))) in proxies().iter().zip(before) {
                let (now, now_own) = (shared(&fresh, proxy, &options), named(&own(&fresh, proxy, &options)));
                prop_assert_eq!(&now, &shared(moving, proxy, &options));
                prop_assert_eq!(&now_own, &named(&own(moving, proxy, &options)));
                prop_assert_eq!(class_key(&fresh, proxy, &options), class_key(moving, proxy, &options));
                let Moved::Endpoints(moved) = &moved else { continue };
                if class == class_key(&fresh, proxy, &options)
                    && let Some(replaced) = shared_of_hosts(moving, proxy, &options, &moved.hosts)
                {
                    let mut patched = before;
                    patched.extend(named(&replaced));
                    prop_assert_eq!(patched, named(&now), "{}", proxy.ip);
                }
                if !moved.addresses.contains(&proxy.ip) {
                    prop_assert_eq!(before_own, now_own, "{}", proxy.ip);
                }
            }
        }
    }
}

/// One more instance of a known service moves nothing but its endpoints.
#[test]
fn another_instance_is_a_move() {
    let of = |last| {
        workload(&Place {
            last,
            app: "a",
            version: "",
            other_namespace: false,
            names_service: false,
            hop: true,
            port_name: "http",
        })
    };
    let mesh = MeshConfig::istio_default();
    let mut world = World::build(objects(OBJECTS), vec![of(1)], mesh, settings());
    let Moved::Endpoints(moved) = world.move_endpoints(Vec::new(), vec![of(1), of(2)]) else {
        panic!("everything")
    };
    assert_eq!(moved.hosts.iter().collect::<Vec<_>>(), ["a.default.svc.cluster.local"]);
    let Moved::Endpoints(moved) = world.move_endpoints(Vec::new(), vec![of(1), of(2)]) else {
        panic!("everything")
    };
    assert!(moved.hosts.is_empty() && moved.addresses.is_empty(), "{moved:?}");
    let replaced =
        shared_of_hosts(&world, &proxies()[4], &Options::default(), &moved.hosts).expect("it can be said");
    assert_eq!(named(&replaced).len(), 0);
}
