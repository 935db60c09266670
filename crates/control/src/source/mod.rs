//! Where objects come from: directories of YAML and JSON files, read and watched.
//!
//! Nothing that is read wrong ever takes away what is live: a file that does not parse keeps its last good objects, a
//! broken object its last good version, a directory that is lost everything that was read from it.
//!
//! | module | what |
//! |---|---|
//! | [`tree`] | which files there are, and whether one has changed |
//! | [`file`] | one file: its objects, and the last good ones |
//! | [`directory`] | all files as one set of objects; which of two of the same name counts |
//! | [`watch`] | the thread that notices changes |
//! | [`store`] | objects written as files: `apply` and `delete` |

mod directory;
mod file;
pub mod store;
#[cfg(test)]
mod tests;
mod tree;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use api::{Object, ObjectId, Problem};

pub use directory::Directory;
pub use watch::Watch;

/// Everything the directories say at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Each kind, namespace and name once.
    pub objects: Vec<Loaded>,
    /// Errors and warnings, in the order of the files.
    pub problems: Vec<Problem>,
    /// Directories that could not be read even once: what they hold is not known, which is not that it is nothing.
    pub unread: Vec<PathBuf>,
    /// When the first change since the last reading was noticed.
    pub since: Instant,
}

/// An object, and whether it is what its file says now.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub object: Arc<Object>,
    /// What the file says now is refused; this is the last good version.
    pub stale: bool,
}

impl Reading {
    /// What changed from another reading to this: objects that say something else, came or went. Where an object is written
    /// does not count.
    pub fn since(&self, older: &Self) -> Vec<(Arc<ObjectId>, Option<Arc<Object>>)> {
        let mut before: HashMap<&ObjectId, &Arc<Object>> =
            older.objects.iter().map(|loaded| (&**loaded.object.identity(), &loaded.object)).collect();
        let mut changed = Vec::new();
        for Loaded { object, .. } in &self.objects {
            let known = before.remove(&**object.identity());
            let same = known.is_some_and(|known| {
                Arc::ptr_eq(known, object) || known.content_hash() == object.content_hash()
            });
            if !same {
                changed.push((object.identity().clone(), Some(object.clone())));
            }
        }
        changed.extend(before.into_values().map(|gone| (gone.identity().clone(), None)));
        changed
    }
}
