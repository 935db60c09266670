//! Applied objects over those of the directories: an applied one wins, the other is named.
//!
//! This is an adapter: until sources deliver deltas, it merges both sides into one complete [`Reading`] whenever either
//! changes. When the engine takes updates of single objects, [`AppliedSource::change`] sends it the upserts and deletes
//! of the batch it has just written (the list of [`Write`]), and `Sides` goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use api::{Object, ObjectId, Problem, Severity};

use super::batch::{Deletion, Known, Planned, Target, plan, plan_deletion};
use super::restoration::{Restoration, plan_restoration};
use super::revision::{Change, Entry, Verb, Version};
use super::store::{AppliedError, Cause, Current, Store, Write};
use crate::lock::lock;
use crate::source::manifest::Manifest;
use crate::source::{Loaded, Reading};

/// The applied objects with their store, and the newest reading of the directories.
pub(crate) struct AppliedSource {
    /// Locked while the disk is written: only commands about applied objects wait for it.
    store: Mutex<Store>,
    sides: Mutex<Sides>,
    changed: Box<dyn Fn(Reading) + Send + Sync>,
}

/// The newest objects of both sides. Locked for moments only.
struct Sides {
    directories: Reading,
    applied: BTreeMap<Arc<ObjectId>, Current>,
    /// Readings that were handed on, the first included.
    readings: u64,
}

/// A batch that was applied.
pub(crate) struct Applied<T> {
    /// `None`: nothing had to be changed.
    pub(crate) revision: Option<u64>,
    /// How many readings were handed on up to the one with the change.
    pub(crate) readings: u64,
    pub(crate) what: T,
}

impl std::fmt::Debug for AppliedSource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AppliedSource").finish_non_exhaustive()
    }
}

impl AppliedSource {
    /// `changed` gets every reading after the first, one after the other.
    pub(crate) fn new(store: Store, changed: impl Fn(Reading) + Send + Sync + 'static) -> Self {
        let applied = store.current().clone();
        let directories =
            Reading { objects: Vec::new(), problems: Vec::new(), unread: Vec::new(), since: Instant::now() };
        let sides = Sides { directories, applied, readings: 1 };
        Self { store: Mutex::new(store), sides: Mutex::new(sides), changed: Box::new(changed) }
    }

    /// The reading that the engine starts with.
    pub(crate) fn first(&self, directories: Reading) -> Reading {
        let mut sides = lock(&self.sides);
        let since = directories.since;
        // The watching thread runs already and may have handed on a later reading of the directories.
        if sides.readings == 1 {
            sides.directories = directories;
        }
        sides.reading(since)
    }

    /// The directories say something else.
    pub(crate) fn directories(&self, reading: Reading) {
        let mut sides = lock(&self.sides);
        let since = reading.since;
        sides.directories = reading;
        self.hand_on(&mut sides, since);
    }

    /// Applies a batch as one change.
    pub(crate) fn apply(
        &self,
        manifests: Vec<Manifest>,
        cause: Cause,
        dry_run: bool,
    ) -> Result<Applied<Vec<Planned>>, AppliedError> {
        let since = Instant::now();
        let mut store = lock(&self.store);
        let planned = plan(manifests, &lock(&self.sides).known());
        // Of several manifests of one object the last is what is stored.
        let mut changes: BTreeMap<&ObjectId, &Planned> = BTreeMap::new();
        for one in planned.iter().filter(|one| one.verb != Verb::Unchanged) {
            changes.insert(one.manifest.object.identity(), one);
        }
        let changes: Vec<Write> = changes
            .into_iter()
            .map(|(id, one)| {
                let text = Some(one.manifest.text.clone());
                (Change { id: id.clone(), verb: one.verb, text }, Some(one.manifest.object.clone()))
            })
            .collect();
        let (revision, readings) = self.change(&mut store, &changes, cause, since, dry_run)?;
        Ok(Applied { revision, readings, what: planned })
    }

    /// Deletes a batch as one change; nothing if a target is refused.
    pub(crate) fn delete(
        &self,
        targets: &[Target],
        cause: Cause,
        dry_run: bool,
    ) -> Result<Applied<Deletion>, AppliedError> {
        let since = Instant::now();
        let mut store = lock(&self.store);
        let deletion = plan_deletion(targets, &lock(&self.sides).known());
        let refused = deletion.is_refused(targets);
        let changes: Vec<Write> = deletion
            .deleted
            .iter()
            .map(|(id, _)| (Change { id: (**id).clone(), verb: Verb::Deleted, text: None }, None))
            .collect();
        let (revision, readings) = self.change(&mut store, &changes, cause, since, dry_run || refused)?;
        Ok(Applied { revision, readings, what: deletion })
    }

    /// Makes what is applied what it was after a revision, as one change. Objects that can no longer be read as they
    /// were refuse it.
    pub(crate) fn restore(
        &self,
        revision: u64,
        cause: Cause,
        dry_run: bool,
    ) -> Result<Applied<Restoration>, AppliedError> {
        let since = Instant::now();
        let mut store = lock(&self.store);
        let versions = store.state_after(revision)?;
        let what = plan_restoration(versions, store.current());
        let dry_run = dry_run || !what.problems.is_empty();
        let (revision, readings) = self.change(&mut store, &what.changes, cause, since, dry_run)?;
        Ok(Applied { revision, readings, what })
    }

    /// Writes the changes to disk and then hands them on. The store stays locked, so that readings come in the order of
    /// revisions.
    fn change(
        &self,
        store: &mut Store,
        changes: &[Write],
        cause: Cause,
        since: Instant,
        dry_run: bool,
    ) -> Result<(Option<u64>, u64), AppliedError> {
        if changes.is_empty() || dry_run {
            return Ok((None, lock(&self.sides).readings));
        }
        let revision = store.commit(changes, cause)?;
        let mut sides = lock(&self.sides);
        sides.applied = store.current().clone();
        self.hand_on(&mut sides, since);
        Ok((Some(revision), sides.readings))
    }

    fn hand_on(&self, sides: &mut Sides, since: Instant) {
        sides.readings += 1;
        (self.changed)(sides.reading(since));
    }

    /// The revision in which an object that is applied came to say what it says.
    pub(crate) fn revision_of(&self, id: &ObjectId) -> Option<u64> {
        lock(&self.sides).applied.get(id).map(|current| current.revision)
    }

    /// The manifest of an object if it is applied.
    pub(crate) fn manifest(&self, id: &ObjectId) -> Result<Option<String>, AppliedError> {
        if !lock(&self.sides).applied.contains_key(id) {
            return Ok(None);
        }
        lock(&self.store).manifest(id)
    }

    /// The newest `limit` revisions that did something to an object `about` which is asked, oldest first.
    pub(crate) fn history(
        &self,
        limit: usize,
        about: impl Fn(&ObjectId) -> bool,
    ) -> Result<Vec<Entry>, AppliedError> {
        let mut store = lock(&self.store);
        let mut found = Vec::new();
        for revision in store.revisions()?.into_iter().rev() {
            if found.len() >= limit {
                break;
            }
            let mut changes = store.changes(revision.number)?;
            changes.retain(|(id, _)| about(id));
            if !changes.is_empty() {
                found.push(Entry { revision, changes });
            }
        }
        found.reverse();
        Ok(found)
    }

    /// All that was applied after a revision.
    pub(crate) fn state_after(&self, revision: u64) -> Result<Vec<Version>, AppliedError> {
        lock(&self.store).state_after(revision)
    }
}

impl Deletion {
    /// Whether nothing is deleted: a target is ambiguous, or one that was named stands in a watched file only.
    pub(crate) fn is_refused(&self, targets: &[Target]) -> bool {
        let named = |target: &Target| !matches!(target, Target::Named { name: None, .. });
        !self.ambiguous.is_empty() || (!self.in_files.is_empty() && targets.iter().any(named))
    }
}

impl Sides {
    fn reading(&self, since: Instant) -> Reading {
        let Reading { objects, problems, unread, .. } = &self.directories;
        let (mut objects, mut problems, unread) = (objects.clone(), problems.clone(), unread.clone());
        objects.retain(|loaded| {
            let winner =
                self.applied.get(loaded.object.identity()).filter(|current| current.object.is_some());
            if let Some(winner) = winner {
                problems.push(conflict(&loaded.object, winner.revision));
            }
            winner.is_none()
        });
        let mut not_acted_on = BTreeSet::new();
        for current in self.applied.values() {
            problems.extend(current.problems.iter().cloned());
            let Some(object) = &current.object else { continue };
            if matches!(object.spec, api::Spec::Unsupported)
                && not_acted_on.insert((&object.meta.api_version, &object.meta.kind))
            {
                let message =
                    format!("{} ({}) is not acted on yet", object.meta.kind, object.meta.api_version);
                problems.push(warning(object, message));
            }
            objects.push(Loaded { object: object.clone(), stale: false });
        }
        Reading { objects, problems, unread, since }
    }

    fn known(&self) -> KnownNow<'_> {
        let in_files = self.directories.objects.iter().map(|l| (&**l.object.identity(), &l.object)).collect();
        KnownNow { applied: &self.applied, in_files }
    }
}

/// The objects that a batch is compared with.
struct KnownNow<'s> {
    applied: &'s BTreeMap<Arc<ObjectId>, Current>,
    in_files: HashMap<&'s ObjectId, &'s Arc<Object>>,
}

impl Known for KnownNow<'_> {
    fn applied(&self, id: &ObjectId) -> Option<Option<&Arc<Object>>> {
        self.applied.get(id).map(|current| current.object.as_ref())
    }

    fn in_file(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        self.in_files.get(id).copied()
    }

    fn ids(&self) -> BTreeSet<Arc<ObjectId>> {
        let in_files = self.in_files.values().map(|object| object.identity());
        self.applied.keys().chain(in_files).cloned().collect()
    }
}

/// The version in a file does not count.
fn conflict(loser: &Object, revision: u64) -> Problem {
    warning(loser, format!("was also applied (revision {revision}), and what was applied counts"))
}

fn warning(object: &Object, message: String) -> Problem {
    Problem {
        severity: Severity::Warning,
        file: object.source.file.clone(),
        line: object.source.line,
        column: object.source.column,
        object: Some(object.id()),
        path: String::new(),
        message,
    }
}
