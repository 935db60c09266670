//! What crosses on the wire: the set goes back to a version while a response, an offer or a NACK is under way. Each was
//! found by a seed of `tests/simulation`, or is the same in another order.

use super::*;

/// Our proxy comes back with clusters and endpoints of an older version. What it has said is the first request only.
fn back_with_old_endpoints() -> Peer {
    let mut peer =
        Peer::new(Capabilities::MESH, set(1, &with(&[(Cluster, "a", "ca2"), (Endpoint, "a", "ea2")])));
    peer.ask_holding(Cluster, &[], &[("a", "ca1"), ("b", "cb1")]);
    peer
}

/// Endpoints that are under way come on top of the versions offered behind them: what went out is not sent again, and
/// going back to what was offered is a change.
#[test]
fn endpoints_under_way_stand_on_top_of_those_offered() {
    let mut peer = back_with_old_endpoints();
    assert_eq!(peer.lines(), ["CDS +a", "EDS +a"]);
    peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
    assert!(peer.lines().is_empty(), "it is under way");
    peer.turn_to(set(2, &with(&[(Cluster, "a", "ca2")])));
    assert_eq!(peer.settle(), ["EDS +a"]);
}

/// The same when the set went back before the offer was heard, and that waits behind another type.
#[test]
fn what_waits_behind_endpoints_under_way_is_sent_though_it_was_offered() {
    let mut peer = back_with_old_endpoints();
    assert_eq!(peer.lines(), ["CDS +a", "EDS +a"]);
    peer.turn_to(set(2, &with(&[(Cluster, "a", "ca3")])));
    assert_eq!(peer.connection.next(peer.now).unwrap().type_url, Cluster.type_url());
    peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
    assert_eq!(peer.settle(), ["EDS +a"]);
}

/// The client refuses what it was sent under way, and holds what it offered: that need not be sent.
#[test]
fn endpoints_refused_under_way_leave_those_offered() {
    let mut peer = back_with_old_endpoints();
    let (_, nonces) = peer.sent();
    peer.ask_holding(Endpoint, &["a", "b"], &[("a", "ea1"), ("b", "eb1")]);
    peer.nack(Endpoint, nonces[1].1, "a: no");
    peer.turn_to(set(2, &with(&[(Cluster, "a", "ca2")])));
    assert!(peer.lines().is_empty());
}

/// A set with this name table, and a listener of this version, which goes out before it.
fn named(generation: u64, names: &'static str, listener: &'static str) -> Arc<ResourceSet> {
    let table = (NameTable, "names", names);
    let rest = with(&[(Listener, "l", listener)]);
    set(generation, &rest.into_iter().chain((!names.is_empty()).then_some(table)).collect::<Vec<_>>())
}

/// A proxy that holds this name table.
fn holding(names: &'static str) -> Peer {
    let mut peer = running(Capabilities::MESH, named(1, names, "l1"));
    peer.ask(NameTable, &[]);
    peer.settle();
    peer
}

fn nonce_of_names(sent: &(Vec<String>, Vec<(Kind, u64)>)) -> u64 {
    sent.1.iter().find(|(kind, _)| *kind == NameTable).map(|(_, nonce)| *nonce).unwrap()
}

/// A version is refused after the client was sent another, while the set is back at the refused one: the client holds
/// the other, which is taken away when the name is gone. `again` is how far the refused one got once more.
#[test]
fn what_was_sent_behind_a_refused_version_is_taken_away_in_the_end() {
    for again in ["waits", "is under way"] {
        let mut peer = holding("");
        peer.turn_to(named(2, "bad", "l1"));
        let bad = nonce_of_names(&peer.sent());
        peer.turn_to(named(3, "good", "l1"));
        let good = nonce_of_names(&peer.sent());
        peer.turn_to(named(4, "bad", "l2"));
        assert_eq!(peer.connection.next(peer.now).unwrap().type_url, Listener.type_url());
        let more = if again == "is under way" { peer.sent().1 } else { Vec::new() };
        peer.nack(NameTable, bad, "names: no");
        assert!(peer.lines().is_empty(), "{again}: refused");
        peer.turn_to(named(5, "", "l2"));
        assert_eq!(peer.lines(), ["NDS -names"], "{again}");
        peer.ack(NameTable, good);
        for (_, nonce) in more {
            peer.nack(NameTable, nonce, "names: no");
        }
        assert!(peer.lines().is_empty(), "{again}");
    }
}

/// The same with a removal between: there is nothing to take away any more.
#[test]
fn what_was_taken_away_behind_a_refused_version_is_not_held() {
    let mut peer = holding("old");
    peer.turn_to(named(2, "bad", "l1"));
    let bad = nonce_of_names(&peer.sent());
    peer.turn_to(named(3, "", "l1"));
    assert_eq!(peer.lines(), ["NDS -names"]);
    peer.turn_to(named(4, "bad", "l2"));
    assert_eq!(peer.connection.next(peer.now).unwrap().type_url, Listener.type_url());
    peer.nack(NameTable, bad, "names: no");
    peer.turn_to(named(5, "", "l2"));
    assert!(peer.lines().is_empty());
    peer.turn_to(named(6, "old", "l2"));
    assert_eq!(peer.lines(), ["NDS +names"]);
}

/// What waits to be sent when the NACK comes is what the client holds still.
#[test]
fn a_version_held_in_place_of_a_refused_one_is_not_sent() {
    let mut peer = holding("old");
    peer.turn_to(named(2, "bad", "l1"));
    let bad = nonce_of_names(&peer.sent());
    peer.turn_to(named(3, "old", "l2"));
    let listener = peer.connection.next(peer.now).unwrap();
    peer.nack(NameTable, bad, "names: no");
    peer.ack(Listener, listener.nonce);
    assert!(peer.lines().is_empty());
    assert_eq!(peer.connection.live_generation(), 3);
    assert!(peer.connection.status()[NameTable.index()].synced);
}

/// A route table is given up and asked for again while a version of it is under way, and is gone by then: the client
/// takes that version, and a listener in its last good version may use it.
#[test]
fn what_is_under_way_when_it_is_asked_for_again_is_held() {
    let mut peer = running(Capabilities::ENVOY, set(1, &with(&[(Listener, "l", "\u{2}80")])));
    peer.turn_to(set(2, &with(&[(Listener, "l", "\u{2}80"), (Route, "80", "r2")])));
    let (_, routes) = peer.sent();
    peer.unsubscribe(Route, &["80"]);
    peer.turn_to(set(3, &with(&[(Listener, "l", "bad"), (Route, "80", "")])));
    let (lines, listeners) = peer.sent();
    assert_eq!(lines, ["LDS +l"]);
    peer.ask(Route, &["80"]);
    assert!(peer.lines().is_empty(), "the listener is not answered");
    peer.nack(Listener, listeners[0].1, "Error adding/updating listener(s) l: no\n");
    peer.ack(Route, routes[0].1);
    assert!(peer.lines().is_empty(), "its last good version uses the table");
    peer.turn_to(set(4, &with(&[(Listener, "l", "l4"), (Route, "80", "")])));
    assert_eq!(peer.settle(), ["LDS +l", "RDS -80"]);
}
