//! ServiceEntry: a service that no registry knows.

use super::{WorkloadEntry, WorkloadSelector};
use crate::decode::{message, names};

message! {
    pub struct ServiceEntry {
        hosts @required: Vec<String>,
        /// Addresses or networks.
        addresses: Vec<String>,
        ports: Vec<ServicePort>,
        location: Location,
        resolution: Resolution,
        endpoints: Vec<WorkloadEntry>,
        workload_selector: Option<WorkloadSelector>,
        export_to: Vec<String>,
        subject_alt_names: Vec<String>,
    }
}

message! {
    pub struct ServicePort {
        number @required: u32,
        /// Empty: decided by the name, then sniffed.
        protocol: String,
        name @required: String,
        target_port: u32,
    }
}

names! {
    pub enum Location {
        MeshExternal = "MESH_EXTERNAL",
        MeshInternal = "MESH_INTERNAL",
    }
}

names! {
    pub enum Resolution {
        /// The address the client meant.
        None = "NONE",
        Static = "STATIC",
        Dns = "DNS",
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        DynamicDns = "DYNAMIC_DNS",
    }
}
