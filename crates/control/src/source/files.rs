//! All file sources of a control plane: its directories and the file of the mesh configuration.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use super::directory::Directory;
use super::records::Records;
use super::tree::Inode;
use super::update::{SourceId, Standing, Update};
use crate::mesh_file::MeshFile;

/// Does no waiting: it is told when to look, and where.
#[derive(Debug)]
pub struct Files {
    directories: Vec<Directory>,
    mesh: Option<MeshFile>,
    records: Option<Records>,
    /// Directories are not waited for.
    accept_empty: bool,
}

impl Files {
    /// Directories in the order of their flags: the earlier wins. Nothing is read yet.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        let directory = |(number, root)| Directory::new(SourceId::Directory(number), root, None);
        Self {
            directories: roots.into_iter().enumerate().map(directory).collect(),
            mesh: None,
            records: None,
            accept_empty: false,
        }
    }

    /// Waits for directories that had objects before a restart; with `accept_empty` they may be empty or absent.
    #[must_use]
    pub fn remembering(mut self, records: Records, accept_empty: bool) -> Self {
        self.records = Some(records);
        self.accept_empty = accept_empty;
        let directories = std::mem::take(&mut self.directories);
        let remembered = |known: &Directory| self.directory(known.id(), known.path().to_owned());
        self.directories = directories.iter().map(remembered).collect();
        self
    }

    fn directory(&self, id: SourceId, path: PathBuf) -> Directory {
        let seen = self.records.as_ref().and_then(|records| records.before(&path));
        Directory::new(id, path, seen.filter(|_| !self.accept_empty))
    }

    /// Makes these the directories that MeshConfig's `configSources` list, beside those of flags: an update that is all of it
    /// for each that is new. Those that are not listed any more are forgotten without a word.
    pub(crate) fn set_config_sources(&mut self, list: Vec<(SourceId, PathBuf)>, now: Instant) -> Vec<Update> {
        let is_listed = |known: &Directory| {
            list.iter().any(|(id, path)| (*id, path.as_path()) == (known.id(), known.path()))
        };
        self.directories.retain(|known| !matches!(known.id(), SourceId::ConfigSource(_)) || is_listed(known));
        let mut updates = Vec::new();
        for (id, path) in list {
            if self.directories.iter().any(|known| known.id() == id) {
                continue;
            }
            let mut directory = self.directory(id, path);
            updates.push(all_of(&mut directory, now));
            self.directories.push(directory);
        }
        self.note();
        updates
    }

    /// Watches the mesh configuration too.
    #[must_use]
    pub fn with_mesh_file(mut self, mesh: MeshFile) -> Self {
        self.mesh = Some(mesh);
        self
    }

    /// Reads everything: an update for each source that is all of it.
    pub fn first(&mut self, now: Instant) -> Vec<Update> {
        let mut updates: Vec<Update> = self.mesh.iter().map(|mesh| mesh.all(now)).collect();
        updates.extend(self.directories.iter_mut().map(|directory| all_of(directory, now)));
        self.note();
        updates
    }

    /// Looks at every file.
    pub fn scan(&mut self, now: Instant, since: Instant) -> Vec<Update> {
        self.each(now, since, |directory, update| directory.scan(now, update))
    }

    /// Looks at these paths and at what is due.
    pub fn look_at(&mut self, paths: &HashSet<PathBuf>, now: Instant, since: Instant) -> Vec<Update> {
        self.each(now, since, |directory, update| {
            let due = directory.take_due(now);
            let touched = paths.iter().filter(|path| directory.holds(path));
            let paths: Vec<&PathBuf> = touched.chain(&due).collect();
            if paths.iter().any(|path| directory.needs_scan(path)) {
                directory.scan(now, update);
            } else {
                paths.iter().for_each(|path| directory.look_at(path, now, update));
            }
        })
    }

    /// Looks at the directories that are others than they were at the last look.
    pub fn look_for_swaps(&mut self, now: Instant) -> Vec<Update> {
        self.each(now, now, |directory, update| {
            if directory.is_swapped() {
                directory.scan(now, update);
            }
        })
    }

    /// When something has to be looked at whatever happens.
    pub fn due(&self) -> Option<Instant> {
        let mesh = self.mesh.iter().filter_map(MeshFile::due);
        self.directories.iter().filter_map(Directory::due).chain(mesh).min()
    }

    /// Whether some source cannot be read, or is waited for: its return may make no event.
    pub fn lacks_something(&self) -> bool {
        self.directories.iter().any(|directory| directory.standing() != Standing::Synced)
    }

    /// Whether some change may make no event, however much is watched.
    pub(crate) fn leads_outside(&self) -> bool {
        self.directories.iter().any(Directory::leads_outside)
    }

    /// How many files were read so far.
    pub fn reads(&self) -> u64 {
        self.directories.iter().map(Directory::reads).sum()
    }

    /// Moves when the directories to watch may be others.
    pub(crate) fn scans(&self) -> u64 {
        let mesh = self.mesh.iter().map(MeshFile::reads);
        self.directories.iter().map(Directory::scans).chain(mesh).sum()
    }

    /// The directories to watch. A path that several sources watch is there once.
    pub(crate) fn watched(&self) -> BTreeMap<PathBuf, Inode> {
        let directories = self.directories.iter().flat_map(Directory::watched);
        directories.chain(self.mesh.iter().flat_map(MeshFile::watched)).collect()
    }

    /// Lines for an operator about what happened since this was last asked.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        self.directories.iter_mut().flat_map(Directory::take_news).collect()
    }

    /// Writes down what was read, beside: see [`Records::save`].
    pub(crate) fn save_records(&mut self, all: bool) {
        if let Some(records) = &mut self.records {
            records.save(all);
        }
    }

    fn each(
        &mut self,
        now: Instant,
        since: Instant,
        mut look: impl FnMut(&mut Directory, &mut Update),
    ) -> Vec<Update> {
        let mut updates = Vec::new();
        if let Some(mesh) = &mut self.mesh {
            let mut update = Update::part(SourceId::MeshFile, since);
            // One file: it is cheaper to look than to ask whether it is meant.
            mesh.refresh(now, &mut update);
            updates.push(update);
        }
        for directory in &mut self.directories {
            let mut update = Update::part(directory.id(), since);
            look(directory, &mut update);
            updates.push(update);
        }
        updates.retain(|update| !update.is_empty());
        if !updates.is_empty() {
            self.note();
        }
        updates
    }

    fn note(&mut self) {
        let Some(records) = &mut self.records else { return };
        for directory in &self.directories {
            if let Some(seen) = directory.seen() {
                records.note(directory.path(), seen);
            }
        }
    }
}

fn all_of(directory: &mut Directory, now: Instant) -> Update {
    let mut update = Update::all(directory.id(), now);
    directory.scan(now, &mut update);
    update.standing = Some(directory.standing());
    update
}
