//! Entry points for fuzzers and for the tests that replay their corpora. Each must return for any bytes; the assertions
//! inside are what must hold of the answer.

mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::delta_client::Cache;
use crate::delta_server::frame::{DiscoveryMessage, Requests, encode};
use crate::delta_server::{Capabilities, Connection, Entry, Kind, Layer, ResourceSet, Response, TypeSet};
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest};
use crate::{Message, rpc};

pub use state::fuzz_state;

/// Bytes of a client, in pieces: the same requests come out however they are cut, or the same error.
pub fn fuzz_requests(data: &[u8]) {
    fuzz_cutting::<DeltaDiscoveryRequest>(data);
    fuzz_cutting::<DiscoveryRequest>(data);
}

fn fuzz_cutting<M: DiscoveryMessage + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let read = |piece: usize| {
        let (mut requests, mut out) = (Requests::<M>::default(), Vec::new());
        for bytes in data.chunks(piece) {
            requests.push(bytes);
            let _ = requests.node();
            loop {
                match requests.take() {
                    Ok(Some(request)) => out.push(request),
                    Ok(None) => break,
                    Err(error) => return (out, Some(error)),
                }
            }
        }
        (out, None)
    };
    assert_eq!(read(1), read(data.len().max(1)));
}

/// A file that claims to be a kept configuration.
pub fn fuzz_cache(data: &[u8]) {
    // As it is, and with a checksum that fits, so that what is behind it is reached.
    let _ = Cache::decode(Bytes::copy_from_slice(data));
    let mut sealed = b"FMXDS\0\0\x01".to_vec();
    sealed.extend_from_slice(data);
    sealed.extend(xxhash_rust::xxh3::xxh3_64(&sealed).to_le_bytes());
    if let Ok((_, cache)) = Cache::decode(sealed.into()) {
        let held = cache.len();
        assert!(cache.into_updates().iter().map(|u| u.resources.len()).sum::<usize>() <= held);
    }
}

/// One stream between the server and a client that does as the bytes say: changes of the configuration, answers in any
/// number and late, refusals, changes of mind, reconnects. In the end the client holds what is configured, but for
/// what it refuses; nothing refused was sent twice.
pub fn fuzz_stream(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else { return };
    let able = if first & 1 == 0 { Capabilities::ENVOY } else { Capabilities::MESH };
    let mut peer = Peer::new(able);
    for step in steps.chunks_exact(2).take(512) {
        peer.step(step[0], step[1]);
    }
    peer.settle();
    peer.check();
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct Peer {
    able: Capabilities,
    now: Instant,
    connection: Connection,
    generation: u64,
    /// The configuration: content by kind and name.
    wanted: BTreeMap<(Kind, &'static str), u8>,
    /// What the client holds.
    held: BTreeMap<(Kind, String), u64>,
    /// What it asks for by name.
    asked: BTreeSet<(Kind, &'static str)>,
    /// Refused on this stream, and told to the server.
    refused: BTreeSet<(Kind, String, u64)>,
    /// The same, but for what was given up and asked for anew: the server may remember.
    ever_refused: BTreeSet<(Kind, String, u64)>,
    /// Refused in answers that are still to be given, by nonce.
    refusing: BTreeMap<String, (Kind, String, u64)>,
    /// Answers that are still to be given.
    answers: VecDeque<DeltaDiscoveryRequest>,
}

impl Peer {
    fn new(able: Capabilities) -> Self {
        let now = Instant::now();
        let set = set(0, &BTreeMap::new(), now);
        let mut peer = Self {
            able,
            now,
            connection: Connection::new(able, set, now),
            generation: 0,
            wanted: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            ever_refused: BTreeSet::new(),
            refusing: BTreeMap::new(),
            answers: VecDeque::new(),
        };
        peer.open();
        peer
    }

    fn step(&mut self, what: u8, with: u8) {
        let name = NAMES[usize::from(with & 3)];
        let named = if with & 4 == 0 { Kind::Endpoint } else { Kind::Route };
        match what % 9 {
            0 | 1 => {
                let kind = Kind::ALL[usize::from(what >> 4) % Kind::COUNT];
                match with >> 2 & 3 {
                    0 => self.wanted.remove(&(kind, name)),
                    content => self.wanted.insert((kind, name), content),
                };
                self.generation += 1;
                self.connection.update(set(self.generation, &self.wanted, self.now));
            }
            2 => self.pump(false, false),
            3 => self.pump(true, false),
            4 => self.pump(with & 1 == 1, true),
            5 => {
                if let Some(answer) = self.answers.pop_front() {
                    self.say(&answer);
                }
            }
            6 => {
                self.asked.insert((named, name));
                self.say(&DeltaDiscoveryRequest {
                    type_url: named.type_url().into(),
                    resource_names_subscribe: vec![name.into()],
                    ..Default::default()
                });
            }
            7 => {
                if self.asked.remove(&(named, name)) {
                    self.held.remove(&(named, name.to_owned()));
                    self.say(&DeltaDiscoveryRequest {
                        type_url: named.type_url().into(),
                        resource_names_unsubscribe: vec![name.into()],
                        ..Default::default()
                    });
                    // Asking anew is asking for whatever there is.
                    self.refused.retain(|(k, n, _)| (*k, n.as_str()) != (named, name));
                    self.refusing.retain(|_, (k, n, _)| (*k, n.as_str()) != (named, name));
                }
            }
            _ if with & 7 == 0 => self.reconnect(),
            _ => self.now += Duration::from_millis(u64::from(with) * 10),
        }
    }

    fn reconnect(&mut self) {
        self.answers.clear();
        self.refused.clear();
        self.ever_refused.clear();
        self.refusing.clear();
        let set = set(self.generation, &self.wanted, self.now);
        self.connection = Connection::new(self.able, set, self.now);
        self.open();
    }

    /// The first requests of a stream.
    fn open(&mut self) {
        for kind in Kind::ALL {
            let names: Vec<String> =
                self.asked.iter().filter(|(k, _)| *k == kind).map(|(_, n)| (*n).to_owned()).collect();
            let by_name = matches!(kind, Kind::Endpoint | Kind::Route);
            if by_name && names.is_empty() {
                continue;
            }
            let offered =
                self.held.iter().filter(|((k, n), _)| *k == kind && (!by_name || names.contains(n)));
            let request = DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                initial_resource_versions: offered
                    .map(|((_, n), v)| (n.clone(), format!("{v:016x}")))
                    .collect(),
                resource_names_subscribe: names,
                ..Default::default()
            };
            assert!(self.connection.request(&request, self.now).is_ok());
        }
    }

    fn say(&mut self, request: &DeltaDiscoveryRequest) {
        self.refused.extend(self.refusing.remove(&request.response_nonce));
        let heard = self.connection.request(request, self.now);
        assert!(heard.is_ok_and(|h| !h.expired), "an answer to what was sent");
    }

    /// Takes one response in; refuses its first resource, or answers later, or both.
    fn pump(&mut self, refuse: bool, later: bool) {
        let Some(response) = self.connection.next(self.now) else { return };
        let answer = self.apply(&response, refuse);
        self.answers.push_back(answer);
        // A stream keeps its order: what was put off comes before.
        while !later && let Some(answer) = self.answers.pop_front() {
            self.say(&answer);
        }
    }

    fn apply(&mut self, response: &Response, refuse: bool) -> DeltaDiscoveryRequest {
        let frame = encode(response, "fuzz").whole();
        let decoded = DeltaDiscoveryResponse::decode(frame.slice(5..)).map(|r| r.resources.len());
        assert_eq!(decoded, Ok(response.resources.len()));
        let Some(kind) = Kind::of(&response.type_url) else { panic!("a type nobody asked for") };
        for name in &response.removed {
            self.held.remove(&(kind, name.clone()));
        }
        let mut error = None;
        for (index, entry) in response.resources.iter().enumerate() {
            let name = entry.name.to_string();
            let what = (kind, name.clone(), entry.version);
            assert!(!self.refused.contains(&what), "{name} was refused in this version");
            if refuse && index == 0 {
                self.ever_refused.insert(what.clone());
                self.refusing.insert(format!("{:x}", response.nonce), what);
                let message = format!("{name}: no");
                error = Some(rpc::Status { code: 3, message, ..Default::default() });
            } else {
                self.held.insert((kind, name), entry.version);
            }
        }
        DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: format!("{:x}", response.nonce),
            error_detail: error,
            ..Default::default()
        }
    }

    /// Gives every answer and takes everything, for as long as something comes.
    fn settle(&mut self) {
        for _ in 0..4 {
            while let Some(answer) = self.answers.pop_front() {
                self.say(&answer);
            }
            let mut responses = 0;
            while let Some(response) = self.connection.next(self.now) {
                responses += 1;
                assert!(responses < 1000, "it never ends");
                let answer = self.apply(&response, false);
                self.say(&answer);
            }
            self.now += Duration::from_secs(31);
        }
    }

    fn check(&self) {
        // While a route or listener is refused, clusters it may use stay.
        let refusing = !self.connection.refused().is_empty();
        for kind in Kind::ALL {
            for name in NAMES {
                let asked =
                    !matches!(kind, Kind::Endpoint | Kind::Route) || self.asked.contains(&(kind, name));
                if !asked {
                    continue;
                }
                let wanted = self.wanted.get(&(kind, name)).map(|c| entry(kind, name, *c).version);
                let held = self.held.get(&(kind, name.to_owned())).copied();
                let excused = match wanted {
                    Some(version) => self.ever_refused.contains(&(kind, name.to_owned(), version)),
                    None => refusing && matches!(kind, Kind::Cluster | Kind::Endpoint | Kind::Route),
                };
                assert!(
                    held == wanted || excused,
                    "{kind:?} {name}: holds {held:x?}, configured {wanted:x?}"
                );
            }
        }
        assert_eq!(self.connection.live_generation(), self.generation);
    }
}

fn entry(kind: Kind, name: &str, content: u8) -> Entry {
    let body = format!("{kind:?} {name} {content}");
    Entry::new(kind, name, (kind == Kind::Cluster).then_some(name), body.as_bytes())
}

fn set(generation: u64, wanted: &BTreeMap<(Kind, &'static str), u8>, now: Instant) -> Arc<ResourceSet> {
    // Every other name is the proxy's own, so that both layers are there.
    let layer = |own: bool| {
        Arc::new(Layer::new(Kind::ALL.map(|kind| {
            let of = wanted.iter().filter(|((k, n), _)| *k == kind && (*n == "b" || *n == "d") == own);
            Arc::new(TypeSet::new(of.map(|((_, n), c)| Arc::new(entry(kind, n, *c))).collect()))
        })))
    };
    Arc::new(ResourceSet { generation, since: now, shared: layer(false), own: layer(true) })
}
