//! Sidecar: what one workload's proxy listens on and knows of.

use std::collections::BTreeMap;

use super::{ConnectionPoolSettings, Destination, ServerTlsSettings};
use crate::decode::{message, names};

message! {
    pub struct Sidecar {
        workload_selector: Option<WorkloadSelector>,
        ingress: Vec<IstioIngressListener>,
        egress: Vec<IstioEgressListener>,
        inbound_connection_pool: Option<ConnectionPoolSettings>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }
}

message! {
    /// A selector written as `labels`; none selects every workload of its namespace.
    pub struct WorkloadSelector {
        labels: BTreeMap<String, String>,
    }
}

message! {
    pub struct IstioIngressListener {
        port @required: Option<SidecarPort>,
        bind: String,
        capture_mode: CaptureMode,
        /// `127.0.0.1:PORT`, `0.0.0.0:PORT` or `unix:///PATH`.
        default_endpoint: String,
        tls: Option<ServerTlsSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
    }
}

message! {
    pub struct IstioEgressListener {
        port: Option<SidecarPort>,
        bind: String,
        capture_mode: CaptureMode,
        /// `namespace/host`; the namespace may be `.`, `*` or `~`. What begins with `~` (`~/host`, `~namespace/host`) takes
        /// hosts out again.
        hosts @required: Vec<String>,
    }
}

message! {
    pub struct SidecarPort {
        number: u32,
        protocol: String,
        name: String,
        /// Deprecated and without effect.
        target_port: u32,
    }
}

names! {
    pub enum CaptureMode {
        Default = "DEFAULT",
        Iptables = "IPTABLES",
        None = "NONE",
    }
}

message! {
    pub struct OutboundTrafficPolicy {
        mode: OutboundTrafficPolicyMode,
        egress_proxy: Option<Destination>,
    }
}

names! {
    /// Proto3 JSON leaves out the first value, so `outboundTrafficPolicy: {}` means `REGISTRY_ONLY`.
    pub enum OutboundTrafficPolicyMode {
        RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
    }
}
