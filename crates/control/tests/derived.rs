//! What every proxy is to hold after any sequence of changes is, byte for byte, what a control plane started fresh would give
//! it; and who is told that something changed for it are exactly those for whom something did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{MeshConfig, Object, parse_documents};
use control::classes::Classes;
use control::translate::{Options, Profile, Proxy};
use control::workload::{Workload, WorkloadPort};
use control::world::{Delta, Settings, World};
use proptest::prelude::*;

/// Objects that mean something to each other, several versions of each: a change puts one in the place of another, or takes
/// it away. The first line of each names it.
const OBJECTS: &[(&str, &[&str])] = &[
    (
        "Service default/a",
        &[
            "spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]}",
            "spec: {selector: {app: a, version: v1}, ports: [{name: http, port: 80, targetPort: 8080}]}",
            "spec: {clusterIP: None, selector: {app: a}, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}",
            "spec: {type: ExternalName, externalName: sliced.default.svc.cluster.local, ports: [{name: http, port: 80}]}",
            // What others say is HTTP at the same addresses.
            "spec: {selector: {app: a}, ports: [{name: tcp, port: 91, targetPort: 8080}]}",
        ],
    ),
    (
        "Service default/sliced",
        &[
            "spec: {clusterIP: 10.1.0.7, ports: [{name: http, port: 80, targetPort: 8080}]}",
            "spec: {clusterIP: 10.1.0.8, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc-x, port: 81}]}",
            "spec: {clusterIP: None, ports: [{name: http, port: 80, targetPort: 8080}]}",
        ],
    ),
    (
        "Service other/a",
        &[
            "spec: {selector: {app: a}, ports: [{name: http, port: 80}]}",
            "spec: {selector: {app: b}, ports: [{name: tcp-raw, port: 80}]}",
        ],
    ),
    (
        "EndpointSlice default/s",
        &[
            "addressType: IPv4\nendpoints: [{addresses: [10.2.0.1]}, {addresses: [127.77.0.2]}]\nports: [{name: http, port: 8080}]",
            "addressType: IPv4\nendpoints: [{addresses: [10.2.0.2], conditions: {ready: false}}]\nports: [{name: http, port: 8080}]",
        ],
    ),
    (
        "Pod default/p",
        &[
            "spec: {containers: [], serviceAccountName: x}\nstatus: {podIP: 127.77.0.5, phase: Running, conditions: [{type: Ready, status: 'True'}]}",
            "spec: {containers: []}\nstatus: {podIP: 10.2.0.1, phase: Running, conditions: [{type: Ready, status: 'False'}]}",
        ],
    ),
    (
        "Deployment default/w1",
        &[
            "spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a, version: v2}}, spec: {containers: []}}}",
            "spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}, spec: {containers: []}}}",
        ],
    ),
    (
        "ServiceEntry default/entry",
        &[
            "spec: {hosts: [entry.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], workloadSelector: {labels: {app: b}}}",
            "spec: {hosts: [entry.test, a.default.svc.cluster.local], addresses: [10.9.0.1, 10.9.0.2], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.77.0.3, ports: {http: 8080}, labels: {version: v1}}]}",
            "spec: {hosts: [entry.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.77.0.4}, {address: 10.2.0.1}]}",
            "spec: {hosts: [entry.test], exportTo: ['.'], resolution: NONE, ports: [{number: 81, name: tcp, protocol: TCP}], workloadSelector: {labels: {app: a}}}",
        ],
    ),
    (
        "ServiceEntry other/dns",
        &[
            "spec: {hosts: ['dns.test', '*.wild.test'], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}",
            "spec: {hosts: [dns.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: c}}}",
        ],
    ),
    (
        "WorkloadEntry default/vm",
        &[
            "spec: {address: 10.3.0.1, labels: {app: b}}",
            "spec: {address: 10.3.0.2, labels: {app: a, version: v1}, serviceAccount: vm}",
        ],
    ),
    (
        "DestinationRule default/a",
        &[
            "spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}], trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}",
            "spec: {host: a, subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s, idleTimeout: 9s}}}}",
            "spec: {host: a, workloadSelector: {matchLabels: {app: b}}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}",
            "spec: {host: '*.test', exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
        ],
    ),
    (
        "DestinationRule istio-system/all",
        &[
            "spec: {host: '*.svc.cluster.local', trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
            "spec: {host: a.default.svc.cluster.local, trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [version]}}, outlierDetection: {}}}",
        ],
    ),
    (
        "VirtualService default/a",
        &[
            "spec: {hosts: [a], http: [{match: [{sourceLabels: {version: v1}}], route: [{destination: {host: a, subset: v1}}]}, {route: [{destination: {host: a}}]}]}",
            "spec: {hosts: [a.test], gateways: [g, mesh], http: [{route: [{destination: {host: a, subset: v1}}], headers: {request: {set: {x-sent: by-a}}}}]}",
            "spec: {hosts: ['*.test'], exportTo: ['.', other], http: [{route: [{destination: {host: dns.test}}]}], tcp: [{match: [{port: 90}], route: [{destination: {host: a.other.svc.cluster.local, port: {number: 80}}}]}]}",
            "spec: {hosts: [a], http: [{delegate: {name: d}}]}",
        ],
    ),
    (
        "VirtualService default/d",
        &[
            "spec: {http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: sliced}}]}]}",
            "spec: {http: [{timeout: 5s, route: [{destination: {host: a.other.svc.cluster.local}}]}]}",
        ],
    ),
    (
        "Sidecar default/v1",
        &[
            "spec: {workloadSelector: {labels: {version: v1}}, egress: [{hosts: ['./*']}]}",
            "spec: {egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['./*', 'other/*']}, {hosts: ['*/*']}], ingress: [{port: {number: 9080, protocol: HTTP, name: in}, defaultEndpoint: '127.0.0.1:8080'}]}",
        ],
    ),
    (
        "Sidecar istio-system/default",
        &[
            "spec: {egress: [{hosts: ['istio-system/*', '~/*.wild.test', '*/*.default.svc.cluster.local']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
        ],
    ),
    (
        "Gateway default/g",
        &[
            "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
            "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}, {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.test]}]}",
        ],
    ),
    (
        "PeerAuthentication default/p",
        &[
            "spec: {selector: {matchLabels: {version: v2}}, mtls: {mode: STRICT}}",
            "spec: {mtls: {mode: DISABLE}}",
        ],
    ),
    ("PeerAuthentication istio-system/default", &["spec: {mtls: {mode: STRICT}}"]),
];

fn api_version(kind: &str) -> &'static str {
    match kind {
        "Service" | "Pod" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Deployment" => "apps/v1",
        "PeerAuthentication" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    }
}

/// A version of an object; its age is told or not, so that both orders are met.
fn object(at: usize, version: usize, old: bool) -> Arc<Object> {
    let (id, versions) = OBJECTS[at];
    let (kind, rest) = id.split_once(' ').expect("kind and name");
    let (namespace, name) = rest.split_once('/').expect("namespace and name");
    let labels = if kind == "EndpointSlice" { ", labels: {kubernetes.io/service-name: sliced}" } else { "" };
    let labels = if kind == "Pod" { ", labels: {app: a, version: v2}" } else { labels };
    let age = if old { ", creationTimestamp: '2020-01-01T00:00:00Z'" } else { "" };
    let text = format!(
        "apiVersion: {}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{labels}{age}}}\n{}\n",
        api_version(kind),
        versions[version % versions.len()]
    );
    let parsed = parse_documents("test", &text, &Default::default());
    let errors: Vec<_> = parsed.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty() && parsed.objects.len() == 1, "{text}\n{errors:?}");
    parsed.objects[0].clone()
}

#[derive(Debug, Clone)]
enum Step {
    Object { at: usize, version: usize, old: bool },
    Gone { at: usize },
    Workload(Place),
    Left { last: u8 },
    Mesh { root: bool },
    Joins { proxy: usize },
    Leaves { proxy: usize },
}

#[derive(Debug, Clone)]
struct Place {
    last: u8,
    app: &'static str,
    version: &'static str,
    names_service: bool,
    hop: bool,
}

fn place() -> impl Strategy<Value = Place> {
    let of = |all: &'static [&'static str]| proptest::sample::select(all);
    let place =
        (1u8..5, of(&["a", "b", ""]), of(&["v1", "v2", ""]), proptest::bool::weighted(0.3), any::<bool>());
    place.prop_map(|(last, app, version, names_service, hop)| Place {
        last,
        app,
        version,
        names_service,
        hop,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..OBJECTS.len(), 0usize..8, any::<bool>()).prop_map(|(at, version, old)| Step::Object { at, version, old }),
        3 => (0..OBJECTS.len()).prop_map(|at| Step::Gone { at }),
        4 => place().prop_map(Step::Workload),
        1 => (1u8..5).prop_map(|last| Step::Left { last }),
        1 => any::<bool>().prop_map(|root| Step::Mesh { root }),
        2 => (0..PROXIES).prop_map(|proxy| Step::Joins { proxy }),
        1 => (0..PROXIES).prop_map(|proxy| Step::Leaves { proxy }),
    ]
}

fn workload(place: &Place) -> Workload {
    let labels = [("app", place.app), ("version", place.version)];
    let labels = labels.iter().filter(|(_, value)| !value.is_empty());
    Workload {
        name: format!("w{}", place.last),
        namespace: "default".into(),
        service: place.names_service.then(|| if place.last == 1 { "a" } else { "implied" }.into()),
        version: None,
        labels: labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        service_account: String::new(),
        cluster: String::new(),
        address: format!("127.77.0.{}", place.last).parse().expect("an address"),
        ports: vec![WorkloadPort { port: 80, target_port: 8080, name: "http".into() }],
        pid: None,
        proxy_pid: None,
        start_time: None,
        admin: None,
        hop: place.hop,
    }
}

const PROXIES: usize = 9;

#[test]
fn every_version_is_valid() {
    for (at, (_, versions)) in OBJECTS.iter().enumerate() {
        (0..versions.len()).for_each(|version| drop(object(at, version, false)));
    }
}

fn proxy(at: usize) -> Proxy {
    let (kind, last, namespace, labels, more) = match at {
        0..=3 => ("sidecar", at + 1, "default", r#"{"app": "x"}"#, r#""FILAMESH_HOP": "h2""#),
        4 => ("sidecar", 5, "default", r#"{"app": "a", "version": "v1"}"#, r#""HTTP10": "1""#),
        5 => ("sidecar", 6, "other", r#"{"app": "b"}"#, r#""FILAMESH_HOP": "h2""#),
        6 => ("sidecar", 6, "other", r#"{"app": "b"}"#, r#""FILAMESH_HOP": "h2""#),
        7 => ("sidecar", 7, "other", r#"{"app": "a", "version": "v2"}"#, r#""INTERCEPTION_MODE": "NONE""#),
        _ => ("router", 9, "default", r#"{"istio": "ingressgateway"}"#, r#""FILAMESH_HOP": "h2""#),
    };
    let id = if at == 4 { "p.default" } else { "" };
    serde_json::from_str(&format!(
        r#"{{"type": "{kind}", "ip": "127.77.0.{last}", "namespace": "{namespace}", "id": "{id}", "labels": {labels},
            "metadata": {{{more}}}, "locality": "r/z/s{last}"}}"#
    ))
    .expect("a proxy")
}

#[derive(Default)]
struct Known {
    objects: BTreeMap<usize, Arc<Object>>,
    workloads: BTreeMap<u8, Workload>,
    mesh: Option<MeshConfig>,
    proxies: BTreeSet<usize>,
}

impl Known {
    fn fresh(&self, options: &Options, settings: &Settings) -> Classes {
        let objects = self.objects.values().cloned().collect();
        let workloads = self.workloads.values().cloned().collect();
        let mesh = self.mesh.clone().unwrap_or_else(MeshConfig::istio_default);
        let mut classes =
            Classes::new(World::build(objects, workloads, mesh, settings.clone()), options.clone());
        self.proxies.iter().for_each(|at| classes.join(*at as u64, Arc::new(proxy(*at)), options.profile));
        classes
    }

    /// Takes a step; what it changes goes into the delta, who comes and goes at once into the classes.
    fn take(&mut self, step: &Step, delta: &mut Delta, classes: &mut Classes, profile: Profile) {
        match step {
            Step::Object { at, version, old } => {
                let object = object(*at, *version, *old);
                delta.objects.push((object.identity().clone(), Some(object.clone())));
                self.objects.insert(*at, object);
            }
            Step::Gone { at } => {
                delta.objects.extend(self.objects.remove(at).map(|gone| (gone.identity().clone(), None)));
            }
            Step::Workload(place) => {
                let workload = workload(place);
                delta.workloads.push((workload.key(), Some(workload.clone())));
                self.workloads.insert(place.last, workload);
            }
            Step::Left { last } => {
                delta.workloads.extend(self.workloads.remove(last).map(|gone| (gone.key(), None)));
            }
            Step::Mesh { root } => {
                let mut mesh = MeshConfig::istio_default();
                mesh.root_namespace = if *root { "istio-system" } else { "default" }.into();
                self.mesh = Some(mesh.clone());
                delta.mesh = Some(mesh);
            }
            Step::Joins { proxy: at } => {
                if self.proxies.insert(*at) {
                    classes.join(*at as u64, Arc::new(proxy(*at)), profile);
                }
            }
            Step::Leaves { proxy: at } => {
                if self.proxies.remove(at) {
                    classes.leave(*at as u64);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..Default::default() })]

    #[test]
    fn after_any_changes_as_if_started_fresh(
        // Most of what means something to something else is there from the beginning.
        there in proptest::collection::vec(proptest::option::weighted(0.7, 0usize..8), OBJECTS.len()),
        places in proptest::collection::vec(place(), 0..5),
        rounds in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..14),
        identity in any::<bool>(),
        assign_addresses in any::<bool>(),
        profile in proptest::sample::select(vec![Profile::Mesh, Profile::Istio, Profile::Grpc]),
    ) {
        let options = Options { profile, identity, ..Default::default() };
        let settings = Settings { assign_addresses, ..Default::default() };
        let there = there.iter().enumerate();
        let known_objects = there.filter_map(|(at, version)| Some((at, object(at, (*version)?, false))));
        let mut known = Known {
            objects: known_objects.collect(),
            workloads: places.iter().map(|place| (place.last, workload(place))).collect(),
            proxies: (0..PROXIES).collect(),
            mesh: None,
        };
        let mut classes = known.fresh(&options, &settings);
        for steps in &rounds {
            let mut delta = Delta::default();
            let before: BTreeMap<u64, _> =
                (0..PROXIES as u64).filter_map(|id| Some((id, classes.layers(id)?))).collect();
            for step in steps {
                known.take(step, &mut delta, &mut classes, profile);
            }
            let concerned = classes.change(delta);
            classes.assert_same(&known.fresh(&options, &settings));
            for (id, before) in before {
                let Some(now) = classes.layers(id) else { continue };
                let sides = [(&before.outbound, &now.outbound), (&before.inbound, &now.inbound)];
                let differs = sides.iter().any(|(before, now)| {
                    before.types().iter().zip(now.types()).any(|(a, b)| !a.changed_names(b).is_empty())
                });
                prop_assert_eq!(differs, concerned.contains(&id), "proxy {} is told", id);
            }
        }
    }
}

/// A proxy that answers what is asked as another does shares with it, whatever else it says of itself.
#[test]
fn what_nobody_asks_makes_no_class() {
    let mut known = Known::default();
    let options = Options { profile: Profile::Mesh, ..Default::default() };
    for (at, version) in [(0, 0), (9, 0), (11, 0), (13, 0)] {
        known.objects.insert(at, object(at, version, false));
    }
    let mut classes = known.fresh(&options, &Settings::default());
    let with = |key: &str, value: &str| {
        let mut proxy = proxy(4);
        proxy.id = String::new();
        proxy.ip = "127.77.1.1".into();
        proxy.labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Arc::new(proxy)
    };
    classes.join(100, with("nobody-asks", "x"), Profile::Mesh);
    classes.join(101, with("nobody-asks", "y"), Profile::Mesh);
    // A VirtualService and a Sidecar ask for it.
    classes.join(102, with("version", "v1"), Profile::Mesh);
    let outbound = |classes: &Classes, id| classes.layers(id).expect("it has joined").outbound;
    assert!(Arc::ptr_eq(&outbound(&classes, 100), &outbound(&classes, 101)));
    assert!(!outbound(&classes, 102).is(&outbound(&classes, 100)));
    // Somebody begins to ask: who answers otherwise gets something else.
    let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: x, namespace: default}\n\
                spec: {workloadSelector: {labels: {nobody-asks: x}}, egress: [{hosts: ['~/*']}]}\n";
    let sidecar = parse_documents("test", text, &Default::default()).objects[0].clone();
    let delta = Delta { objects: vec![(sidecar.identity().clone(), Some(sidecar))], ..Default::default() };
    assert_eq!(classes.change(delta).into_iter().collect::<Vec<_>>(), [100]);
    assert!(!outbound(&classes, 100).is(&outbound(&classes, 101)));
}
