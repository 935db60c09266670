//! AuthorizationPolicy: who may do what.

use crate::decode::{message, names};
use crate::networking::{PolicySelector, TargetReference};

message! {
    pub struct AuthorizationPolicy {
        selector: Option<PolicySelector>,
        target_ref: Option<TargetReference>,
        target_refs: Vec<TargetReference>,
        /// Alternatives; none matches nothing.
        rules: Vec<AuthorizationRule>,
        action: AuthorizationAction,
        provider: Option<AuthorizationProvider>,
    }
}

names! {
    pub enum AuthorizationAction {
        Allow = "ALLOW",
        Deny = "DENY",
        Audit = "AUDIT",
        Custom = "CUSTOM",
    }
}

message! {
    pub struct AuthorizationProvider {
        name: String,
    }
}

message! {
    /// Absent parts match everything.
    pub struct AuthorizationRule {
        from: Vec<AuthorizationFrom>,
        to: Vec<AuthorizationTo>,
        when: Vec<AuthorizationCondition>,
    }
}

message! {
    pub struct AuthorizationFrom {
        source: Option<AuthorizationSource>,
    }
}

message! {
    pub struct AuthorizationSource {
        principals: Vec<String>,
        not_principals: Vec<String>,
        request_principals: Vec<String>,
        not_request_principals: Vec<String>,
        namespaces: Vec<String>,
        not_namespaces: Vec<String>,
        ip_blocks: Vec<String>,
        not_ip_blocks: Vec<String>,
        remote_ip_blocks: Vec<String>,
        not_remote_ip_blocks: Vec<String>,
        service_accounts: Vec<String>,
        not_service_accounts: Vec<String>,
        trust_domains: Vec<String>,
        not_trust_domains: Vec<String>,
    }
}

message! {
    pub struct AuthorizationTo {
        operation: Option<AuthorizationOperation>,
    }
}

message! {
    pub struct AuthorizationOperation {
        hosts: Vec<String>,
        not_hosts: Vec<String>,
        ports: Vec<String>,
        not_ports: Vec<String>,
        methods: Vec<String>,
        not_methods: Vec<String>,
        paths: Vec<String>,
        not_paths: Vec<String>,
    }
}

message! {
    pub struct AuthorizationCondition {
        key @required: String,
        values: Vec<String>,
        not_values: Vec<String>,
    }
}
