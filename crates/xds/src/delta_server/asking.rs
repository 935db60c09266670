//! What a client asks for of one type.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::NAMES;

/// A client asks for more names than any mesh has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many resource names of one type are asked for: the limit is {0}")]
pub struct TooManyNames(pub usize);

#[derive(Debug)]
pub(super) enum Asking {
    NotYet,
    Everything,
    Names(Names),
}

/// Hashes of the names, sorted. A clash sends a client something it did not ask for, nothing worse.
#[derive(Debug, Default)]
pub(super) struct Names {
    wanted: Vec<u64>,
    /// Those of them that were sent before they were asked for.
    unasked: HashSet<u64>,
}

impl Asking {
    pub(super) fn wants(&self, name: &str) -> bool {
        match self {
            Self::NotYet => false,
            Self::Everything => true,
            Self::Names(names) => names.has(name),
        }
    }
}

impl Names {
    pub(super) fn has(&self, name: &str) -> bool {
        self.wanted.binary_search(&hash(name)).is_ok()
    }

    /// Gives back those that were sent before they were asked for.
    pub(super) fn add(&mut self, names: &[String]) -> Result<HashSet<u64>, TooManyNames> {
        let mut sent = HashSet::new();
        let before = self.wanted.len();
        for name in names {
            let hash = hash(name);
            if self.unasked.remove(&hash) {
                sent.insert(hash);
            }
            self.wanted.push(hash);
        }
        if self.wanted.len() > before {
            self.wanted.sort_unstable();
            self.wanted.dedup();
            self.wanted.shrink_to_fit();
        }
        if self.wanted.len() > NAMES { Err(TooManyNames(NAMES)) } else { Ok(sent) }
    }

    /// Takes it that the client will ask for the name. `false`: it has, or there are too many.
    pub(super) fn add_unasked(&mut self, name: &str) -> bool {
        let hash = hash(name);
        match self.wanted.binary_search(&hash) {
            Err(at) if self.wanted.len() < NAMES => {
                self.wanted.insert(at, hash);
                self.unasked.insert(hash);
                true
            }
            _ => false,
        }
    }

    pub(super) fn remove(&mut self, hashes: &HashSet<u64>) {
        self.wanted.retain(|h| !hashes.contains(h));
        self.unasked.retain(|h| !hashes.contains(h));
    }
}

pub(super) fn hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
