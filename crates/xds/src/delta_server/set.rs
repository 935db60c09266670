//! Resources encoded once, shared by all streams that get them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::field::{field_len, put_field, put_key};
use crate::{Any, Message, type_url};

/// The types that are served, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Cluster,
    Endpoint,
    Listener,
    Route,
    NameTable,
}

impl Kind {
    pub const COUNT: usize = 5;
    pub const ALL: [Self; Self::COUNT] =
        [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::NameTable];

    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.type_url() == type_url)
    }

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => type_url::CLUSTER,
            Self::Endpoint => type_url::ENDPOINT,
            Self::Listener => type_url::LISTENER,
            Self::Route => type_url::ROUTE,
            Self::NameTable => type_url::NAME_TABLE,
        }
    }

    /// `CDS`, `EDS`, ...
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::NameTable => "NDS",
        }
    }

    pub fn index(self) -> usize {
        match self {
            Self::Cluster => 0,
            Self::Endpoint => 1,
            Self::Listener => 2,
            Self::Route => 3,
            Self::NameTable => 4,
        }
    }
}

/// One resource: its name, the hash of its content, and the bytes as they stand in a response.
#[derive(Debug)]
pub struct Entry {
    pub kind: Kind,
    pub name: Box<str>,
    /// Hash of the encoded message. On the wire as 16 hexadecimal digits.
    pub version: u64,
    /// Of an EDS cluster: the name of its endpoints.
    pub endpoints: Option<Box<str>>,
    /// Field `resources` of a delta response, key and length included.
    encoded: Bytes,
    /// Where in it the message itself starts.
    body_at: usize,
}

impl Entry {
    /// `body` is the encoded message.
    pub fn new(kind: Kind, name: &str, endpoints: Option<&str>, body: &[u8]) -> Self {
        let version = xxh3_64(body);
        let (encoded, body_at) = encode(name, &version_text(version), kind.type_url(), body);
        Self { kind, name: name.into(), version, endpoints: endpoints.map(Into::into), encoded, body_at }
    }

    pub fn of<M: Message>(kind: Kind, name: &str, endpoints: Option<&str>, message: &M) -> Self {
        Self::new(kind, name, endpoints, &message.encode_to_vec())
    }

    /// Field `resources` of a delta response.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The message.
    pub fn body(&self) -> Bytes {
        self.encoded.slice(self.body_at..)
    }

    /// Field `resources` of a state-of-the-world response: the `Any` alone. It has the same number there as in the
    /// `Resource` of a delta response, and stands last in that.
    pub(crate) fn encoded_any(&self) -> Bytes {
        let value = self.encoded.len() - self.body_at;
        let any = field_len(self.kind.type_url().len()) + field_len(value);
        self.encoded.slice(self.encoded.len() - field_len(any)..)
    }

    pub fn any(&self) -> Any {
        Any { type_url: self.kind.type_url().to_owned(), value: self.body().to_vec() }
    }

    pub fn version_text(&self) -> String {
        version_text(self.version)
    }
}

/// 16 hexadecimal digits.
pub(crate) fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

/// A version as a client gives it back; `None` if it is not one of ours.
pub(crate) fn parse_version(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// `resources` (2) of a delta response: `version` (1), `resource` (2: `type_url` 1, `value` 2), `name` (3), written so
/// that the message itself comes last.
fn encode(name: &str, version: &str, type_url: &str, body: &[u8]) -> (Bytes, usize) {
    let any_len = field_len(type_url.len()) + field_len(body.len());
    let resource_len = field_len(name.len()) + field_len(version.len()) + field_len(any_len);
    let mut out = BytesMut::with_capacity(field_len(resource_len));
    put_key(&mut out, 2, resource_len);
    put_field(&mut out, 3, name.as_bytes());
    put_field(&mut out, 1, version.as_bytes());
    put_key(&mut out, 2, any_len);
    put_field(&mut out, 1, type_url.as_bytes());
    put_field(&mut out, 2, body);
    let body_at = out.len() - body.len();
    (out.freeze(), body_at)
}

/// All resources of one type in one layer, by name.
#[derive(Debug, Default)]
pub struct TypeSet {
    entries: Vec<Arc<Entry>>,
    /// Unlike that of any other set; 0: the empty one.
    id: u64,
    /// The names that differ from a predecessor, found by the first stream that goes from that to this: all streams of a
    /// class take the same step.
    steps: Mutex<Vec<Step>>,
}

#[derive(Debug)]
struct Step {
    from: u64,
    names: Arc<[Box<str>]>,
}

/// Steps that are remembered: streams that skipped a set come from another than most.
const STEPS: usize = 4;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl TypeSet {
    /// Of two entries of one name the first counts.
    pub fn new(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|later, first| later.name == first.name);
        Self::sorted(entries)
    }

    fn sorted(entries: Vec<Arc<Entry>>) -> Self {
        Self { entries, id: NEXT_ID.fetch_add(1, Ordering::Relaxed), steps: Mutex::default() }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        let index = self.entries.binary_search_by(|e| e.name.as_ref().cmp(name)).ok()?;
        self.entries.get(index)
    }

    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Whether both hold the same versions of the same names.
    pub fn same_as(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                // What did not change is the very entry: nothing of it is looked at.
                .all(|(a, b)| Arc::ptr_eq(a, b) || (a.version == b.version && a.name == b.name))
    }

    /// Another set, or this one if it says the same.
    #[must_use]
    pub fn reusing(self: &Arc<Self>, newer: Self) -> Arc<Self> {
        if newer.same_as(self) { self.clone() } else { Arc::new(newer) }
    }

    /// The same without these names, and with these entries in their places; this very one if it says the same.
    #[must_use]
    pub fn replacing(self: &Arc<Self>, gone: &[&str], come: Vec<Arc<Entry>>) -> Arc<Self> {
        if gone.is_empty() && come.is_empty() {
            return self.clone();
        }
        let come = Self::new(come);
        let mut without: Vec<&str> = gone.to_vec();
        without.sort_unstable();
        let stays = |entry: &&Arc<Entry>| without.binary_search(&entry.name.as_ref()).is_err();
        let (mut old, mut new) =
            (self.entries.iter().filter(stays).peekable(), come.entries.iter().peekable());
        let mut entries = Vec::with_capacity(self.entries.len() + come.entries.len());
        loop {
            let next = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) if a.name == b.name => {
                    old.next();
                    new.next()
                }
                (Some(a), Some(b)) if a.name < b.name => old.next(),
                (Some(_), None) => old.next(),
                (_, Some(_)) => new.next(),
                (None, None) => break,
            };
            entries.extend(next.cloned());
        }
        self.reusing(Self::sorted(entries))
    }

    /// The names whose entries differ from those of the other set, either way, sorted.
    fn changed_since(&self, older: &Self) -> Arc<[Box<str>]> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steps.iter().find(|step| step.from == older.id) {
            return step.names.clone();
        }
        let names: Arc<[Box<str>]> = older.changed_names(self).into();
        if steps.len() >= STEPS {
            steps.remove(0);
        }
        steps.push(Step { from: older.id, names: names.clone() });
        names
    }

    /// The names whose entries differ, either way.
    pub fn changed_names(&self, newer: &Self) -> Vec<Box<str>> {
        let (mut old, mut new) = (self.entries.iter().peekable(), newer.entries.iter().peekable());
        let mut names = Vec::new();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return names,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {
                    old.next();
                    new.next();
                    continue;
                }
                (Some(a), Some(b)) => a.name.cmp(&b.name),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            match (gone, come) {
                (Some(a), Some(b)) if a.version == b.version => {}
                (_, Some(entry)) | (Some(entry), None) => names.push(entry.name.clone()),
                (None, None) => return names,
            }
        }
    }
}

/// One set per type.
#[derive(Debug, Clone)]
pub struct Layer {
    types: [Arc<TypeSet>; Kind::COUNT],
}

static EMPTY: LazyLock<Arc<TypeSet>> = LazyLock::new(Arc::default);

impl Default for Layer {
    fn default() -> Self {
        Self { types: std::array::from_fn(|_| EMPTY.clone()) }
    }
}

impl Layer {
    pub fn new(types: [Arc<TypeSet>; Kind::COUNT]) -> Self {
        Self { types }
    }

    pub fn get(&self, kind: Kind) -> &Arc<TypeSet> {
        // An array of one set per kind.
        &self.types[kind.index()]
    }

    /// Keeps the older set of every type that says the same, so that comparing again costs nothing.
    #[must_use]
    pub fn reusing(&self, older: &Self) -> Self {
        let same = |kind: usize| {
            let (new, old): (&Arc<TypeSet>, &Arc<TypeSet>) = (&self.types[kind], &older.types[kind]);
            if new.same_as(old) { old.clone() } else { new.clone() }
        };
        Self { types: std::array::from_fn(same) }
    }

    pub fn types(&self) -> &[Arc<TypeSet>; Kind::COUNT] {
        &self.types
    }

    /// Whether both hold the same versions of the same names.
    pub fn same_as(&self, other: &Self) -> bool {
        self.types.iter().zip(&other.types).all(|(a, b)| Arc::ptr_eq(a, b) || a.same_as(b))
    }

    /// Whether every type is the very same set.
    pub fn is(&self, other: &Self) -> bool {
        self.types.iter().zip(&other.types).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// What one stream is to hold: what its class shares, and its own.
#[derive(Debug)]
pub struct ResourceSet {
    /// Of the configuration it was made from.
    pub generation: u64,
    /// When the change that led to it was made.
    pub since: Instant,
    pub shared: Arc<Layer>,
    /// Hides what is shared under the same name.
    pub own: Arc<Layer>,
}

impl ResourceSet {
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.own.get(kind).get(name).or_else(|| self.shared.get(kind).get(name))
    }

    /// Each name once.
    pub fn entries(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        let own = self.own.get(kind);
        let shared = self.shared.get(kind).entries().iter().filter(|e| own.get(&e.name).is_none());
        own.entries().iter().chain(shared)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.own.get(kind).entries().len() + self.shared.get(kind).entries().len()
    }

    /// Whether anything of a type may be another than in the other set.
    pub(crate) fn differs(&self, other: &Self, kind: Kind) -> bool {
        let same = |a: &Layer, b: &Layer| Arc::ptr_eq(a.get(kind), b.get(kind));
        !same(&self.shared, &other.shared) || !same(&self.own, &other.own)
    }

    /// Names that the other set says something else about.
    pub(crate) fn changed_since(&self, older: &Self, kind: Kind) -> Changed {
        let step =
            |old: &Arc<TypeSet>, new: &Arc<TypeSet>| (!Arc::ptr_eq(old, new)).then(|| new.changed_since(old));
        Changed {
            shared: step(older.shared.get(kind), self.shared.get(kind)),
            own: step(older.own.get(kind), self.own.get(kind)),
        }
    }
}

/// The names that differ between two sets.
#[derive(Debug)]
pub(crate) struct Changed {
    shared: Option<Arc<[Box<str>]>>,
    own: Option<Arc<[Box<str>]>>,
}

impl Changed {
    /// Each name once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let shared = self.shared.as_deref().unwrap_or_default();
        let own = self.own.as_deref().unwrap_or_default().iter();
        let own = own.filter(|name| shared.binary_search(name).is_err());
        shared.iter().chain(own).map(AsRef::as_ref)
    }
}
