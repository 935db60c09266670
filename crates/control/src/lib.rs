//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`workload`] | an instance as it registers |
//! | [`world`] | everything known at one moment, indexed: services with their endpoints, rules, policies |
//! | [`scope`] | what of it one proxy may see |
//! | [`translate`] | that as Envoy resources under Istio's names |

pub mod scope;
pub mod translate;
pub mod workload;
pub mod world;
