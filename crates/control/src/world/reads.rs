//! What was read of a world, so that what was made from it is made again when exactly that changes.
//!
//! Translation sees a world through a [`super::View`], whose every accessor notes a [`Read`]; a change of the world says
//! which reads answer differently now ([`Changes`]). Nothing has to be listed by hand: what is read is what is depended on.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::Xxh3;

/// A question to the world, as a hash of its topic and subject. Two questions that share one make a change concern a little
/// more than it must, never less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read(u64);

/// What questions are about; the subject follows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topic {
    /// Which services a namespace owns, and what they say of themselves.
    ServicesOf,
    /// The same of all namespaces.
    Services,
    /// The services of a host.
    Host,
    /// Where a service is served.
    Endpoints,
    /// Who is served at an address.
    At,
    /// Whether an address is one of a service that is called by its endpoints' addresses.
    Headless,
    /// Whether something other than HTTP is declared at an address and port.
    NotHttp,
    /// The workload registered at an address.
    Registered,
    /// The Pod of a name.
    Pod,
    /// VirtualServices bound to a gateway, of one namespace.
    RulesOf,
    /// VirtualServices bound to a gateway.
    Rules,
    /// DestinationRules for a host.
    Policy,
    /// What of them requests are hashed by.
    Hashing,
    /// What of them is about connections as a whole.
    Connections,
    /// DestinationRules for wildcards.
    WildcardPolicies,
    PeerAuthentications,
    Sidecars,
    Gateways,
}

impl Read {
    pub(crate) fn of(topic: Topic, subject: &[&str]) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&[topic as u8]);
        for part in subject {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.digest())
    }
}

/// Takes a [`Read`], which is a hash already, as its own hash.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Set = HashSet<Read, BuildHasherDefault<AlreadyHashed>>;

/// Notes what is read. Each thing that is made has one of its own.
#[derive(Debug, Default)]
pub struct Reads(RefCell<Set>);

impl Reads {
    pub(super) fn note(&self, read: Read) {
        self.0.borrow_mut().insert(read);
    }

    /// All that was read, in order.
    pub fn into_sorted(self) -> Box<[Read]> {
        let mut all: Vec<Read> = self.0.into_inner().into_iter().collect();
        all.sort_unstable();
        all.into_boxed_slice()
    }
}

/// Which reads answer differently than before.
#[derive(Debug, Default)]
pub struct Changes {
    everything: bool,
    /// Something else than where services are served is another.
    structure: bool,
    reads: Set,
}

impl Changes {
    /// Nothing of what was made before counts.
    pub(super) fn everything(&mut self) {
        self.everything = true;
    }

    pub(crate) fn of(&mut self, topic: Topic, subject: &[&str]) {
        self.structure |= !matches!(
            topic,
            Topic::Endpoints | Topic::At | Topic::Headless | Topic::NotHttp | Topic::Registered | Topic::Pod
        );
        self.reads.insert(Read::of(topic, subject));
    }

    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether no object says something else of services and rules, only of who serves them.
    pub fn are_of_endpoints_only(&self) -> bool {
        !self.everything && !self.structure
    }

    pub fn is_empty(&self) -> bool {
        !self.everything && self.reads.is_empty()
    }

    /// Those that answer differently, unless everything does.
    pub fn reads(&self) -> impl Iterator<Item = Read> {
        self.reads.iter().copied()
    }

    /// Whether what was made from these reads (in order) has to be made again.
    pub fn concern(&self, reads: &[Read]) -> bool {
        if self.everything {
            return true;
        }
        if self.reads.len() < reads.len() / 4 {
            self.reads.iter().any(|read| reads.binary_search(read).is_ok())
        } else {
            reads.iter().any(|read| self.reads.contains(read))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_who_has_read_it_and_nobody_else() {
        let reads = Reads::default();
        for host in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            reads.note(Read::of(Topic::Endpoints, &[host]));
        }
        let reads = reads.into_sorted();
        let changed = |topic, subject: &[&str]| {
            let mut changes = Changes::default();
            changes.of(topic, subject);
            changes.concern(&reads)
        };
        assert!(changed(Topic::Endpoints, &["a"]));
        assert!(!changed(Topic::Host, &["a"]), "another question about the same");
        assert!(!changed(Topic::Endpoints, &["i"]));
        assert!(!changed(Topic::Endpoints, &["a", ""]), "parts do not run into each other");
        assert!(!Changes::default().concern(&reads));
        let mut all = Changes::default();
        all.everything();
        assert!(all.concern(&[]));
    }
}
