//! The addresses behind a cluster, by locality.

use std::collections::BTreeMap;

use api::mesh_config::InterceptionMode;
use api::security::MutualTlsMode;
use xds::core::{HealthStatus, Metadata};
use xds::endpoint::{ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, lb_endpoint};

use super::policy::Policy;
use super::{Mode, locality};
use crate::scope;
use crate::translate::context::Context;
use crate::translate::values::{address, structure, text};
use crate::world::service::{Endpoint, Service};

/// Labels Istio names workloads by, in order of preference.
const CANONICAL_NAME: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
const CANONICAL_REVISION: [&str; 3] =
    ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];

pub fn assignment(
    context: &Context<'_>,
    service: &Service,
    port: u32,
    subset: Option<&BTreeMap<String, String>>,
    policy: &Policy<'_>,
    mode: Mode,
    name: &str,
) -> ClusterLoadAssignment {
    let chosen = context
        .view
        .endpoints_of(service, port)
        .filter(|endpoint| subset.is_none_or(|labels| api::selector::matches(labels, &endpoint.labels)));
    let mut known: Vec<(&Endpoint, LbEndpoint)> = Vec::new();
    for endpoint in chosen {
        let mutual = takes_mutual_tls(context, endpoint);
        if mode == Mode::SniPassthrough && !mutual {
            continue;
        }
        known.push((endpoint, lb_endpoint(context, endpoint, mutual)));
    }
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: locality::arrange(context, service, policy, known),
        ..Default::default()
    }
}

/// It has a proxy, and no policy of its own turns mutual TLS off (`istio-behaviour` rule 45).
fn takes_mutual_tls(context: &Context<'_>, endpoint: &Endpoint) -> bool {
    context.options.identity && endpoint.mutual_tls && {
        let has_labels = |labels: &BTreeMap<String, String>| api::selector::matches(labels, &endpoint.labels);
        let mode = context.view.mutual_tls(&endpoint.namespace, has_labels).of_port(endpoint.port);
        mode != MutualTlsMode::Disable
    }
}

/// Whether this client, if it is one of ours that does so, may send all HTTP requests over shared HTTP/2 connections.
fn takes_hops(context: &Context<'_>, endpoint: &Endpoint) -> bool {
    endpoint.hop && context.sends_hops() && {
        // A Sidecar's own listeners, and none at all, are other than what the services say.
        let has_labels = |labels: &BTreeMap<String, String>| api::selector::matches(labels, &endpoint.labels);
        let sidecar = scope::sidecar_of(context.view, &endpoint.namespace, has_labels);
        let mode = context.mesh().default_config.interception_mode;
        mode != InterceptionMode::None
            && sidecar.as_ref().and_then(scope::spec_of).is_none_or(|spec| spec.ingress.is_empty())
            && !context.view.is_not_http(&endpoint.address, endpoint.port)
    }
}

fn lb_endpoint(context: &Context<'_>, endpoint: &Endpoint, mutual_tls: bool) -> LbEndpoint {
    let mut filter_metadata = BTreeMap::new();
    let label = |keys: &[&str]| keys.iter().find_map(|key| endpoint.labels.get(*key)).cloned();
    if !endpoint.workload.is_empty() {
        let name = label(&CANONICAL_NAME).unwrap_or_else(|| endpoint.workload.clone());
        let revision = label(&CANONICAL_REVISION).unwrap_or_else(|| "latest".into());
        let cluster = context.facts.metadata("CLUSTER_ID");
        let cluster = cluster.as_deref().unwrap_or("Kubernetes");
        let workload = format!("{};{};{name};{revision};{cluster}", endpoint.workload, endpoint.namespace);
        filter_metadata.insert("istio".to_owned(), structure([("workload", text(workload))]));
    }
    if mutual_tls {
        let matched = structure([("tlsMode", text("istio"))]);
        filter_metadata.insert("envoy.transport_socket_match".to_owned(), matched);
    }
    if takes_hops(context, endpoint) {
        let hop = structure([(xds::node::HOP_KEY, text(xds::node::HOP_H2))]);
        filter_metadata.insert(xds::node::HOP_NAMESPACE.to_owned(), hop);
    }
    let health = if endpoint.healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(EnvoyEndpoint {
            address: Some(address(&endpoint.address, endpoint.port)),
            ..Default::default()
        })),
        health_status: health as i32,
        load_balancing_weight: Some(endpoint.weight.max(1)),
        metadata: (!filter_metadata.is_empty()).then(|| Metadata { filter_metadata, ..Default::default() }),
    }
}
