//! A VirtualService that names what is not there says what it waits for, until it comes (istio.io, "Diagnose your
//! configuration with istioctl analyze": IST0101, ReferencedResourceNotFound).

use std::sync::Arc;

use api::{MeshConfig, Object, parse_documents};
use control::classes::Classes;
use control::translate::Options;
use control::world::{Delta, Outcome, Settings, World};

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: default}
spec:
  hosts: [a.test]
  gateways: [g, mesh]
  http:
  - route: [{destination: {host: a, subset: v1}, weight: 50}, {destination: {host: gone.test}, weight: 50}]
  - delegate: {name: d}
";
const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: default}
spec: {selector: {x: y-}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
";
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
";
const SUBSET: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}
";
const WILDCARD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: w, namespace: other}
spec: {hosts: ['*.test'], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}
";
const DELEGATE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: d, namespace: default}
spec: {http: [{route: [{destination: {host: a, subset: v9}}]}]}
";

fn object(text: &str) -> Arc<Object> {
    let parsed = parse_documents("test", text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    parsed.objects[0].clone()
}

/// What waits, as `path: reason`.
fn waiting(classes: &mut Classes) -> Vec<String> {
    let notes = classes.take_notes().expect("something changed");
    let waiting = notes.iter().filter(|note| note.reason.outcome() == Outcome::Waiting);
    waiting.map(|note| format!("{}: {}", note.path, note.reason)).collect()
}

#[test]
fn what_is_not_there_is_waited_for_until_it_comes() {
    let world = World::empty(MeshConfig::istio_default(), Settings::default());
    let mut classes = Classes::new(world, Options::default());
    let a = "a.default.svc.cluster.local";
    let steps: [(&str, bool, &[&str]); 8] = [
        (
            RULE,
            true,
            &[
                "spec.gateways[0]: Gateway default/g not found",
                "spec.http[0].route[0].destination: host a.default.svc.cluster.local not found",
                "spec.http[0].route[1].destination: host gone.test not found",
                "spec.http[1].delegate: delegate not found: there is no VirtualService default/d",
            ],
        ),
        (GATEWAY, true, &["spec.http[0].route[0].", "spec.http[0].route[1].", "spec.http[1].delegate"]),
        (
            SERVICE,
            true,
            &[
                "spec.http[0].route[0].destination: subset v1 of a.",
                "spec.http[0].route[1].",
                "spec.http[1].delegate",
            ],
        ),
        (WILDCARD, true, &["spec.http[0].route[0].", "spec.http[1].delegate"]),
        (SUBSET, true, &["spec.http[1].delegate"]),
        (DELEGATE, true, &["spec.http[1].delegate: subset v9 of a."]),
        (SUBSET, false, &["spec.http[0].route[0].", "spec.http[1].delegate: subset v9 of a."]),
        (RULE, false, &[]),
    ];
    for (at, (text, there, expected)) in steps.into_iter().enumerate() {
        let object = object(text);
        let objects = vec![(object.identity().clone(), there.then_some(object))];
        classes.change(Delta { objects, ..Default::default() });
        let waiting = waiting(&mut classes);
        assert_eq!(waiting.len(), expected.len(), "step {at}: {waiting:?}");
        for (line, begin) in waiting.iter().zip(expected) {
            assert!(line.starts_with(begin), "step {at} ({a}): {line}");
        }
    }
}
