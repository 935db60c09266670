//! State-of-the-world ADS under somebody else's client: grpcio with the messages of PyPI's `envoy-data-plane`. Runs where
//! `FILAMESH_PEERS_PYTHON` names a Python that has both.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::python::Python;
use common::*;
use serde_json::{Value, json};

struct Peer(Python);

impl Peer {
    /// `None`: there is no such Python.
    fn start(plane: &Plane) -> Option<Self> {
        let python = Python::with("grpc, envoy_data_plane")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state_of_the_world/peer.py");
        let node = "sidecar~127.77.9.99~python.default~default.svc.cluster.local";
        Some(Self(Python::start(Command::new(python).args([script, &plane.xds.to_string(), node]))))
    }

    fn say(&mut self, command: &str) {
        self.0.say(command);
    }

    fn hears(&mut self, kind: &str) -> Vec<String> {
        let heard = self.0.heard.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no {kind}"));
        assert_eq!(heard["type"], kind, "{heard}");
        serde_json::from_value(heard["names"].clone()).unwrap()
    }

    fn asks(&mut self, command: &str) -> Vec<String> {
        self.say(command);
        let kind = command.split(' ').nth(1).unwrap();
        let names = self.hears(kind);
        self.say(&format!("ack {kind}"));
        names
    }
}

fn status(plane: &Plane) -> Option<Value> {
    let proxies = plane.get("/filamesh/v1/proxies");
    proxies.as_array().unwrap().iter().find(|p| p["name"] == "python").cloned()
}

fn is_synced(plane: &Plane) -> Option<bool> {
    let status = status(plane)?;
    let types = status["types"].as_array()?;
    Some(types.iter().filter(|t| t["type"] != "NDS").all(|t| t["state"] == "SYNCED"))
}

fn synced(plane: &Plane) {
    until("in step", || is_synced(plane)?.then_some(()));
}

#[test]
fn a_client_of_the_state_of_the_world_is_brought_up_to_date_and_comes_back() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut plane = Plane::start(&[("web.yaml", service("web")), ("db.yaml", service("db"))]);
    let _workload = plane.connect(sidecar(plane.xds, "web", 1));
    let Some(mut peer) = Peer::start(&plane) else {
        println!(
            "SKIPPED: state-of-the-world ADS from Python (FILAMESH_PEERS_PYTHON, grpcio, envoy-data-plane)"
        );
        return;
    };
    let (web, db) = (cluster_of("web"), cluster_of("db"));
    let clusters = peer.asks("ask CDS");
    assert!(clusters.contains(&web) && clusters.contains(&db), "{clusters:?}");
    assert_eq!(
        peer.asks(&format!("ask EDS {web}")),
        [web.as_str()],
        "what is asked for by name and nothing else"
    );
    let listeners = peer.asks("ask LDS");
    assert!(!listeners.is_empty());
    assert_eq!(peer.asks("ask RDS 80"), ["80"]);
    synced(&plane);

    // All clusters come, with the new one among them; listeners are as they were.
    plane.put("more.yaml", &service("more"));
    let now = peer.hears("CDS");
    assert_eq!(now.len(), clusters.len() + 1);
    peer.say("ack CDS");
    assert_eq!(peer.hears("RDS"), ["80"]);
    // It refuses the route: what is gone now may still be used by the one it has.
    peer.say("nack RDS 80: no such thing");
    until("the refusal", || {
        status(&plane)?["refused"].as_array()?.iter().find(|r| r["resource"] == "80").cloned()
    });

    // The cluster goes though a route is refused: the one it has does not lead there.
    plane.remove("more.yaml");
    let held = peer.0.heard.recv_timeout(DEADLINE).unwrap();
    assert_eq!((&held["type"], held["names"].as_array().unwrap().len()), (&json!("CDS"), clusters.len()));
    peer.say("ack CDS");
    synced(&plane);
    plane.restart();
    until("the workload", || (plane.get("/filamesh/v1/proxies").as_array()?.len() == 1).then_some(()));
    peer.0.heard.try_iter().for_each(drop);
    peer.say("again");
    for command in ["ask CDS", &format!("ask EDS {web}"), "ask LDS", "ask RDS 80"] {
        peer.say(command);
    }
    // Its own answers follow what comes, also what the workload's return changes.
    let mut held = BTreeMap::new();
    until("in step", || {
        for heard in peer.0.heard.try_iter().collect::<Vec<_>>() {
            let Some(kind) = heard["type"].as_str() else { continue };
            peer.say(&format!("ack {kind}"));
            held.insert(kind.to_owned(), heard["names"].clone());
        }
        (held.len() == 4 && is_synced(&plane)?).then_some(())
    });
    assert_eq!(held["CDS"], json!(clusters));
    assert_eq!((&held["EDS"], &held["RDS"]), (&json!([web]), &json!(["80"])));
    assert_eq!(held["LDS"], json!(listeners));
}
