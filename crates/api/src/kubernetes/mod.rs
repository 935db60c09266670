//! The Kubernetes kinds that are read: the fields that matter to a mesh, the rest is not looked at.

mod deployment;
mod endpoint_slice;
mod namespace;
mod pod;
mod service;

pub use deployment::*;
pub use endpoint_slice::*;
pub use namespace::*;
pub use pod::*;
pub use service::*;
