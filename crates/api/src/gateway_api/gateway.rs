//! Gateway: the ports opened at the edge, and who may attach routes.

use std::collections::BTreeMap;

use crate::decode::{names, partial};
use crate::selector::LabelSelector;

partial! {
    pub struct Gateway {
        gateway_class_name @required: String,
        listeners @required: Vec<Listener>,
        addresses: Vec<GatewayAddress>,
    }
}

partial! {
    pub struct Listener {
        name @required: String,
        /// Empty: every host.
        hostname: String,
        port @required: u32,
        /// HTTP, HTTPS, TLS, TCP, UDP or an implementation's own.
        protocol @required: String,
        tls: Option<ListenerTls>,
        allowed_routes: Option<AllowedRoutes>,
    }
}

partial! {
    pub struct ListenerTls {
        mode: ListenerTlsMode,
        certificate_refs: Vec<ObjectReference>,
        options: BTreeMap<String, String>,
    }
}

names! {
    pub enum ListenerTlsMode {
        Terminate = "Terminate",
        Passthrough = "Passthrough",
    }
}

partial! {
    pub struct ObjectReference {
        group: String,
        kind: String,
        name @required: String,
        namespace: Option<String>,
        port: Option<u32>,
    }
}

partial! {
    pub struct AllowedRoutes {
        namespaces: RouteNamespaces,
        kinds: Vec<RouteKind>,
    }
}

partial! {
    pub struct RouteNamespaces {
        from: FromNamespaces,
        selector: Option<LabelSelector>,
    }
}

names! {
    pub enum FromNamespaces {
        Same = "Same",
        All = "All",
        Selector = "Selector",
        None = "None",
    }
}

partial! {
    pub struct RouteKind {
        group: Option<String>,
        kind @required: String,
    }
}

partial! {
    pub struct GatewayAddress {
        type_: String = "type",
        value: String,
    }
}
