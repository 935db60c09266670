//! Service: a name for a set of pods.

use std::collections::BTreeMap;

use crate::decode::{Context, Decode, names, partial};
use crate::yaml::{Node, Value};

partial! {
    /// After Kubernetes' defaults: protocol TCP, `targetPort` = `port`, type ClusterIP.
    pub struct Service {
        type_: ServiceType = "type",
        /// `None` for headless, empty if not given.
        cluster_ip: String = "clusterIP",
        cluster_ips: Vec<String> = "clusterIPs",
        external_name: String,
        external_ips: Vec<String> = "externalIPs",
        ports: Vec<ServicePort>,
        /// Empty selects nothing: the endpoints are given by hand.
        selector: BTreeMap<String, String>,
        publish_not_ready_addresses: bool,
        /// `PreferClose`, `PreferSameZone`, `PreferSameNode` or empty.
        traffic_distribution: String,
        /// `Local` keeps to the node; `Cluster` or empty does not.
        internal_traffic_policy: String,
        external_traffic_policy: String,
        session_affinity: String,
    }
}

partial! {
    pub struct ServicePort {
        name: String,
        port @required: u16,
        /// `port` if not given.
        target_port: PortReference,
        protocol: TransportProtocol,
        app_protocol: Option<String>,
        node_port: u16,
    }
}

names! {
    pub enum ServiceType {
        ClusterIp = "ClusterIP",
        NodePort = "NodePort",
        LoadBalancer = "LoadBalancer",
        ExternalName = "ExternalName",
    }
}

names! {
    pub enum TransportProtocol {
        Tcp = "TCP",
        Udp = "UDP",
        Sctp = "SCTP",
    }
}

/// A port by number or by the name it has in the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortReference {
    Number(u16),
    Name(String),
}

impl Default for PortReference {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Decode for PortReference {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        match &node.value {
            Value::String(name) => match name.parse::<u16>() {
                Ok(number) => Some(Self::Number(number)),
                Err(_) => Some(Self::Name(name.clone())),
            },
            _ => u16::decode(node, context).map(Self::Number),
        }
    }
}

impl Service {
    /// Whether clients get the pods' addresses instead of one of the service's own.
    pub fn is_headless(&self) -> bool {
        self.cluster_ip == "None"
    }

    pub(crate) fn apply_defaults(&mut self) {
        for port in &mut self.ports {
            if port.target_port == PortReference::Number(0) {
                port.target_port = PortReference::Number(port.port);
            }
        }
        if self.cluster_ips.is_empty() && !self.cluster_ip.is_empty() {
            self.cluster_ips = vec![self.cluster_ip.clone()];
        }
        if self.cluster_ip.is_empty() {
            self.cluster_ip = self.cluster_ips.first().cloned().unwrap_or_default();
        }
    }
}
