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

/// Metadata: which [`Feature`]s a proxy of ours has, their names parted by spaces. An object that asks for one it does not
/// name is said to be not acted on there.
pub const FEATURES: &str = "FILAMESH_FEATURES";

/// What configuration may ask of a proxy, and an older proxy of ours does not do. Any Envoy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    ConsistentHash,
    /// Sending little to a new endpoint at first.
    WarmUp,
    /// Picking the endpoint of a TCP connection by where it comes from.
    ConnectionHash,
    Tunnel,
    /// Conditions on claims of tokens.
    Claims,
    UpstreamTls,
    ProxyProtocol,
    /// Names that are resolved when they are called.
    DynamicDns,
    /// TLS that a Sidecar's ingress listener terminates.
    IngressTls,
}

impl Feature {
    pub const ALL: [Self; 9] = [
        Self::ConsistentHash,
        Self::WarmUp,
        Self::ConnectionHash,
        Self::Tunnel,
        Self::Claims,
        Self::UpstreamTls,
        Self::ProxyProtocol,
        Self::DynamicDns,
        Self::IngressTls,
    ];

    /// As it stands in the metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentHash => "consistent-hash",
            Self::WarmUp => "warm-up",
            Self::ConnectionHash => "connection-hash",
            Self::Tunnel => "tunnel",
            Self::Claims => "claims",
            Self::UpstreamTls => "upstream-tls",
            Self::ProxyProtocol => "proxy-protocol",
            Self::DynamicDns => "dynamic-dns",
            Self::IngressTls => "ingress-tls",
        }
    }
}
