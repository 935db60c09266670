//! The embedded store of revisions (`redb`: one file, copy on write, one fsync a transaction).
//!
//! Versions of objects are keyed by identity and revision, so that the history of one object is a range. Compaction
//! keeps, of what is older than the oldest revision kept, the newest version of each object: what is applied now is
//! never dropped, and the state after every revision that is kept can be told.

use std::collections::{BTreeSet, VecDeque};

use api::ObjectId;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
    WriteTransaction,
};

use super::revision::{Change, Revision, Verb, Version};

/// An identity and a revision.
type VersionKey = (&'static str, &'static str, &'static str, &'static str, u64);
/// A revision and an identity.
type ChangeKey = (u64, &'static str, &'static str, &'static str, &'static str);

/// Manifests; none where the object was deleted.
const VERSIONS: TableDefinition<VersionKey, Option<&str>> = TableDefinition::new("versions");
/// Who and when, as JSON.
const REVISIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("revisions");
/// What a revision did to which objects.
const CHANGES: TableDefinition<ChangeKey, &str> = TableDefinition::new("changes");

/// How much is kept besides what is applied now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) revisions: usize,
    /// Of manifests. The newest revision is kept however large it is.
    pub(crate) bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { revisions: 10_000, bytes: 64 << 20 }
    }
}

/// The revisions on disk. After an error it must be opened anew: only the disk knows how far a commit came.
#[derive(Debug)]
pub(crate) struct Revisions {
    database: Database,
    limits: Limits,
    /// Number and bytes of those that are kept, oldest first.
    kept: VecDeque<(u64, u64)>,
}

impl Revisions {
    pub(crate) fn over(database: Database, limits: Limits) -> Result<Self, redb::Error> {
        let mut log = Self { database, limits, kept: VecDeque::new() };
        log.kept = log.revisions()?.into_iter().map(|revision| (revision.number, revision.bytes)).collect();
        Ok(log)
    }

    /// The number of the newest revision; 0: there is none.
    pub(crate) fn last(&self) -> u64 {
        self.kept.back().map_or(0, |(number, _)| *number)
    }

    /// Writes one revision, on disk when this returns.
    pub(crate) fn append(&mut self, revision: &Revision, changes: &[Change]) -> Result<(), redb::Error> {
        let record = serde_json::to_vec(revision).map_err(std::io::Error::from)?;
        let mut kept = self.kept.clone();
        kept.push_back((revision.number, revision.bytes));
        let dropped = self.limits.exceeding(&mut kept);
        let write = self.database.begin_write()?;
        write.open_table(REVISIONS)?.insert(revision.number, record.as_slice())?;
        {
            let mut versions = write.open_table(VERSIONS)?;
            let mut told = write.open_table(CHANGES)?;
            for Change { id, verb, text } in changes {
                versions.insert(version_key(id, revision.number), text.as_deref())?;
                told.insert(change_key(revision.number, id), verb.as_str())?;
            }
        }
        if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
            compact(&write, *first, *last)?;
        }
        write.commit()?;
        self.kept = kept;
        Ok(())
    }

    /// Removes the newest revision, of which nobody was told that it is there.
    pub(crate) fn take_back(&mut self, number: u64) -> Result<(), redb::Error> {
        let changes = self.changes(number)?;
        let write = self.database.begin_write()?;
        write.open_table(REVISIONS)?.remove(number)?;
        {
            let mut versions = write.open_table(VERSIONS)?;
            let mut told = write.open_table(CHANGES)?;
            for (id, _) in &changes {
                versions.remove(version_key(id, number))?;
                told.remove(change_key(number, id))?;
            }
        }
        write.commit()?;
        self.kept.retain(|(kept, _)| *kept != number);
        Ok(())
    }

    /// Those that are kept, oldest first.
    pub(crate) fn revisions(&self) -> Result<Vec<Revision>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(REVISIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut found = Vec::with_capacity(usize::try_from(table.len()?).unwrap_or_default());
        for entry in table.iter()? {
            let (_, record) = entry?;
            found.push(serde_json::from_slice(record.value()).map_err(std::io::Error::from)?);
        }
        Ok(found)
    }

    /// What a revision did, in the order of identities. Empty for one that is not kept.
    pub(crate) fn changes(&self, revision: u64) -> Result<Vec<(ObjectId, Verb)>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(CHANGES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut found = Vec::new();
        for entry in table.range(all_of(revision)..all_of(revision.saturating_add(1)))? {
            let (key, verb) = entry?;
            let (_, group, kind, namespace, name) = key.value();
            let verb = Verb::parse(verb.value()).unwrap_or(Verb::Configured);
            found.push((identity((group, kind, namespace, name)), verb));
        }
        Ok(found)
    }

    /// Every object as it was after a revision, in the order of identities; after the newest: `u64::MAX`.
    pub(crate) fn state_after(&self, revision: u64) -> Result<Vec<Version>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(VERSIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut found: Vec<Version> = Vec::new();
        for entry in table.iter()? {
            let (key, text) = entry?;
            let version = version(key.value(), text.value());
            match found.last_mut() {
                _ if version.revision > revision => {}
                Some(older) if older.id == version.id => *older = version,
                _ => found.push(version),
            }
        }
        found.retain(|version| version.text.is_some());
        Ok(found)
    }

    /// The versions of one object that are kept, oldest first.
    pub(crate) fn versions(&self, id: &ObjectId) -> Result<Vec<Version>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(VERSIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut found = Vec::new();
        for entry in table.range(version_key(id, 0)..=version_key(id, u64::MAX))? {
            let (key, text) = entry?;
            found.push(version(key.value(), text.value()));
        }
        Ok(found)
    }
}

impl Limits {
    /// Takes away the oldest revisions that are too many; the newest stays. Returns their numbers.
    fn exceeding(self, kept: &mut VecDeque<(u64, u64)>) -> Vec<u64> {
        let mut bytes: u64 = kept.iter().map(|(_, bytes)| *bytes).sum();
        let mut dropped = Vec::new();
        while kept.len() > 1 && (kept.len() > self.revisions || bytes > self.bytes) {
            let Some((number, size)) = kept.pop_front() else { break };
            bytes -= size;
            dropped.push(number);
        }
        dropped
    }
}

/// Drops the revisions from `first` to `last`, and of the objects they changed every version that no later one needs.
fn compact(write: &WriteTransaction, first: u64, last: u64) -> Result<(), redb::Error> {
    let mut revisions = write.open_table(REVISIONS)?;
    let mut changes = write.open_table(CHANGES)?;
    let mut versions = write.open_table(VERSIONS)?;
    let mut touched = BTreeSet::new();
    for entry in changes.extract_from_if(all_of(first)..all_of(last.saturating_add(1)), |_, _| true)? {
        let (key, _) = entry?;
        let (_, group, kind, namespace, name) = key.value();
        touched.insert(identity((group, kind, namespace, name)));
    }
    for number in first..=last {
        revisions.remove(number)?;
    }
    for id in touched {
        let mut old = Vec::new();
        for entry in versions.range(version_key(&id, 0)..=version_key(&id, last))? {
            let (key, text) = entry?;
            old.push((key.value().4, text.value().is_none()));
        }
        // The newest of them is what the oldest revision that is kept began with.
        let base = old.last().filter(|(_, deleted)| !deleted).map(|(number, _)| *number);
        for (number, _) in old.into_iter().filter(|(number, _)| Some(*number) != base) {
            versions.remove(version_key(&id, number))?;
        }
    }
    Ok(())
}

fn version_key(id: &ObjectId, revision: u64) -> (&str, &str, &str, &str, u64) {
    (&id.group, &id.kind, &id.namespace, &id.name, revision)
}

fn change_key(revision: u64, id: &ObjectId) -> (u64, &str, &str, &str, &str) {
    (revision, &id.group, &id.kind, &id.namespace, &id.name)
}

/// Where the changes of a revision begin.
fn all_of(revision: u64) -> ChangeKey {
    (revision, "", "", "", "")
}

fn identity((group, kind, namespace, name): (&str, &str, &str, &str)) -> ObjectId {
    ObjectId { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

fn version(key: (&str, &str, &str, &str, u64), text: Option<&str>) -> Version {
    let (group, kind, namespace, name, revision) = key;
    Version { id: identity((group, kind, namespace, name)), revision, text: text.map(str::to_owned) }
}
