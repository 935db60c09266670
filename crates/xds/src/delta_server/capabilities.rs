//! What the client at the other end is able to, told by its node.

/// Nothing is taken for granted: the default suits any client that keeps to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// It keeps a changed EDS cluster warming, and withholds the ACK, until endpoints come, which it does not ask for
    /// again: endpoints follow every changed cluster, and what leads to a new cluster waits for that ACK (measured with
    /// Envoy 1.40).
    pub warms_changed_clusters: bool,
    /// It takes the endpoints of a cluster before it has asked for them.
    pub takes_endpoints_unasked: bool,
    /// Its NACK names every resource it refuses, as `name: reason; name: reason`, and all others are live.
    pub names_all_refusals: bool,
    /// A response holds all clusters, or all listeners, however many: what is not in it is gone. The protocol of
    /// state-of-the-world streams.
    pub takes_whole_types: bool,
}

impl Capabilities {
    pub const NONE: Self = Self {
        warms_changed_clusters: false,
        takes_endpoints_unasked: false,
        names_all_refusals: false,
        takes_whole_types: false,
    };
    pub const ENVOY: Self = Self { warms_changed_clusters: true, ..Self::NONE };
    /// Our own proxy.
    pub const MESH: Self = Self { takes_endpoints_unasked: true, names_all_refusals: true, ..Self::NONE };

    /// From what a client calls itself (`Node.user_agent_name`).
    pub fn of_user_agent(name: &str) -> Self {
        match name {
            crate::node::USER_AGENT => Self::MESH,
            "envoy" => Self::ENVOY,
            _ => Self::NONE,
        }
    }
}
