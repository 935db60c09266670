use std::collections::BTreeSet;

use super::cache::{Changes, Keeper, Kept};
use super::session::Session;
use super::*;
use crate::discovery::{self, DeltaDiscoveryResponse};
use crate::type_url;

/// Wants what it is told to, refuses what it is told to.
#[derive(Default)]
struct Told {
    wanted: BTreeSet<String>,
    refused: Option<&'static str>,
}

impl Consumer for Told {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        let bad = update.resources.iter().filter(|r| Some(r.name.as_str()) == self.refused);
        bad.map(|r| Refusal { name: r.name.clone(), reason: "field x: no".into() }).collect()
    }

    fn wanted(&self, url: &str) -> Vec<String> {
        if url == type_url::ENDPOINT { self.wanted.iter().cloned().collect() } else { Vec::new() }
    }
}

fn response(type_url: &str, names: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |name: &&str| discovery::Resource {
        name: (*name).into(),
        version: "1".into(),
        resource: Some(Any { type_url: type_url.into(), value: name.as_bytes().to_vec() }),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        type_url: type_url.into(),
        nonce: "7".into(),
        resources: names.iter().map(resource).collect(),
        ..Default::default()
    }
}

fn node() -> core::Node {
    core::Node { id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(), ..Default::default() }
}

#[test]
fn a_stream_opens_with_what_is_held_and_the_node_once() {
    let (mut session, mut told) = (Session::new(node()), Told::default());
    let first = session.open(&told);
    let types: Vec<&str> = first.iter().map(|r| r.type_url.as_str()).collect();
    assert_eq!(
        types,
        [type_url::CLUSTER, type_url::LISTENER, type_url::NAME_TABLE],
        "nothing is wanted by name"
    );
    assert_eq!(first.iter().filter(|r| r.node.is_some()).count(), 1);

    told.wanted.insert("a".into());
    let answers = session.response(response(type_url::CLUSTER, &["a"]), &mut told, &mut Changes::default());
    assert_eq!(answers.len(), 2, "an ACK and a subscription");
    assert_eq!((answers[0].response_nonce.as_str(), &answers[0].error_detail), ("7", &None));
    assert_eq!(answers[1].resource_names_subscribe, ["a"]);
    session.response(response(type_url::ENDPOINT, &["a"]), &mut told, &mut Changes::default());

    let again = session.open(&told);
    let endpoints = again.iter().find(|r| r.type_url == type_url::ENDPOINT).unwrap();
    assert_eq!(endpoints.initial_resource_versions["a"], "1");
    told.wanted.clear();
    let given_up = session.subscriptions(&told, &mut Changes::default());
    assert_eq!(given_up[0].resource_names_unsubscribe, ["a"]);
    assert!(session.open(&told).iter().all(|r| r.type_url != type_url::ENDPOINT));
}

#[test]
fn a_nack_names_the_resource_and_the_reason_and_the_rest_is_held() {
    let (mut session, mut told) = (Session::new(node()), Told { refused: Some("b"), ..Told::default() });
    session.open(&told);
    let mut bad = response(type_url::CLUSTER, &["a", "b", "empty", "other"]);
    bad.resources[2].resource = None;
    bad.resources[3].resource.as_mut().unwrap().type_url = "x".into();
    let answers = session.response(bad, &mut told, &mut Changes::default());
    let error = answers[0].error_detail.as_ref().unwrap();
    for part in ["b: field x: no", "empty: has no body", "other: is a x"] {
        assert!(error.message.contains(part), "{}", error.message);
    }
    let again = session.open(&told);
    assert_eq!(again[0].initial_resource_versions.keys().collect::<Vec<_>>(), ["a"]);
    let unknown = session.response(response("type/unknown", &["a"]), &mut told, &mut Changes::default());
    assert!(unknown[0].error_detail.is_some());
}

fn changes(name: &str) -> Changes {
    let mut changes = Changes::new(true);
    changes.set(type_url::CLUSTER, name, "1", name.as_bytes().to_vec());
    changes
}

#[test]
fn what_is_kept_is_merged_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let (mut keeper, loaded) = Keeper::open(path.clone(), "n".into());
    assert!(loaded.unwrap().is_none());
    for name in ["a", "b"] {
        assert!(matches!(keeper.write(changes(name)), Kept::Written));
    }
    let mut gone = changes("c");
    gone.removed(type_url::CLUSTER, "a");
    assert!(matches!(keeper.write(gone), Kept::Written));
    let updates = Cache::load(&path, "n").unwrap().unwrap().into_updates();
    let names: Vec<&str> = updates[0].resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!((updates.len(), names), (1, vec!["b", "c"]));
    assert!(matches!(Cache::load(&path, "other"), Err(CacheError::OtherNode { .. })));
    // Deleted by somebody: what is not among the changes is lost, and said to be.
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(keeper.write(changes("d")), Kept::Lost));
}

#[test]
fn a_disk_that_takes_nothing_loses_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("missing");
    let (mut keeper, _) = Keeper::open(nowhere.join("cache"), "n".into());
    let Kept::Failed(error, unwritten) = keeper.write(changes("a")) else { panic!("written") };
    assert!(error.to_string().contains("going on without"), "{error}");
    let mut pending = changes("b");
    pending.restore(unwritten);
    std::fs::create_dir(&nowhere).unwrap();
    assert!(matches!(keeper.write(pending), Kept::Written));
    assert_eq!(Cache::load(&nowhere.join("cache"), "n").unwrap().unwrap().len(), 2);
}

#[test]
fn addresses_are_host_and_port_or_a_path() {
    for (text, expected) in [
        ("127.0.0.1:15010", Some(Address::Tcp("127.0.0.1:15010".into()))),
        ("control:15010", Some(Address::Tcp("control:15010".into()))),
        ("unix:/run/xds", Some(Address::Unix("/run/xds".into()))),
        ("unix:///run/xds", Some(Address::Unix("/run/xds".into()))),
        ("control", None),
        (":1", None),
        ("control:0", None),
        ("control:99999", None),
        ("unix:", None),
    ] {
        assert_eq!(text.parse::<Address>().ok(), expected, "{text}");
    }
}
