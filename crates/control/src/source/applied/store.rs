//! The objects that are applied now. Changed one batch at a time: on disk first, then in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{Object, ObjectId, Problem};
use redb::backends::FileBackend;
use redb::{Database, DatabaseError};

use super::revision::{Change, Revision, Version, Who};
use super::revisions::{Limits, Revisions};

/// Memory for pages of the file; the library's default is a gigabyte.
const CACHE: usize = 8 << 20;

/// Why a change was not made, or something could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AppliedError {
    #[error(
        "the applied objects cannot be written to {path}: {reason}; nothing was changed, the mesh goes on as it is: \
         check the disk's space and permissions", path = path.display()
    )]
    Write { path: PathBuf, reason: String },
    #[error(
        "the applied objects cannot be read from {path}: {reason}; check the disk, or move the file away to start \
         without what was applied", path = path.display()
    )]
    Read { path: PathBuf, reason: String },
    #[error("there is no revision {0}: it was never made, or it is older than what is kept")]
    NoRevision(u64),
}

/// Opens the database; `create`: makes it if there is none.
type Open = Box<dyn Fn(bool) -> Result<Option<Database>, DatabaseError> + Send>;

pub(crate) struct Store {
    open: Open,
    limits: Limits,
    path: PathBuf,
    /// Absent until something is applied, and after an error until the next command.
    revisions: Option<Revisions>,
    current: BTreeMap<Arc<ObjectId>, Current>,
    last: u64,
    /// A revision that was reported as failed while the disk could not be read: if it turns out to be on disk, it is taken
    /// back.
    disowned: Option<u64>,
}

/// An applied object.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) revision: u64,
    /// `None` if what is stored can no longer be read as the object.
    pub(crate) object: Option<Arc<Object>>,
    /// Of its manifest.
    pub(crate) problems: Vec<Problem>,
}

/// A change with the object that is applied by it; none for one that is deleted.
pub(crate) type Write = (Change, Option<Arc<Object>>);

/// Who changes something, why and when.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) who: Who,
    pub(crate) comment: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Store").field("path", &self.path).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Store {
    /// Reads what was applied before. The file is made with the first revision.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, AppliedError> {
        let path = state_dir.join("applied.redb");
        let file = path.clone();
        Self::over(path, Limits::default(), Box::new(move |create| open_file(&file, create)))
    }

    pub(crate) fn over(path: PathBuf, limits: Limits, open: Open) -> Result<Self, AppliedError> {
        let mut store =
            Self { open, limits, path, revisions: None, current: BTreeMap::new(), last: 0, disowned: None };
        store.reopen(false)?;
        Ok(store)
    }

    /// Where they are kept.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn current(&self) -> &BTreeMap<Arc<ObjectId>, Current> {
        &self.current
    }

    /// Makes a change: on disk when this returns, or nothing of it is.
    pub(crate) fn commit(&mut self, changes: &[Write], cause: Cause) -> Result<u64, AppliedError> {
        if self.revisions.is_none() {
            self.reopen(true).map_err(|error| self.not_written(error))?;
        }
        let written: Vec<Change> = changes.iter().map(|(change, _)| change.clone()).collect();
        let bytes =
            written.iter().filter_map(|change| change.text.as_ref()).map(|text| text.len() as u64).sum();
        let Cause { who, comment, at } = cause;
        let revision = Revision { number: self.last + 1, at, who, comment, bytes };
        let number = revision.number;
        let Some(revisions) = &mut self.revisions else {
            return Err(self.not_written("it was not opened"));
        };
        if let Err(error) = revisions.append(&revision, &written) {
            // An error of a commit does not tell whether the revision reached the disk: the file, opened anew, does.
            self.revisions = None;
            let before = self.last;
            if self.reopen(false).is_err() {
                self.disowned = Some(number);
            }
            if self.last == before {
                return Err(self.not_written(error));
            }
            return Ok(self.last);
        }
        self.last = number;
        for (change, object) in changes {
            match object {
                Some(object) => {
                    let current = Current::new(number, object.clone());
                    self.current.insert(object.identity().clone(), current);
                }
                None => {
                    self.current.remove(&change.id);
                }
            }
        }
        Ok(number)
    }

    /// The revisions that are kept, oldest first.
    pub(crate) fn revisions(&mut self) -> Result<Vec<Revision>, AppliedError> {
        self.ask(Revisions::revisions)
    }

    /// What a revision did.
    pub(crate) fn changes(
        &mut self,
        revision: u64,
    ) -> Result<Vec<(ObjectId, super::revision::Verb)>, AppliedError> {
        self.ask(|revisions| revisions.changes(revision))
    }

    /// The versions of one object that are kept, oldest first.
    pub(crate) fn versions(&mut self, id: &ObjectId) -> Result<Vec<Version>, AppliedError> {
        self.ask(|revisions| revisions.versions(id))
    }

    /// All that was applied after a revision.
    pub(crate) fn state_after(&mut self, revision: u64) -> Result<Vec<Version>, AppliedError> {
        let kept = self.revisions()?;
        if !kept.iter().any(|known| known.number == revision) {
            return Err(AppliedError::NoRevision(revision));
        }
        self.ask(|revisions| revisions.state_after(revision))
    }

    /// The manifest of an object that is applied.
    pub(crate) fn manifest(&mut self, id: &ObjectId) -> Result<Option<String>, AppliedError> {
        if !self.current.contains_key(id) {
            return Ok(None);
        }
        Ok(self.versions(id)?.pop().and_then(|version| version.text))
    }

    fn ask<T: Default>(
        &mut self,
        question: impl FnOnce(&Revisions) -> Result<T, redb::Error>,
    ) -> Result<T, AppliedError> {
        if self.revisions.is_none() {
            self.reopen(false)?;
        }
        let Some(revisions) = &self.revisions else { return Ok(T::default()) };
        let answer = question(revisions);
        answer.map_err(|error| {
            self.revisions = None;
            AppliedError::Read { path: self.path.clone(), reason: error.to_string() }
        })
    }

    /// Opens the file and, if it tells of another revision than memory does, takes its word.
    fn reopen(&mut self, create: bool) -> Result<(), AppliedError> {
        let failed = |reason: String| AppliedError::Read { path: self.path.clone(), reason };
        let database = (self.open)(create).map_err(|error| failed(error.to_string()))?;
        let Some(database) = database else { return Ok(()) };
        let mut revisions =
            Revisions::over(database, self.limits).map_err(|error| failed(error.to_string()))?;
        if let Some(number) = self.disowned
            && revisions.last() == number
        {
            revisions.take_back(number).map_err(|error| failed(error.to_string()))?;
        }
        if revisions.last() != self.last {
            let versions = revisions.state_after(u64::MAX).map_err(|error| failed(error.to_string()))?;
            self.current = versions.into_iter().map(read).collect();
            self.last = revisions.last();
        }
        self.disowned = None;
        self.revisions = Some(revisions);
        Ok(())
    }

    fn not_written(&self, reason: impl fmt::Display) -> AppliedError {
        AppliedError::Write { path: self.path.clone(), reason: reason.to_string() }
    }
}

impl Current {
    /// The object with the revision as its place.
    pub(crate) fn new(revision: u64, object: Arc<Object>) -> Self {
        let mut object = Arc::unwrap_or_clone(object);
        object.source.file = file_name(revision).into();
        Self { revision, object: Some(Arc::new(object)), problems: Vec::new() }
    }
}

/// What objects of a revision name as their file.
pub(crate) fn file_name(revision: u64) -> String {
    format!("applied@{revision}")
}

/// A version as it is stored. One that this program cannot read stays stored; its problems say why it is not served.
fn read(version: Version) -> (Arc<ObjectId>, Current) {
    let Version { id, revision, text } = version;
    let parsed =
        api::parse_documents(&file_name(revision), &text.unwrap_or_default(), &api::Options::default());
    let object = parsed.objects.into_iter().find(|object| **object.identity() == id);
    let id = object.as_ref().map_or_else(|| Arc::new(id), |object| object.identity().clone());
    (id, Current { revision, object, problems: parsed.problems })
}

fn open_file(path: &Path, create: bool) -> Result<Option<Database>, DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt;
    let builder = || {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        builder
    };
    if !path.try_exists().map_err(redb::StorageError::Io)? {
        if !create {
            return Ok(None);
        }
        // Made beside and renamed: a file of this name is a whole database.
        let beside = path.with_extension("new");
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(redb::StorageError::Io)?;
        drop(builder().create_with_backend(FileBackend::new(file)?)?);
        std::fs::rename(&beside, path).map_err(redb::StorageError::Io)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(redb::StorageError::Io)?;
    }
    builder().open(path).map(Some)
}
