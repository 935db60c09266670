//! What every proxy is to hold after any sequence of changes is, byte for byte, what a control plane started fresh would give
//! it; and who is told that something changed for it are exactly those for whom something did.

mod beside;
mod objects;
mod reads;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::parse_documents;
use control::classes::Classes;
use control::proxy::Profile;
use control::translate::Options;
use control::world::{Delta, Settings};
use proptest::prelude::*;

use beside::{Beside, Known, Step};
use objects::{OBJECTS, PROXIES, Place, object, proxy, workload};

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
        12 => (0..OBJECTS.len(), 0usize..8, any::<bool>()).prop_map(|(at, version, old)| Step::Object(object(at, version, old))),
        3 => (0..OBJECTS.len()).prop_map(|at| Step::Gone(object(at, 0, false).identity().clone())),
        4 => place().prop_map(|place| Step::Workload(workload(&place))),
        1 => (1u8..5).prop_map(|last| Step::Left(workload(&Place { last, ..Place::default() }).key())),
        1 => any::<bool>().prop_map(|root| Step::Mesh { root }),
        2 => (0..PROXIES).prop_map(|proxy| Step::Joins { proxy }),
        1 => (0..PROXIES).prop_map(|proxy| Step::Leaves { proxy }),
    ]
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
        let there = there.iter().enumerate();
        let known = Known::of(
            there.filter_map(|(at, version)| Some(object(at, (*version)?, false))),
            places.iter().map(workload),
        );
        let options = Options { profile, identity, ..Default::default() };
        let mut beside = Beside::new(known, options, Settings { assign_addresses, ..Default::default() });
        for steps in &rounds {
            beside.take(steps);
        }
    }
}

/// A proxy that answers what is asked as another does shares with it, whatever else it says of itself.
#[test]
fn what_nobody_asks_makes_no_class() {
    let options = Options { profile: Profile::Mesh, ..Default::default() };
    let mut known = Known::of([0, 9, 11, 13].map(|at| object(at, 0, false)), []);
    known.proxies.clear();
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
