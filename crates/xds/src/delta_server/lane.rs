//! The state of one type on one stream.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

use super::nack::{self, Refused};
use super::set::{parse_version, version_text};
use super::{Entry, Kind, ResourceSet};
use crate::discovery::DeltaDiscoveryRequest;

/// Resources in one response: a slow reader holds no more than this of what is not shared.
const RESPONSE_BYTES: usize = 256 << 10;

/// Names in one response that holds no resource.
const RESPONSE_NAMES: usize = 10_000;

/// Responses without an answer, beyond which the lane waits.
const OUTSTANDING: usize = 64;

/// Refused versions that are remembered of one name, and names of which any are.
const REFUSALS: usize = 8;
const REFUSED_NAMES: usize = 10_000;

/// Stands for whatever version a client may still hold of a name it asks for.
const UNKNOWN: u64 = 0;

/// Names a client may ask for. Ten thousand services with ten subsets fit.
const NAMES: usize = 200_000;

/// A client asks for more names than any mesh has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES} resource names of one type are asked for")]
pub struct TooManyNames;

#[derive(Debug)]
pub(super) struct Lane {
    kind: Kind,
    asking: Asking,
    /// Whether the client itself has asked.
    opened: bool,
    /// Waiting to be sent.
    pending: VecDeque<Pending>,
    /// Held by the client and to be taken from it.
    removals: BTreeSet<Box<str>>,
    /// What the client holds where that is not what the set in use says: by name, `None` for nothing.
    held: BTreeMap<Box<str>, Option<u64>>,
    /// What it refused on this stream, oldest first, by name; also of what is gone, because it may come back.
    refused: BTreeMap<Box<str>, Vec<Refusal>>,
    outstanding: VecDeque<Outstanding>,
    last_ack: Option<SystemTime>,
}

#[derive(Debug)]
enum Asking {
    NotYet,
    Everything,
    /// Hashes of the names, sorted. A clash sends a client something it did not ask for, nothing worse.
    Names(Vec<u64>, HashSet<u64>),
}

#[derive(Debug)]
enum Pending {
    Send {
        entry: Arc<Entry>,
        /// What the client holds until it has accepted this.
        before: Option<u64>,
    },
    /// Asked for by name and not there.
    Absent(Box<str>),
    /// Everything asked for, and there is nothing: an empty response says so, or the client waits for ever.
    Nothing,
}

#[derive(Debug)]
struct Refusal {
    version: u64,
    reason: String,
}

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    sent: Vec<(Arc<Entry>, Option<u64>)>,
}

/// What to take out of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Pending,
    Removals,
}

pub(super) struct Sent {
    /// Whether anything among it is new to the client.
    pub(super) added: bool,
}

/// How far a type is on a stream.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    pub kind: Kind,
    pub asked: bool,
    /// Everything sent, answered, and nothing refused.
    pub synced: bool,
    /// Resources the client is to hold.
    pub resources: usize,
    pub last_ack: Option<SystemTime>,
}

impl Lane {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            asking: Asking::NotYet,
            opened: false,
            pending: VecDeque::new(),
            removals: BTreeSet::new(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            outstanding: VecDeque::new(),
            last_ack: None,
        }
    }

    /// Whether anything may be sent.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self.asking, Asking::NotYet)
    }

    /// Whether the client's first request of this type was heard.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Takes it for granted that the client will ask by name.
    pub(super) fn open_unasked(&mut self) {
        if !self.is_asked() {
            self.asking = Asking::Names(Vec::new(), HashSet::new());
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Whether every response was answered.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.outstanding.len() < OUTSTANDING
    }

    pub(super) fn may_send(&self) -> bool {
        self.has_pending() && self.has_room()
    }

    pub(super) fn oldest_nonce(&self) -> Option<u64> {
        self.outstanding.front().map(|o| o.nonce)
    }

    /// The first request of the type: what is wanted, and what is held from an earlier stream.
    pub(super) fn open(
        &mut self,
        request: &DeltaDiscoveryRequest,
        set: &ResourceSet,
    ) -> Result<(), TooManyNames> {
        self.opened = true;
        let subscribe = &request.resource_names_subscribe;
        let everything = subscribe.is_empty() || subscribe.iter().any(|n| n == "*");
        let initial = &request.initial_resource_versions;
        if everything {
            self.asking = Asking::Everything;
            for entry in set.entries(self.kind) {
                self.bring(entry, initial.get(entry.name.as_ref()).map(|v| offered(v)));
            }
            for (name, version) in initial {
                if set.find(self.kind, name).is_none() {
                    self.take_away(name, offered(version));
                }
            }
            if initial.is_empty() && self.pending.is_empty() {
                self.pending.push_back(Pending::Nothing);
            }
            return Ok(());
        }
        if !self.is_asked() {
            self.asking = Asking::Names(Vec::new(), HashSet::new());
        }
        self.add_names(subscribe)?;
        let waiting = self.waiting();
        for name in subscribe {
            let before = initial.get(name).map(|v| offered(v));
            match (set.find(self.kind, name), before) {
                (Some(entry), before) if !waiting.contains(name.as_str()) => {
                    self.bring(entry, before.or(Some(UNKNOWN)));
                }
                (Some(_), _) => {}
                (None, Some(version)) => self.take_away(name, version),
                (None, None) => self.pending.push_back(Pending::Absent(name.as_str().into())),
            }
        }
        Ok(())
    }

    /// Names that are to be sent in any case.
    fn waiting(&self) -> HashSet<Box<str>> {
        let name = |p: &Pending| match p {
            Pending::Send { entry, .. } => Some(entry.name.clone()),
            Pending::Absent(_) | Pending::Nothing => None,
        };
        self.pending.iter().filter_map(name).collect()
    }

    /// Later changes of what is wanted. Asking again for a name means that the client has lost it.
    pub(super) fn subscribe(
        &mut self,
        request: &DeltaDiscoveryRequest,
        set: &ResourceSet,
    ) -> Result<(), TooManyNames> {
        self.unsubscribe(&request.resource_names_unsubscribe);
        let subscribe = &request.resource_names_subscribe;
        if subscribe.is_empty() {
            return Ok(());
        }
        if subscribe.iter().any(|n| n == "*") && !matches!(self.asking, Asking::Everything) {
            self.asking = Asking::Everything;
            for entry in set.entries(self.kind) {
                self.bring(entry, None);
            }
            return Ok(());
        }
        let unasked = self.add_names(subscribe)?;
        let waiting = self.waiting();
        for name in subscribe.iter().filter(|n| *n != "*") {
            if unasked.contains(&hash(name)) || waiting.contains(name.as_str()) {
                continue;
            }
            match set.find(self.kind, name) {
                Some(entry) => self.bring(entry, Some(UNKNOWN)),
                // Said when it is taken away.
                None if self.removals.contains(name.as_str()) => {}
                None => self.pending.push_back(Pending::Absent(name.as_str().into())),
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        if names.iter().any(|n| n == "*") && matches!(self.asking, Asking::Everything) {
            self.asking = Asking::Names(Vec::new(), HashSet::new());
        }
        let Asking::Names(wanted, unasked) = &mut self.asking else { return };
        let hashes: HashSet<u64> = names.iter().map(|n| hash(n)).collect();
        wanted.retain(|h| !hashes.contains(h));
        unasked.retain(|h| !hashes.contains(h));
        for name in names {
            self.held.remove(name.as_str());
            self.refused.remove(name.as_str());
            self.removals.remove(name.as_str());
        }
        self.pending.retain(|p| match p {
            Pending::Send { entry, .. } => !hashes.contains(&hash(&entry.name)),
            Pending::Absent(name) => !hashes.contains(&hash(name)),
            Pending::Nothing => true,
        });
    }

    /// Adds the names; gives back those of them that were sent before they were asked for.
    fn add_names(&mut self, names: &[String]) -> Result<HashSet<u64>, TooManyNames> {
        let Asking::Names(wanted, unasked) = &mut self.asking else { return Ok(HashSet::new()) };
        if wanted.len().saturating_add(names.len()) > NAMES {
            return Err(TooManyNames);
        }
        let mut known = HashSet::new();
        for name in names {
            let hash = hash(name);
            if unasked.remove(&hash) {
                known.insert(hash);
            }
            wanted.push(hash);
        }
        wanted.sort_unstable();
        wanted.dedup();
        Ok(known)
    }

    fn wants(&self, name: &str) -> bool {
        match &self.asking {
            Asking::NotYet => false,
            Asking::Everything => true,
            Asking::Names(wanted, _) => wanted.binary_search(&hash(name)).is_ok(),
        }
    }

    /// Goes from one set to the next: what differs becomes pending.
    pub(super) fn turn_to(&mut self, old: &ResourceSet, new: &ResourceSet) {
        if !self.is_asked() {
            return;
        }
        for name in old.changed_names(new, self.kind) {
            if !self.wants(name) {
                continue;
            }
            let assumed = old.find(self.kind, name).map(|e| e.version);
            let held = self.held.get(name).copied().unwrap_or(assumed);
            match (new.find(self.kind, name), held) {
                (Some(entry), held) => self.bring(entry, held),
                (None, Some(version)) => self.take_away(name, version),
                (None, None) => {
                    self.held.remove(name);
                }
            }
        }
    }

    /// Brings the client, which holds version `held`, to this entry.
    fn bring(&mut self, entry: &Arc<Entry>, held: Option<u64>) {
        self.removals.remove(&entry.name);
        if held == Some(entry.version) {
            self.held.remove(&entry.name);
        } else if self.refusal(entry).is_some() {
            self.held.insert(entry.name.clone(), held);
        } else {
            self.held.remove(&entry.name);
            self.pending.push_back(Pending::Send { entry: entry.clone(), before: held });
        }
    }

    fn take_away(&mut self, name: &str, held: u64) {
        self.held.insert(name.into(), Some(held));
        self.removals.insert(name.into());
    }

    /// A cluster that was changed waits for its endpoints, though those are the same.
    pub(super) fn send_again(&mut self, entry: &Arc<Entry>) {
        let other = self.held.contains_key(&entry.name) || self.refusal(entry).is_some();
        if self.wants(&entry.name) && !other && !self.is_pending(entry) {
            self.pending.push_back(Pending::Send { entry: entry.clone(), before: Some(entry.version) });
        }
    }

    /// The client will ask for it as soon as it sees what refers to it: it need not.
    pub(super) fn send_unasked(&mut self, entry: &Arc<Entry>) {
        let Asking::Names(wanted, unasked) = &mut self.asking else { return };
        let hash = hash(&entry.name);
        if let Err(at) = wanted.binary_search(&hash)
            && wanted.len() < NAMES
        {
            wanted.insert(at, hash);
            unasked.insert(hash);
            self.pending.push_back(Pending::Send { entry: entry.clone(), before: Some(UNKNOWN) });
        }
    }

    fn is_pending(&self, wanted: &Arc<Entry>) -> bool {
        self.pending.iter().any(|p| matches!(p, Pending::Send { entry, .. } if Arc::ptr_eq(entry, wanted)))
    }

    /// Fills one response.
    pub(super) fn take(
        &mut self,
        what: Take,
        nonce: u64,
        resources: &mut Vec<Arc<Entry>>,
        removed: &mut Vec<String>,
    ) -> Sent {
        let mut sent = Vec::new();
        let (mut bytes, mut added) = (0, false);
        // Envoy takes listeners away before it adds those of the same response, so that a new one may have the
        // address of an old one.
        if what == Take::Removals || self.kind == Kind::Listener {
            for name in std::mem::take(&mut self.removals) {
                self.held.remove(&name);
                removed.push(name.into());
            }
        }
        if what == Take::Pending {
            while let Some(pending) = self.pending.pop_front() {
                match pending {
                    Pending::Absent(name) => removed.push(name.into()),
                    Pending::Nothing => {}
                    Pending::Send { entry, before } => {
                        bytes += entry.encoded().len();
                        added |= before.is_none();
                        resources.push(entry.clone());
                        sent.push((entry, before));
                    }
                }
                let next = match self.pending.front() {
                    Some(Pending::Send { entry, .. }) => entry.encoded().len(),
                    _ => 0,
                };
                if bytes + next > RESPONSE_BYTES || removed.len() >= RESPONSE_NAMES {
                    break;
                }
            }
            if self.pending.is_empty() {
                self.pending.shrink_to_fit();
            }
        }
        sent.shrink_to_fit();
        self.outstanding.push_back(Outstanding { nonce, sent });
        Sent { added }
    }

    /// An ACK or NACK. `None`: the nonce is not outstanding.
    pub(super) fn answered(
        &mut self,
        request: &DeltaDiscoveryRequest,
        set: &ResourceSet,
    ) -> Option<Vec<Refused>> {
        let nonce = u64::from_str_radix(&request.response_nonce, 16).ok()?;
        let at = self.outstanding.iter().position(|o| o.nonce == nonce)?;
        let answered = self.outstanding.remove(at)?;
        if self.outstanding.is_empty() {
            self.outstanding.shrink_to_fit();
        }
        self.last_ack = Some(SystemTime::now());
        let Some(error) = &request.error_detail else {
            for (entry, _) in answered.sent {
                self.accepted(&entry);
            }
            return Some(Vec::new());
        };
        let text = &error.message;
        let any_named = answered.sent.iter().any(|(entry, _)| nack::names(text, &entry.name));
        let mut refused = Vec::new();
        for (entry, before) in answered.sent {
            if any_named && !nack::names(text, &entry.name) {
                self.accepted(&entry);
                continue;
            }
            refused.push(self.refuse(&entry, before, text, set));
        }
        Some(refused)
    }

    fn accepted(&mut self, entry: &Entry) {
        if self.refused.contains_key(&entry.name) && !self.removals.contains(&entry.name) {
            self.held.remove(&entry.name);
        }
    }

    fn refuse(&mut self, entry: &Entry, before: Option<u64>, text: &str, set: &ResourceSet) -> Refused {
        let reason = nack::reason(text, &entry.name);
        if self.wants(&entry.name) {
            // If a newer version was sent since, its answer counts; what is to be taken away is taken away anyway.
            if set.find(self.kind, &entry.name).is_some_and(|e| e.version == entry.version) {
                self.held.insert(entry.name.clone(), before);
            }
            // Asked for again before this answer came.
            self.pending.retain(|p| match p {
                Pending::Send { entry: waiting, .. } => {
                    waiting.name != entry.name || waiting.version != entry.version
                }
                Pending::Absent(_) | Pending::Nothing => true,
            });
            let refusal = Refusal { version: entry.version, reason: reason.clone() };
            let of_name = self.refused.entry(entry.name.clone()).or_default();
            if of_name.len() >= REFUSALS {
                of_name.remove(0);
            }
            of_name.push(refusal);
            if self.refused.len() > REFUSED_NAMES {
                self.refused.pop_first();
            }
        }
        Refused {
            kind: self.kind,
            name: entry.name.to_string(),
            version: version_text(entry.version),
            reason,
        }
    }

    /// What the client refuses of the set in use.
    pub(super) fn refused_now(&self, set: &ResourceSet) -> Vec<Refused> {
        let stands = |name: &str| {
            let entry = set.find(self.kind, name)?;
            let refusal = self.refusal(entry)?;
            Some(Refused {
                kind: self.kind,
                name: name.to_string(),
                version: entry.version_text(),
                reason: refusal.reason.clone(),
            })
        };
        self.refused.keys().filter_map(|name| stands(name)).collect()
    }

    fn refusal(&self, entry: &Entry) -> Option<&Refusal> {
        self.refused.get(&entry.name)?.iter().find(|r| r.version == entry.version)
    }

    pub(super) fn status(&self, set: &ResourceSet, behind: bool) -> LaneStatus {
        let resources = match &self.asking {
            Asking::NotYet => 0,
            Asking::Everything => set.count(self.kind),
            Asking::Names(wanted, _) => {
                set.entries(self.kind).filter(|e| wanted.binary_search(&hash(&e.name)).is_ok()).count()
            }
        };
        let answered = !behind && self.pending.is_empty() && self.is_settled() && self.removals.is_empty();
        LaneStatus {
            kind: self.kind,
            asked: self.is_asked(),
            synced: answered && self.refused_now(set).is_empty(),
            resources,
            last_ack: self.last_ack,
        }
    }
}

/// A version a client says it holds. One that is not ours is none of ours.
fn offered(version: &str) -> u64 {
    parse_version(version).unwrap_or(UNKNOWN)
}

fn hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
