//! A service as the mesh knows it, whichever registry it comes from: what it says of itself, apart from where it is served,
//! which changes far more often.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectId;
use api::kubernetes::PortReference;
use api::protocol::Protocol;

use super::{Age, Locality, Visibility};

/// What stands for "no address of its own".
pub const UNSPECIFIED: &str = "0.0.0.0";

#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Fully qualified, or a wildcard.
    pub host: String,
    pub name: String,
    pub namespace: String,
    /// What says so; `None` if it is implied by its workloads.
    pub object: Option<Arc<ObjectId>>,
    pub registry: Registry,
    pub age: Age,
    pub visibility: Visibility,
    /// An address, a network (`10.0.0.0/8`), or [`UNSPECIFIED`].
    pub address: String,
    /// Further addresses of a Kubernetes Service.
    pub more_addresses: Vec<String>,
    /// What it is called by in the mesh's DNS if it has no address.
    pub automatic_address: Option<String>,
    pub ports: Vec<Port>,
    pub resolution: Resolution,
    pub mesh_external: bool,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Labels of its workloads; empty if its endpoints are given.
    pub selector: BTreeMap<String, String>,
    /// For ExternalName: the host meant.
    pub external_name: Option<String>,
    /// Hosts of ExternalName services that mean this one.
    pub aliases: Vec<String>,
    pub subject_alt_names: Vec<String>,
    pub publish_not_ready: bool,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode` or empty.
    pub traffic_distribution: String,
    /// Under which keys its endpoints are found: one, but for services of one host that pool their ports.
    pub endpoints: Vec<EndpointsOf>,
}

/// Some of a service's endpoints, by their key in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointsOf {
    pub key: EndpointsKey,
    /// Only those of these ports of the service; `None`: all.
    pub ports: Option<Vec<u32>>,
}

/// `k8s/namespace/name`, or `entry/namespace/name/host`.
pub type EndpointsKey = Arc<str>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// A Kubernetes Service, or one implied by workloads.
    Kubernetes,
    ServiceEntry,
}

/// How the addresses behind a service are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Its endpoints are known.
    Endpoints,
    Dns,
    DnsRoundRobin,
    /// The address the client meant.
    Passthrough,
    /// Another service's.
    Alias,
    /// By the host each request names.
    DynamicDns,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// 0 for a Unix socket.
    pub number: u32,
    pub protocol: Protocol,
    /// Of a Kubernetes Service: where its Pods serve it.
    pub target: Option<PortReference>,
}

/// One address of one port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address, a DNS name, or the path of a Unix socket (`port` 0).
    pub address: String,
    pub port: u32,
    /// The service's port it serves.
    pub service_port: u32,
    pub labels: Arc<BTreeMap<String, String>>,
    /// `namespace`, name and service account of the workload, as far as known.
    pub namespace: String,
    pub workload: String,
    pub service_account: String,
    pub locality: Locality,
    /// 0 means 1.
    pub weight: u32,
    /// Whether a proxy there takes mutual TLS.
    pub mutual_tls: bool,
    /// Whether a sidecar of ours there takes all HTTP requests over shared HTTP/2 connections, on ports that speak HTTP.
    pub hop: bool,
    pub healthy: bool,
    /// The Pod's host name, for headless services.
    pub hostname: String,
    pub network: String,
}

impl Service {
    pub fn is_headless(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.registry == Registry::Kubernetes
    }

    pub fn port(&self, number: u32) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// This service with no other ports than these; shares everything else.
    pub fn with_ports(&self, ports: Vec<Port>) -> Self {
        Self { ports, ..self.clone() }
    }

    /// The address clients of this proxy call it by: [`UNSPECIFIED`] if it has none.
    pub fn address_for(&self, with_automatic: bool) -> &str {
        match &self.automatic_address {
            Some(automatic) if with_automatic && self.address == UNSPECIFIED => automatic,
            _ => &self.address,
        }
    }

    /// All addresses clients may call it by, without [`UNSPECIFIED`].
    pub fn addresses_for(&self, with_automatic: bool) -> impl Iterator<Item = &str> {
        let first = self.address_for(with_automatic);
        std::iter::once(first)
            .chain(self.more_addresses.iter().map(String::as_str))
            .filter(|address| !address.is_empty() && *address != UNSPECIFIED)
    }
}
