//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`serve()`] | a running control plane |
//! | [`options`] | what it is started with, why it did not start |
//! | [`source`] | directories of YAML, watched; objects that were applied |
//! | `sources_seen` | which directories were read before a restart |
//! | `mesh_file` | the mesh configuration from a file of its own |
//! | [`node`] | who is at the other end of a stream |
//! | [`workload`] | an instance as it registers |
//! | [`registrations`] | those that are registered, over lost streams and restarts |
//! | [`world`] | everything known at one moment, indexed: services with their endpoints, rules, policies |
//! | [`scope`] | what of it one proxy may see |
//! | [`translate`] | that as Envoy resources under Istio's names |
//! | `push` | what every stream is to hold, made once per class of proxies |
//! | `ads` | the gRPC service |
//! | [`status`] | HTTP: health, metrics, Istio's debug pages, the JSON of the command line |
//! | [`local_socket`] | the Unix socket by which the mesh is changed |
//! | [`state_lock`] | one process at a time in a state directory |
//! | [`disk`] | small files, written beside |
//! | `lock` | locks that outlive a panic |
//! | `metrics` | istiod's metric names |

mod ads;
pub mod disk;
#[doc(hidden)]
pub mod fuzzing;
pub mod local_socket;
mod lock;
mod mesh_file;
mod metrics;
pub mod node;
pub mod options;
mod push;
pub mod registrations;
pub mod scope;
mod serve;
pub mod source;
mod sources_seen;
pub mod state_lock;
pub mod status;
pub mod translate;
pub mod workload;
pub mod world;

pub use options::{ControlOptions, Listen, ServeError};
pub use serve::{Running, serve};
