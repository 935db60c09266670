//! The way of a change on the program itself, under calls through sidecars: volumes that come late, kills in the middle
//! of writing, disks that are full or do not answer, directories that are replaced, and very many objects. No call
//! fails, no proxy loses what it holds, nothing that was answered is lost, and each is told in one line.
//!
//! | file | holds |
//! |---|---|
//! | `mesh.rs` | a mesh of one service and one caller; what the calls met, what the mesh said |
//! | `mounts.rs` | a mount namespace of the test's own, and what is mounted in it |
//! | `late.rs` | a volume that is mounted late |
//! | `replaced.rs` | a directory that is replaced |
//! | `killed.rs` | kills while objects and registrations are written |
//! | `full.rs` | a disk that is full |
//! | `slow.rs` | a disk that does not answer |
//! | `many.rs` | 13,500 objects applied and deleted while sidecars join |
//! | `files.rs` | 10,000 files |
//! | `names.rs` | objects that name hosts which no name server knows |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests print what they measured and what they leave out"
)]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod full;
mod killed;
mod late;
mod many;
mod mesh;
mod mounts;
mod names;
mod replaced;
mod slow;
