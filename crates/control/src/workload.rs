//! A workload as it registers: through the node metadata of its sidecar's ADS stream.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One running instance of a service, reachable at its sidecar's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    /// The service it belongs to (`reviews`), if it names one; otherwise selectors decide by its labels.
    pub service: Option<String>,
    pub version: Option<String>,
    /// As registered; a Deployment of the same name adds its pod template's labels (see `World`).
    pub labels: BTreeMap<String, String>,
    /// Empty: the Deployment's, else `default`.
    pub service_account: String,
    pub cluster: String,
    /// Where its sidecar takes connections.
    pub address: IpAddr,
    pub ports: Vec<WorkloadPort>,
    /// The application's process.
    pub pid: Option<u32>,
    /// The sidecar's process.
    pub proxy_pid: Option<u32>,
    /// When the application was started, milliseconds since 1970.
    pub start_time: Option<u64>,
    /// The sidecar's admin address, `127.77.0.5:15000`.
    pub admin: Option<String>,
    /// Its sidecar takes the multiplexed hop (`xds::node::HOP`).
    #[serde(default)]
    pub hop: bool,
}

/// Namespace, name, address: two instances of one name are two workloads.
pub type WorkloadKey = (String, String, IpAddr);

impl Workload {
    pub fn key(&self) -> WorkloadKey {
        (self.namespace.clone(), self.name.clone(), self.address)
    }
}

/// A port the application serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// The service's port.
    pub port: u16,
    /// The application's.
    pub target_port: u16,
    /// Istio reads the protocol from it (`http`, `tcp-echo`); empty: sniffed.
    #[serde(default)]
    pub name: String,
}
