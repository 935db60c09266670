//! Kinds about proxies themselves: ProxyConfig and EnvoyFilter; and what policies can be attached to.

use std::collections::BTreeMap;

use super::{PolicySelector, WorkloadSelector};
use crate::decode::{message, names};

message! {
    /// What a policy is attached to, instead of selecting workloads by label.
    pub struct TargetReference {
        group: String,
        kind @required: String,
        name @required: String,
        /// Not allowed: targets are in the policy's namespace.
        namespace: String,
    }
}

message! {
    /// Settings of some workloads' proxies; takes effect when they start.
    pub struct ProxyConfigResource {
        selector: Option<PolicySelector>,
        concurrency: Option<i32>,
        environment_variables: BTreeMap<String, String>,
        image: Option<ProxyImage>,
    }
}

message! {
    pub struct ProxyImage {
        image_type: String,
    }
}

message! {
    /// Changes to Envoy's own configuration.
    pub struct EnvoyFilter {
        workload_selector: Option<WorkloadSelector>,
        target_refs: Vec<TargetReference>,
        config_patches: Vec<EnvoyConfigPatch>,
        priority: i32,
    }
}

message! {
    pub struct EnvoyConfigPatch {
        apply_to: EnvoyApplyTo,
        matches: Option<EnvoyMatch> = "match",
        patch: Option<EnvoyPatch>,
    }
}

names! {
    pub enum EnvoyApplyTo {
        Invalid = "INVALID",
        Listener = "LISTENER",
        FilterChain = "FILTER_CHAIN",
        NetworkFilter = "NETWORK_FILTER",
        HttpFilter = "HTTP_FILTER",
        RouteConfiguration = "ROUTE_CONFIGURATION",
        VirtualHost = "VIRTUAL_HOST",
        HttpRoute = "HTTP_ROUTE",
        Cluster = "CLUSTER",
        ExtensionConfig = "EXTENSION_CONFIG",
        Bootstrap = "BOOTSTRAP",
        ListenerFilter = "LISTENER_FILTER",
    }
}

message! {
    pub struct EnvoyMatch {
        context: EnvoyContext,
        proxy: Option<EnvoyProxyMatch>,
        listener: Option<serde_json::Value>,
        route_configuration: Option<serde_json::Value>,
        cluster: Option<serde_json::Value>,
        waypoint: Option<EnvoyWaypointMatch>,
    }
}

names! {
    pub enum EnvoyContext {
        Any = "ANY",
        SidecarInbound = "SIDECAR_INBOUND",
        SidecarOutbound = "SIDECAR_OUTBOUND",
        Gateway = "GATEWAY",
        Waypoint = "WAYPOINT",
    }
}

message! {
    pub struct EnvoyProxyMatch {
        proxy_version: String,
        metadata: BTreeMap<String, String>,
    }
}

message! {
    pub struct EnvoyWaypointMatch {
        port_number: Option<u32>,
        filter: Option<serde_json::Value>,
        route: Option<serde_json::Value>,
    }
}

message! {
    pub struct EnvoyPatch {
        operation: EnvoyOperation,
        value: Option<serde_json::Value>,
        filter_class: EnvoyFilterClass,
    }
}

names! {
    pub enum EnvoyOperation {
        Invalid = "INVALID",
        Merge = "MERGE",
        Add = "ADD",
        Remove = "REMOVE",
        InsertBefore = "INSERT_BEFORE",
        InsertAfter = "INSERT_AFTER",
        InsertFirst = "INSERT_FIRST",
        Replace = "REPLACE",
        MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }
}

names! {
    pub enum EnvoyFilterClass {
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}
