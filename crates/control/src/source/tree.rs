//! Which files there are below a directory, and what tells that one has changed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Links to directories may form a ring.
const DEPTH: usize = 32;

/// Changes whenever a file's content may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also moves when a program sets the time of modification back.
    changed: (i64, i64),
}

impl Stamp {
    /// When the file came to be as it is; later is greater.
    pub(crate) fn written(&self) -> (i64, i64) {
        self.changed
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    pub(crate) directories: HashSet<PathBuf>,
    /// Directories below the root that cannot be read.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    /// Device and inode of the root.
    pub(crate) root: (u64, u64),
}

/// Walks a directory. Names that begin with a dot are passed over: editors' files, and the versions a ConfigMap's
/// links lead to. Links are followed.
pub(crate) fn walk(root: &Path) -> io::Result<Tree> {
    let metadata = fs::metadata(root)?;
    let mut tree = Tree { root: (metadata.dev(), metadata.ino()), ..Tree::default() };
    let entries = fs::read_dir(root)?;
    tree.directories.insert(root.to_owned());
    descend(entries, &mut vec![tree.root], &mut tree)?;
    Ok(tree)
}

fn descend(entries: fs::ReadDir, above: &mut Vec<(u64, u64)>, tree: &mut Tree) -> io::Result<()> {
    for entry in entries {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        // A file that goes away meanwhile, or a link to nothing, is no file.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            if above.contains(&id) || above.len() >= DEPTH {
                continue;
            }
            above.push(id);
            let result = fs::read_dir(&path).and_then(|entries| descend(entries, above, tree));
            above.pop();
            if let Err(error) = result {
                tree.unreadable.push((path.clone(), error.to_string()));
            }
            tree.directories.insert(path);
        } else if metadata.is_file() && is_configuration(&path) {
            tree.files.insert(path, Stamp::of(&metadata));
        }
    }
    Ok(())
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
