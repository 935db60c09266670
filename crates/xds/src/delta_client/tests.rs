use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cache::{Changes, Keeper, Kept};
use super::session::Session;
use super::*;
use crate::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::type_url;

/// Wants what it is told to, refuses what it is told to, and remembers what came.
#[derive(Default)]
struct Told {
    wanted: BTreeSet<String>,
    refused: Option<&'static str>,
    came: Vec<String>,
    /// Routes are wanted too, by the names of endpoints.
    has_listeners: bool,
}

impl Consumer for Told {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        self.has_listeners |= update.type_url == type_url::LISTENER && !update.resources.is_empty();
        self.came.extend(update.resources.iter().map(|r| format!("+{}", r.name)));
        self.came.extend(update.removed.iter().map(|name| format!("-{name}")));
        let bad = update.resources.iter().filter(|r| Some(r.name.as_str()) == self.refused);
        bad.map(|r| Refusal { name: r.name.clone(), reason: "field x: no".into() }).collect()
    }

    fn wanted(&self, url: &str) -> Vec<String> {
        let is_wanted = url == type_url::ENDPOINT || self.has_listeners;
        if is_wanted { self.wanted.iter().cloned().collect() } else { Vec::new() }
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

/// A session that takes responses.
struct Stream {
    session: Session,
    told: Told,
    now: Instant,
}

impl Stream {
    fn new(told: Told) -> Self {
        Self { session: Session::new(node()), told, now: Instant::now() }
    }

    /// Clusters came, and with them all that is asked for.
    fn introduced(told: Told) -> Self {
        let mut stream = Self::new(told);
        stream.opens();
        stream.takes(response(type_url::CLUSTER, &[]));
        stream
    }

    fn opens(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.session.open(&self.told, self.now)
    }

    fn takes(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        self.session.response(response, &mut self.told, &mut Changes::default(), self.now)
    }

    /// The versions offered of a type by a stream that opens.
    fn offers(&mut self, type_url: &str) -> Vec<String> {
        let opening = self.opens();
        let request = opening.iter().find(|r| r.type_url == type_url);
        request.map_or(vec![], |r| r.initial_resource_versions.keys().cloned().collect())
    }
}

fn types(requests: &[DeltaDiscoveryRequest]) -> Vec<&str> {
    requests.iter().map(|r| r.type_url.as_str()).collect()
}

fn error(answers: &[DeltaDiscoveryRequest]) -> Option<&str> {
    answers[0].error_detail.as_ref().map(|error| error.message.as_str())
}

fn node() -> core::Node {
    core::Node { id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(), ..Default::default() }
}

/// In the order of Envoy: a listener is not asked for, and so does not open, before there are hosts behind it.
#[test]
fn listeners_are_asked_for_when_the_first_clusters_have_their_endpoints() {
    let mut stream = Stream::new(Told::default());
    let first = stream.opens();
    assert_eq!(types(&first), [type_url::CLUSTER]);
    assert!(first[0].node.is_some());
    stream.told.wanted.extend(["a".into(), "gone".into()]);
    let answers = stream.takes(response(type_url::CLUSTER, &["a"]));
    assert_eq!(types(&answers), [type_url::CLUSTER, type_url::ENDPOINT], "an ACK and a subscription");
    assert_eq!((answers[0].response_nonce.as_str(), &answers[0].error_detail), ("7", &None));
    assert_eq!(answers[1].resource_names_subscribe, ["a", "gone"]);
    assert_eq!(types(&stream.takes(response(type_url::ENDPOINT, &["a"]))), [type_url::ENDPOINT]);
    // That there are none is an answer too.
    let mut absent = response(type_url::ENDPOINT, &[]);
    absent.removed_resources = vec!["gone".into()];
    assert_eq!(types(&stream.takes(absent)), [type_url::ENDPOINT, type_url::LISTENER, type_url::NAME_TABLE]);
    // From then on a stream asks for all as it opens, and offers what it holds.
    let again = stream.opens();
    let all = [type_url::CLUSTER, type_url::ENDPOINT, type_url::LISTENER, type_url::NAME_TABLE];
    assert_eq!(types(&again), all);
    assert_eq!(again.iter().filter(|r| r.node.is_some()).count(), 1);
    assert_eq!(again[1].initial_resource_versions["a"], "1");
    stream.told.wanted.clear();
    let given_up = stream.session.subscriptions(&stream.told, &mut Changes::default());
    assert_eq!(given_up[0].resource_names_unsubscribe, ["a", "gone"]);
    assert!(!types(&stream.opens()).contains(&type_url::ENDPOINT));
}

#[test]
fn whoever_waits_too_long_for_endpoints_asks_for_listeners_all_the_same() {
    let mut stream = Stream::new(Told::default());
    stream.opens();
    stream.told.wanted.insert("a".into());
    stream.takes(response(type_url::CLUSTER, &["a"]));
    assert_eq!(stream.session.warm_by(), Some(stream.now + Duration::from_secs(15)));
    let late = stream.session.give_up_warming(&stream.told);
    assert_eq!(types(&late), [type_url::LISTENER, type_url::NAME_TABLE]);
    assert_eq!(stream.session.warm_by(), None);
}

/// Envoy withholds the ACK of clusters until their endpoints come: whoever sends routes after it sends them to hosts.
#[test]
fn clusters_are_acknowledged_when_their_endpoints_are_there() {
    let mut stream = Stream::introduced(Told::default());
    let without = stream.takes(response(type_url::CLUSTER, &["fixed"]));
    assert_eq!(types(&without), [type_url::CLUSTER], "nothing to wait for");
    stream.told.wanted.insert("a".into());
    let asked = stream.takes(response(type_url::CLUSTER, &["a"]));
    assert_eq!((types(&asked), asked[0].response_nonce.as_str()), (vec![type_url::ENDPOINT], ""));
    assert_eq!(types(&stream.takes(response(type_url::LISTENER, &[]))), [type_url::LISTENER]);
    let came = stream.takes(response(type_url::ENDPOINT, &["a"]));
    assert_eq!(types(&came), [type_url::ENDPOINT, type_url::CLUSTER]);
    assert_eq!((came[1].response_nonce.as_str(), &came[1].error_detail), ("7", &None));
    // Endpoints that never come are not waited for twice.
    stream.told.wanted.insert("b".into());
    stream.takes(response(type_url::CLUSTER, &["b"]));
    assert_eq!(types(&stream.session.give_up_warming(&stream.told)), [type_url::CLUSTER]);
    assert_eq!(types(&stream.takes(response(type_url::CLUSTER, &["b"]))), [type_url::CLUSTER]);
    // An answer is for its stream.
    stream.told.wanted.insert("c".into());
    stream.takes(response(type_url::CLUSTER, &["c"]));
    assert!(stream.opens().iter().all(|request| request.response_nonce.is_empty()));
}

#[test]
fn a_nack_names_the_resource_and_the_reason_and_the_rest_is_held() {
    let mut stream = Stream::introduced(Told { refused: Some("b"), ..Told::default() });
    let mut bad = response(type_url::CLUSTER, &["a", "b", "empty", "other"]);
    bad.resources[2].resource = None;
    bad.resources[3].resource.as_mut().unwrap().type_url = "x".into();
    let answers = stream.takes(bad);
    for part in ["b: field x: no", "empty: has no body", "other: is a x"] {
        assert!(error(&answers).unwrap().contains(part), "{answers:?}");
    }
    assert_eq!(stream.offers(type_url::CLUSTER), ["a"]);
}

/// Envoy: "Dropping received DeltaDiscoveryResponse for non-existent subscription". An answer would ask for everything.
#[test]
fn what_was_not_asked_for_is_not_answered() {
    let mut stream = Stream::new(Told::default());
    stream.opens();
    for type_url in ["type/unknown", type_url::LISTENER, type_url::ROUTE] {
        assert_eq!(stream.takes(response(type_url, &["a"])), [], "{type_url}");
    }
    assert_eq!(stream.told.came, [""; 0]);
}

/// A table that comes late, for a listener that is gone, would be stale if the listener came back. Endpoints may come
/// early; they are not offered before something wants them.
#[test]
fn what_comes_for_a_name_that_nothing_refers_to_is_left_out() {
    let mut stream = Stream::introduced(Told::default());
    stream.told.wanted.insert("a".into());
    let subscribed = stream.takes(response(type_url::LISTENER, &["l"]));
    assert_eq!(types(&subscribed), [type_url::LISTENER, type_url::ENDPOINT, type_url::ROUTE]);
    stream.told.came.clear();
    for type_url in [type_url::ROUTE, type_url::ENDPOINT] {
        assert_eq!(error(&stream.takes(response(type_url, &["a", "stranger"]))), None);
    }
    assert_eq!(stream.told.came, ["+a", "+a", "+stranger"]);
    assert_eq!(stream.offers(type_url::ROUTE), ["a"]);
    assert_eq!(stream.offers(type_url::ENDPOINT), ["a"]);
}

/// Envoy refuses the whole response: "duplicate name a found in the union of added+removed resources".
#[test]
fn what_is_added_and_removed_at_once_is_refused_and_stays_as_it_was() {
    let mut stream = Stream::introduced(Told::default());
    stream.takes(response(type_url::CLUSTER, &["held"]));
    stream.told.came.clear();
    let mut both = response(type_url::CLUSTER, &["held", "new", "good"]);
    both.removed_resources = vec!["held".into(), "new".into()];
    let answers = stream.takes(both);
    let reason = "is added and removed in one response";
    assert_eq!(error(&answers), Some(&*format!("held: {reason}; new: {reason}")));
    assert_eq!(stream.told.came, ["+good"]);
    assert_eq!(stream.offers(type_url::CLUSTER), ["good", "held"]);
}

/// xDS TTL (Envoy's `TtlManager`): each of these is what Envoy 1.40 did.
#[test]
fn a_time_to_live_ends_unless_a_heartbeat_comes() {
    let mut stream = Stream::introduced(Told::default());
    let lives = |seconds: i64| {
        let mut response = response(type_url::CLUSTER, &["a", "b"]);
        response.resources[0].ttl = Some(crate::Duration { seconds, nanos: 0 });
        response
    };
    assert_eq!(stream.session.next_end(), None);
    stream.takes(lives(10));
    assert_eq!(stream.session.next_end(), Some(stream.now + Duration::from_secs(10)));
    // A body-less repetition of the version is no refusal, and lengthens it.
    stream.now += Duration::from_secs(8);
    let mut beat = lives(10);
    beat.resources.truncate(1);
    beat.resources[0].resource = None;
    assert_eq!(error(&stream.takes(beat.clone())), None);
    assert_eq!(stream.session.next_end(), Some(stream.now + Duration::from_secs(10)));
    // One of another version has no body to have.
    beat.resources[0].version = "2".into();
    assert_eq!(error(&stream.takes(beat)), Some("a: has no body"));
    stream.now += Duration::from_secs(10);
    stream.told.came.clear();
    stream.session.end_due(&mut stream.told, &mut Changes::default(), stream.now);
    assert_eq!((stream.told.came.as_slice(), stream.session.next_end()), (&["-a".to_owned()][..], None));
    assert_eq!(stream.offers(type_url::CLUSTER), ["b"]);
    // Without one again, it stays.
    stream.takes(lives(10));
    stream.takes(response(type_url::CLUSTER, &["a"]));
    assert_eq!(stream.session.next_end(), None);
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
