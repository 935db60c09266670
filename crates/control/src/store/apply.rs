//! An update taken in.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ObjectId, Problem, Spec};

use super::{Candidate, Change, Delta, Entry, ObjectStore, Source};
use crate::source::{Extent, Slot, SourceId, Standing, Update, Upsert};

/// The candidates of the identities that an update touches, as they were before it.
type Before = BTreeMap<Arc<ObjectId>, Vec<Candidate>>;

impl ObjectStore {
    /// Takes in what a source says. `generation`: the one that the changes will be part of.
    ///
    /// Costs by the size of the update, but one that is all of its source looks at every object once: whatever else
    /// the source had is to be found.
    pub fn apply(&mut self, update: Update, generation: u64) -> Delta {
        let Update { source, extent, upserts, deletes, problems, standing, since } = update;
        let mesh = self.mesh_hash();
        let mut before = Before::new();
        if extent == Extent::All {
            self.empty(source, &mut before);
        }
        for (id, slot) in deletes {
            self.remove(source, &id, &slot, &mut before);
        }
        for Upsert { slot, loaded } in upserts {
            self.put(Candidate { source, slot, loaded }, &mut before);
        }
        let mut shown = !before.is_empty();
        let mut told = Vec::new();
        let mut changed = Vec::new();
        for (id, before) in before {
            changed.extend(self.settle(id, &before, generation, &mut told));
        }
        shown |= self.replace_problems(source, extent, problems, &mut told);
        let known = self.sources.entry(source).or_default();
        if let Some(standing) = standing {
            shown |= std::mem::replace(&mut known.standing, standing) != standing;
        }
        Delta { changed, shown, mesh: mesh != self.mesh_hash(), told, since }
    }

    /// The same for several, as one change. `None`: there are none.
    pub fn apply_all(&mut self, updates: impl IntoIterator<Item = Update>, generation: u64) -> Option<Delta> {
        let delta = Delta::all(updates.into_iter().map(|update| self.apply(update, generation)))?;
        if !delta.changed.is_empty() {
            self.generation = generation;
        }
        Some(delta)
    }

    /// Takes out every object of a source.
    fn empty(&mut self, source: SourceId, before: &mut Before) {
        for (id, entry) in &mut self.objects {
            if entry.candidates.iter().any(|candidate| candidate.source == source) {
                before.entry(id.clone()).or_insert_with(|| entry.candidates.clone());
                entry.candidates.retain(|candidate| candidate.source != source);
            }
        }
    }

    fn remove(&mut self, source: SourceId, id: &Arc<ObjectId>, slot: &Slot, before: &mut Before) {
        let Some(entry) = self.objects.get_mut(id) else { return };
        before.entry(id.clone()).or_insert_with(|| entry.candidates.clone());
        entry.candidates.retain(|candidate| candidate.place() != (source, slot));
    }

    fn put(&mut self, new: Candidate, before: &mut Before) {
        let id = new.loaded.object.identity();
        let entry = self
            .objects
            .entry(id.clone())
            .or_insert_with(|| Entry { candidates: Vec::with_capacity(1), since: 0 });
        before.entry(id.clone()).or_insert_with(|| entry.candidates.clone());
        match entry.candidates.binary_search_by(|candidate| candidate.place().cmp(&new.place())) {
            Ok(at) => {
                if let Some(known) = entry.candidates.get_mut(at) {
                    *known = new;
                }
            }
            Err(at) => entry.candidates.insert(at, new),
        }
    }

    /// Brings everything that follows from an identity's candidates in step with them.
    fn settle(
        &mut self,
        id: Arc<ObjectId>,
        before: &[Candidate],
        generation: u64,
        told: &mut Vec<Problem>,
    ) -> Option<Change> {
        let unsettled = self.objects.get(&id).is_none_or(|entry| entry.candidates.is_empty());
        if unsettled {
            self.objects.remove(&id);
        }
        let (old, new) = (before.first(), self.objects.get(&id).and_then(|entry| entry.candidates.first()));
        let object = |candidate: Option<&Candidate>| candidate.map(|c| c.loaded.object.clone());
        let change = Change { id: id.clone(), before: object(old), after: object(new) };
        let stale = new.is_some_and(|candidate| candidate.loaded.stale);
        self.index(&change, stale);
        self.tell_losers(&id, before, told);
        self.tell_not_acted_on(&change, told);
        if !change.is_one() {
            return None;
        }
        if let Some(entry) = self.objects.get_mut(&id) {
            entry.since = generation;
        }
        Some(change)
    }

    fn index(&mut self, change: &Change, stale: bool) {
        let Self { objects, contested, stale: known_stale, mesh, unsupported, .. } = self;
        let id = &change.id;
        let spec = change.after.as_ref().map(|object| &object.spec);
        mark(contested, id, objects.get(id).is_some_and(|entry| entry.candidates.len() > 1));
        mark(known_stale, id, stale);
        mark(mesh, id, matches!(spec, Some(Spec::MeshConfig(_))));
        for (object, is_there) in [(&change.before, false), (&change.after, true)] {
            let Some(object) = object.as_ref().filter(|o| matches!(o.spec, Spec::Unsupported)) else {
                continue;
            };
            let kind = (object.meta.api_version.clone(), object.meta.kind.clone());
            let of_kind = unsupported.entry(kind.clone()).or_default();
            mark(of_kind, id, is_there);
            if of_kind.is_empty() {
                unsupported.remove(&kind);
            }
        }
    }

    /// Whether something about problems is another now.
    fn replace_problems(
        &mut self,
        source: SourceId,
        extent: Extent,
        problems: Vec<(Arc<str>, Vec<Problem>)>,
        told: &mut Vec<Problem>,
    ) -> bool {
        let known: &mut Source = self.sources.entry(source).or_default();
        let old = match extent {
            Extent::All => std::mem::take(&mut known.problems),
            Extent::Part => BTreeMap::new(),
        };
        let any = !problems.is_empty() || !old.is_empty();
        for (file, problems) in problems {
            let before = known.problems.remove(&file).or_else(|| old.get(&file).cloned()).unwrap_or_default();
            told.extend(problems.iter().filter(|problem| !before.contains(problem)).cloned());
            if !problems.is_empty() {
                known.problems.insert(file, problems);
            }
        }
        any
    }

    /// What the mesh configuration says, as a hash.
    fn mesh_hash(&self) -> Option<u64> {
        self.mesh_object().map(|loaded| loaded.object.content_hash())
    }

    /// How far each source can be relied on.
    pub fn standings(&self) -> impl Iterator<Item = (SourceId, Standing)> {
        self.sources.iter().map(|(id, source)| (*id, source.standing))
    }
}

impl Candidate {
    /// The order of precedence.
    pub(super) fn place(&self) -> (SourceId, &Slot) {
        (self.source, &self.slot)
    }
}

fn mark(set: &mut std::collections::BTreeSet<Arc<ObjectId>>, id: &Arc<ObjectId>, is_in: bool) {
    if !is_in {
        set.remove(id);
    } else if !set.contains(id) {
        set.insert(id.clone());
    }
}
