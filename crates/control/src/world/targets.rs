//! Which services a workload itself stands behind: what its inbound side is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Spec;

use super::World;
use super::instances::Instance;
use super::service::{Port, Registry, Service};

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
        for service in self.services.all() {
            match service.registry {
                Registry::Kubernetes => {
                    self.kubernetes_targets(service, namespace, labels, itself, &mut targets);
                }
                Registry::ServiceEntry => {
                    for endpoint in service.endpoints.iter() {
                        if asker.addresses.iter().any(|address| *address == endpoint.address)
                            && let Some(port) = service.port(endpoint.service_port)
                        {
                            let (service, port) = (service.clone(), port.clone());
                            targets.push(Target { service, port, target_port: endpoint.port });
                        }
                    }
                }
            }
        }
        targets.sort_by(|left, right| {
            let key = |target: &Target| (target.service.age, target.service.host.clone());
            key(left).cmp(&key(right))
        });
        targets
    }

    fn kubernetes_targets(
        &self,
        service: &Arc<Service>,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        itself: Option<&Instance>,
        targets: &mut Vec<Target>,
    ) {
        if service.namespace != namespace {
            return;
        }
        let selected = !service.selector.is_empty() && api::selector::matches(&service.selector, labels);
        let Some(Spec::Service(spec)) = service.object.as_ref().map(|object| &object.spec) else {
            // Implied by workloads: those that named it.
            let endpoints = service.endpoints.iter();
            targets.extend(endpoints.filter(|endpoint| is(itself, &endpoint.address)).filter_map(
                |endpoint| {
                    Some(Target {
                        service: service.clone(),
                        port: service.port(endpoint.service_port)?.clone(),
                        target_port: endpoint.port,
                    })
                },
            ));
            return;
        };
        if !selected {
            // A workload may name a service whose selector does not know it.
            let named = service.endpoints.iter().filter(|endpoint| is(itself, &endpoint.address));
            let registered = itself.is_some_and(Instance::is_registered);
            targets.extend(named.filter(|_| registered).filter_map(|endpoint| {
                Some(Target {
                    service: service.clone(),
                    port: service.port(endpoint.service_port)?.clone(),
                    target_port: endpoint.port,
                })
            }));
            return;
        }
        for (port, written) in service.ports.iter().zip(&spec.ports) {
            let target_port = match (itself, &written.target_port) {
                (Some(instance), target) => instance.kubernetes_port(written.port, &written.name, target),
                (None, api::kubernetes::PortReference::Number(number)) => Some((*number).into()),
                // Only the Pod knows its ports' names.
                (None, api::kubernetes::PortReference::Name(_)) => None,
            };
            if let Some(target_port) = target_port {
                targets.push(Target { service: service.clone(), port: port.clone(), target_port });
            }
        }
    }
}

fn is(itself: Option<&Instance>, address: &str) -> bool {
    itself.is_some_and(|instance| instance.addresses.iter().any(|own| own == address))
}
