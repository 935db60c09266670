//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | what it is started with, why it did not start |
//! | [`source`] | directories of YAML, watched; objects written as files |
//! | [`workload`] | an instance as it registers |
//! | [`world`] | everything known at one moment, indexed: services with their endpoints, rules, policies |
//! | [`scope`] | what of it one proxy may see |
//! | [`translate`] | that as Envoy resources under Istio's names |
//! | [`status`] | HTTP: health, metrics, Istio's debug pages, the JSON of the command line |

pub mod options;
pub mod scope;
pub mod source;
pub mod status;
pub mod translate;
pub mod workload;
pub mod world;
