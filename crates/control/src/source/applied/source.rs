//! Applied objects as a source: each batch is written to disk, then said as one update.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use api::{Object, ObjectId};

use super::batch::{Deletion, Known, Planned, Target, plan, plan_deletion};
use super::restoration::{Restoration, plan_restoration};
use super::revision::{Change, Entry, Verb, Version};
use super::store::{AppliedError, Cause, Current, Store, Write};
use crate::lock::lock;
use crate::source::manifest::Manifest;
use crate::source::{Loaded, Origin, Slot, SourceId, Update, Upsert};
use crate::store::{Held, ObjectStore};

/// The applied objects with their store.
pub(crate) struct AppliedSource {
    /// Locked while the disk is written: only commands about applied objects wait for it.
    store: Mutex<Store>,
    /// A copy of what it holds. Locked for moments only.
    applied: Mutex<BTreeMap<Arc<ObjectId>, Current>>,
    /// The objects of all sources.
    objects: Arc<RwLock<ObjectStore>>,
    /// Says updates; returns which of all it was.
    say: Box<dyn Fn(Vec<Update>) -> u64 + Send + Sync>,
    /// What it returned last.
    said: AtomicU64,
    /// The write that is under way: since when, and whether it was told that it takes long.
    writing: Mutex<Option<(Instant, bool)>>,
    path: PathBuf,
}

/// A batch that was applied.
pub(crate) struct Applied<T> {
    /// `None`: nothing had to be changed.
    pub(crate) revision: Option<u64>,
    /// Which of all that was said was the newest change of what is applied.
    pub(crate) said: u64,
    pub(crate) what: T,
}

impl std::fmt::Debug for AppliedSource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AppliedSource").finish_non_exhaustive()
    }
}

impl AppliedSource {
    pub(crate) fn new(
        store: Store,
        objects: Arc<RwLock<ObjectStore>>,
        say: impl Fn(Vec<Update>) -> u64 + Send + Sync + 'static,
    ) -> Self {
        let (applied, path) = (store.current().clone(), store.path().to_owned());
        let (store, applied) = (Mutex::new(store), Mutex::new(applied));
        let (said, writing) = (AtomicU64::new(0), Mutex::default());
        Self { store, applied, objects, say: Box::new(say), said, writing, path }
    }

    /// All that is applied.
    pub(crate) fn all(&self, since: Instant) -> Update {
        let mut update = Update::all(SourceId::Applied, since);
        for (id, current) in lock(&self.applied).iter() {
            tell(id, Some(current), &mut update);
        }
        update
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
        let planned = plan(manifests, &self.known());
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
        let (revision, said) = self.change(&mut store, &changes, cause, since, dry_run)?;
        Ok(Applied { revision, said, what: planned })
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
        let deletion = plan_deletion(targets, &self.known());
        let refused = deletion.is_refused(targets);
        let changes: Vec<Write> = deletion
            .deleted
            .iter()
            .map(|(id, _)| (Change { id: (**id).clone(), verb: Verb::Deleted, text: None }, None))
            .collect();
        let (revision, said) = self.change(&mut store, &changes, cause, since, dry_run || refused)?;
        Ok(Applied { revision, said, what: deletion })
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
        let (revision, said) = self.change(&mut store, &what.changes, cause, since, dry_run)?;
        Ok(Applied { revision, said, what })
    }

    /// Writes the changes to disk and then says them. The store stays locked, so that updates come in the order of revisions.
    fn change(
        &self,
        store: &mut Store,
        changes: &[Write],
        cause: Cause,
        since: Instant,
        dry_run: bool,
    ) -> Result<(Option<u64>, u64), AppliedError> {
        if changes.is_empty() || dry_run {
            return Ok((None, self.said.load(Ordering::Acquire)));
        }
        *lock(&self.writing) = Some((Instant::now(), false));
        let written = store.commit(changes, cause);
        *lock(&self.writing) = None;
        let revision = written?;
        let mut update = Update::part(SourceId::Applied, since);
        for (change, _) in changes {
            tell(&Arc::new(change.id.clone()), store.current().get(&change.id), &mut update);
        }
        lock(&self.applied).clone_from(store.current());
        let said = (self.say)(vec![update]);
        self.said.store(said, Ordering::Release);
        Ok((Some(revision), said))
    }

    /// Says, once for each write, that the disk has not answered for so long.
    pub(crate) fn tell_slow_disk(&self, limit: Duration, log: impl FnOnce(&str)) {
        let mut writing = lock(&self.writing);
        let Some((since, told)) = writing.as_mut().filter(|(since, _)| since.elapsed() >= limit) else {
            return;
        };
        if !std::mem::replace(told, true) {
            log(&format!(
                "the applied objects have not been written to {} for {} s: the disk does not answer; what is applied and \
                 deleted waits, everything else goes on",
                self.path.display(),
                since.elapsed().as_secs()
            ));
        }
    }

    fn known(&self) -> KnownNow<'_> {
        KnownNow {
            applied: lock(&self.applied).clone(),
            objects: self.objects.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The revision in which an object that is applied came to say what it says.
    pub(crate) fn revision_of(&self, id: &ObjectId) -> Option<u64> {
        lock(&self.applied).get(id).map(|current| current.revision)
    }

    /// The manifest of an object if it is applied.
    pub(crate) fn manifest(&self, id: &ObjectId) -> Result<Option<String>, AppliedError> {
        if !lock(&self.applied).contains_key(id) {
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

/// What an applied object is now, as part of an update.
fn tell(id: &Arc<ObjectId>, current: Option<&Current>, update: &mut Update) {
    match current.and_then(|current| Some((current, current.object.clone()?))) {
        Some((Current { revision, .. }, object)) => {
            let loaded = Loaded { object, stale: false, origin: Origin::Applied { revision: *revision } };
            update.upserts.push(Upsert { slot: Slot::Only, loaded });
        }
        None => update.deletes.push((id.clone(), Slot::Only)),
    }
    let problems = current.map(|current| current.problems.clone()).unwrap_or_default();
    update.problems.push((format!("{}/{id}", id.group).into(), problems));
}

/// The objects that a batch is compared with.
struct KnownNow<'s> {
    applied: BTreeMap<Arc<ObjectId>, Current>,
    objects: RwLockReadGuard<'s, ObjectStore>,
}

impl Known for KnownNow<'_> {
    fn applied(&self, id: &ObjectId) -> Option<Option<&Arc<Object>>> {
        self.applied.get(id).map(|current| current.object.as_ref())
    }

    fn in_file(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        in_file(&self.objects.get(id)?)
    }

    fn ids(&self) -> BTreeSet<Arc<ObjectId>> {
        let in_files = self.objects.iter().filter_map(|held| in_file(&held));
        self.applied.keys().chain(in_files.map(|object| object.identity())).cloned().collect()
    }
}

/// The version of an object that stands in a watched file: the winner, or the first to take over.
fn in_file<'s>(held: &Held<'s>) -> Option<&'s Arc<Object>> {
    let winner = (held.source, &held.loaded.object);
    let all = std::iter::once(winner).chain(held.losers().map(|loser| (loser.source, &loser.loaded.object)));
    all.filter(|(source, _)| matches!(source, SourceId::Directory(_))).map(|(_, object)| object).next()
}
