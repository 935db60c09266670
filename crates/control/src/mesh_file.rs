//! The mesh configuration from a file of its own: a source of one object.
//!
//! It is the ConfigMap `istio` of the root namespace that it names, so that a ConfigMap of the same identity in another
//! source is in conflict with it like any two objects.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::Problem;

use crate::source::file::{Format, SourceFile, whole_file};
use crate::source::tree::{self, Inode};
use crate::source::{SourceId, Standing, Update};

/// A file that is not there for so long is not being replaced.
const GONE_AFTER: Duration = Duration::from_millis(40);

/// Read again when it changes; what is broken changes nothing.
#[derive(Debug)]
pub struct MeshFile {
    path: PathBuf,
    file: SourceFile,
    standing: Standing,
    /// When it must be there again.
    back_by: Option<Instant>,
    reads: u64,
}

impl MeshFile {
    /// Reads it; with errors in it there is nothing to start with.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let file = SourceFile::new(&path.display().to_string(), Format::MeshConfig);
        let mut mesh = Self { path, file, standing: Standing::Synced, back_by: None, reads: 0 };
        // Why there is no file, in the system's words.
        std::fs::metadata(&mesh.path).map_err(|error| error.to_string())?;
        let now = Instant::now();
        mesh.refresh(now, &mut Update::part(SourceId::MeshFile, now));
        match mesh.file.problems().iter().find(|problem| problem.is_error()) {
            Some(problem) => Err(problem.to_string()),
            None => Ok(mesh),
        }
    }

    /// All it says.
    pub fn all(&self, since: Instant) -> Update {
        let mut update = Update::all(SourceId::MeshFile, since);
        self.file.tell(&mut update);
        update.standing = Some(self.standing);
        update
    }

    /// How often it was read so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Reads it again if it has changed.
    pub(crate) fn refresh(&mut self, now: Instant, update: &mut Update) {
        let Some(stamp) = tree::stamp(&self.path) else { return self.missing(now, update) };
        self.back_by = None;
        if self.file.refresh(&self.path, stamp, false, now, update) {
            self.reads += 1;
        }
        if self.standing != Standing::Synced {
            self.stand(Standing::Synced, self.file.problems().to_vec(), update);
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        [self.file.due(), self.back_by].into_iter().flatten().min()
    }

    /// The directories whose changes may be its changes: its own, and where a link leads to.
    pub(crate) fn watched(&self) -> Vec<(PathBuf, Inode)> {
        let parent = self.path.parent().map(|parent| match parent.as_os_str().is_empty() {
            true => Path::new(".").to_owned(),
            false => parent.to_owned(),
        });
        let directories = parent.into_iter().chain(tree::directories_behind(&self.path));
        directories.filter_map(|path| Inode::of_directory(&path).map(|inode| (path, inode))).collect()
    }

    fn missing(&mut self, now: Instant, update: &mut Update) {
        let gone_at = self.file.missing(now) + GONE_AFTER;
        if now < gone_at {
            self.back_by = Some(gone_at);
            return;
        }
        self.back_by = None;
        if self.standing != Standing::Frozen {
            let message = "is not there any more; the mesh configuration in use stays".to_owned();
            let problem = whole_file(&self.path.display().to_string(), message);
            self.stand(Standing::Frozen, vec![problem], update);
        }
    }

    fn stand(&mut self, standing: Standing, problems: Vec<Problem>, update: &mut Update) {
        self.standing = standing;
        update.standing = Some(standing);
        update.problems.push((self.path.display().to_string().into(), problems));
    }
}
