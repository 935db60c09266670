//! Which services a workload itself stands behind: what its inbound side is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Spec;
use api::kubernetes::PortReference;

use super::World;
use super::instances::Instance;
use super::service::{Endpoint, Port, Service};

/// One port of a service, and where the workload serves it.
#[derive(Debug, Clone)]
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

impl World {
    /// Oldest service first, then by host. Service selectors are judged against its Pod, or else its labels;
    /// ServiceEntries against its addresses.
    pub fn targets(&self, asker: &Asker<'_>) -> Vec<Target> {
        let pod = asker.pod.and_then(|(name, namespace)| self.instances.pod(name, namespace));
        let registered = asker
            .addresses
            .iter()
            .flat_map(|address| self.instances.at_address(address))
            .find(|instance| instance.is_registered() && instance.namespace == asker.namespace);
        let itself = pod.or(registered);
        let labels = itself.map_or(asker.labels, |instance| &*instance.labels);
        let namespace = itself.map_or(asker.namespace, |instance| &instance.namespace);
        let mut targets = Vec::new();
        for service in self.services.of_namespace(namespace) {
            kubernetes_targets(service, labels, itself, &mut targets);
        }
        for address in &asker.addresses {
            for service in self.services.entries_at(address) {
                let own = service.endpoints.iter().filter(|endpoint| endpoint.address == **address);
                targets.extend(own.filter_map(|endpoint| target(service, endpoint)));
            }
        }
        targets.sort_by(|left, right| {
            let key = |target: &Target| (target.service.age, target.service.host.clone());
            key(left).cmp(&key(right))
        });
        targets
    }
}

fn kubernetes_targets(
    service: &Arc<Service>,
    labels: &BTreeMap<String, String>,
    itself: Option<&Instance>,
    targets: &mut Vec<Target>,
) {
    let selected = !service.selector.is_empty() && api::selector::matches(&service.selector, labels);
    let spec = service.object.as_ref().and_then(|object| match &object.spec {
        Spec::Service(spec) if selected => Some(spec),
        _ => None,
    });
    let Some(spec) = spec else {
        // A workload may name a service that has no selector for it, or no object at all.
        if itself.is_some_and(Instance::is_registered) {
            let own = service.endpoints.iter().filter(|endpoint| is(itself, &endpoint.address));
            targets.extend(own.filter_map(|endpoint| target(service, endpoint)));
        }
        return;
    };
    for (port, written) in service.ports.iter().zip(&spec.ports) {
        let target_port = match (itself, &written.target_port) {
            (Some(instance), target) => instance.kubernetes_port(written.port, &written.name, target),
            (None, PortReference::Number(number)) => Some((*number).into()),
            // Only the Pod knows its ports' names.
            (None, PortReference::Name(_)) => None,
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

fn is(itself: Option<&Instance>, address: &str) -> bool {
    itself.is_some_and(|instance| instance.addresses.iter().any(|own| own == address))
}
