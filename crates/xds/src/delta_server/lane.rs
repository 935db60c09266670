//! The state of one type on one stream.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::asking::{Asking, Names, TooManyNames, hash};
use super::held::{Held, Holds};
use super::refusals::Refusals;
use super::set::parse_version;
use super::{Capabilities, Entry, Kind, ResourceSet};
use crate::discovery::DeltaDiscoveryRequest;
use crate::limits::{OUTSTANDING, RESPONSE_BYTES, RESPONSE_NAMES};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: Kind,
    pub(super) asking: Asking,
    /// Whether the client itself has asked.
    opened: bool,
    /// Waiting to be sent.
    pub(super) pending: VecDeque<Pending>,
    /// What a NACK left unknown: groups, each to be sent as a response of its own, before what is pending.
    pub(super) again: VecDeque<Vec<Sending>>,
    /// Hashes of the names in `pending` and `again`: none stands there twice.
    pub(super) queued: HashSet<u64>,
    /// Whether what the client has goes out again behind something else that changed.
    pub(super) follows: bool,
    /// Hashes of endpoints whose clusters went out before the client had said which endpoints it holds.
    follow: HashSet<u64>,
    /// Held by the client and to be taken from it.
    removals: BTreeSet<Box<str>>,
    /// The same, but something that the client holds instead of what it refuses uses them.
    kept: BTreeSet<Box<str>>,
    pub(super) held: Held,
    pub(super) refusals: Refusals,
    pub(super) outstanding: VecDeque<Outstanding>,
    /// Responses without an answer, beyond which the lane waits.
    room: usize,
    pub(super) last_ack: Option<SystemTime>,
    /// When the oldest change was made that the client has not answered yet.
    behind: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Pending {
    Send(Sending),
    /// Asked for by name and not there.
    Absent(Box<str>),
    /// Everything asked for, and there is nothing: an empty response says so, or the client waits for ever.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) entry: Arc<Entry>,
    /// What the client holds until it has accepted this.
    pub(super) before: Holds,
}

/// A response that is not answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: u64,
    pub(super) sent: Vec<Sending>,
    /// What a listener's response took away before it added.
    pub(super) removed: Vec<String>,
    /// What it said is not there.
    pub(super) absent: Vec<String>,
}

/// What to take out of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Pending,
    Removals,
}

/// One response.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) resources: Vec<Arc<Entry>>,
    pub(super) removed: Vec<String>,
    /// Whether anything among it is new to the client.
    pub(super) added: bool,
    /// Whether it repeats what a refused response left unknown.
    pub(super) again: bool,
}

impl Lane {
    pub(super) fn new(kind: Kind, able: Capabilities) -> Self {
        // Where every response repeats what the ones before it held, only the answer to the last tells which of them
        // something was wrong with.
        let one = able.takes_whole_types && matches!(kind, Kind::Cluster | Kind::Listener);
        Self {
            kind,
            room: if one { 1 } else { OUTSTANDING },
            asking: Asking::NotYet,
            opened: false,
            pending: VecDeque::new(),
            again: VecDeque::new(),
            queued: HashSet::new(),
            follows: able.warms_changed_clusters && kind == Kind::Endpoint,
            follow: HashSet::new(),
            removals: BTreeSet::new(),
            kept: BTreeSet::new(),
            held: Held::default(),
            refusals: Refusals::default(),
            outstanding: VecDeque::new(),
            last_ack: None,
            behind: None,
        }
    }

    /// A change made at `since` is on its way, if the lane has anything to do for it.
    pub(super) fn falls_behind(&mut self, since: Instant) {
        if self.is_done() {
            self.behind = None;
        } else {
            self.behind.get_or_insert(since);
        }
    }

    /// Forgets since when there is something to do once there is nothing.
    pub(super) fn catches_up(&mut self) {
        if self.is_done() {
            self.behind = None;
        }
    }

    /// When the oldest change was made that the client has not answered yet.
    pub(super) fn behind(&self) -> Option<Instant> {
        self.behind
    }

    fn is_done(&self) -> bool {
        !self.has_pending() && !self.has_removals() && self.is_settled()
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
            self.asking = Asking::Names(Names::default());
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.again.is_empty()
    }

    /// Whether something is to be taken away as soon as it is its turn.
    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub(super) fn has_removal(&self, name: &str) -> bool {
        self.removals.contains(name)
    }

    pub(super) fn takes_nothing_away(&self) -> bool {
        self.removals.is_empty() && self.kept.is_empty()
    }

    /// What stays although it is gone, because something held uses it.
    pub(super) fn kept(&self) -> &BTreeSet<Box<str>> {
        &self.kept
    }

    /// Whether every response was answered, and nothing is unknown.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.is_empty() && self.again.is_empty()
    }

    /// Whether a NACK left something unknown that is still to be sent again.
    pub(super) fn is_unknown(&self) -> bool {
        !self.again.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.outstanding.len() < self.room
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
                self.bring(entry, initial.get(entry.name.as_ref()).map_or(Holds::Nothing, |v| offered(v)));
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
        self.open_unasked();
        let unasked = self.add_names(subscribe)?;
        // What was to be sent unasked may be what it holds already, unless it will hold another when it has taken what
        // is under way.
        let under_way = self.held_before(|name| initial.get(name).map(|v| offered(v)));
        self.drop_queued(|name| initial.contains_key(name) && !under_way.contains(&hash(name)));
        let follow = std::mem::take(&mut self.follow);
        for name in subscribe {
            let offered = initial.get(name).map(|v| offered(v));
            match (set.find(self.kind, name), offered) {
                (Some(entry), Some(offered)) if follow.contains(&hash(name)) => {
                    self.queue(Sending { entry: entry.clone(), before: offered });
                }
                // On its way before the client had said what it holds; what was to follow stands on top of that.
                (_, Some(_)) if under_way.contains(&hash(name)) => {}
                (Some(entry), Some(offered)) => self.bring(entry, offered),
                // Sent before it was asked for.
                (_, None) if unasked.contains(&hash(name)) || self.is_queued(name) => {}
                (Some(entry), None) => self.bring(entry, Holds::Nothing),
                (None, Some(version)) => self.take_away(name, version),
                (None, None) => self.say_absent(name),
            }
        }
        Ok(())
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
                if !self.is_queued(&entry.name) {
                    self.bring(entry, Holds::Nothing);
                }
            }
            return Ok(());
        }
        let unasked = self.add_names(subscribe)?;
        let under_way = self.newest_under_way(subscribe);
        for name in subscribe.iter().filter(|n| *n != "*") {
            if unasked.contains(&hash(name)) || self.is_queued(name) {
                continue;
            }
            // What it gave up while that was under way it may take, now that it asks again.
            let may_hold = under_way.get(&hash(name)).map(|entry| Holds::Nothing.or(entry));
            match (set.find(self.kind, name), may_hold) {
                (Some(entry), may_hold) => self.bring(entry, may_hold.unwrap_or(Holds::Nothing)),
                // Said when it is taken away.
                (None, _) if self.is_leaving(name) => {}
                (None, Some(may_hold)) => self.take_away(name, may_hold),
                (None, None) => self.say_absent(name),
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        if names.iter().any(|n| n == "*") && matches!(self.asking, Asking::Everything) {
            self.asking = Asking::Names(Names::default());
        }
        let Asking::Names(wanted) = &mut self.asking else { return };
        let hashes: HashSet<u64> = names.iter().map(|n| hash(n)).collect();
        wanted.remove(&hashes);
        for name in names {
            self.held.remove(name);
            self.refusals.forget(name);
            self.removals.remove(name.as_str());
            self.kept.remove(name.as_str());
        }
        self.drop_queued(|name| hashes.contains(&hash(name)));
        // What is under way comes to a client that has nothing under the name any more.
        for sending in self.outstanding.iter_mut().flat_map(|o| &mut o.sent) {
            if hashes.contains(&hash(&sending.entry.name)) {
                sending.before = Holds::Nothing;
            }
        }
    }

    /// Adds the names; gives back those of them that were sent before they were asked for.
    fn add_names(&mut self, names: &[String]) -> Result<HashSet<u64>, TooManyNames> {
        match &mut self.asking {
            Asking::Names(wanted) => wanted.add(names),
            Asking::NotYet | Asking::Everything => Ok(HashSet::new()),
        }
    }

    /// Goes from one set to the next: what differs becomes pending.
    pub(super) fn turn_to(&mut self, old: &ResourceSet, new: &ResourceSet) {
        if !self.is_asked() {
            return;
        }
        for name in new.changed_since(old, self.kind).iter() {
            if !self.asking.wants(name) {
                continue;
            }
            let held = self.held.get(name).cloned().unwrap_or_else(|| {
                old.find(self.kind, name).map_or(Holds::Nothing, |e| Holds::Entry(e.clone()))
            });
            match new.find(self.kind, name) {
                Some(entry) => self.bring(entry, held),
                None if held.is_nothing() => {
                    self.held.remove(name);
                    if matches!(self.asking, Asking::Names(_)) {
                        // Refused, and now gone: whoever waits for it need not.
                        self.say_absent(name);
                    }
                }
                None => self.take_away(name, held),
            }
        }
    }

    /// Brings the client, which holds this, to the entry.
    fn bring(&mut self, entry: &Arc<Entry>, held: Holds) {
        self.stay(&entry.name);
        if held.is(entry.version) {
            self.held.remove(&entry.name);
        } else if self.refusals.of(entry).is_some() {
            self.held.insert(&entry.name, held);
        } else {
            self.held.remove(&entry.name);
            self.queue(Sending { entry: entry.clone(), before: held });
        }
    }

    pub(super) fn take_away(&mut self, name: &str, held: Holds) {
        self.held.insert(name, held);
        self.removals.insert(name.into());
    }

    pub(super) fn say_absent(&mut self, name: &str) {
        if self.queued.insert(hash(name)) {
            self.pending.push_back(Pending::Absent(name.into()));
        }
    }

    fn queue(&mut self, sending: Sending) {
        self.queued.insert(hash(&sending.entry.name));
        self.pending.push_back(Pending::Send(sending));
    }

    pub(super) fn is_queued(&self, name: &str) -> bool {
        !self.queued.is_empty() && self.queued.contains(&hash(name))
    }

    /// Takes names out of what is to be sent.
    pub(super) fn drop_queued(&mut self, which: impl Fn(&str) -> bool) {
        if self.queued.is_empty() {
            return;
        }
        let queued = &mut self.queued;
        let mut stays = |name: &str| {
            let goes = which(name);
            if goes {
                queued.remove(&hash(name));
            }
            !goes
        };
        self.pending.retain(|pending| match pending {
            Pending::Send(sending) => stays(&sending.entry.name),
            Pending::Absent(name) => stays(name),
            Pending::Nothing => true,
        });
        for group in &mut self.again {
            group.retain(|sending| stays(&sending.entry.name));
        }
        self.again.retain(|group| !group.is_empty());
    }

    /// Whether it is to be taken from the client.
    pub(super) fn is_leaving(&self, name: &str) -> bool {
        self.removals.contains(name) || self.kept.contains(name)
    }

    fn stay(&mut self, name: &str) {
        self.removals.remove(name);
        self.kept.remove(name);
    }

    /// Parts what is to be taken away: into that which may go, and that which something still held uses.
    pub(super) fn keep(&mut self, used: impl Fn(&str, Option<&Holds>) -> bool) {
        let mut all = std::mem::take(&mut self.removals);
        all.append(&mut self.kept);
        for name in all {
            let list = if used(&name, self.held.get(&name)) { &mut self.kept } else { &mut self.removals };
            list.insert(name);
        }
    }

    /// A cluster that was changed waits for its endpoints, though those are the same.
    pub(super) fn send_again(&mut self, entry: &Arc<Entry>) {
        if !self.opened {
            self.follow.insert(hash(&entry.name));
            return;
        }
        let other = self.held.get(&entry.name).is_some() || self.refusals.of(entry).is_some();
        if self.asking.wants(&entry.name) && !other && !self.is_queued(&entry.name) {
            self.queue(Sending { entry: entry.clone(), before: Holds::Entry(entry.clone()) });
        }
    }

    /// The client will ask for it as soon as it sees what refers to it: it need not.
    pub(super) fn send_unasked(&mut self, entry: &Arc<Entry>) {
        if let Asking::Names(names) = &mut self.asking
            && names.add_unasked(&entry.name)
        {
            self.queue(Sending { entry: entry.clone(), before: Holds::Nothing });
        }
    }

    /// Fills one response.
    pub(super) fn take(&mut self, what: Take, nonce: u64, able: Capabilities) -> Taken {
        let mut taken = Taken::default();
        let mut sent = Vec::new();
        // Envoy takes listeners away before it adds those of the same response, so that a new one may have the
        // address of an old one.
        if what == Take::Removals || self.kind == Kind::Listener {
            for name in std::mem::take(&mut self.removals) {
                self.held.remove(&name);
                taken.removed.push(name.into());
            }
        }
        let taken_away = taken.removed.len();
        if what == Take::Pending {
            if let Some(group) = self.again.pop_front() {
                taken.again = true;
                sent = group;
            } else {
                let whole = able.takes_whole_types && matches!(self.kind, Kind::Cluster | Kind::Listener);
                let limit = if whole { usize::MAX } else { RESPONSE_BYTES };
                self.take_pending(limit, &mut taken, &mut sent);
            }
        }
        for sending in &sent {
            self.queued.remove(&hash(&sending.entry.name));
            taken.added |= sending.before.may_be_nothing();
            taken.resources.push(sending.entry.clone());
        }
        if self.queued.is_empty() {
            self.queued.shrink_to_fit();
            self.pending.shrink_to_fit();
        }
        sent.shrink_to_fit();
        // Nothing is wrong with a response that holds no resource.
        let mut removed = if sent.is_empty() { Vec::new() } else { taken.removed.clone() };
        let absent = removed.split_off(taken_away.min(removed.len()));
        self.outstanding.push_back(Outstanding { nonce, sent, removed, absent });
        taken
    }

    fn take_pending(&mut self, limit: usize, taken: &mut Taken, sent: &mut Vec<Sending>) {
        let mut bytes = 0;
        while let Some(pending) = self.pending.pop_front() {
            match pending {
                Pending::Absent(name) => {
                    self.queued.remove(&hash(&name));
                    taken.removed.push(name.into());
                }
                Pending::Nothing => {}
                Pending::Send(sending) => {
                    bytes += sending.entry.encoded().len();
                    sent.push(sending);
                }
            }
            let next = match self.pending.front() {
                Some(Pending::Send(sending)) => sending.entry.encoded().len(),
                _ => 0,
            };
            if bytes.saturating_add(next) > limit || taken.removed.len() >= RESPONSE_NAMES {
                break;
            }
        }
    }
}

/// A version a client says it holds. One that is not ours is none of ours.
fn offered(version: &str) -> Holds {
    parse_version(version).map_or(Holds::Unknown, Holds::Version)
}
