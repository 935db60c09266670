//! What an ACK or a NACK means for what was sent.
//!
//! A NACK condemns only what it surely names (`nack`). What it leaves open is *unknown*: the client may have applied it
//! or not. Unknown resources are sent again, apart from the refused ones, in groups of at most half as many as were in
//! the refused response: if one of them is bad and no text says which, it stands alone after as many halvings as it
//! takes, and then it is the one. So a version is sent at most `log2(n) + 1` times, and a refused one never again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::asking::hash;
use super::held::Holds;
use super::lane::{Lane, Pending, Sending};
use super::nack::{self, Judged, Refused};
use super::set::version_text;
use super::{Entry, ResourceSet};
use crate::discovery::DeltaDiscoveryRequest;

/// What became of the resources of a response that was refused.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) refused: Vec<Refused>,
    pub(super) unknown: Vec<Box<str>>,
}

impl Lane {
    /// An ACK or NACK. `None`: the nonce is not outstanding.
    pub(super) fn answered(
        &mut self,
        request: &DeltaDiscoveryRequest,
        set: &ResourceSet,
        names_all: bool,
    ) -> Option<Verdict> {
        let nonce = u64::from_str_radix(&request.response_nonce, 16).ok()?;
        let at = self.outstanding.iter().position(|o| o.nonce == nonce)?;
        let answered = self.outstanding.remove(at)?;
        if self.outstanding.is_empty() {
            self.outstanding.shrink_to_fit();
        }
        self.last_ack = Some(SystemTime::now());
        let Some(error) = &request.error_detail else {
            for sending in &answered.sent {
                self.accepted(&sending.entry, set);
            }
            return Some(Verdict::default());
        };
        let names: Vec<&str> = answered.sent.iter().map(|s| s.entry.name.as_ref()).collect();
        let mut judged = nack::judge(&error.message, &names, names_all);
        if let [only] = judged.as_mut_slice() {
            *only = Judged::Refused;
        }
        if !judged.contains(&Judged::Live) && !nack::took_away(&error.message, names_all) {
            self.remove_again(answered.removed, answered.absent, set);
        }
        Some(self.part(answered.sent, &judged, &error.message, set))
    }

    /// Repeats what a response of which nothing may have been applied took away, and what it said is not there: of that
    /// the client held nothing.
    fn remove_again(&mut self, removed: Vec<String>, absent: Vec<String>, set: &ResourceSet) {
        let gone = |lane: &Self, name: &str| lane.asking.wants(name) && set.find(lane.kind, name).is_none();
        for name in removed {
            if gone(self, &name) {
                self.take_away(&name, Holds::Unknown);
            }
        }
        for name in absent {
            if gone(self, &name) && !self.is_leaving(&name) {
                self.say_absent(&name);
            }
        }
    }

    /// Parts a refused response by what is known of each resource.
    fn part(&mut self, sent: Vec<Sending>, judged: &[Judged], text: &str, set: &ResourceSet) -> Verdict {
        let half = sent.len().div_ceil(2);
        let (mut verdict, mut unknown) = (Verdict::default(), Vec::new());
        for (sending, judged) in sent.into_iter().zip(judged) {
            match judged {
                Judged::Live => self.accepted(&sending.entry, set),
                Judged::Refused => verdict.refused.push(self.refuse(sending, text, set)),
                Judged::Suspected => {
                    verdict.unknown.push(sending.entry.name.clone());
                    self.unknown(vec![sending], set);
                }
                Judged::Unknown => unknown.push(sending),
            }
        }
        verdict.unknown.extend(unknown.iter().map(|sending| sending.entry.name.clone()));
        while !unknown.is_empty() {
            let rest = unknown.split_off(half.min(unknown.len()));
            self.unknown(std::mem::replace(&mut unknown, rest), set);
        }
        verdict
    }

    fn accepted(&mut self, entry: &Entry, set: &ResourceSet) {
        if self.held.is_empty() || self.is_leaving(&entry.name) {
            return;
        }
        if set.find(self.kind, &entry.name).is_some_and(|e| e.version == entry.version) {
            self.held.remove(&entry.name);
        }
    }

    fn refuse(&mut self, sending: Sending, text: &str, set: &ResourceSet) -> Refused {
        let Sending { entry, before } = sending;
        let reason = nack::reason(text, &entry.name);
        if self.asking.wants(&entry.name) {
            self.disbelieve(&entry, &before);
            // Wanted again before this answer came: by the client, or because the set went back to it.
            let queued = self.queued_on(&entry);
            if queued.is_some() {
                self.drop_queued(|name| name == entry.name.as_ref());
            }
            // If a newer version was sent since, its answer counts; what is to be taken away is taken away anyway.
            if set.find(self.kind, &entry.name).is_some_and(|e| e.version == entry.version) {
                let holds = queued.or_else(|| self.sent_on(&entry)).unwrap_or(before);
                self.held.insert(&entry.name, holds);
            }
            self.refusals.add(&entry, reason.clone());
        }
        Refused {
            kind: self.kind,
            name: entry.name.to_string(),
            version: version_text(entry.version),
            reason,
        }
    }

    /// Sends the group again, as a response of its own; of it only what is still to be held and was not sent since.
    fn unknown(&mut self, group: Vec<Sending>, set: &ResourceSet) {
        let mut again = Vec::with_capacity(group.len());
        for Sending { entry, before } in group {
            if !self.asking.wants(&entry.name) {
                continue;
            }
            // Also if it is refused the next time: a client need not judge the same twice.
            let before = before.or(&entry);
            self.disbelieve(&entry, &before);
            let current = set.find(self.kind, &entry.name).is_some_and(|e| e.version == entry.version);
            if current
                && !self.is_leaving(&entry.name)
                && self.refusals.of(&entry).is_none()
                && !self.is_queued(&entry.name)
                && !self.is_under_way(&entry)
            {
                self.queued.insert(hash(&entry.name));
                again.push(Sending { entry, before });
            }
        }
        if !again.is_empty() {
            self.again.push_back(again);
        }
    }

    /// Whether the same was sent once more meanwhile: the answer to that decides.
    fn is_under_way(&self, entry: &Entry) -> bool {
        let mut sent = self.outstanding.iter().flat_map(|o| &o.sent);
        sent.any(|s| s.entry.version == entry.version && s.entry.name == entry.name)
    }

    /// What the client holds when it comes to this entry, which waits to be sent. `None`: it does not wait.
    fn queued_on(&self, entry: &Entry) -> Option<Holds> {
        let pending = self.pending.iter().filter_map(|pending| match pending {
            Pending::Send(sending) => Some(sending),
            Pending::Absent(_) | Pending::Nothing => None,
        });
        let is_it = |s: &&Sending| s.entry.version == entry.version && s.entry.name == entry.name;
        pending.chain(self.again.iter().flatten()).find(is_it).map(|s| s.before.clone())
    }

    /// What the client holds when it has taken everything under way, of which it refuses this entry. `None`: nothing
    /// of this name is under way.
    fn sent_on(&self, entry: &Entry) -> Option<Holds> {
        let mut newest_first = self.outstanding.iter().rev().flat_map(|o| &o.sent);
        let newest = newest_first.find(|s| s.entry.name == entry.name)?;
        if newest.entry.version == entry.version {
            return Some(newest.before.clone());
        }
        Some(Holds::Entry(newest.entry.clone()))
    }

    /// What is under way of these names, by their hashes.
    pub(super) fn newest_under_way(&self, names: &[String]) -> HashMap<u64, Arc<Entry>> {
        if self.outstanding.is_empty() {
            return HashMap::new();
        }
        let asked: HashSet<u64> = names.iter().map(|name| hash(name)).collect();
        let sent = self.outstanding.iter().flat_map(|o| &o.sent);
        let by_hash = sent.map(|s| (hash(&s.entry.name), s.entry.clone()));
        by_hash.filter(|(hash, _)| asked.contains(hash)).collect()
    }

    /// Corrects what the client had under each name before the first that is under way; what came behind that was sent
    /// on top of it. Gives back hashes of all names under way.
    pub(super) fn held_before(&mut self, holds: impl Fn(&str) -> Option<Holds>) -> HashSet<u64> {
        let mut under_way = HashSet::new();
        for sending in self.outstanding.iter_mut().flat_map(|o| &mut o.sent) {
            if under_way.insert(hash(&sending.entry.name))
                && let Some(holds) = holds(&sending.entry.name)
            {
                sending.before = holds;
            }
        }
        under_way
    }

    /// What was believed to be held since this entry was sent is not: what came behind it was sent on top of what the
    /// client had before.
    fn disbelieve(&mut self, entry: &Entry, instead: &Holds) {
        let correct = |name: &str, before: &mut Holds| {
            if before.is(entry.version) && name == entry.name.as_ref() {
                *before = instead.clone();
            }
        };
        for sending in self.outstanding.iter_mut().flat_map(|o| &mut o.sent) {
            correct(&sending.entry.name, &mut sending.before);
        }
        for sending in self.again.iter_mut().flatten() {
            correct(&sending.entry.name, &mut sending.before);
        }
        let mut has = false;
        for pending in &mut self.pending {
            if let Pending::Send(sending) = pending {
                let believed = sending.before.is(entry.version);
                correct(&sending.entry.name, &mut sending.before);
                has |= believed && sending.before.is(sending.entry.version);
            }
        }
        // The set went back to what the client has still. A cluster may wait for endpoints though they are the same.
        if has && !self.follows {
            self.drop_queued(|name| name == entry.name.as_ref());
        }
        if self.held.get(&entry.name).is_some_and(|held| held.is(entry.version))
            && let Some(held) = self.held.get_mut(&entry.name)
        {
            *held = instead.clone();
        }
    }
}
