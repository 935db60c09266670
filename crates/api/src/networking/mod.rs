//! Istio's traffic kinds (`networking.istio.io`), as written. Absent and empty are kept apart where Istio does.

mod destination_rule;
mod gateway;
mod proxy;
mod service_entry;
mod sidecar;
mod traffic_policy;
mod virtual_service;
mod workload;

pub use destination_rule::*;
pub use gateway::*;
pub use proxy::*;
pub use service_entry::*;
pub use sidecar::*;
pub use traffic_policy::*;
pub use virtual_service::*;
pub use workload::*;
