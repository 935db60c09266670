//! What an update changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use api::{Object, ObjectId, Problem};

/// An identity that has other content now. At least one of the two is there.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: Arc<ObjectId>,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

/// What one or several updates changed.
#[derive(Debug, Clone)]
pub struct Delta {
    /// By identity. What was read again and says the same is not among them.
    pub changed: Vec<Change>,
    /// Whether something that is only shown may be another: places, staleness, conflicts, problems, standings.
    pub shown: bool,
    /// The mesh configuration is another one.
    pub mesh: bool,
    /// Problems that were not there before.
    pub told: Vec<Problem>,
    /// When the first event that led to it was noticed.
    pub since: Instant,
}

impl Delta {
    /// Takes in the delta of a later update. What was changed and changed back is no change.
    pub fn merge(&mut self, later: Self) {
        if !later.changed.is_empty() {
            let earlier = std::mem::take(&mut self.changed);
            let mut changed: BTreeMap<Arc<ObjectId>, Change> =
                earlier.into_iter().map(|change| (change.id.clone(), change)).collect();
            for change in later.changed {
                match changed.get_mut(&change.id) {
                    Some(known) => known.after = change.after,
                    None => {
                        changed.insert(change.id.clone(), change);
                    }
                }
            }
            self.changed = changed.into_values().filter(Change::is_one).collect();
        }
        self.shown |= later.shown;
        self.mesh |= later.mesh;
        self.told.extend(later.told);
        self.since = self.since.min(later.since);
    }
}

impl Change {
    /// Whether before and after differ in content.
    pub(super) fn is_one(&self) -> bool {
        let hash = |object: &Option<Arc<Object>>| object.as_ref().map(|object| object.content_hash());
        hash(&self.before) != hash(&self.after)
    }
}
