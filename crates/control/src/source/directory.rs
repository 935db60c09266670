//! One watched directory: its files, and whether it can be believed.
//!
//! What a directory was once good for stays while it cannot be read, and while it is replaced by an empty one. At a start
//! the record of the run before takes the place of memory: a directory that had objects and now has none is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Problem;

use super::file::{Format, SourceFile, whole_file};
use super::records::Seen;
use super::tree::{self, Inode, Tree};
use super::update::{SourceId, Standing, Update};

/// A directory that is not there is lost after so long. Of files: so long no further file must have gone missing before missing ones are believed to be gone: some editors move a file
/// away before they write it, and a directory is deleted file by file before it is gone itself.
const GONE_AFTER: Duration = Duration::from_millis(40);
/// A file that is missing for so long is gone whatever happens to others.
const GONE_AT_MOST: Duration = Duration::from_secs(1);
/// A directory that was empty at the start is whole when it has as many objects as before, or when for so long no more
/// have come: a volume comes at once, but a copy file by file.
const WHOLE_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Directory {
    id: SourceId,
    path: PathBuf,
    name: Arc<str>,
    standing: Standing,
    /// Of the run before, until its objects, or others, are there.
    remembered: Option<Seen>,
    /// While it is waited for: how many objects it had when that was last another number, and when that was.
    coming: Option<(usize, Instant)>,
    files: BTreeMap<PathBuf, SourceFile>,
    directories: BTreeMap<PathBuf, Inode>,
    linked: BTreeSet<PathBuf>,
    leads_outside: bool,
    /// The directory that the files are of.
    inode: Option<Inode>,
    /// Since when there is none at the path: one that is replaced by a rename is not there for a moment.
    absent: Option<Instant>,
    /// The directory that was there at the last scan.
    found: Option<Inode>,
    /// Of the directory itself.
    problems: Vec<Problem>,
    /// Lines for an operator about what happened and is no problem.
    news: Vec<String>,
    /// Files that have to be looked at whatever happens.
    due: BTreeSet<(Instant, PathBuf)>,
    last_missing: Option<Instant>,
    objects: usize,
    reads: u64,
    scans: u64,
}

impl Directory {
    /// Nothing is read yet. `remembered`: what is known of it from the run before.
    pub(crate) fn new(id: SourceId, path: PathBuf, remembered: Option<Seen>) -> Self {
        Self {
            id,
            name: path.display().to_string().into(),
            path,
            standing: Standing::Unread,
            remembered: remembered.filter(|seen| seen.objects > 0),
            coming: None,
            files: BTreeMap::new(),
            directories: BTreeMap::new(),
            linked: BTreeSet::new(),
            leads_outside: false,
            inode: None,
            absent: None,
            found: None,
            problems: Vec::new(),
            news: Vec::new(),
            due: BTreeSet::new(),
            last_missing: None,
            objects: 0,
            reads: 0,
            scans: 0,
        }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// How many files were read so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// How often every file was looked at so far.
    pub(crate) fn scans(&self) -> u64 {
        self.scans
    }

    /// What is to be logged.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// For the run after this one; `None` while it cannot be relied on.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let inode = self.inode.filter(|_| self.standing == Standing::Synced)?;
        Some(Seen { device: inode.device, inode: inode.number, objects: self.objects })
    }

    /// Whether its links lead to where changes may make no event.
    pub(crate) fn leads_outside(&self) -> bool {
        self.leads_outside
    }

    /// The directories whose changes are its changes.
    pub(crate) fn watched(&self) -> Vec<(PathBuf, Inode)> {
        let below = self.directories.iter().filter(|(path, _)| **path != self.path);
        let mut watched: Vec<(PathBuf, Inode)> = below.map(|(path, inode)| (path.clone(), *inode)).collect();
        watched.extend(self.found.map(|inode| (self.path.clone(), inode)));
        let linked = self.linked.iter().filter(|path| !self.directories.contains_key(*path));
        watched.extend(linked.filter_map(|path| Some((path.clone(), Inode::of_directory(path)?))));
        watched
    }

    /// Whether another directory is at its path than at the last scan: a mount and a rename above make no event.
    pub(crate) fn is_swapped(&self) -> bool {
        Inode::of_directory(&self.path) != self.found
    }

    /// When some file has to be looked at whatever happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the files that are due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while let Some((at, path)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, path));
                break;
            }
            paths.push(path);
        }
        paths
    }

    /// Looks at every file; reads those that have changed.
    pub(crate) fn scan(&mut self, now: Instant, update: &mut Update) {
        self.scans += 1;
        self.found = Inode::of_directory(&self.path);
        match tree::walk(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_absent_for_a_moment(now) => {}
            Err(error) => self.lost(&format!("cannot be read: {error}"), update),
            Ok(tree) => {
                let swapped = self.inode.is_some_and(|known| known != tree.root);
                let doubtful = swapped || self.absent.take().is_some() || self.standing == Standing::Frozen;
                if doubtful && tree.files.is_empty() && !self.files.is_empty() {
                    self.lost("was replaced by an empty directory", update);
                } else {
                    self.take(tree, now, update);
                }
            }
        }
    }

    /// Whether a directory that was there is given time to come back; then it is looked at again.
    fn is_absent_for_a_moment(&mut self, now: Instant) -> bool {
        if self.standing != Standing::Synced {
            return false;
        }
        let at = *self.absent.get_or_insert(now) + GONE_AFTER;
        if now < at {
            self.due.insert((at, self.path.clone()));
        }
        now < at
    }

    /// Whether a change at this path is one of this directory's.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.path) || path.parent().is_some_and(|parent| self.linked.contains(parent))
    }

    /// Whether a change at this path may have changed which files there are.
    pub(crate) fn needs_scan(&self, path: &Path) -> bool {
        let linked = || path.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
        self.standing != Standing::Synced
            || path == self.path
            || self.directories.contains_key(path)
            || path.parent().is_some_and(|parent| self.linked.contains(parent))
            || path.is_dir()
            || linked()
            || path.to_str().is_none()
    }

    /// Reads one file if it is one of this directory's, and has changed.
    pub(crate) fn look_at(&mut self, path: &Path, now: Instant, update: &mut Update) {
        let Ok(below) = path.strip_prefix(&self.path) else { return };
        let hidden = below.components().any(|c| c.as_os_str().as_encoded_bytes().starts_with(b"."));
        if hidden || !tree::is_configuration(path) {
            return;
        }
        if let Some(stamp) = tree::stamp(path) {
            self.refresh(path.to_owned(), stamp, true, now, update);
        } else if self.files.contains_key(path) {
            // The whole directory may be gone or another one, and then no single file is.
            if Inode::of_directory(&self.path).is_none_or(|inode| Some(inode) != self.inode) {
                self.scan(now, update);
            } else if self.is_gone(path, now) {
                self.remove(path, update);
            }
        }
    }

    fn take(&mut self, tree: Tree, now: Instant, update: &mut Update) {
        let replaced = self.inode.replace(tree.root).is_some_and(|known| known != tree.root);
        let was = self.standing;
        self.directories = tree.directories;
        self.linked = tree.linked;
        self.leads_outside = tree.leads_outside;
        let mut problems = Vec::new();
        for (path, error) in &tree.unreadable {
            let message = format!("cannot be read: {error}; what was read from it stays");
            problems.push(whole_file(&path.display().to_string(), message));
        }
        let hidden = |path: &Path| tree.unreadable.iter().any(|(lost, _)| path.starts_with(lost));
        let missing = self.files.keys().filter(|path| !tree.files.contains_key(*path) && !hidden(path));
        for path in missing.cloned().collect::<Vec<_>>() {
            if self.is_gone(&path, now) {
                self.remove(&path, update);
            }
        }
        for (path, stamp) in tree.files {
            if path.to_str().is_none() {
                let message = "has a name that is not UTF-8 and is not read; rename it";
                problems.push(whole_file(&path.display().to_string(), message.into()));
                continue;
            }
            self.refresh(path, stamp, false, now, update);
        }
        if self.remembered.is_some_and(|seen| self.is_whole(seen, now)) {
            self.remembered = None;
        }
        match self.remembered {
            None => {
                self.stand(Standing::Synced, problems, update);
                match (was, replaced) {
                    (Standing::Synced, true) => self.tell("another directory is there now"),
                    (Standing::Frozen, _) => self.tell("is there again"),
                    _ => {}
                }
            }
            Some(seen) => {
                let same = (seen.device, seen.inode) == (tree.root.device, tree.root.number);
                let now = if same { "has none now" } else { "is another directory now, without any" };
                problems.push(self.waits(now, seen));
                self.stand(Standing::Waiting, problems, update);
            }
        }
    }

    /// Whether a directory that had objects before the restart has them again.
    fn is_whole(&mut self, seen: Seen, now: Instant) -> bool {
        if self.objects == 0 {
            return false;
        }
        // It was never waited for, or lacks nothing.
        if self.standing != Standing::Waiting || self.objects >= seen.objects {
            return true;
        }
        let since = match self.coming {
            Some((objects, since)) if objects == self.objects => since,
            _ => now,
        };
        self.coming = Some((self.objects, since));
        let whole_at = since + WHOLE_AFTER;
        if now < whole_at {
            self.due.insert((whole_at, self.path.clone()));
        }
        now >= whole_at
    }

    fn lost(&mut self, what: &str, update: &mut Update) {
        let (standing, problem) = match (self.standing, self.remembered) {
            (Standing::Synced | Standing::Frozen, _) => {
                let message = format!(
                    "{what}; what was read from it stays until files are there (if it is meant to be empty, restart with \
                     --accept-empty)"
                );
                (Standing::Frozen, whole_file(&self.name, message))
            }
            (_, Some(seen)) => (Standing::Waiting, self.waits(what, seen)),
            (_, None) => {
                (Standing::Unread, whole_file(&self.name, format!("{what}; it is read when it is there")))
            }
        };
        self.stand(standing, vec![problem], update);
    }

    fn waits(&self, what: &str, seen: Seen) -> Problem {
        let objects = if seen.objects == 1 { "object" } else { "objects" };
        let message = format!(
            "had {} {objects} before the restart and {what}: nothing is served until objects are there (is a volume not \
             mounted yet?); if it is meant to be empty, start with --accept-empty",
            seen.objects
        );
        whole_file(&self.name, message)
    }

    /// Adds a line that says how many objects the files hold that are there.
    fn tell(&mut self, what: &str) {
        let there = self.files.values().filter(|file| !file.is_missing());
        let objects: usize = there.map(|file| file.objects().len()).sum();
        let s = if objects == 1 { "" } else { "s" };
        self.news.push(format!("{}: {what}, with {objects} object{s}", self.name));
    }

    fn stand(&mut self, standing: Standing, problems: Vec<Problem>, update: &mut Update) {
        if problems != self.problems {
            update.problems.push((self.name.clone(), problems.clone()));
            self.problems = problems;
        }
        if standing != self.standing {
            self.standing = standing;
            update.standing = Some(standing);
        }
    }

    fn refresh(
        &mut self,
        path: PathBuf,
        stamp: tree::Stamp,
        touched: bool,
        now: Instant,
        update: &mut Update,
    ) {
        if !self.files.contains_key(&path) {
            let file = SourceFile::new(&path.to_string_lossy(), Format::Documents);
            self.files.insert(path.clone(), file);
        }
        let Some(file) = self.files.get_mut(&path) else { return };
        let before = file.objects().len();
        if file.refresh(&path, stamp, touched, now, update) {
            self.reads += 1;
            self.objects = self.objects.saturating_sub(before) + file.objects().len();
            if let Some(at) = file.due() {
                self.due.insert((at, path));
            }
        }
    }

    /// Whether a file that is not there is to be forgotten now; if not, it is looked at again.
    fn is_gone(&mut self, path: &Path, now: Instant) -> bool {
        let Some(file) = self.files.get_mut(path) else { return false };
        let since = file.missing(now);
        if since == now {
            self.last_missing = Some(now);
        }
        let at = (self.last_missing.unwrap_or(since) + GONE_AFTER).min(since + GONE_AT_MOST);
        if now < at {
            file.look_again(at);
            self.due.insert((at, path.to_owned()));
        }
        now >= at
    }

    fn remove(&mut self, path: &Path, update: &mut Update) {
        if let Some(file) = self.files.remove(path) {
            self.objects = self.objects.saturating_sub(file.objects().len());
            file.remove(update);
        }
    }
}
