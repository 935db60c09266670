//! Istio's security kinds (`security.istio.io`), as written.

mod peer_authentication;

pub use peer_authentication::*;
