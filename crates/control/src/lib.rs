//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`serve()`] | a running control plane |
//! | [`options`] | what it is started with, why it did not start |
//! | [`source`] | directories of YAML, watched; objects written as files |
//! | `sources_seen` | whether a directory that was read before a restart is waited for |
//! | [`store`] | the objects of all sources: identity, precedence, what changed |
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
//! | `lock` | locks that outlive a panic |
//! | `metrics` | istiod's metric names |

mod ads;
#[doc(hidden)]
pub mod fuzzing;
mod lock;
pub mod mesh_file;
mod metrics;
pub mod node;
pub mod options;
mod push;
pub mod registrations;
pub mod scope;
mod serve;
pub mod source;
mod sources_seen;
pub mod status;
pub mod store;
pub mod translate;
pub mod workload;
pub mod world;

pub use options::{ControlOptions, Listen, ServeError};
pub use serve::{Running, serve};
