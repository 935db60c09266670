//! What a NACK means, and what a refusal keeps. Sources: Envoy 1.40 as measured, and its `config/utility.cc` (the cut),
//! `cds_api_helper.cc`, `lds_api.cc` (application one by one), `watch_map.cc` (stops at the first failure).

use super::*;

/// What refers to `b`, as protobuf writes it: length and name.
const TO_B: &str = "\u{1}b";

/// Measured: application is partial, the NACK names the bad one.
#[test]
fn a_refused_version_is_never_sent_again_and_the_rest_is_live() {
    let bad = with(&[(Cluster, "a", "ca2"), (Cluster, "b", "bad")]);
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &bad));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["CDS +a +b", "EDS +a +b"]);
    let heard = peer.nack(Cluster, nonces[0].1, "Error adding/updating cluster(s) b: no implementation");
    assert_eq!(heard.refused.len(), 1);
    assert_eq!((heard.refused[0].name.as_str(), heard.refused[0].version.clone()), ("b", version("bad")));
    peer.ack(Endpoint, nonces[1].1);
    assert_eq!(peer.connection.refused(), heard.refused);
    assert!(!peer.connection.status()[0].synced);

    peer.turn_to(set(3, &bad));
    assert!(peer.lines().is_empty(), "the same version is not tried again");
    peer.turn_to(set(4, &with(&[(Cluster, "a", "ca2")])));
    assert!(peer.lines().is_empty(), "back to what it still holds");
    assert!(peer.connection.refused().is_empty());
    peer.turn_to(set(5, &with(&[(Cluster, "a", "ca2"), (Cluster, "b", "cb3")])));
    assert_eq!(peer.settle(), ["CDS +b", "EDS +b"], "a new version is");
    peer.turn_to(set(6, &bad));
    assert!(peer.lines().is_empty(), "the refused version comes back: still not sent");
    peer.turn_to(set(7, &with(&[(Cluster, "a", "ca2"), (Cluster, "b", "cb3")])));
    assert!(peer.lines().is_empty());
}

#[test]
fn a_nack_that_names_nothing_is_about_everything_in_the_response() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Route, "80", "r2"), (Listener, "l", "l2")])));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["LDS +l", "RDS +80"]);
    assert_eq!(peer.nack(Listener, nonces[0].1, "something is wrong").refused.len(), 1);
    peer.ack(Route, nonces[1].1);
    let refused: Vec<_> = peer.connection.refused().into_iter().map(|r| r.name).collect();
    assert_eq!(refused, ["l"]);
}

#[test]
fn a_nack_that_comes_after_the_next_version_does_not_hold_that_up() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", "bad")])));
    let (_, first) = peer.sent();
    peer.turn_to(set(3, &with(&[(Listener, "l", "good")])));
    let (lines, second) = peer.sent();
    assert_eq!(lines, ["LDS +l"]);
    peer.nack(Listener, first[0].1, "l: bad");
    peer.ack(Listener, second[0].1);
    assert!(peer.connection.refused().is_empty());
    assert!(peer.connection.status()[2].synced);
    assert!(peer.lines().is_empty());
}

/// A refusal blocks only what depends on it: the last accepted version of the refused route leads to `b`, not to `a`.
#[test]
fn a_cluster_that_a_refused_route_still_uses_stays_and_others_go() {
    let first = with(&[(Route, "80", TO_B), (Cluster, "c", "cc1"), (Endpoint, "c", "ec1")]);
    let gone = [(Cluster, "b", ""), (Endpoint, "b", ""), (Cluster, "a", ""), (Endpoint, "a", "")];
    let mut peer = running(Capabilities::ENVOY, set(1, &first));
    peer.turn_to(set(2, &with(&[gone.as_slice(), &[(Route, "80", "bad")]].concat())));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["RDS +80"]);
    peer.nack(Route, nonces[0].1, "80: no such thing");
    assert_eq!(peer.settle(), ["CDS -a -c", "EDS -a -c"], "its old version leads to b");
    assert_eq!(peer.connection.live_generation(), 2, "what is kept is not waited for");
    let status = peer.connection.status();
    assert!(!status[0].synced && !status[1].synced && !status[3].synced, "it holds more than it should");
    assert!(status[2].synced);
    peer.turn_to(set(3, &with(&[gone.as_slice(), &[(Route, "80", "good")]].concat())));
    assert_eq!(peer.settle(), ["RDS +80", "CDS -b", "EDS -b"]);
    assert!(peer.connection.status().iter().all(|lane| lane.synced || lane.kind == NameTable));
}

/// A route table that a refused listener still names stays, and with it the clusters it leads to.
#[test]
fn what_a_refused_listener_still_names_stays() {
    let first = with(&[(Listener, "l", "\u{2}80"), (Route, "80", TO_B), (Route, "81", "x")]);
    let mut peer = running(Capabilities::ENVOY, set(1, &first));
    let gone = [(Route, "80", ""), (Route, "81", ""), (Cluster, "b", ""), (Cluster, "a", "")];
    peer.turn_to(set(2, &with(&[gone.as_slice(), &[(Listener, "l", "bad")]].concat())));
    let (_, nonces) = peer.sent();
    peer.nack(Listener, nonces[0].1, "Error adding/updating listener(s) l: no\n");
    assert_eq!(peer.settle(), ["RDS -81", "CDS -a"]);
    peer.turn_to(set(3, &with(&[gone.as_slice(), &[(Listener, "l", "good")]].concat())));
    assert_eq!(peer.settle(), ["LDS +l", "RDS -80", "CDS -b"]);
}

/// Nobody knows what stands in a version from before a reconnect: everything it might refer to stays.
#[test]
fn a_version_from_an_earlier_stream_may_refer_to_anything() {
    let mut peer = Peer::new(Capabilities::ENVOY, set(9, BASE));
    peer.ask_holding(Cluster, &[], &[("a", "ca1"), ("b", "cb1"), ("gone", "x")]);
    peer.ask_holding(Listener, &[], &[("l", "l1")]);
    peer.ask_holding(Route, &["80"], &[("80", "r0")]);
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["RDS +80"]);
    peer.nack(Route, nonces[0].1, "no");
    assert!(peer.settle().is_empty());
    peer.turn_to(set(10, &with(&[(Route, "80", "r2")])));
    assert_eq!(peer.settle(), ["RDS +80", "CDS -gone"]);
}

/// Answers every response as a client would that refuses all of a response with one of these in it, and says no more than
/// this about it. Gives back how often each name was sent.
fn refuse_whole(
    peer: &mut Peer,
    bad: &[&str],
    text: impl Fn(&[String]) -> String,
) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for _ in 0..1000 {
        let Some(response) = peer.connection.next(peer.now) else { return times };
        let names: Vec<String> = response.resources.iter().map(|e| e.name.to_string()).collect();
        for name in &names {
            *times.entry(name.clone()).or_insert(0) += 1;
        }
        let kind = Kind::of(&response.type_url).unwrap();
        match names.iter().any(|name| bad.contains(&name.as_str())) {
            true => peer.nack(kind, response.nonce, &text(&names)),
            false => peer.ack(kind, response.nonce),
        };
    }
    panic!("it never ends");
}

fn refused(peer: &Peer) -> Vec<String> {
    peer.connection.refused().into_iter().map(|r| r.name).collect()
}

fn routes(content: &str) -> Vec<(Kind, String, String)> {
    (0..20).map(|i| (Route, format!("{}", 8000 + i), format!("{content} {i}"))).collect()
}

fn borrowed(resources: &[(Kind, String, String)]) -> Vec<(Kind, &str, &str)> {
    resources.iter().map(|(kind, name, body)| (*kind, name.as_str(), body.as_str())).collect()
}

/// What a client says of a response with these resources.
type Text = fn(&[String]) -> String;

/// A decode error, or the first failure among routes: nothing is named, or the text is cut before the name. The bad ones
/// are found by halving; each resource is sent at most `log2(n) + 1` times, and the good ones are live in the end.
#[test]
fn the_bad_ones_are_found_by_halving() {
    let (first, second) = (routes("a"), routes("b"));
    let cut: Text = |_| format!("Error adding/updating listener(s) {}...(truncated)", "x".repeat(4096));
    let nothing: Text = |_| "Proto constraint validation failed".to_owned();
    for text in [nothing, cut] {
        for bad in [&["8003"][..], &["8000", "8019"], &["8001", "8002", "8010"]] {
            let mut peer = running(Capabilities::ENVOY, set(1, &borrowed(&first)));
            peer.turn_to(set(2, &borrowed(&second)));
            let times = refuse_whole(&mut peer, bad, text);
            assert_eq!(times.len(), 20);
            assert!(times.values().all(|times| *times <= 6), "20 take 5 halvings: {times:?}");
            assert_eq!(refused(&peer), bad);
            assert_eq!(peer.connection.live_generation(), 2);
            peer.turn_to(set(3, &borrowed(&second)));
            assert!(peer.lines().is_empty(), "a refused version is not tried again");
            // The good ones count as held: back to the first content they are sent, the refused ones are not.
            peer.turn_to(set(4, &borrowed(&first)));
            let sent = refuse_whole(&mut peer, &[], text);
            assert!(bad.iter().all(|name| !sent.contains_key(*name) || sent[*name] == 1));
            assert_eq!(sent.values().filter(|times| **times == 1).count(), sent.len());
            assert!(sent.len() >= 20 - bad.len());
        }
    }
}

/// One is named, the others were not applied: they are sent once more, without it.
#[test]
fn what_is_not_named_is_sent_again_apart_from_what_is() {
    let (first, second) = (routes("a"), routes("b"));
    let mut peer = running(Capabilities::ENVOY, set(1, &borrowed(&first)));
    peer.turn_to(set(2, &borrowed(&second)));
    let text =
        |_: &[String]| "Proto constraint validation failed (X): name: \"8003\"\nvirtual_hosts {".to_owned();
    let times = refuse_whole(&mut peer, &["8003"], text);
    assert_eq!((times["8003"], times["8004"]), (1, 2));
    assert!(times.values().all(|times| *times <= 2), "{times:?}");
    assert_eq!(refused(&peer), ["8003"]);
}

/// Our own proxy names all it refuses: nothing is sent a second time.
#[test]
fn our_proxys_nack_is_taken_at_its_word() {
    let (first, second) = (routes("a"), routes("b"));
    let mut peer = running(Capabilities::MESH, set(1, &borrowed(&first)));
    peer.turn_to(set(2, &borrowed(&second)));
    let text = |_: &[String]| "8003: unknown field; 8007: leads to 8004".to_owned();
    let times = refuse_whole(&mut peer, &["8003", "8007"], text);
    assert!(times.values().all(|times| *times == 1));
    assert_eq!(refused(&peer), ["8003", "8007"]);
}

/// SYNCED, and a generation that is live, are about what was acknowledged.
#[test]
fn nothing_is_live_while_a_nack_leaves_it_open() {
    let (first, second) = (routes("a"), routes("b"));
    let mut peer = running(Capabilities::ENVOY, set(1, &borrowed(&first)));
    peer.turn_to(set(2, &borrowed(&second)));
    let (_, nonces) = peer.sent();
    let heard = peer.nack(Route, nonces[0].1, "something is wrong");
    assert!(heard.rejected && heard.refused.is_empty() && heard.converged.is_empty());
    assert_eq!(heard.unknown.len(), 20);
    assert_eq!(peer.connection.live_generation(), 1);
    assert!(!peer.connection.status()[3].synced);
    let (_, halves) = peer.sent();
    assert_eq!(halves.len(), 2);
    assert!(peer.ack(Route, halves[0].1).converged.is_empty());
    assert_eq!(peer.connection.live_generation(), 1);
    assert_eq!(peer.ack(Route, halves[1].1).converged.len(), 1);
    assert_eq!(peer.connection.live_generation(), 2);
    assert!(peer.connection.status()[3].synced);
}

/// A newer set does not wait for what an older one left open, and what is open is not sent behind it.
#[test]
fn a_newer_version_takes_the_place_of_an_open_one() {
    let (first, second, third) = (routes("a"), routes("b"), routes("c"));
    let mut peer = running(Capabilities::ENVOY, set(1, &borrowed(&first)));
    peer.turn_to(set(2, &borrowed(&second)));
    let (_, old) = peer.sent();
    peer.turn_to(set(3, &borrowed(&third)));
    let (lines, new) = peer.sent();
    assert_eq!(lines.len(), 1);
    peer.nack(Route, old[0].1, "something is wrong");
    assert!(peer.lines().is_empty());
    peer.ack(Route, new[0].1);
    assert_eq!(peer.connection.live_generation(), 3);
    assert!(peer.connection.status()[3].synced);
}

/// Two versions are refused one after the other: the client holds neither. Going back to the first of them must not count
/// as in step.
#[test]
fn what_was_refused_under_way_is_not_believed_to_be_held() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", "l2")])));
    let (_, second) = peer.sent();
    peer.turn_to(set(3, &with(&[(Listener, "l", "l3")])));
    let (_, third) = peer.sent();
    for (nonces, _) in [(&second, 2), (&third, 3)] {
        peer.nack(Listener, nonces[0].1, "Error adding/updating listener(s) l: no\n");
    }
    peer.turn_to(set(4, &with(&[(Listener, "l", "l2")])));
    assert!(peer.lines().is_empty(), "refused");
    assert!(!peer.connection.status()[2].synced, "it holds the first");
    assert_eq!(refused(&peer), ["l"]);
    peer.turn_to(set(5, BASE));
    assert!(peer.lines().is_empty(), "back to what it still holds");
    assert!(peer.connection.status()[2].synced);
}

/// A listener that was taken away in a response of which nothing was applied is still there.
#[test]
fn a_removal_is_repeated_when_nothing_of_its_response_was_applied() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", ""), (Listener, "m", "m1"), (Listener, "n", "bad")])));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["LDS +m +n -l"]);
    peer.nack(Listener, nonces[0].1, "Proto constraint validation failed");
    assert_eq!(peer.settle(), ["LDS +m -l", "LDS +n"]);
}

/// The same for a generation that a newer one has followed: what it left open is still open.
#[test]
fn an_older_generation_is_not_live_either() {
    let (first, second) = (routes("a"), routes("b"));
    let mut peer = running(Capabilities::ENVOY, set(1, &borrowed(&first)));
    peer.turn_to(set(2, &borrowed(&second)));
    let (_, old) = peer.sent();
    let more: Vec<_> = borrowed(&second).into_iter().chain([(Listener, "l", "l3")]).collect();
    peer.turn_to(set(3, &more));
    let (_, new) = peer.sent();
    peer.nack(Route, old[0].1, "something is wrong");
    peer.ack(Listener, new[0].1);
    assert_eq!(peer.connection.live_generation(), 1);
    peer.settle();
    assert_eq!(peer.connection.live_generation(), 3);
}

/// What refers to `81`.
const TO_81: &str = "\u{2}81";

/// What was only said not to be there was not held: it is said again, and keeps no cluster, though
/// the last good version of a refused listener names it.
#[test]
fn what_is_not_there_is_said_again_and_not_believed_to_be_held() {
    let mut peer = running(Capabilities::ENVOY, set(1, &with(&[(Listener, "l", TO_81)])));
    let gone = [(Cluster, "b", ""), (Endpoint, "b", ""), (Listener, "l", "bad"), (Route, "80", "r2")];
    peer.turn_to(set(2, &with(&gone)));
    let listener = peer.connection.next(peer.now).unwrap();
    peer.ask(Route, &["81"]);
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["RDS +80 -81"]);
    peer.nack(Listener, listener.nonce, "Error adding/updating listener(s) l: no\n");
    peer.nack(Route, nonces[0].1, "Proto constraint validation failed");
    assert_eq!(peer.settle(), ["RDS -81", "CDS -b", "EDS -b"]);
}

/// Measured: a changed cluster waits for endpoints, also for those that Envoy holds still because it refused others.
#[test]
fn endpoints_follow_a_changed_cluster_also_in_place_of_refused_ones() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Endpoint, "a", "bad")])));
    let (_, nonces) = peer.sent();
    peer.turn_to(set(3, &with(&[(Cluster, "a", "ca2")])));
    assert_eq!(peer.connection.next(peer.now).unwrap().type_url, Cluster.type_url());
    peer.nack(Endpoint, nonces[0].1, "Proto constraint validation failed");
    assert_eq!(peer.lines(), ["EDS +a"]);
}

/// `lds_api.cc`: listeners are taken away before the first is added, so a text that lists those refused comes after that.
#[test]
fn a_removal_is_not_repeated_when_listeners_were_refused_one_by_one() {
    let mut peer = running(Capabilities::ENVOY, set(1, BASE));
    peer.turn_to(set(2, &with(&[(Listener, "l", ""), (Listener, "m", "bad")])));
    let (lines, nonces) = peer.sent();
    assert_eq!(lines, ["LDS +m -l"]);
    peer.nack(Listener, nonces[0].1, "Error adding/updating listener(s) m: no\n");
    assert!(peer.lines().is_empty());
}
