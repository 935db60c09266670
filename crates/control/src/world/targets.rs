//! Which services a workload itself stands behind: what its inbound side is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kubernetes::PortReference;

use super::View;
use super::instances::Instance;
use super::service::{Endpoint, Port, Registry, Service};

/// One port of a service, and where the workload serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub service: Arc<Service>,
    pub port: Port,
    pub target_port: u32,
}

/// Who asks. `pod` is `(name, namespace)` of the Pod it runs in.
pub struct Asker<'a> {
    pub pod: Option<(&'a str, &'a str)>,
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub addresses: Vec<&'a str>,
}

/// Oldest service first, then by host. Service selectors are judged against its Pod, or else its labels; ServiceEntries
/// against its addresses.
pub fn targets(view: View<'_>, asker: &Asker<'_>) -> Vec<Target> {
    let pod = asker.pod.and_then(|(name, namespace)| view.pod(name, namespace));
    let registered = || asker.addresses.iter().find_map(|address| view.registered(asker.namespace, address));
    let itself = pod.or_else(registered);
    let labels = itself.map_or(asker.labels, |instance| &*instance.labels);
    let namespace = itself.map_or(asker.namespace, |instance| &instance.namespace);
    let mut targets = Vec::new();
    let kubernetes = |service: &&Arc<Service>| service.registry == Registry::Kubernetes;
    for service in view.services_of(namespace).iter().filter(kubernetes) {
        if is_selected(service, labels) {
            selected(service, itself, &mut targets);
        }
    }
    // A workload may name a service that has no selector for it, or no object at all.
    for address in itself.filter(|one| one.is_registered()).into_iter().flat_map(|one| &one.addresses) {
        for (service, endpoints) in view.served_at(address) {
            let own = service.registry == Registry::Kubernetes && service.namespace == *namespace;
            if own && !is_selected(service, labels) {
                targets.extend(endpoints.filter_map(|endpoint| target(service, endpoint)));
            }
        }
    }
    for address in &asker.addresses {
        for (service, endpoints) in view.served_at(address) {
            if service.registry == Registry::ServiceEntry {
                targets.extend(endpoints.filter_map(|endpoint| target(service, endpoint)));
            }
        }
    }
    targets.sort_by(|left, right| {
        let key = |target: &Target| (target.service.age, target.service.host.clone());
        key(left).cmp(&key(right))
    });
    targets
}

fn is_selected(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    !service.selector.is_empty() && api::selector::matches(&service.selector, labels)
}

fn selected(service: &Arc<Service>, itself: Option<&Instance>, targets: &mut Vec<Target>) {
    for port in &service.ports {
        let number = u16::try_from(port.number).unwrap_or_default();
        let target_port = match (itself, &port.target) {
            (Some(instance), Some(target)) => instance.kubernetes_port(number, &port.name, target),
            (None, Some(PortReference::Number(number))) => Some((*number).into()),
            // Only the Pod knows its ports' names.
            (None, Some(PortReference::Name(_))) | (_, None) => None,
        };
        if let Some(target_port) = target_port {
            targets.push(Target { service: service.clone(), port: port.clone(), target_port });
        }
    }
}

fn target(service: &Arc<Service>, endpoint: &Endpoint) -> Option<Target> {
    let port = service.port(endpoint.service_port)?.clone();
    Some(Target { service: service.clone(), port, target_port: endpoint.port })
}
