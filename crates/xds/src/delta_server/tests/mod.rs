//! Every rule of the protocol, one by one: `reference` names where a rule comes from (Envoy's protocol text "xDS REST
//! and gRPC protocol", or behaviour measured with Envoy 1.40).

mod races;
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::discovery::DeltaDiscoveryRequest;
use crate::rpc;
use Kind::{Cluster, Endpoint, Listener, NameTable, Route};

/// A set out of `(kind, name, content)`; a cluster's endpoints have its name.
fn set(generation: u64, resources: &[(Kind, &str, &str)]) -> Arc<ResourceSet> {
    layered(generation, resources, &[])
}

fn layered(generation: u64, shared: &[(Kind, &str, &str)], own: &[(Kind, &str, &str)]) -> Arc<ResourceSet> {
    let layer = |resources: &[(Kind, &str, &str)]| {
        let of_kind = |kind| {
            let of = resources.iter().filter(|r| r.0 == kind);
            let endpoints = |name| (kind == Cluster).then_some(name);
            TypeSet::new(
                of.map(|(k, n, body)| Arc::new(Entry::new(*k, n, endpoints(*n), body.as_bytes()))).collect(),
            )
        };
        Arc::new(Layer::new(Kind::ALL.map(|k| Arc::new(of_kind(k)))))
    };
    Arc::new(ResourceSet { generation, since: Instant::now(), shared: layer(shared), own: layer(own) })
}

/// The wire version of a content.
fn version(content: &str) -> String {
    Entry::new(Cluster, "", None, content.as_bytes()).version_text()
}

struct Peer {
    connection: Connection,
    now: Instant,
}

impl Peer {
    fn new(able: Capabilities, set: Arc<ResourceSet>) -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(able, set, now), now }
    }

    fn ask(&mut self, kind: Kind, names: &[&str]) {
        self.ask_holding(kind, names, &[]);
    }

    fn ask_holding(&mut self, kind: Kind, names: &[&str], held: &[(&str, &str)]) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names_subscribe: strings(names),
            initial_resource_versions: held.iter().map(|(n, c)| ((*n).into(), version(c))).collect(),
            ..Default::default()
        };
        self.connection.request(&request, self.now).unwrap();
    }

    fn unsubscribe(&mut self, kind: Kind, names: &[&str]) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names_unsubscribe: strings(names),
            ..Default::default()
        };
        self.connection.request(&request, self.now).unwrap();
    }

    fn ack(&mut self, kind: Kind, nonce: u64) -> Heard {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            response_nonce: format!("{nonce:x}"),
            ..Default::default()
        };
        self.connection.request(&request, self.now).unwrap()
    }

    fn nack(&mut self, kind: Kind, nonce: u64, text: &str) -> Heard {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            response_nonce: format!("{nonce:x}"),
            error_detail: Some(rpc::Status { code: 3, message: text.into(), details: vec![] }),
            ..Default::default()
        };
        self.connection.request(&request, self.now).unwrap()
    }

    /// All there is to send now, as `CDS +a -b`, with the nonces.
    fn sent(&mut self) -> (Vec<String>, Vec<(Kind, u64)>) {
        let (mut lines, mut nonces) = (Vec::new(), Vec::new());
        while let Some(response) = self.connection.next(self.now) {
            let kind = Kind::of(&response.type_url);
            let mut line = kind.map_or("???", Kind::short).to_owned();
            for entry in &response.resources {
                line.push_str(&format!(" +{}", entry.name));
            }
            for name in &response.removed {
                line.push_str(&format!(" -{name}"));
            }
            lines.push(line);
            nonces.extend(kind.map(|k| (k, response.nonce)));
        }
        (lines, nonces)
    }

    fn lines(&mut self) -> Vec<String> {
        self.sent().0
    }

    /// Sends and acknowledges until there is nothing left.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let (lines, nonces) = self.sent();
            if lines.is_empty() {
                return all;
            }
            all.extend(lines);
            for (kind, nonce) in nonces {
                assert!(!self.ack(kind, nonce).expired);
            }
        }
    }

    fn turn_to(&mut self, set: Arc<ResourceSet>) {
        self.connection.update(set);
    }
}

/// A client that asks for everything waits for the first answer, also where there is nothing to send (Envoy waits
/// with `initial_fetch_timeout: 0s`); one that comes back holding something knows already.
#[test]
fn that_there_is_nothing_is_said_once() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, &[(Cluster, "a", "1")]));
    peer.ask(Listener, &[]);
    assert_eq!(peer.settle(), ["LDS"]);
    peer.turn_to(set(2, &[(Cluster, "a", "2")]));
    assert_eq!(peer.settle(), Vec::<String>::new());
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// A peer that has asked for everything as a running Envoy has, and is in step.
fn running(able: Capabilities, first: Arc<ResourceSet>) -> Peer {
    let names = |kind| first.entries(kind).map(|e| e.name.to_string()).collect::<Vec<_>>();
    let (endpoints, routes) = (names(Endpoint), names(Route));
    let mut peer = Peer::new(able, first);
    peer.ask(Cluster, &[]);
    peer.settle();
    peer.ask(Endpoint, &endpoints.iter().map(String::as_str).collect::<Vec<_>>());
    peer.ask(Listener, &[]);
    peer.ask(Route, &routes.iter().map(String::as_str).collect::<Vec<_>>());
    peer.settle();
    peer
}

const BASE: &[(Kind, &str, &str)] = &[
    (Cluster, "a", "ca1"),
    (Cluster, "b", "cb1"),
    (Endpoint, "a", "ea1"),
    (Endpoint, "b", "eb1"),
    (Listener, "l", "l1"),
    (Route, "80", "r1"),
];

fn with(changes: &[(Kind, &'static str, &'static str)]) -> Vec<(Kind, &'static str, &'static str)> {
    let mut map: BTreeMap<(usize, &str), (Kind, &str, &str)> =
        BASE.iter().map(|r| ((r.0.index(), r.1), *r)).collect();
    for change in changes {
        match change.2 {
            "" => map.remove(&(change.0.index(), change.1)),
            _ => map.insert((change.0.index(), change.1), *change),
        };
    }
    map.into_values().collect()
}

/// Measured with Envoy 1.40: CDS wildcard, EDS by name, then LDS, RDS by name.
#[test]
fn first_contact_answers_in_the_order_asked() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, BASE));
    assert!(peer.lines().is_empty(), "nothing before it asks");
    peer.ask(Cluster, &[]);
    assert_eq!(peer.settle(), ["CDS +a +b"]);
    peer.ask(Endpoint, &["a", "b"]);
    assert_eq!(peer.settle(), ["EDS +a +b"]);
    peer.ask(Listener, &["*"]);
    assert_eq!(peer.settle(), ["LDS +l"]);
    peer.ask(Route, &["80"]);
    assert_eq!(peer.settle(), ["RDS +80"]);
    assert_eq!(peer.lines(), Vec::<String>::new(), "an ACK brings nothing");
}

/// Protocol text, "Knowing when a requested resource does not exist".
#[test]
fn a_name_that_does_not_exist_is_said_to_be_gone_and_sent_when_it_comes() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.ask(Route, &["81"]);
    assert_eq!(peer.settle(), ["RDS -81"]);
    peer.turn_to(set(2, &with(&[(Route, "81", "new")])));
    assert_eq!(peer.settle(), ["RDS +81"]);
}

/// Protocol text, "Subscribing to resources": a name asked for again is sent again.
#[test]
fn asking_again_sends_again_and_giving_up_stops_it() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.ask(Endpoint, &["a"]);
    assert_eq!(peer.settle(), ["EDS +a"]);
    peer.unsubscribe(Endpoint, &["a"]);
    peer.turn_to(set(2, &with(&[(Endpoint, "a", "ea2"), (Endpoint, "b", "eb2")])));
    assert_eq!(peer.settle(), ["EDS +b"]);
    peer.ask(Endpoint, &["a"]);
    assert_eq!(peer.settle(), ["EDS +a"]);
}

#[test]
fn only_what_changed_goes_out() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, BASE));
    assert!(peer.lines().is_empty(), "the same content under another generation");
    peer.turn_to(set(3, &with(&[(Endpoint, "b", "eb2")])));
    assert_eq!(peer.settle(), ["EDS +b"]);
}

/// Measured: Envoy keeps a changed EDS cluster warming, and withholds the ACK, until EDS comes again.
#[test]
fn endpoints_follow_a_changed_cluster_without_waiting_for_its_ack() {
    let change = with(&[(Cluster, "a", "ca2"), (Route, "80", "r2")]);
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &change));
    assert_eq!(peer.lines(), ["CDS +a", "EDS +a", "RDS +80"]);
    let mut peer = running(Capabilities::MESH, set(1, BASE));
    peer.turn_to(set(2, &change));
    assert_eq!(peer.lines(), ["CDS +a", "RDS +80"], "our proxy keeps them");
    let mut peer = running(Capabilities::NONE, set(1, BASE));
    peer.turn_to(set(2, &change));
    assert_eq!(peer.lines(), ["CDS +a", "RDS +80"], "nobody but Envoy is known to need them");
}

/// The same after a reconnect, when the changed cluster goes out before Envoy has said which endpoints it holds.
#[test]
fn endpoints_follow_a_changed_cluster_also_if_they_are_offered_later() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(2, &with(&[(Cluster, "a", "ca2")])));
    peer.ask_holding(Cluster, &[], &[("a", "ca1"), ("b", "cb1")]);
    assert_eq!(peer.lines(), ["CDS +a"]);
    peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
    assert_eq!(peer.lines(), ["EDS +a"]);
}

/// A route to a cluster that is not warm is a 503: control-plane.md §2.1, make before break.
#[test]
fn routes_wait_until_new_clusters_are_warm() {
    let change = with(&[(Cluster, "c", "cc1"), (Endpoint, "c", "ec1"), (Route, "80", "to c")]);
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &change));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["CDS +c"]);
    peer.ask(Endpoint, &["c"]);
    assert_eq!(peer.settle(), ["EDS +c"], "endpoints never wait");
    peer.ack(Cluster, nonces[0].1);
    assert_eq!(peer.lines(), ["RDS +80"]);
    // A cluster that never becomes warm must not hold routes for ever.
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &change));
    assert_eq!(peer.lines(), ["CDS +c"]);
    let due = peer.connection.deadline().unwrap();
    assert!(due <= peer.now + Duration::from_secs(2));
    peer.now = due;
    assert_eq!(peer.lines(), ["RDS +80"]);
}

#[test]
fn our_proxy_gets_endpoints_before_it_asks_and_not_again_when_it_does() {
    let mut peer = running(Capabilities::MESH, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Cluster, "c", "cc1"), (Endpoint, "c", "ec1"), (Route, "80", "to c")])));
    assert_eq!(peer.settle(), ["CDS +c", "EDS +c", "RDS +80"]);
    peer.ask(Endpoint, &["c"]);
    assert_eq!(peer.settle(), Vec::<String>::new());
    peer.turn_to(set(3, &with(&[(Cluster, "c", "cc1"), (Endpoint, "c", "ec2"), (Route, "80", "to c")])));
    assert_eq!(peer.settle(), ["EDS +c"]);
    // Also on first contact, when it has not asked for any endpoints yet.
    let mut peer = Peer::new(Capabilities::MESH, set(1, BASE));
    peer.ask(Cluster, &[]);
    peer.ask(Listener, &[]);
    assert_eq!(peer.settle(), ["CDS +a +b", "EDS +a +b", "LDS +l"]);
    peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
    assert_eq!(peer.settle(), Vec::<String>::new());
}

/// control-plane.md §2.1: removal after the RDS and LDS ACK.
#[test]
fn a_cluster_goes_when_no_listener_or_route_can_use_it_any_more() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2")])));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["RDS +80"]);
    peer.ack(Route, nonces[0].1);
    assert_eq!(peer.lines(), ["CDS -b", "EDS -b"]);
}

/// Make before break: what leads to a cluster goes before it, also where nothing else changes.
#[test]
fn a_listener_goes_before_the_cluster_it_leads_to() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", ""), (Cluster, "b", ""), (Endpoint, "b", "")])));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["LDS -l"]);
    peer.ack(Listener, nonces[0].1);
    assert_eq!(peer.settle(), ["CDS -b", "EDS -b"]);
}

#[test]
fn what_comes_back_before_it_was_taken_away_is_not_sent() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Cluster, "b", ""), (Endpoint, "b", ""), (Route, "80", "r2")])));
    assert_eq!(peer.lines(), ["RDS +80"]);
    peer.turn_to(set(3, BASE));
    assert_eq!(peer.settle(), ["RDS +80"]);
}

/// Envoy removes listeners before it adds those of the same response.
#[test]
fn a_listener_is_replaced_within_one_response() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", ""), (Listener, "m", "m1")])));
    assert_eq!(peer.settle(), ["LDS +m -l"]);
}

/// Protocol text, "initial_resource_versions"; measured: the server may send nothing at all.
#[test]
fn nothing_a_reconnecting_client_holds_is_sent() {
    for able in [Capabilities::ENVOY, Capabilities::MESH] {
        let mut peer = Peer::new(able, set(9, BASE));
        peer.ask_holding(Cluster, &[], &[("a", "ca1"), ("b", "cb1")]);
        assert!(peer.lines().is_empty());
        peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
        peer.ask_holding(Listener, &[], &[("l", "l1")]);
        peer.ask_holding(Route, &["80"], &[("80", "r1")]);
        assert!(peer.lines().is_empty());
        peer.turn_to(set(10, &with(&[(Endpoint, "b", "eb2")])));
        assert_eq!(peer.settle(), ["EDS +b"], "later changes apply");
    }
}

#[test]
fn a_reconnecting_client_is_brought_up_to_date_and_loses_what_is_gone_last() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(9, BASE));
    peer.ask_holding(Cluster, &[], &[("a", "ca0"), ("b", "cb1"), ("gone", "x")]);
    assert_eq!(peer.settle(), ["CDS +a"], "it has not said yet which routes it holds");
    peer.ask_holding(Endpoint, &["a", "b", "gone"], &[("a", "ea1"), ("b", "eb0"), ("gone", "x")]);
    assert_eq!(peer.settle(), ["EDS +a +b"], "cluster a was changed: Envoy waits for its endpoints");
    peer.ask_holding(Listener, &[], &[("l", "l1"), ("old", "x")]);
    assert_eq!(peer.settle(), ["LDS -old"]);
    peer.ask_holding(Route, &["80"], &[("80", "r0")]);
    assert_eq!(peer.settle(), ["RDS +80", "CDS -gone", "EDS -gone"]);
}

#[test]
fn a_client_that_never_asks_for_routes_loses_clusters_after_a_while() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(9, BASE));
    peer.ask_holding(Cluster, &[], &[("a", "ca1"), ("b", "cb1"), ("gone", "x")]);
    assert!(peer.lines().is_empty());
    peer.now = peer.connection.deadline().unwrap();
    assert_eq!(peer.settle(), ["CDS -gone"]);
}

#[test]
fn a_stale_nonce_acknowledges_nothing_but_its_subscriptions_count() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Endpoint, "a", "ea2")])));
    peer.lines();
    for nonce in ["ffff", "not a nonce"] {
        let request = DeltaDiscoveryRequest {
            type_url: Endpoint.type_url().into(),
            response_nonce: nonce.into(),
            resource_names_subscribe: vec!["b".into()],
            ..Default::default()
        };
        assert!(peer.connection.request(&request, peer.now).unwrap().expired);
        assert_eq!(peer.lines(), ["EDS +b"]);
    }
    assert!(!peer.connection.status()[1].synced);
}

/// Coalescing: a client that does not take anything gets the newest when it does.
#[test]
fn a_slow_client_skips_what_was_replaced() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    for (generation, content) in [(2, "x"), (3, "y"), (4, "z")] {
        peer.turn_to(set(generation, &with(&[(Endpoint, "a", content)])));
    }
    assert_eq!(peer.settle(), ["EDS +a"]);
    assert_eq!(peer.connection.live_generation(), 4);
    assert_eq!(peer.connection.current().find(Endpoint, "a").unwrap().version_text(), version("z"));
}

#[test]
fn responses_and_unanswered_ones_are_bounded() {
    let body = "x".repeat(100 << 10);
    let many: Vec<String> = (0..10).map(|i| format!("c{i}")).collect();
    let resources: Vec<(Kind, &str, &str)> =
        many.iter().map(|n| (Cluster, n.as_str(), body.as_str())).collect();
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, &resources));
    peer.ask(Cluster, &[]);
    let mut sizes = Vec::new();
    while let Some(response) = peer.connection.next(peer.now) {
        sizes.push(response.resources.iter().map(|e| e.encoded().len()).sum::<usize>());
    }
    assert_eq!(sizes.len(), 5);
    assert!(sizes.iter().all(|s| *s <= 256 << 10));

    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    let contents: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let mut sent = 0;
    for (i, content) in contents.iter().enumerate() {
        peer.turn_to(set(i as u64 + 2, &[(Endpoint, "a", content.as_str())]));
        sent += peer.lines().iter().filter(|l| l.starts_with("EDS +a")).count();
    }
    assert_eq!(sent, 64, "a client that answers nothing is not sent more");
}

#[test]
fn a_generation_is_live_when_all_of_it_is_answered() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Endpoint, "a", "ea2"), (Route, "80", "r2")])));
    let (_, nonces) = peer.sent();
    assert_eq!(peer.connection.live_generation(), 1);
    assert!(peer.ack(Endpoint, nonces[0].1).converged.is_empty());
    assert_eq!(peer.connection.live_generation(), 1);
    assert_eq!(peer.nack(Route, nonces[1].1, "80: no").converged.len(), 1, "an answer is an answer");
    assert_eq!(peer.connection.live_generation(), 2);
    peer.turn_to(set(3, &with(&[(Endpoint, "a", "ea2"), (Route, "80", "r2")])));
    assert!(peer.lines().is_empty());
    assert_eq!(peer.connection.live_generation(), 3, "nothing in it is for this client");
}

#[test]
fn a_proxys_own_resources_go_with_the_shared_ones_and_hide_them() {
    let first = layered(1, BASE, &[(Cluster, "inbound", "i1"), (Listener, "l", "own")]);
    let mut peer = running(Capabilities::ENVOY, first);
    let holds = peer.connection.current().find(Listener, "l").unwrap().version_text();
    assert_eq!(holds, version("own"));
    peer.turn_to(layered(2, BASE, &[(Cluster, "inbound", "i2"), (Listener, "l", "own")]));
    assert_eq!(peer.settle(), ["CDS +inbound"]);
    peer.turn_to(layered(3, &with(&[(Listener, "l", "l2")]), &[(Listener, "l", "own")]));
    assert_eq!(peer.settle(), ["CDS -inbound"]);
    peer.turn_to(layered(4, &with(&[(Listener, "l", "l2")]), &[]));
    assert_eq!(peer.settle(), ["LDS +l"]);
}

#[test]
fn a_type_that_is_not_served_is_answered_once() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, BASE));
    let mut request = DeltaDiscoveryRequest {
        type_url: crate::type_url::SECRET.into(),
        resource_names_subscribe: vec!["default".into()],
        ..Default::default()
    };
    peer.connection.request(&request, peer.now).unwrap();
    assert_eq!(peer.lines(), ["??? -default"]);
    request.resource_names_subscribe.clear();
    request.response_nonce = "1".into();
    peer.connection.request(&request, peer.now).unwrap();
    assert!(peer.lines().is_empty());
}

/// A limit of what a client can make the server hold.
#[test]
fn asking_again_for_what_is_not_there_queues_it_once() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    for _ in 0..100 {
        peer.ask(Route, &["90", "91", "80"]);
    }
    assert_eq!(peer.lines(), ["RDS +80 -90 -91"]);
}

#[test]
fn many_names_of_a_type_that_is_not_served_end_the_stream() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, BASE));
    let mut request = DeltaDiscoveryRequest {
        type_url: crate::type_url::SECRET.into(),
        resource_names_subscribe: vec!["x".into(); FOREIGN_NAMES],
        ..Default::default()
    };
    for _ in 0..FOREIGN_ANSWERS * 2 {
        peer.connection.request(&request, peer.now).unwrap();
    }
    assert_eq!(peer.lines().len(), FOREIGN_ANSWERS, "answers that wait are limited as well");
    request.resource_names_subscribe.push("y".into());
    assert_eq!(peer.connection.request(&request, peer.now).unwrap_err(), TooManyNames(FOREIGN_NAMES));
}

#[test]
fn more_names_than_a_mesh_has_end_the_stream() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(1, BASE));
    let request = DeltaDiscoveryRequest {
        type_url: Endpoint.type_url().into(),
        resource_names_subscribe: (0..200_001).map(|i| i.to_string()).collect(),
        ..Default::default()
    };
    assert_eq!(peer.connection.request(&request, peer.now).unwrap_err(), TooManyNames(200_000));
}

/// What is written by hand is what prost writes and reads.
#[test]
fn an_entry_is_a_resource_on_the_wire() {
    use crate::Message;
    let table = crate::nds::NameTable::default();
    let mut bytes = Vec::new();
    let entry = Entry::of(NameTable, "n", None, &table);
    bytes.extend_from_slice(entry.encoded());
    let big = Entry::new(Cluster, &"n".repeat(300), None, &[7; 100_000]);
    bytes.extend_from_slice(big.encoded());
    let read = crate::discovery::DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
    assert_eq!(read.resources.len(), 2);
    assert_eq!(read.resources[0].resource, Some(crate::pack(&table)));
    assert_eq!(read.resources[1].name, "n".repeat(300));
    assert_eq!(read.resources[1].version, big.version_text());
    assert_eq!(read.resources[1].resource.as_ref().unwrap().value, vec![7; 100_000]);
    assert_eq!(big.body().as_ref(), &[7; 100_000]);
}
