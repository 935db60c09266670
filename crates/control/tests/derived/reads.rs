//! Reads that few drawn histories meet: what is made from them is made again although nothing else it was made from changed.

use std::sync::Arc;

use api::{Object, parse_documents};
use control::proxy::Profile;
use control::translate::Options;
use control::world::Settings;

use crate::beside::{Beside, Known, Step};
use crate::objects::{Place, workload};

struct Case {
    /// The read that nothing else stands in for.
    what: &'static str,
    there: &'static [&'static str],
    /// One after the other.
    changes: &'static [&'static str],
    /// Who holds something else after each of them.
    told: &'static [usize],
}

/// All proxies of the tests.
const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8];

const CASES: &[Case] = &[
    Case {
        what: "whether something other than HTTP is declared where an endpoint is",
        there: &[HTTP, HIDDEN_HTTP],
        changes: &[HIDDEN_TCP, HIDDEN_HTTP],
        // Those that send the multiplexed hop.
        told: &[0, 1, 2, 3, 5, 6, 8],
    },
    Case {
        what: "whether a proxy's own address is one of a headless service",
        there: &[HEADLESS, HEADLESS_ELSEWHERE],
        changes: &[HEADLESS_AT_PROXIES, HEADLESS_ELSEWHERE],
        told: ALL,
    },
    Case {
        what: "the Pod a proxy says it runs in",
        there: &[SELECTS_V1, POD_V1],
        changes: &[POD_V2, POD_V1],
        // The others by the endpoints of the service.
        told: ALL,
    },
];

const HTTP: &str = "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, \
    spec: {clusterIP: 10.1.0.7, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}}";
/// Nobody sees it.
const HIDDEN_HTTP: &str = "{apiVersion: v1, kind: Service, metadata: {name: hidden, namespace: default, \
    annotations: {networking.istio.io/exportTo: '~'}}, \
    spec: {clusterIP: 10.1.0.9, selector: {app: a}, ports: [{name: http, port: 91, targetPort: 8080}]}}";
const HIDDEN_TCP: &str = "{apiVersion: v1, kind: Service, metadata: {name: hidden, namespace: default, \
    annotations: {networking.istio.io/exportTo: '~'}}, \
    spec: {clusterIP: 10.1.0.9, selector: {app: a}, ports: [{name: tcp, port: 91, targetPort: 8080}]}}";
const HEADLESS: &str = "{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: default}, \
    spec: {clusterIP: None, ports: [{name: tcp, port: 82, targetPort: 8082}]}}";
const HEADLESS_AT_PROXIES: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: bare, \
    namespace: default, labels: {kubernetes.io/service-name: bare}}, addressType: IPv4, \
    endpoints: [{addresses: [127.77.0.4]}, {addresses: [127.77.0.3]}], ports: [{name: tcp, port: 8082}]}";
const HEADLESS_ELSEWHERE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: bare, \
    namespace: default, labels: {kubernetes.io/service-name: bare}}, addressType: IPv4, \
    endpoints: [{addresses: [10.2.0.9]}], ports: [{name: tcp, port: 8082}]}";
const SELECTS_V1: &str = "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, \
    spec: {clusterIP: 10.1.0.3, selector: {version: v1}, ports: [{name: http, port: 80, targetPort: 8080}]}}";
/// At another address than the proxy that says it runs in it.
const POD_V2: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {version: v2}}, \
    spec: {containers: []}, status: {podIP: 10.2.0.1, phase: Running}}";
const POD_V1: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {version: v1}}, \
    spec: {containers: []}, status: {podIP: 10.2.0.1, phase: Running}}";

fn object(text: &str) -> Arc<Object> {
    let parsed = parse_documents("test", text, &Default::default());
    assert_eq!(parsed.objects.len(), 1, "{text}: {:?}", parsed.problems);
    parsed.objects[0].clone()
}

#[test]
fn what_is_made_from_one_of_these_reads_alone_is_made_again() {
    let place = Place { last: 2, app: "a", version: "v1", names_service: false, hop: true };
    for case in CASES {
        let known = Known::of(case.there.iter().map(|text| object(text)), [workload(&place)]);
        let options = Options { profile: Profile::Mesh, ..Default::default() };
        let mut beside = Beside::new(known, options, Settings::default());
        for change in case.changes {
            let told = beside.take(&[Step::Object(object(change))]);
            assert_eq!(told.into_iter().collect::<Vec<_>>(), case.told, "{}", case.what);
        }
    }
}
