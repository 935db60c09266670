//! What users write: Istio and Kubernetes kinds, parsed with line and column, defaulted, validated.
//!
//! Holds the kinds as plain data, the reading of YAML and JSON into them, Istio's rules about single objects, and the
//! semantics of the words in them (hosts, protocols, selectors). It does no I/O, knows no Envoy resource and no relation
//! between two objects: that is `control`'s.
//!
//! | module | holds |
//! |---|---|
//! | `parse` | text in, objects and problems out: [`parse_documents`] |
//! | [`object`] | one object: what it says, who it is, where each field was written |
//! | [`problem`] | one finding, as printed and as JSON |
//! | [`networking`], [`security`], [`telemetry`], [`extensions`] | Istio's kinds, as written |
//! | [`gateway_api`] | the Gateway API's kinds, as written |
//! | [`kubernetes`] | the Kubernetes kinds that are read |
//! | [`mesh_config`] | the settings of the whole mesh and Istio's defaults |
//! | [`kinds`] | which kinds there are |
//! | `validate` | Istio's rules about one object |
//! | [`hosts`], [`protocol`], [`selector`] | what host names, ports and label selectors mean |
//! | [`yaml`] | text to trees with places, and back |
//! | `decode` | trees to typed values |

mod decode;
pub mod extensions;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway_api;
pub mod hosts;
pub mod kinds;
pub mod kubernetes;
pub mod mesh_config;
pub mod networking;
pub mod object;
mod parse;
pub mod problem;
pub mod protocol;
pub mod security;
pub mod selector;
pub mod telemetry;
mod validate;
pub mod yaml;

pub use mesh_config::MeshConfig;
pub use object::{Meta, Object, ObjectId, SourceRef, Spec};
pub use parse::{Options, Parsed, parse_documents, parse_mesh_config, parse_mesh_document, parse_tree};
pub use problem::{Problem, Severity};
