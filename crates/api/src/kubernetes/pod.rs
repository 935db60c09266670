//! Pod: a workload and where it runs.

use super::TransportProtocol;
use crate::decode::{names, partial};
use crate::yaml::Node;

/// What is read of a pod: parts of its `spec` and of its `status`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    pub spec: PodSpec,
    pub status: PodStatus,
}

partial! {
    pub struct PodSpec {
        service_account_name: String,
        node_name: String,
        hostname: String,
        subdomain: String,
        host_network: bool,
        containers: Vec<Container>,
        init_containers: Vec<Container>,
    }
}

partial! {
    pub struct Container {
        name: String,
        image: String,
        ports: Vec<ContainerPort>,
    }
}

partial! {
    pub struct ContainerPort {
        name: String,
        container_port @required: u16,
        protocol: TransportProtocol,
    }
}

partial! {
    pub struct PodStatus {
        phase: PodPhase,
        pod_ip: String = "podIP",
        pod_ips: Vec<PodIp> = "podIPs",
        host_ip: String = "hostIP",
        conditions: Vec<PodCondition>,
    }
}

partial! {
    pub struct PodIp {
        ip: String,
    }
}

partial! {
    pub struct PodCondition {
        type_: String = "type",
        status: String,
    }
}

names! {
    pub enum PodPhase {
        Unknown = "Unknown",
        Pending = "Pending",
        Running = "Running",
        Succeeded = "Succeeded",
        Failed = "Failed",
    }
}

impl Pod {
    pub(crate) fn decode(document: &Node, context: &mut crate::decode::Context) -> Self {
        Self {
            spec: context.child(document, "spec").unwrap_or_default(),
            status: context.child(document, "status").unwrap_or_default(),
        }
    }

    /// The number of the container port called `name`.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        self.spec
            .containers
            .iter()
            .chain(&self.spec.init_containers)
            .flat_map(|container| &container.ports)
            .find_map(|port| (port.name == name).then_some(port.container_port))
    }

    /// Kubernetes' `Ready` condition; a pod that states no condition counts as ready when it runs.
    pub fn is_ready(&self) -> bool {
        match self.status.conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready) => ready.status == "True",
            None => matches!(self.status.phase, PodPhase::Running | PodPhase::Unknown),
        }
    }
}
