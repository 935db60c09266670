//! The keys of the node message that filamesh's own two ends agree on, beside Istio's.

/// `user_agent_name` of our proxy: it gets profile `mesh`.
pub const USER_AGENT: &str = "filamesh";

/// Metadata: what the workload serves, as a struct: `service`, `version`, `ports`
/// (`[{port, targetPort, name}]`), `pid`, `proxyPid`, `startTime`, `admin`.
pub const WORKLOAD: &str = "FILAMESH_WORKLOAD";

/// Metadata: [`HOP_H2`] from a proxy that sends and takes the multiplexed hop: all HTTP requests between two such
/// proxies, whatever protocol they came in, share HTTP/2 connections. Endpoints of such sidecars are sent to such
/// proxies with the same key and value under `filter_metadata` [`HOP_NAMESPACE`].
pub const HOP: &str = "FILAMESH_HOP";
pub const HOP_H2: &str = "h2";
pub const HOP_NAMESPACE: &str = "filamesh";
/// Key in [`HOP_NAMESPACE`].
pub const HOP_KEY: &str = "hop";

/// Metadata: `true` in a goodbye, after which the workload's endpoints are gone at once.
pub const LEAVING: &str = "FILAMESH_LEAVING";
