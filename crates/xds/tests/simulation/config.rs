//! What is configured: clusters with endpoints, route tables that lead to clusters, listeners that name route tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use xds::delta_server::{Entry, Kind, Layer, ResourceSet, TypeSet};

use crate::random::Random;

/// What is wrong with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Found when it is applied.
    Apply,
    /// Found when the response is decoded.
    Decode,
}

/// A resource as the clients of the simulation read it: a fault, a revision, the names it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub fault: Fault,
    pub revision: u16,
    pub refers: Vec<String>,
}

impl Body {
    /// Names are written as protobuf writes them: length and bytes.
    pub fn encode(&self) -> Vec<u8> {
        let [high, low] = self.revision.to_be_bytes();
        let mut out = vec![self.fault as u8, high, low];
        for name in &self.refers {
            out.push(u8::try_from(name.len()).unwrap());
            out.extend(name.as_bytes());
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let [fault, high, low, rest @ ..] = bytes else { panic!("not one of ours") };
        let fault = match fault {
            0 => Fault::None,
            1 => Fault::Apply,
            _ => Fault::Decode,
        };
        let (mut rest, mut refers) = (rest, Vec::new());
        while let [length, names @ ..] = rest {
            let (name, behind) = names.split_at(usize::from(*length));
            refers.push(String::from_utf8(name.to_vec()).unwrap());
            rest = behind;
        }
        Self { fault, revision: u16::from_be_bytes([*high, *low]), refers }
    }
}

pub type Key = (Kind, String);

pub struct Config {
    pub resources: BTreeMap<Key, Body>,
    pub generation: u64,
    revision: u16,
    /// All that was ever configured: what comes back is what it was.
    history: BTreeMap<Key, Vec<Body>>,
    /// One in so many new versions is bad. 0: none.
    faults: usize,
}

const CLUSTERS: usize = 9;
const ROUTES: usize = 5;
const LISTENERS: usize = 4;

impl Config {
    pub fn new(random: &mut Random) -> Self {
        let faults = [0, 3, 8, 20][random.below(4)];
        let mut config =
            Self { resources: BTreeMap::new(), generation: 1, revision: 0, history: BTreeMap::new(), faults };
        for _ in 0..random.below(20) {
            config.change(random);
        }
        config
    }

    /// One or several changes at once; nothing configured ever refers to what is not.
    pub fn change_some(&mut self, random: &mut Random) {
        for _ in 0..[1, 1, 1, 2, 6][random.below(5)] {
            self.change(random);
        }
        self.generation += 1;
    }

    fn change(&mut self, random: &mut Random) {
        let kind =
            [Kind::Cluster, Kind::Endpoint, Kind::Route, Kind::Listener, Kind::NameTable][random.below(5)];
        let name = match kind {
            Kind::Cluster | Kind::Endpoint => format!("outbound|80||c{}", random.below(CLUSTERS)),
            Kind::Route => format!("{}", 80 + random.below(ROUTES)),
            Kind::Listener => format!("0.0.0.0_{}", 80 + random.below(LISTENERS)),
            Kind::NameTable => "names".to_owned(),
        };
        let key = (kind, name.clone());
        if self.resources.contains_key(&key) && random.one_in(3) && kind != Kind::Endpoint {
            self.remove(&key);
            return;
        }
        if kind == Kind::Endpoint && !self.resources.contains_key(&(Kind::Cluster, name.clone())) {
            return;
        }
        let refers = match kind {
            Kind::Route => self.some(Kind::Cluster, random),
            Kind::Listener => self.some(Kind::Route, random),
            _ => Vec::new(),
        };
        self.put(kind, &name, refers, random);
        if kind == Kind::Cluster && !self.resources.contains_key(&(Kind::Endpoint, name.clone())) {
            self.put(Kind::Endpoint, &name, Vec::new(), random);
        }
    }

    fn put(&mut self, kind: Kind, name: &str, refers: Vec<String>, random: &mut Random) {
        let bad = self.faults > 0 && random.one_in(self.faults);
        let fault = match bad {
            true if random.one_in(3) => Fault::Decode,
            true => Fault::Apply,
            false => Fault::None,
        };
        let key = (kind, name.to_owned());
        let mut body = Body { fault, revision: self.revision, refers };
        self.revision += 1;
        // A rollback now and then, also to what was refused.
        let past = self.history.entry(key.clone()).or_default();
        if !past.is_empty() && random.one_in(4) {
            let old = past[random.below(past.len())].clone();
            let below = if kind == Kind::Listener { Kind::Route } else { Kind::Cluster };
            if old.refers.iter().all(|name| self.resources.contains_key(&(below, name.clone()))) {
                body = old;
            }
        }
        past.push(body.clone());
        self.resources.insert(key, body);
    }

    fn some(&self, kind: Kind, random: &mut Random) -> Vec<String> {
        let all: Vec<&String> = self.resources.keys().filter(|k| k.0 == kind).map(|k| &k.1).collect();
        let many = random.below(4).min(all.len());
        (0..many).map(|_| all[random.below(all.len())].clone()).collect()
    }

    /// Takes it out of whatever refers to it as well.
    fn remove(&mut self, key: &Key) {
        self.resources.remove(key);
        let (revision, above) = match key.0 {
            Kind::Cluster => {
                self.resources.remove(&(Kind::Endpoint, key.1.clone()));
                (self.revision, Kind::Route)
            }
            Kind::Route => (self.revision, Kind::Listener),
            _ => return,
        };
        self.revision += 1;
        for ((kind, _), body) in &mut self.resources {
            if *kind == above && body.refers.contains(&key.1) {
                body.refers.retain(|name| *name != key.1);
                body.revision = revision;
            }
        }
    }

    /// Every third name is the proxy's own, so that both layers are there. Entries that say the same are the same.
    pub fn set(&self, older: Option<&ResourceSet>) -> Arc<ResourceSet> {
        let layer = |own: bool| {
            Arc::new(Layer::new(Kind::ALL.map(|kind| {
                let of = self
                    .resources
                    .iter()
                    .filter(|((k, n), _)| *k == kind && (n.ends_with('1') || n.ends_with('4')) == own);
                let entry = |((_, name), body): (&Key, &Body)| {
                    let endpoints = (kind == Kind::Cluster).then_some(name.as_str());
                    let entry = Entry::new(kind, name, endpoints, &body.encode());
                    match older.and_then(|set| set.find(kind, name)) {
                        Some(known) if known.version == entry.version => known.clone(),
                        _ => Arc::new(entry),
                    }
                };
                Arc::new(TypeSet::new(of.map(entry).collect()))
            })))
        };
        let (shared, own) = (layer(false), layer(true));
        Arc::new(ResourceSet { generation: self.generation, since: Instant::now(), shared, own })
    }
}
