//! A state-of-the-world stream between the server and a client that does as the bytes say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{NAMES, set};
use crate::delta_server::frame::encode_state;
use crate::delta_server::{Capabilities, Connection, Kind};
use crate::discovery::{DiscoveryRequest, DiscoveryResponse};
use crate::state_server::{StateResponse, StateStream};
use crate::{Message, rpc};

/// Changes of the configuration, answers late and left out, refusals, changes of mind, reconnects. In the end the client
/// holds what is configured of what it asks for, but for what it refused.
pub fn fuzz_state(data: &[u8]) {
    let mut peer = Peer::new();
    for step in data.chunks_exact(2).take(512) {
        peer.step(step[0], step[1]);
    }
    peer.settle();
    peer.check();
}

struct Peer {
    now: Instant,
    connection: Connection,
    stream: StateStream,
    generation: u64,
    wanted: BTreeMap<(Kind, &'static str), u8>,
    held: BTreeMap<(Kind, String), Vec<u8>>,
    asked: BTreeSet<(Kind, &'static str)>,
    versions: BTreeMap<Kind, String>,
    refused: BTreeSet<(Kind, Vec<u8>)>,
    answers: VecDeque<DiscoveryRequest>,
}

const ABLE: Capabilities = Capabilities { takes_whole_types: true, ..Capabilities::NONE };

impl Peer {
    fn new() -> Self {
        let now = Instant::now();
        let connection = Connection::new(ABLE, set(0, &BTreeMap::new(), now), now);
        let mut peer = Self {
            now,
            connection,
            stream: StateStream::default(),
            generation: 0,
            wanted: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeSet::new(),
            versions: BTreeMap::new(),
            refused: BTreeSet::new(),
            answers: VecDeque::new(),
        };
        peer.open();
        peer
    }

    fn step(&mut self, what: u8, with: u8) {
        let name = NAMES[usize::from(with & 3)];
        let named = if with & 4 == 0 { Kind::Endpoint } else { Kind::Route };
        match what % 8 {
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
                // An answer may be left out where a newer one of its type follows.
                let Some(answer) = self.answers.pop_front() else { return };
                let newer = self.answers.iter().any(|a| a.type_url == answer.type_url);
                if !(newer && answer.error_detail.is_none() && with & 1 == 1) {
                    self.say(&answer);
                }
            }
            6 => {
                if !self.asked.remove(&(named, name)) {
                    self.asked.insert((named, name));
                }
                self.held.retain(|(kind, held), _| {
                    *kind != named || self.asked.iter().any(|(k, n)| k == kind && n == held)
                });
                let request = self.request(named, "");
                self.say(&request);
            }
            _ if with & 7 == 0 => self.reconnect(),
            _ => self.now += Duration::from_millis(u64::from(with) * 10),
        }
    }

    fn reconnect(&mut self) {
        self.answers.clear();
        self.refused.clear();
        self.connection = Connection::new(ABLE, set(self.generation, &self.wanted, self.now), self.now);
        self.stream = StateStream::default();
        self.open();
    }

    fn open(&mut self) {
        for kind in Kind::ALL {
            let request = self.request(kind, "");
            self.say(&request);
        }
    }

    fn request(&self, kind: Kind, nonce: &str) -> DiscoveryRequest {
        let names = self.asked.iter().filter(|(k, _)| *k == kind);
        DiscoveryRequest {
            type_url: kind.type_url().into(),
            version_info: self.versions.get(&kind).cloned().unwrap_or_default(),
            resource_names: names.map(|(_, name)| (*name).to_owned()).collect(),
            response_nonce: nonce.into(),
            ..Default::default()
        }
    }

    /// Every request names what is asked for when it is sent, late answers too.
    fn say(&mut self, request: &DiscoveryRequest) {
        let names = self.asked.iter().filter(|(kind, _)| kind.type_url() == request.type_url);
        let names = names.map(|(_, name)| (*name).to_owned()).collect();
        let request = &DiscoveryRequest { resource_names: names, ..request.clone() };
        assert!(self.stream.request(&mut self.connection, request, self.now).is_ok());
    }

    /// Takes one response in; refuses its first new resource, or answers later, or both.
    fn pump(&mut self, refuse: bool, later: bool) {
        let Some(response) = self.stream.next(&mut self.connection, self.now) else { return };
        let answer = self.apply(&response, refuse);
        self.answers.push_back(answer);
        while !later && let Some(answer) = self.answers.pop_front() {
            self.say(&answer);
        }
    }

    fn apply(&mut self, response: &StateResponse, refuse: bool) -> DiscoveryRequest {
        let frame = encode_state(response, "fuzz").whole();
        let decoded = DiscoveryResponse::decode(frame.slice(5..)).map(|r| r.resources.len());
        assert_eq!(decoded, Ok(response.resources.len()));
        let Some(kind) = Kind::of(&response.type_url) else { panic!("a type nobody asked for") };
        if !matches!(kind, Kind::Endpoint | Kind::Route) {
            let names: BTreeSet<&str> = response.resources.iter().map(|e| e.name.as_ref()).collect();
            self.held.retain(|(k, name), _| *k != kind || names.contains(name.as_str()));
        }
        let mut error = None;
        for entry in &response.resources {
            let (name, body) = (entry.name.to_string(), entry.body().to_vec());
            let has = self.held.get(&(kind, name.clone())) == Some(&body);
            let asked = !matches!(kind, Kind::Endpoint | Kind::Route)
                || self.asked.iter().any(|(k, n)| *k == kind && *n == name);
            let bad = refuse && error.is_none() && !has;
            if bad || (!has && self.refused.contains(&(kind, body.clone()))) {
                self.refused.insert((kind, body));
                let message = format!("{name}: no");
                error.get_or_insert(rpc::Status { code: 3, message, ..Default::default() });
            } else if asked {
                self.held.insert((kind, name), body);
            }
        }
        if error.is_none() {
            self.versions.insert(kind, response.version.clone());
        }
        let answer = self.request(kind, &format!("{:x}", response.nonce));
        DiscoveryRequest { error_detail: error, ..answer }
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            while let Some(answer) = self.answers.pop_front() {
                self.say(&answer);
            }
            let mut responses = 0;
            while let Some(response) = self.stream.next(&mut self.connection, self.now) {
                responses += 1;
                assert!(responses < 1000, "it never ends");
                let answer = self.apply(&response, false);
                self.say(&answer);
            }
            self.now += Duration::from_secs(31);
        }
    }

    fn check(&self) {
        for kind in [Kind::Cluster, Kind::Listener, Kind::Endpoint, Kind::Route] {
            let by_name = matches!(kind, Kind::Endpoint | Kind::Route);
            for name in NAMES.into_iter().filter(|name| !by_name || self.asked.contains(&(kind, name))) {
                let Some(content) = self.wanted.get(&(kind, name)) else { continue };
                let body = super::entry(kind, name, *content).body().to_vec();
                let held = self.held.get(&(kind, name.to_owned()));
                let refused = self.refused.contains(&(kind, body.clone()));
                assert!(refused || held == Some(&body), "{kind:?} {name}: holds {held:?}");
            }
        }
    }
}
