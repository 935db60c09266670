//! What a client refused on one stream, by name: also of what is gone, because it may come back.

use std::collections::BTreeMap;

use super::set::version_text;
use super::{Entry, Kind, Refused};
use crate::limits::{REFUSALS, REFUSED_NAMES};

/// Oldest first under each name.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Box<str>, Vec<Refusal>>);

#[derive(Debug)]
struct Refusal {
    version: u64,
    reason: String,
}

impl Refusals {
    /// Why this version was refused, if it was.
    pub(super) fn of(&self, entry: &Entry) -> Option<&str> {
        let of_name = self.0.get(&entry.name)?;
        of_name.iter().find(|r| r.version == entry.version).map(|r| r.reason.as_str())
    }

    pub(super) fn told(&self, kind: Kind, entry: &Entry) -> Option<Refused> {
        let reason = self.of(entry)?.to_owned();
        Some(Refused { kind, name: entry.name.to_string(), version: version_text(entry.version), reason })
    }

    pub(super) fn add(&mut self, entry: &Entry, reason: String) {
        let of_name = self.0.entry(entry.name.clone()).or_default();
        of_name.retain(|r| r.version != entry.version);
        if of_name.len() >= REFUSALS {
            of_name.remove(0);
        }
        of_name.push(Refusal { version: entry.version, reason });
        if self.0.len() > REFUSED_NAMES {
            self.0.pop_first();
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}
