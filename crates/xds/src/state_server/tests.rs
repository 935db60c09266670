//! The rules of the module's head, one by one; gRPC's order of asking is that of grpcio 1.85 (measured), Envoy's that of
//! Envoy 1.40 with `api_type: GRPC`.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::delta_server::{Capabilities, Layer, ResourceSet, TypeSet};
use crate::rpc;
use Kind::{Cluster, Endpoint, Listener, Route};

const BASE: &[(Kind, &str, &str)] = &[
    (Cluster, "a", "ca1"),
    (Cluster, "b", "cb1"),
    (Endpoint, "a", "ea1"),
    (Endpoint, "b", "eb1"),
    (Listener, "l", "l1"),
    (Listener, "m", "m1"),
    (Route, "80", "r1"),
];

fn set(generation: u64, changes: &[(Kind, &str, &str)]) -> Arc<ResourceSet> {
    let mut all: BTreeMap<(usize, &str), (Kind, &str, &str)> =
        BASE.iter().map(|r| ((r.0.index(), r.1), *r)).collect();
    for change in changes {
        match change.2 {
            "" => all.remove(&(change.0.index(), change.1)),
            _ => all.insert((change.0.index(), change.1), *change),
        };
    }
    let of_kind = |kind| {
        let of = all.values().filter(|r| r.0 == kind);
        let endpoints = |name| (kind == Cluster).then_some(name);
        TypeSet::new(
            of.map(|(k, n, body)| Arc::new(Entry::new(*k, n, endpoints(*n), body.as_bytes()))).collect(),
        )
    };
    let shared = Arc::new(Layer::new(Kind::ALL.map(|kind| Arc::new(of_kind(kind)))));
    Arc::new(ResourceSet { generation, since: Instant::now(), shared, own: Arc::default() })
}

struct Peer {
    stream: StateStream,
    connection: Connection,
    now: Instant,
}

impl Peer {
    fn new(able: Capabilities) -> Self {
        let (stream, now) = (StateStream::default(), Instant::now());
        let able = Capabilities { takes_whole_types: true, ..able };
        Self { stream, connection: Connection::new(able, set(1, &[]), now), now }
    }

    fn request(
        &mut self,
        kind: Kind,
        names: &[&str],
        nonce: u64,
        version: &str,
        error: Option<&str>,
    ) -> Heard {
        let request = DiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
            response_nonce: if nonce == 0 { String::new() } else { format!("{nonce:x}") },
            version_info: version.into(),
            error_detail: error.map(|text| rpc::Status { code: 3, message: text.into(), details: vec![] }),
            ..Default::default()
        };
        self.stream.request(&mut self.connection, &request, self.now).unwrap()
    }

    fn ask(&mut self, kind: Kind, names: &[&str]) {
        self.request(kind, names, 0, "", None);
    }

    fn next(&mut self) -> Option<(String, StateResponse)> {
        let response = self.stream.next(&mut self.connection, self.now)?;
        let mut line = Kind::of(&response.type_url).map_or("???", Kind::short).to_owned();
        for entry in &response.resources {
            line.push_str(&format!(" {}={}", entry.name, String::from_utf8_lossy(&entry.body())));
        }
        Some((line, response))
    }

    /// Sends and acknowledges, naming what is asked for each time, until there is nothing left.
    fn settle(&mut self, asked: &[(Kind, &[&str])]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((line, response)) = self.next() {
            lines.push(line);
            let kind = Kind::of(&response.type_url).unwrap();
            let names = asked.iter().find(|a| a.0 == kind).map_or(&[][..], |a| a.1);
            let heard = self.request(kind, names, response.nonce, &response.version, None);
            assert!(!heard.expired, "{}", lines.join("; "));
        }
        lines
    }
}

const ENVOYS: &[(Kind, &[&str])] = &[(Endpoint, &["a", "b"]), (Route, &["80"])];

/// Asks as Envoy does, and is in step.
fn envoy() -> Peer {
    let mut peer = Peer::new(Capabilities::ENVOY);
    for (kind, names) in [(Cluster, &[][..]), (Endpoint, &["a", "b"]), (Listener, &[]), (Route, &["80"])] {
        peer.ask(kind, names);
        peer.settle(ENVOYS);
    }
    peer
}

#[test]
fn clusters_and_listeners_come_whole_and_endpoints_and_routes_by_what_changed() {
    let mut peer = Peer::new(Capabilities::ENVOY);
    peer.ask(Cluster, &[]);
    assert_eq!(peer.settle(ENVOYS), ["CDS a=ca1 b=cb1"]);
    peer.ask(Endpoint, &["a", "b"]);
    assert_eq!(peer.settle(ENVOYS), ["EDS a=ea1 b=eb1"]);
    peer.ask(Listener, &[]);
    assert_eq!(peer.settle(ENVOYS), ["LDS l=l1 m=m1"]);
    peer.ask(Route, &["80"]);
    assert_eq!(peer.settle(ENVOYS), ["RDS 80=r1"]);
    peer.connection.update(set(2, &[(Endpoint, "b", "eb2"), (Listener, "m", "m2")]));
    assert_eq!(peer.settle(ENVOYS), ["EDS b=eb2", "LDS l=l1 m=m2"]);
    assert_eq!(peer.connection.live_generation(), 2);
    assert!(peer.connection.status().iter().all(|lane| lane.synced || !lane.asked));
}

/// control-plane.md §2.1: what is gone goes last; that endpoints are gone cannot be said, and counts as said.
#[test]
fn a_cluster_is_left_out_when_routes_no_longer_need_it() {
    let mut peer = envoy();
    peer.connection.update(set(2, &[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2")]));
    let (line, response) = peer.next().unwrap();
    assert_eq!(line, "RDS 80=r2");
    assert!(peer.next().is_none(), "before the route is acknowledged");
    peer.request(Route, &["80"], response.nonce, &response.version, None);
    assert_eq!(peer.settle(ENVOYS), ["CDS a=ca1"]);
    assert_eq!(peer.connection.live_generation(), 2);
}

/// What is refused stays in the response in its last accepted version: left out it would be gone.
#[test]
fn what_is_refused_stays_as_it_was() {
    let mut peer = envoy();
    peer.connection.update(set(2, &[(Cluster, "a", "ca2"), (Cluster, "b", "bad")]));
    let (line, response) = peer.next().unwrap();
    assert_eq!(line, "CDS a=ca2 b=bad");
    let text = "Error adding/updating cluster(s) b: no such thing";
    let heard = peer.request(Cluster, &[], response.nonce, "", Some(text));
    assert_eq!(heard.refused.len(), 1);
    peer.settle(ENVOYS);
    peer.connection.update(set(3, &[(Cluster, "a", "ca3"), (Cluster, "b", "bad")]));
    assert_eq!(peer.next().unwrap().0, "CDS a=ca3 b=cb1");
}

/// A NACK that names nothing: halves, beside what was accepted before.
#[test]
fn what_a_nack_leaves_open_is_tried_apart() {
    let mut peer = envoy();
    peer.connection.update(set(2, &[(Listener, "l", "l2"), (Listener, "m", "bad")]));
    let mut lines = Vec::new();
    while let Some((line, response)) = peer.next() {
        let bad = line.contains("bad").then_some("something is wrong");
        peer.request(Listener, &[], response.nonce, &response.version, bad);
        lines.push(line);
    }
    assert_eq!(lines, ["LDS l=l2 m=bad", "LDS l=l2 m=m1", "LDS l=l2 m=bad"]);
    let refused: Vec<String> = peer.connection.refused().into_iter().map(|r| r.name).collect();
    assert_eq!(refused, ["m"]);
}

/// grpcio: the listener by the target's name, then what follows from it; a name that does not exist is told by an empty
/// response of LDS.
#[test]
fn grpc_asks_by_name_and_is_told_what_does_not_exist() {
    let mut peer = Peer::new(Capabilities::NONE);
    peer.ask(Listener, &["l"]);
    let asked: &[(Kind, &[&str])] =
        &[(Listener, &["l"]), (Route, &["80"]), (Cluster, &["a"]), (Endpoint, &["a"])];
    assert_eq!(peer.settle(asked), ["LDS l=l1"]);
    peer.ask(Route, &["80"]);
    peer.ask(Cluster, &["a"]);
    peer.ask(Endpoint, &["a"]);
    assert_eq!(peer.settle(asked), ["CDS a=ca1", "EDS a=ea1", "RDS 80=r1"]);
    peer.connection.update(set(2, &[(Cluster, "a", "ca2"), (Cluster, "b", "cb2"), (Listener, "m", "m2")]));
    assert_eq!(peer.settle(asked), ["CDS a=ca2"], "nothing it did not ask for, no endpoints again");
    // A second target.
    peer.ask(Listener, &["l", "none"]);
    let asked: &[(Kind, &[&str])] = &[(Listener, &["l", "none"]), (Cluster, &["a"])];
    assert_eq!(peer.settle(asked), ["LDS l=l1"], "what is not there is not in it");
    peer.connection.update(set(3, &[(Cluster, "a", "ca2"), (Listener, "none", "n1")]));
    assert_eq!(peer.settle(asked), ["LDS l=l1 none=n1"]);
    // The first is given up.
    peer.ask(Listener, &["none"]);
    peer.connection.update(set(4, &[(Cluster, "a", "ca2"), (Listener, "none", "n2"), (Listener, "l", "l4")]));
    assert_eq!(peer.settle(&[(Listener, &["none"])]), ["LDS none=n2"]);
}

/// The version it offers is of what it asked for when that was sent: it may hold less by now.
#[test]
fn a_client_that_comes_back_is_sent_what_it_asks_for() {
    let mut peer = envoy();
    peer.connection.update(set(2, &[(Route, "80", "r2")]));
    let (_, response) = peer.next().unwrap();
    let mut back = Peer::new(Capabilities::ENVOY);
    back.request(Route, &["80"], 0, &response.version, None);
    assert_eq!(back.settle(ENVOYS), ["RDS 80=r1"]);
    back.request(Cluster, &[], 0, "0123456789abcdef", None);
    assert_eq!(back.settle(ENVOYS), ["CDS a=ca1 b=cb1"]);
}

/// grpcio 1.85 asks for all four types at once then. A cluster that its old routes lead to and that is no more is not taken
/// from it before it has the new ones; a client that asks for no routes waits no longer than it may.
#[test]
fn a_client_that_comes_back_has_its_routes_before_it_loses_a_cluster() {
    let gone = set(1, &[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2")]);
    let back = || {
        let mut peer = Peer::new(Capabilities::NONE);
        peer.connection.update(gone.clone());
        peer.request(Cluster, &["b"], 0, "0123456789abcdef", None);
        assert!(peer.next().is_none());
        peer
    };
    let mut peer = back();
    for (kind, names) in [(Listener, &["l"]), (Endpoint, &["b"]), (Route, &["80"])] {
        peer.request(kind, names, 0, "0123456789abcdef", None);
    }
    let (line, response) = peer.next().unwrap();
    assert_eq!(line, "LDS l=l1");
    peer.request(Listener, &["l"], response.nonce, &response.version, None);
    let (line, response) = peer.next().unwrap();
    assert_eq!(line, "RDS 80=r2");
    assert!(peer.next().is_none(), "before the route is answered");
    peer.request(Route, &["80"], response.nonce, &response.version, None);
    // The new route leads to another, for which it asks now.
    peer.request(Cluster, &["a"], 0, "0123456789abcdef", None);
    assert_eq!(peer.settle(&[(Cluster, &["a"])]), ["CDS a=ca1"]);
    assert!(peer.connection.status().iter().all(|lane| lane.synced || !lane.asked));

    let mut peer = back();
    let until = peer.stream.deadline(&peer.connection).unwrap();
    peer.now = until;
    assert_eq!(peer.next().unwrap().0, "CDS");
    assert_eq!(peer.stream.deadline(&peer.connection), None);

    // What it asks for no longer is not everything.
    let mut peer = back();
    peer.request(Cluster, &[], 0, "0123456789abcdef", None);
    peer.now = until;
    assert!(peer.next().is_none());
    peer.request(Cluster, &["a"], 0, "0123456789abcdef", None);
    assert_eq!(peer.settle(&[(Cluster, &["a"])]), ["CDS a=ca1"]);
}

/// Calls that have begun go where the routes of before led, after grpcio 1.85 has acknowledged those of now.
#[test]
fn a_cluster_asked_for_by_name_stays_until_it_is_given_up() {
    let asked: &[(Kind, &[&str])] =
        &[(Listener, &["l"]), (Route, &["80"]), (Cluster, &["a", "b"]), (Endpoint, &["a", "b"])];
    let gone = set(2, &[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2")]);
    let changed = || {
        let mut peer = Peer::new(Capabilities::NONE);
        for (kind, names) in asked {
            peer.ask(*kind, names);
            peer.settle(asked);
        }
        peer.connection.update(gone.clone());
        assert_eq!(peer.settle(asked), ["RDS 80=r2"], "nothing of clusters");
        assert_eq!(peer.connection.live_generation(), 2);
        peer
    };
    let mut peer = changed();
    let news = set(3, &[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2"), (Cluster, "a", "ca3")]);
    peer.connection.update(news);
    assert_eq!(peer.settle(asked), ["CDS a=ca3 b=cb1"]);
    peer.ask(Cluster, &["a"]);
    assert_eq!((peer.next().map(|(line, _)| line), peer.stream.deadline(&peer.connection)), (None, None));

    let mut peer = changed();
    peer.now = peer.stream.deadline(&peer.connection).unwrap();
    assert_eq!(peer.settle(asked), ["CDS a=ca1"], "it has had long enough");
    assert_eq!(peer.stream.deadline(&peer.connection), None);

    // It comes again in time.
    let mut peer = changed();
    peer.connection.update(set(3, &[(Cluster, "b", "cb3")]));
    assert_eq!(peer.settle(asked), ["CDS a=ca1 b=cb3", "EDS b=eb1", "RDS 80=r1"]);
    assert_eq!(peer.stream.deadline(&peer.connection), None);
}

/// Envoy may leave out the answer to an older response for that to a newer one.
#[test]
fn an_answer_answers_what_came_before_it() {
    let mut peer = envoy();
    let mut last = None;
    for (generation, content) in [(2, "ea2"), (3, "ea3"), (4, "ea4")] {
        peer.connection.update(set(generation, &[(Endpoint, "a", content)]));
        last = peer.next();
    }
    let (_, response) = last.unwrap();
    peer.request(Endpoint, &["a", "b"], response.nonce, &response.version, None);
    assert_eq!(peer.connection.live_generation(), 4);
    assert!(peer.request(Endpoint, &["a", "b"], 999, "", None).expired);
}

#[test]
fn a_type_that_is_not_served_is_answered_once() {
    let mut peer = Peer::new(Capabilities::ENVOY);
    let mut request = DiscoveryRequest {
        type_url: crate::type_url::SECRET.into(),
        resource_names: vec!["default".into()],
        ..Default::default()
    };
    peer.stream.request(&mut peer.connection, &request, peer.now).unwrap();
    let (line, response) = peer.next().unwrap();
    assert_eq!((line.as_str(), response.resources.len()), ("???", 0));
    request.response_nonce = format!("{:x}", response.nonce);
    peer.stream.request(&mut peer.connection, &request, peer.now).unwrap();
    assert!(peer.next().is_none(), "its answer is no request");
}
