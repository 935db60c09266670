//! What a client holds of one type where that is not what the set in use says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Entry;

/// What a client holds under one name.
#[derive(Debug, Clone)]
pub(super) enum Holds {
    Nothing,
    /// Something; which, nobody knows.
    Unknown,
    /// A version it offered, whose content is not known here.
    Version(u64),
    Entry(Arc<Entry>),
    /// One of these: NACKs left it open which were applied.
    OneOf(Vec<Arc<Entry>>, OrNothing),
}

impl Holds {
    pub(super) fn is(&self, version: u64) -> bool {
        match self {
            Self::Nothing | Self::Unknown | Self::OneOf(..) => false,
            Self::Version(held) => *held == version,
            Self::Entry(entry) => entry.version == version,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether the client may have nothing under the name.
    pub(super) fn may_be_nothing(&self) -> bool {
        matches!(self, Self::Nothing | Self::OneOf(_, OrNothing::Yes))
    }

    /// The same, or the entry.
    pub(super) fn or(self, entry: &Arc<Entry>) -> Self {
        let (mut entries, nothing) = match self {
            Self::Nothing => (Vec::new(), OrNothing::Yes),
            Self::Entry(before) => (vec![before], OrNothing::No),
            Self::OneOf(entries, nothing) => (entries, nothing),
            Self::Unknown | Self::Version(_) => return Self::Unknown,
        };
        if !entries.iter().any(|known| known.version == entry.version) {
            entries.push(entry.clone());
        }
        if entries.len() > OPEN { Self::Unknown } else { Self::OneOf(entries, nothing) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrNothing {
    Yes,
    No,
}

/// Versions among which a client may hold one; beyond, it is not known what it holds.
const OPEN: usize = 8;

/// By name. A name that is not in it is held as the set in use says.
#[derive(Debug, Default)]
pub(super) struct Held {
    names: BTreeMap<Box<str>, Holds>,
    /// Counts changes, so that what is derived from it is derived once.
    changes: u64,
}

impl Held {
    pub(super) fn get(&self, name: &str) -> Option<&Holds> {
        self.names.get(name)
    }

    pub(super) fn insert(&mut self, name: &str, holds: Holds) {
        self.changes += 1;
        self.names.insert(name.into(), holds);
    }

    pub(super) fn remove(&mut self, name: &str) {
        if !self.names.is_empty() && self.names.remove(name).is_some() {
            self.changes += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Holds)> {
        self.names.iter().map(|(name, holds)| (name.as_ref(), holds))
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Holds> {
        let found = self.names.get_mut(name)?;
        self.changes += 1;
        Some(found)
    }
}
