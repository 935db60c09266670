//! What histories are made of: objects that mean something to each other, workloads, proxies.

use std::sync::Arc;

use api::{Object, parse_documents};
use control::proxy::Proxy;
use control::workload::{Workload, WorkloadPort};

/// Objects that mean something to each other, several versions of each: a change puts one in the place of another, or takes
/// it away. The first line of each names it.
pub const OBJECTS: &[(&str, &[&str])] = &[
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
pub fn object(at: usize, version: usize, old: bool) -> Arc<Object> {
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

#[derive(Debug, Clone, Default)]
pub struct Place {
    pub last: u8,
    pub app: &'static str,
    pub version: &'static str,
    pub names_service: bool,
    pub hop: bool,
}

pub fn workload(place: &Place) -> Workload {
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

pub const PROXIES: usize = 9;

pub fn proxy(at: usize) -> Proxy {
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

#[test]
fn every_version_is_valid() {
    for (at, (_, versions)) in OBJECTS.iter().enumerate() {
        (0..versions.len()).for_each(|version| drop(object(at, version, false)));
    }
}
