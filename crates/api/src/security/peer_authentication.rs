//! PeerAuthentication: which inbound connections must be mutual TLS.

use std::collections::BTreeMap;

use crate::decode::{message, names};
use crate::networking::PolicySelector;

message! {
    pub struct PeerAuthentication {
        selector: Option<PolicySelector>,
        mtls: Option<MutualTls>,
        /// By workload (target) port, not by service port.
        port_level_mtls: BTreeMap<u16, MutualTls>,
    }
}

message! {
    pub struct MutualTls {
        mode: MutualTlsMode,
    }
}

names! {
    pub enum MutualTlsMode {
        /// What the next wider policy says; PERMISSIVE if none does.
        Unset = "UNSET",
        Disable = "DISABLE",
        Permissive = "PERMISSIVE",
        Strict = "STRICT",
    }
}
