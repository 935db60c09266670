//! Which files there are below a directory, and what tells that one has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Links may form a ring.
const DEPTH: usize = 32;

/// Which file or directory a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
    /// Numbers are given again at once: of a directory that was deleted and made anew, this alone tells. `None` where
    /// the file system does not say.
    born: Option<SystemTime>,
}

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino(), born: metadata.created().ok() }
    }

    /// Of the directory at `path`, links followed; `None` if there is none.
    pub(crate) fn of_directory(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().filter(Metadata::is_dir).map(|metadata| Self::of(&metadata))
    }
}

/// Time stamps of files move in ticks of the kernel, of 10 ms at most: within one, two writes may have one stamp.
const TICK: Duration = Duration::from_millis(50);

/// Changes whenever a file's content may have, but within a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: Inode,
    size: u64,
    modified: (i64, i64),
    /// Also moves when a program sets the time of modification back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: Inode::of(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file was changed so lately that a further change may leave the same stamp.
    pub(crate) fn is_fresh(&self) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or_default();
        let nanos = u32::try_from(self.changed.1).unwrap_or_default();
        let changed = UNIX_EPOCH + Duration::new(changed, nanos);
        // A stamp of the future tells nothing.
        changed.elapsed().is_ok_and(|age| age < TICK)
    }
}

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// With the root.
    pub(crate) directories: BTreeMap<PathBuf, Inode>,
    /// Directories that links lead to, or would: a change there is a change here.
    pub(crate) linked: BTreeSet<PathBuf>,
    /// One of them is not below the root: a link on the way there may be led elsewhere, and nothing tells.
    pub(crate) leads_outside: bool,
    /// Directories below the root that cannot be read.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    pub(crate) root: Inode,
}

/// Walks a directory. Names that begin with a dot are passed over: editors' files, and the versions a ConfigMap's
/// links lead to. Links are followed.
pub(crate) fn walk(root: &Path) -> io::Result<Tree> {
    let entries = fs::read_dir(root)?;
    let mut tree = Tree {
        files: BTreeMap::new(),
        directories: BTreeMap::new(),
        linked: BTreeSet::new(),
        leads_outside: false,
        unreadable: Vec::new(),
        root: Inode::of(&fs::metadata(root)?),
    };
    tree.directories.insert(root.to_owned(), tree.root);
    descend(entries, &mut vec![tree.root], &mut tree)?;
    if !tree.linked.is_empty() {
        let real = fs::canonicalize(root)?;
        tree.leads_outside = tree.linked.iter().any(|directory| !directory.starts_with(&real));
    }
    Ok(tree)
}

fn descend(entries: fs::ReadDir, above: &mut Vec<Inode>, tree: &mut Tree) -> io::Result<()> {
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if is_hidden(&path) {
            continue;
        }
        let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        // A file that goes away meanwhile, or a link to nothing, is no file.
        let metadata = if linked { fs::metadata(&path) } else { entry.metadata() };
        let Ok(metadata) = metadata else {
            if linked {
                tree.linked.extend(directories_behind(&path));
            }
            continue;
        };
        if metadata.is_dir() {
            let inode = Inode::of(&metadata);
            if above.contains(&inode) || above.len() >= DEPTH {
                continue;
            }
            above.push(inode);
            let result = fs::read_dir(&path).and_then(|entries| descend(entries, above, tree));
            above.pop();
            if let Err(error) = result {
                tree.unreadable.push((path.clone(), error.to_string()));
            }
            tree.directories.insert(path, inode);
        } else if metadata.is_file() && is_configuration(&path) {
            if linked {
                tree.linked.extend(directories_behind(&path));
            }
            tree.files.insert(path, Stamp::of(&metadata));
        }
    }
    Ok(())
}

/// Where the file is that a link leads to, or would be, and where the links on the way are.
pub(crate) fn directories_behind(link: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut link = link.to_owned();
    while let Ok(target) = fs::read_link(&link) {
        let Some(parent) = link.parent() else { break };
        link = parent.join(target);
        let directory = link.parent().and_then(|directory| fs::canonicalize(directory).ok());
        directories.extend(directory);
        if directories.len() >= DEPTH {
            break;
        }
    }
    directories
}

/// The stamp of one file; `None` if there is no such file.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().filter(Metadata::is_file).map(|m| Stamp::of(&m))
}

/// By its name: `.yaml`, `.yml` or `.json`.
pub(crate) fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
