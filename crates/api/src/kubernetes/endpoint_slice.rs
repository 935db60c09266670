//! EndpointSlice: the addresses behind a service.

use super::TransportProtocol;
use crate::decode::{Context, names, partial};
use crate::yaml::Node;
use std::collections::BTreeMap;

/// The service it belongs to is in the label [`EndpointSlice::SERVICE_NAME_LABEL`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointSlice {
    pub address_type: AddressType,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<EndpointPort>,
}

partial! {
    pub struct Endpoint {
        addresses @required: Vec<String>,
        conditions: EndpointConditions,
        hostname: String,
        target_ref: Option<ObjectReference>,
        node_name: String,
        zone: String,
        deprecated_topology: BTreeMap<String, String>,
    }
}

partial! {
    pub struct EndpointConditions {
        /// Absent counts as ready.
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
}

partial! {
    pub struct EndpointPort {
        name: String,
        port: Option<u16>,
        protocol: TransportProtocol,
        app_protocol: Option<String>,
    }
}

partial! {
    pub struct ObjectReference {
        kind: String,
        name: String,
        namespace: String,
        uid: String,
    }
}

names! {
    pub enum AddressType {
        Ipv4 = "IPv4",
        Ipv6 = "IPv6",
        Fqdn = "FQDN",
    }
}

impl EndpointSlice {
    pub const SERVICE_NAME_LABEL: &'static str = "kubernetes.io/service-name";

    pub(crate) fn decode(document: &Node, context: &mut Context) -> Self {
        Self {
            address_type: context.child(document, "addressType").unwrap_or_default(),
            endpoints: context.child(document, "endpoints").unwrap_or_default(),
            ports: context.child(document, "ports").unwrap_or_default(),
        }
    }
}
