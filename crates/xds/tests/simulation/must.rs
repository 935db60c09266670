//! What must hold after each step of a history, and at its end.

use std::collections::{BTreeMap, BTreeSet};

use xds::delta_server::{Capabilities, Connection, Entry, Heard, Kind, Response};
use xds::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::client::Held;
use crate::config::{Body, Config, Fault, Key};

/// What a test that watches the wire knows.
pub struct Must {
    able: Capabilities,
    /// What the server knows the client to hold or to get next: offered at the start of the stream, or sent on it and
    /// not refused since.
    known: BTreeMap<Key, u64>,
    /// What it surely holds: offered, or acknowledged last.
    holds: BTreeMap<Key, u64>,
    /// What the client has asked for by name.
    asked: BTreeSet<Key>,
    /// In responses that are not answered: by nonce.
    outstanding: BTreeMap<String, Vec<(Key, u64, Body)>>,
    /// What was accepted last, and what it may be since a NACK left that open: what these refer to may stay.
    may_hold: BTreeMap<Key, Vec<Body>>,
    /// How often a version was sent since its last change, and how many it was with the first time.
    times: BTreeMap<(Key, u64), (usize, usize)>,
    refused: BTreeSet<(Key, u64)>,
    /// Asking anew for one of these asks for whatever there is.
    given_up: BTreeSet<Key>,
    /// Endpoints that follow a cluster that was sent.
    follow: BTreeSet<String>,
    /// Nonce and name of what came when the client no longer asked for it: it is delivered to nobody, and ACKed.
    unheeded: BTreeSet<(String, String)>,
    /// Whether the client came back with versions whose content the server cannot know.
    offered_unknown: bool,
    /// Clusters that warmed when the connection was lost: the client offers them and their endpoints as if it used them.
    warmed_before: BTreeSet<String>,
    responses_since_change: usize,
}

impl Must {
    pub fn new(able: Capabilities) -> Self {
        Self {
            able,
            known: BTreeMap::new(),
            holds: BTreeMap::new(),
            asked: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            may_hold: BTreeMap::new(),
            times: BTreeMap::new(),
            refused: BTreeSet::new(),
            given_up: BTreeSet::new(),
            follow: BTreeSet::new(),
            unheeded: BTreeSet::new(),
            offered_unknown: false,
            warmed_before: BTreeSet::new(),
            responses_since_change: 0,
        }
    }

    pub fn changed(&mut self) {
        self.responses_since_change = 0;
    }

    pub fn reconnected(&mut self, warming: Vec<String>) {
        *self = Self::new(self.able);
        self.offered_unknown = true;
        self.warmed_before.extend(warming);
    }

    /// The server sends.
    pub fn sent(&mut self, response: &Response, connection: &Connection) {
        let kind = Kind::of(&response.type_url).unwrap();
        self.responses_since_change += 1;
        assert!(self.responses_since_change < 150, "too many responses to one change");
        let many = response.resources.len();
        let mut sent = Vec::new();
        for entry in &response.resources {
            let key = (kind, entry.name.to_string());
            self.one_sent(&key, entry, many);
            sent.push((key, entry.version, Body::decode(&entry.body())));
        }
        if kind == Kind::Cluster {
            self.follow.extend(response.resources.iter().map(|e| e.name.to_string()));
        }
        for name in &response.removed {
            let configured = connection.current().find(kind, name).is_some();
            assert!(!configured, "{kind:?} {name} is configured and is taken away");
            self.known.remove(&(kind, name.clone()));
            self.holds.remove(&(kind, name.clone()));
            self.times.retain(|(k, _), _| *k != (kind, name.clone()));
        }
        self.outstanding.insert(format!("{:x}", response.nonce), sent);
    }

    fn one_sent(&mut self, key: &Key, entry: &Entry, many: usize) {
        let what = (key.clone(), entry.version);
        let follows =
            self.able.warms_changed_clusters && key.0 == Kind::Endpoint && self.follow.remove(&key.1);
        assert!(!self.refused.contains(&what), "{key:?} was refused in this version");
        let unchanged = self.known.get(key) == Some(&entry.version);
        assert!(!unchanged || follows, "{key:?} is sent though the client has it");
        self.known.insert(key.clone(), entry.version);
        // What comes back after another version is new again.
        self.times.retain(|(k, v), _| k != key || *v == entry.version);
        if follows {
            self.times.remove(&what);
        }
        let (times, first) = self.times.entry(what).or_insert((0, many));
        *times += 1;
        let most = usize::try_from(first.next_power_of_two().ilog2()).unwrap() + 1;
        assert!(*times <= most, "{key:?} is sent {times} times, at first with {first}");
    }

    /// The client is about to take a response.
    pub fn delivered(&mut self, response: &DeltaDiscoveryResponse, held: &Held) {
        let kind = Kind::of(&response.type_url).unwrap();
        let names = response.resources.iter().map(|r| &r.name).filter(|name| !wants(kind, name, held));
        self.unheeded.extend(names.map(|name| (response.nonce.clone(), name.clone())));
    }

    /// A request is about to be taken in.
    pub fn asked(&mut self, request: &DeltaDiscoveryRequest) {
        let kind = Kind::of(&request.type_url).unwrap();
        for (name, version) in &request.initial_resource_versions {
            let version = u64::from_str_radix(version, 16).unwrap();
            // Endpoints that went out before the client had said what it holds come on top of what it offers: it may
            // have to be brought back to that.
            self.known.entry((kind, name.clone())).or_insert(version);
            self.holds.insert((kind, name.clone()), version);
        }
        for name in &request.resource_names_unsubscribe {
            let key = (kind, name.clone());
            self.forget(&key);
            self.asked.remove(&key);
            self.refused.retain(|(k, _)| *k != key);
            self.given_up.insert(key);
        }
        for name in &request.resource_names_subscribe {
            let key = (kind, name.clone());
            self.given_up.remove(&key);
            // Whoever asks anew has lost it. The first time, what went out unasked is the answer.
            if !self.asked.insert(key.clone()) {
                self.forget(&key);
            }
        }
    }

    /// The client has nothing under the name any more.
    fn forget(&mut self, key: &Key) {
        self.known.remove(key);
        self.holds.remove(key);
        self.times.retain(|(k, _), _| k != key);
    }

    /// A request was taken in.
    pub fn heard(&mut self, request: &DeltaDiscoveryRequest, heard: &Heard) {
        let kind = heard.kind.unwrap();
        let sent = self.outstanding.remove(&request.response_nonce).unwrap_or_default();
        for refused in &heard.refused {
            let key = (kind, refused.name.clone());
            let of = sent.iter().find(|(k, ..)| *k == key).unwrap();
            assert_ne!(of.2.fault, Fault::None, "{key:?} is good and counts as refused: {}", refused.reason);
            if !self.given_up.contains(&key) {
                self.refused.insert((key, of.1));
            }
        }
        let open = |key: &Key| {
            heard.refused.iter().any(|r| r.name == key.1) || heard.unknown.iter().any(|n| **n == *key.1)
        };
        for (key, version, body) in sent {
            // A newer one may be on its way already.
            let newer = self.outstanding.values().flatten().any(|(k, ..)| *k == key);
            if open(&key) {
                let refused = heard.refused.iter().any(|r| r.name == key.1);
                if !refused {
                    self.holds.remove(&key);
                }
                if !newer && self.known.get(&key) == Some(&version) {
                    self.known.remove(&key);
                    // It keeps what it had.
                    self.known.extend(self.holds.get(&key).map(|&held| (key.clone(), held)));
                }
                self.may_hold.entry(key).or_default().push(body);
                continue;
            }
            let unheeded = self.unheeded.contains(&(request.response_nonce.clone(), key.1.clone()));
            assert!(body.fault == Fault::None || unheeded, "{key:?} is bad and counts as accepted");
            self.may_hold.insert(key.clone(), vec![body]);
            if !unheeded && self.known.contains_key(&key) {
                self.holds.insert(key, version);
            }
        }
    }

    /// When nothing is under way no cluster waits for endpoints that are there and good.
    pub fn warm(&self, connection: &Connection, warming: &[String]) {
        for name in warming.iter().filter(|name| !self.warmed_before.contains(*name)) {
            let endpoints = connection.current().find(Kind::Endpoint, name);
            let good = endpoints.is_some_and(|e| Body::decode(&e.body()).fault == Fault::None);
            assert!(!good, "{name} warms for ever");
        }
    }

    /// After each step.
    pub fn hold(&self, connection: &Connection, held: &mut Held, quiet: bool) {
        assert_eq!(held.wrong, Vec::<String>::new());
        if !quiet {
            return;
        }
        let set = connection.current();
        for status in connection.status().iter().filter(|s| s.asked && s.synced) {
            let of_kind = held.resources.iter().filter(|(k, _)| k.0 == status.kind);
            for ((kind, name), (version, _)) in of_kind {
                let configured = set.find(*kind, name).map(|e| e.version);
                assert!(
                    configured == Some(*version) || !wants(*kind, name, held),
                    "{kind:?} is synced, {name} is {version:x} and should be {configured:x?}"
                );
            }
            for entry in set.entries(status.kind).filter(|e| wants(e.kind, &e.name, held)) {
                assert!(
                    held.has(entry.kind, &entry.name),
                    "{} is synced without {}",
                    entry.kind.short(),
                    entry.name
                );
            }
        }
        if connection.live_generation() == set.generation {
            self.live(connection, held);
        }
    }

    /// A generation that counts as live is: whatever is good in it and was sent is held. What a client asks for later
    /// it gets later.
    fn live(&self, connection: &Connection, held: &Held) {
        let set = connection.current();
        let status = connection.status();
        for kind in Kind::ALL.into_iter().filter(|k| status[k.index()].asked) {
            for entry in set.entries(kind).filter(|e| wants(kind, &e.name, held)) {
                if !self.times.contains_key(&((kind, entry.name.to_string()), entry.version)) {
                    continue;
                }
                let good = Body::decode(&entry.body()).fault == Fault::None;
                let has = held.resources.get(&(kind, entry.name.to_string())).map(|(v, _)| *v);
                assert!(!good || has == Some(entry.version), "live without {kind:?} {}", entry.name);
            }
        }
    }

    /// At the end.
    pub fn converged(&self, connection: &Connection, config: &Config, held: &Held) {
        assert_eq!(connection.current().generation, config.generation);
        assert_eq!(connection.live_generation(), config.generation);
        for ((kind, name), body) in config.resources.iter().filter(|((k, n), _)| wants(*k, n, held)) {
            let has = held.resources.get(&(*kind, name.clone())).map(|(_, body)| body);
            if body.fault == Fault::None {
                assert_eq!(has, Some(body), "{kind:?} {name} at the end");
            } else {
                assert_ne!(has, Some(body));
            }
        }
        for ((kind, name), _) in held.resources.iter().filter(|((k, n), _)| wants(*k, n, held)) {
            if config.resources.contains_key(&(*kind, name.clone())) {
                continue;
            }
            let kept = self.is_used(*kind, name, config, held);
            assert!(kept, "{kind:?} {name} is gone and still held, though nothing refused uses it");
        }
        for refused in connection.refused() {
            let body = &config.resources[&(refused.kind, refused.name.clone())];
            assert_ne!(body.fault, Fault::None, "{} is good and counts as refused", refused.name);
        }
    }

    /// Whether something held in place of what is refused uses it.
    fn is_used(&self, kind: Kind, name: &str, config: &Config, held: &Held) -> bool {
        let open = self.may_hold.iter().flat_map(|(key, bodies)| bodies.iter().map(move |body| (key, body)));
        let holds = held.resources.iter().map(|(key, (_, body))| (key, body));
        open.chain(holds).any(|((of, user), body)| {
            let above = match kind {
                Kind::Cluster | Kind::Endpoint => matches!(of, Kind::Listener | Kind::Route),
                Kind::Route => *of == Kind::Listener,
                _ => false,
            };
            let newest = config.resources.get(&(*of, user.clone()));
            let refused = newest.is_some_and(|newest| newest != body && newest.fault != Fault::None);
            let refers = body.refers.iter().any(|n| n == name);
            // What stands in a version from before a reconnect the server cannot know.
            above && ((refused && (refers || self.offered_unknown)) || (newest.is_none() && refers))
        })
    }
}

fn wants(kind: Kind, name: &str, held: &Held) -> bool {
    !matches!(kind, Kind::Endpoint | Kind::Route) || held.wanted(kind).contains(name)
}
