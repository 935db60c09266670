//! The Gateway API (`gateway.networking.k8s.io`): Gateway, HTTPRoute and ReferenceGrant, with the schema's defaults.
//!
//! Fields of its experimental channel that are not here are passed over.

mod gateway;
mod http_route;
mod reference_grant;

pub use gateway::*;
pub use http_route::*;
pub use reference_grant::*;
