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
    /// Takes in the delta of a later update. What was changed and changed back is no change. Costs by the size of both:
    /// many updates are cheaper together, by [`super::ObjectStore::apply_all`].
    pub fn merge(&mut self, later: Self) {
        let earlier = std::mem::replace(
            self,
            Self { changed: Vec::new(), shown: false, mesh: false, told: Vec::new(), since: later.since },
        );
        if let Some(all) = Self::all([earlier, later]) {
            *self = all;
        }
    }

    /// One delta of several, the earlier first. `None`: there are none.
    pub(super) fn all(deltas: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut deltas = deltas.into_iter();
        let mut all = deltas.next()?;
        let Some(second) = deltas.next() else { return Some(all) };
        let first = std::mem::take(&mut all.changed);
        let mut changed: BTreeMap<Arc<ObjectId>, Change> =
            first.into_iter().map(|change| (change.id.clone(), change)).collect();
        for later in std::iter::once(second).chain(deltas) {
            for change in later.changed {
                match changed.get_mut(&change.id) {
                    Some(known) => known.after = change.after,
                    None => drop(changed.insert(change.id.clone(), change)),
                }
            }
            all.shown |= later.shown;
            all.mesh |= later.mesh;
            all.told.extend(later.told);
            all.since = all.since.min(later.since);
        }
        all.changed = changed.into_values().filter(Change::is_one).collect();
        Some(all)
    }
}

impl Change {
    /// Whether before and after differ in content.
    pub(super) fn is_one(&self) -> bool {
        let hash = |object: &Option<Arc<Object>>| object.as_ref().map(|object| object.content_hash());
        hash(&self.before) != hash(&self.after)
    }
}
