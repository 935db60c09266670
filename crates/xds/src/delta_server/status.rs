//! How far a type is on a stream, and what is refused of it.

use std::time::SystemTime;

use super::asking::Asking;
use super::lane::Lane;
use super::nack::Refused;
use super::{Kind, ResourceSet};

/// How far a type is on a stream.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    pub kind: Kind,
    pub asked: bool,
    /// Everything sent and acknowledged, and nothing refused.
    pub synced: bool,
    /// Resources the client is to hold.
    pub resources: usize,
    pub last_ack: Option<SystemTime>,
}

impl Lane {
    /// What the client refuses of the set in use.
    pub(super) fn refused_now(&self, set: &ResourceSet) -> Vec<Refused> {
        let stands = |name: &str| self.refusals.told(self.kind, set.find(self.kind, name)?);
        self.held.iter().filter_map(|(name, _)| stands(name)).collect()
    }

    pub(super) fn status(&self, set: &ResourceSet, behind: bool) -> LaneStatus {
        let resources = match &self.asking {
            Asking::NotYet => 0,
            Asking::Everything => set.count(self.kind),
            Asking::Names(names) => set.entries(self.kind).filter(|e| names.has(&e.name)).count(),
        };
        // What it holds otherwise than the set says is refused, or is still to be taken away.
        let synced = !behind && !self.has_pending() && self.is_settled() && self.held.is_empty();
        LaneStatus { kind: self.kind, asked: self.is_asked(), synced, resources, last_ack: self.last_ack }
    }
}
