//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`serve()`] | a running control plane |
//! | [`options`] | what it is started with, why it did not start |
//! | [`source`] | directories of YAML, watched; objects that were applied |
//! | [`store`] | the objects of all sources: identity, precedence, what changed |
//! | `mesh_file` | the mesh configuration from a file of its own |
//! | [`node`] | who is at the other end of a stream |
//! | [`workload`] | an instance as it registers |
//! | [`registrations`] | those that are registered, over lost streams and restarts |
//! | [`admission`] | what our own proxy would refuse of an object |
//! | [`world`] | everything known at one moment, indexed: services with their endpoints, rules, policies |
//! | [`proxy`] | who asks for resources, and what was asked of it |
//! | [`scope`] | what of it one proxy may see |
//! | [`translate`] | that as Envoy resources under Istio's names |
//! | [`classes`] | what every proxy is to hold, made once for all that get the same |
//! | `push` | the thread that takes changes in and hands every stream what it is to hold |
//! | `ads` | the gRPC service |
//! | [`shapes`] | the JSON of `/filamesh/v1/*`, shared with the command line |
//! | `verdict` | what became of each object, and why |
//! | [`status`] | HTTP: health, metrics, Istio's debug pages, the JSON of the command line |
//! | [`local_socket`] | the Unix socket by which the mesh is changed |
//! | [`state_lock`] | one process at a time in a state directory |
//! | [`disk`] | small files, written beside |
//! | `lock` | locks that outlive a panic |
//! | `metrics` | istiod's metric names |
#![warn(
    clippy::print_stderr,
    reason = "`eprintln!` ends a process that nobody reads, or whose log is on a full disk"
)]

pub mod admission;
mod ads;
pub mod classes;
pub mod disk;
#[doc(hidden)]
pub mod fuzzing;
pub mod local_socket;
mod lock;
pub mod mesh_file;
mod metrics;
pub mod node;
pub mod options;
pub mod proxy;
mod push;
pub mod registrations;
pub mod scope;
mod serve;
pub mod shapes;
pub mod source;
pub mod state_lock;
pub mod status;
pub mod store;
pub mod translate;
mod verdict;
pub mod workload;
pub mod world;

pub use options::{ControlOptions, Listen, ServeError};
pub use serve::{Running, serve};
