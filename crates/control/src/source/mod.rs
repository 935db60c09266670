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
//! | [`manifest`] | what `apply` and `delete` are given, one text for each object |
//! | [`applied`] | objects that were applied, with every revision of them |

pub mod applied;
mod directory;
mod file;
pub mod manifest;
#[cfg(test)]
mod tests;
mod tree;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use api::{Object, Problem};

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
    /// Whether both are the same but for EndpointSlices.
    pub fn differs_in_slices_only(&self, other: &Self) -> bool {
        fn rest(reading: &Reading) -> impl Iterator<Item = *const Object> {
            let objects = reading.objects.iter().map(|loaded| &loaded.object);
            objects.filter(|object| !crate::world::is_slice(object)).map(Arc::as_ptr)
        }
        rest(self).eq(rest(other))
    }

    /// Whether both say the same, wherever it is written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.objects.len() == other.objects.len()
            && self.objects.iter().zip(&other.objects).all(|(a, b)| {
                Arc::ptr_eq(&a.object, &b.object)
                    || (a.object.identity() == b.object.identity()
                        && a.object.content_hash() == b.object.content_hash())
            })
    }
}
