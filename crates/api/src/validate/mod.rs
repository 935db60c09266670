//! Istio's rules about one object: what its schema and its webhook refuse, and what they warn about.
//!
//! An object is refused by the schema's rules or by the webhook's, as `kubectl apply` would; both are here, side by side,
//! in one file per kind. The words are our own.

mod destination_rule;
mod export_to;
mod gateway;
mod headers;
mod http_route;
mod mesh;
mod names;
mod not_acted_on;
mod peer_authentication;
mod routes;
mod rules;
mod selectors;
mod service_entry;
mod sidecar;
mod tls;
mod traffic_policy;
mod unreachable;
mod values;
mod virtual_service;
mod workload;

use crate::decode::Context;
use crate::mesh_config::MeshConfig;
use crate::object::{Meta, Object, Spec};
use crate::yaml::Node;
use rules::Rules;

/// Reports everything wrong with an object whose types are right.
pub(crate) fn object(object: &Object, document: &Node, context: &mut Context) {
    if object.spec == Spec::Unsupported {
        return not_acted_on::check(object, document, context);
    }
    let mut rules = Rules::new(document, context);
    rules.field("metadata", |rules| metadata(&object.meta, rules));
    rules.field("spec", |rules| match &object.spec {
        Spec::VirtualService(spec) => virtual_service::check(spec, object, rules),
        Spec::DestinationRule(spec) => destination_rule::check(spec, object, rules),
        Spec::ServiceEntry(spec) => service_entry::check(spec, object, rules),
        Spec::Gateway(spec) => gateway::check(spec, object, rules),
        Spec::Sidecar(spec) => sidecar::check(spec, object, rules),
        Spec::WorkloadEntry(spec) => workload::check_entry(spec, rules),
        Spec::WorkloadGroup(spec) => workload::check_group(spec, rules),
        Spec::PeerAuthentication(spec) => peer_authentication::check(spec, rules),
        Spec::Service(_)
        | Spec::Namespace(_)
        | Spec::Pod(_)
        | Spec::EndpointSlice(_)
        | Spec::Deployment(_)
        | Spec::MeshConfig(_)
        | Spec::Unsupported => {}
    });
}

/// Kubernetes' rules for names and labels, of the kinds that are read.
fn metadata(meta: &Meta, rules: &mut Rules<'_, '_>) {
    // A generated name is finished by the API server.
    if rules.has("name") {
        rules.require_field("name", names::object_name(&meta.name));
    }
    if let Some(namespace) = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        rules.require_field("namespace", names::namespace(namespace));
    }
    selectors::labels("labels", &meta.labels, rules);
}

pub(crate) fn mesh_config(config: &MeshConfig, document: &Node, context: &mut Context) {
    mesh::check(config, &mut Rules::new(document, context));
}

#[cfg(test)]
mod tests;
