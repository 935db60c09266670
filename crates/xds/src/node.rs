//! The keys of the node message that filamesh's own two ends agree on, beside Istio's.

/// `user_agent_name` of our proxy: it gets profile `mesh`.
pub const USER_AGENT: &str = "filamesh";

/// Metadata: what the workload serves, as a struct: `service`, `version`, `ports`
/// (`[{port, targetPort, name}]`), `pid`, `proxyPid`, `startTime`, `admin`.
pub const WORKLOAD: &str = "FILAMESH_WORKLOAD";

/// Metadata: `true` in a goodbye, after which the workload's endpoints are gone at once.
pub const LEAVING: &str = "FILAMESH_LEAVING";
