//! Extensions of the proxy (`extensions.istio.io`): WasmPlugin and TrafficExtension.

use crate::decode::{message, names};
use crate::networking::{PolicySelector, TargetReference};

message! {
    pub struct WasmPlugin {
        selector: Option<PolicySelector>,
        target_ref: Option<TargetReference>,
        target_refs: Vec<TargetReference>,
        url @required: String,
        sha256: String,
        image_pull_policy: PullPolicy,
        image_pull_secret: Option<String>,
        verification_key: String,
        plugin_config: Option<serde_json::Value>,
        plugin_name: Option<String>,
        phase: PluginPhase,
        priority: Option<i32>,
        fail_strategy: FailStrategy,
        vm_config: Option<VmConfig>,
        matches: Vec<TrafficSelector> = "match",
        type_: PluginType = "type",
    }
}

message! {
    pub struct TrafficExtension {
        selector: Option<PolicySelector>,
        target_refs: Vec<TargetReference>,
        phase: ExtensionPhase,
        priority: Option<i32>,
        matches: Vec<TrafficSelector> = "match",
        wasm: Option<WasmExtension>,
        lua: Option<LuaExtension>,
    }
}

message! {
    pub struct WasmExtension {
        url @required: String,
        sha256: String,
        image_pull_policy: PullPolicy,
        image_pull_secret: Option<String>,
        verification_key: String,
        plugin_config: Option<serde_json::Value>,
        plugin_name: Option<String>,
        fail_strategy: FailStrategy,
        vm_config: Option<VmConfig>,
        type_: PluginType = "type",
    }
}

message! {
    pub struct LuaExtension {
        inline_code @required: String,
    }
}

names! {
    pub enum PullPolicy {
        Unspecified = "UNSPECIFIED_POLICY",
        IfNotPresent = "IfNotPresent",
        Always = "Always",
    }
}

names! {
    pub enum PluginPhase {
        Unspecified = "UNSPECIFIED_PHASE",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}

names! {
    pub enum ExtensionPhase {
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}

names! {
    pub enum FailStrategy {
        FailClose = "FAIL_CLOSE",
        FailOpen = "FAIL_OPEN",
        FailReload = "FAIL_RELOAD",
    }
}

names! {
    pub enum PluginType {
        Unspecified = "UNSPECIFIED_PLUGIN_TYPE",
        Http = "HTTP",
        Network = "NETWORK",
    }
}

message! {
    pub struct VmConfig {
        env: Vec<EnvironmentVariable>,
    }
}

message! {
    pub struct EnvironmentVariable {
        name @required: String,
        value_from: EnvironmentSource,
        value: String,
    }
}

names! {
    pub enum EnvironmentSource {
        Inline = "INLINE",
        Host = "HOST",
    }
}

message! {
    pub struct TrafficSelector {
        mode: TrafficMode,
        ports: Vec<PortNumber>,
    }
}

message! {
    pub struct PortNumber {
        number @required: u32,
    }
}

names! {
    pub enum TrafficMode {
        Undefined = "UNDEFINED",
        Client = "CLIENT",
        Server = "SERVER",
        ClientAndServer = "CLIENT_AND_SERVER",
    }
}
