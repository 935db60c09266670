//! Where objects come from: directories of YAML and JSON files and the file of the mesh configuration, read and watched;
//! what was applied; other control planes that are listened to.
//!
//! A source says what it holds as [`Update`]s: first one that is all of it, then one for each change. Nothing that is
//! read wrong ever takes away what is live: a file that cannot be read keeps its last good objects, a broken object its
//! last good version, a directory that is lost everything that was read from it. What the updates of all sources are
//! together, [`crate::store`] knows.
//!
//! | module | what |
//! |---|---|
//! | `update` | what a source says, and who says it |
//! | `tree` | which files there are, and whether one has changed |
//! | `file` | one file: its objects, and the last good ones |
//! | `directory` | one directory: its files, and whether it can be believed |
//! | `records` | on disk: what was read before a restart |
//! | `files` | all directories, and the file of the mesh configuration |
//! | `events` | which files the kernel's events are about, and whether they are complete |
//! | `watches` | the kernel's watches |
//! | `watch` | the thread that notices changes |
//! | `memory` | a source that lives in a process, for tests |
//! | [`manifest`] | what `apply` and `delete` are given, one text for each object |
//! | [`applied`] | objects that were applied, with every revision of them |
//! | `config_source` | MeshConfig's `configSources`: other control planes |

pub mod applied;
pub(crate) mod config_source;
mod directory;
mod events;
pub(crate) mod file;
mod files;
pub mod manifest;
#[cfg(test)]
pub(crate) mod memory;
mod records;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tree;
mod update;
mod watch;
mod watches;

pub use files::Files;
pub use records::{Records, Seen};
pub use update::{Extent, Loaded, Origin, Slot, SourceId, Standing, Update, Upsert};
pub(crate) use watch::Directories;
pub use watch::{Begun, Watch};
