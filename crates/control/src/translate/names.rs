//! Istio's names of clusters, which users see in logs, metrics and SNI (`istio-behaviour` rule 16).

pub const PASSTHROUGH: &str = "PassthroughCluster";
pub const BLACK_HOLE: &str = "BlackHoleCluster";
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
pub const DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";
/// Stands for a destination without a host.
pub const UNKNOWN_SERVICE: &str = "UnknownService";

pub fn outbound(port: u32, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

pub fn inbound(target_port: u32) -> String {
    format!("inbound|{target_port}||")
}

/// The name in SNI, between meshes and on AUTO_PASSTHROUGH gateways.
pub fn outbound_sni(port: u32, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}
