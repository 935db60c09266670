//! What of a world one proxy may see: services, rules and policies by `exportTo`, Sidecar and namespace.
//!
//! `egress` holds one listener of a Sidecar and what it imports; a proxy without Sidecar has one that imports `*/*`.

mod egress;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::mesh_config::MeshOutboundMode;
use api::networking::Destination;
use api::networking::{OutboundTrafficPolicyMode, Sidecar};
use api::{Object, Spec};

use crate::proxy::Facts;
use crate::world::service::{EndpointsOf, Port, Registry, Service};
use crate::world::{Owners, View};

pub use egress::EgressListener;

/// What one proxy sees.
#[derive(Debug)]
pub struct Scope {
    pub namespace: String,
    pub sidecar: Option<Arc<Object>>,
    /// In the order written; the one without a port, if any, comes last.
    pub egress: Vec<EgressListener>,
    /// Everything imported by any listener, one service per host.
    pub services: Vec<Arc<Service>>,
    by_host: HashMap<String, usize>,
    pub unmatched: Unmatched,
}

/// What happens to traffic nobody is known for.
#[derive(Debug, Clone, PartialEq)]
pub enum Unmatched {
    /// On to where it was going.
    Allow,
    /// To the host that each request names.
    AllowByHost,
    Refuse,
    /// To one service for all of it.
    Proxy(Destination),
}

impl Scope {
    pub fn of_sidecar(view: View<'_>, facts: &Facts<'_>) -> Self {
        let namespace = facts.namespace();
        let sidecar = sidecar_of(view, namespace, |labels| facts.has_labels(labels));
        let spec = sidecar.as_ref().and_then(spec_of);
        let mut scope = Self::empty(view, namespace);
        scope.unmatched = unmatched(view, spec);
        scope.egress = match spec.map(|spec| spec.egress.as_slice()) {
            None | Some([]) => vec![EgressListener::everything(view, namespace)],
            Some(listeners) => listeners
                .iter()
                .enumerate()
                .map(|(at, listener)| EgressListener::written(view, namespace, listener, at))
                .collect(),
        };
        scope.sidecar = sidecar;
        scope.import(view);
        scope
    }

    /// A gateway sees whatever is exported to its namespace.
    pub fn of_gateway(view: View<'_>, facts: &Facts<'_>) -> Self {
        let mut scope = Self::empty(view, facts.namespace());
        for service in view.services_seen_from(facts.namespace(), Owners::All) {
            scope.add(service.clone());
        }
        scope
    }

    fn empty(view: View<'_>, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            sidecar: None,
            egress: Vec::new(),
            services: Vec::new(),
            by_host: HashMap::new(),
            unmatched: unmatched(view, None),
        }
    }

    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.by_host.get(host).and_then(|at| self.services.get(*at))
    }

    /// Puts a known service in the place of one that says the same, wherever it stands.
    pub fn take_over<'s>(&mut self, known: impl Fn(&Service) -> Option<&'s Arc<Service>>) {
        let of_listeners = self.egress.iter_mut().flat_map(|listener| &mut listener.services);
        for service in self.services.iter_mut().chain(of_listeners) {
            if let Some(known) = known(service)
                && !Arc::ptr_eq(known, service)
                && **known == **service
            {
                *service = known.clone();
            }
        }
    }

    /// Whether it has the same services as another, whoever imports them.
    pub fn has_services_of(&self, other: &Self) -> bool {
        same(&self.services, &other.services)
            && self.egress.len() == other.egress.len()
            && self.egress.iter().zip(&other.egress).all(|(own, other)| same(&own.services, &other.services))
    }

    /// Whether everything but the services is the same.
    pub fn is_otherwise(&self, other: &Self) -> bool {
        self.sidecar == other.sidecar
            && self.unmatched == other.unmatched
            && self.egress.len() == other.egress.len()
            && self.egress.iter().zip(&other.egress).all(|(own, other)| own.is_otherwise(other))
    }

    /// The listener whose routes a port's are.
    pub fn egress_for(&self, port: u32, bind: &str) -> Option<&EgressListener> {
        self.egress.iter().find(|listener| match &listener.port {
            None => true,
            Some(own) if own.number == port => port != 0 || listener.bind == bind,
            Some(_) => false,
        })
    }

    fn import(&mut self, view: View<'_>) {
        let listeners = std::mem::take(&mut self.egress);
        for listener in &listeners {
            for service in &listener.services {
                self.add(service.clone());
            }
            // What rules send traffic to must be reachable too.
            for virtual_service in &listener.virtual_services {
                for (host, ports) in virtual_service.destinations(&self.namespace) {
                    if let Some(service) = self.destination_service(view, host, &ports, listener) {
                        self.add(service);
                    }
                }
            }
        }
        self.egress = listeners;
    }

    fn destination_service(
        &self,
        view: View<'_>,
        host: &str,
        ports: &BTreeSet<u32>,
        listener: &EgressListener,
    ) -> Option<Arc<Service>> {
        let candidates = view.services_of_host(host)?;
        let own = candidates.get(&self.namespace);
        let service =
            own.or_else(|| candidates.values().find(|service| service.visibility.reaches(&self.namespace)))?;
        match listener.only_port() {
            Some(port) => limit(service, &BTreeSet::from([port])),
            None if ports.is_empty() => Some(service.clone()),
            None => limit(service, ports),
        }
    }

    /// One service per host: the first, but a Kubernetes one over any other; equal ones pool their ports.
    fn add(&mut self, service: Arc<Service>) {
        let Some(at) = self.by_host.get(&service.host).copied() else {
            self.by_host.insert(service.host.clone(), self.services.len());
            self.services.push(service);
            return;
        };
        let Some(existing) = self.services.get_mut(at) else { return };
        if Arc::ptr_eq(existing, &service) {
            return;
        }
        match (existing.registry, service.registry) {
            (Registry::Kubernetes, Registry::ServiceEntry) => return,
            (Registry::ServiceEntry, Registry::Kubernetes) => {
                *existing = service;
                return;
            }
            _ => {}
        }
        if existing.ports == service.ports || !is_mergeable(existing, &service) {
            return;
        }
        let missing: Vec<Port> =
            service.ports.iter().filter(|port| existing.port(port.number).is_none()).cloned().collect();
        let numbers: Vec<u32> = missing.iter().map(|port| port.number).collect();
        let mut merged = existing.with_ports(existing.ports.iter().cloned().chain(missing).collect());
        let own: Vec<&EndpointsOf> = existing.endpoints.iter().collect();
        let new = service.endpoints.iter().filter(|part| own.iter().all(|own| own.key != part.key));
        let new = new.map(|part| EndpointsOf { key: part.key.clone(), ports: Some(numbers.clone()) });
        merged.endpoints.extend(new);
        *existing = Arc::new(merged);
    }
}

/// The Sidecar of a workload: one that selects it, else its namespace's, else the root namespace's
/// (`istio-behaviour` rule 27).
pub fn sidecar_of(
    view: View<'_>,
    namespace: &str,
    has_labels: impl Fn(&BTreeMap<String, String>) -> bool,
) -> Option<Arc<Object>> {
    let selecting = view.sidecars(namespace).find(|object| {
        let selector = spec_of(object).and_then(|spec| spec.workload_selector.as_ref());
        selector.is_some_and(|selector| has_labels(&selector.labels))
    });
    let plain = |object: &&Arc<Object>| spec_of(object).is_some_and(|spec| spec.workload_selector.is_none());
    selecting
        .or_else(|| view.sidecars(namespace).find(plain))
        .or_else(|| view.sidecars(&view.mesh().root_namespace).find(plain))
        .cloned()
}

pub(crate) fn spec_of(object: &Arc<Object>) -> Option<&Sidecar> {
    match &object.spec {
        Spec::Sidecar(spec) => Some(spec),
        _ => None,
    }
}

fn unmatched(view: View<'_>, sidecar: Option<&Sidecar>) -> Unmatched {
    match sidecar.and_then(|spec| spec.outbound_traffic_policy.as_ref()) {
        Some(policy) if policy.mode == OutboundTrafficPolicyMode::RegistryOnly => Unmatched::Refuse,
        Some(policy) => policy.egress_proxy.clone().map_or(Unmatched::Allow, Unmatched::Proxy),
        None => match view.mesh().outbound_traffic_policy.mode {
            MeshOutboundMode::RegistryOnly => Unmatched::Refuse,
            MeshOutboundMode::AllowAny => Unmatched::Allow,
            MeshOutboundMode::AllowAnyDynamicDns => Unmatched::AllowByHost,
        },
    }
}

/// Whether two lists are of the same things, most of which are the very same.
fn same<T: PartialEq>(one: &[Arc<T>], other: &[Arc<T>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}

fn is_mergeable(left: &Service, right: &Service) -> bool {
    left.namespace == right.namespace
        && left.resolution == right.resolution
        && left.labels == right.labels
        && left.selector == right.selector
        && left.visibility == right.visibility
}

/// The service with only these of its ports; `None` if it has none of them.
fn limit(service: &Arc<Service>, ports: &BTreeSet<u32>) -> Option<Arc<Service>> {
    let kept: Vec<Port> = service.ports.iter().filter(|port| ports.contains(&port.number)).cloned().collect();
    match kept.len() {
        0 => None,
        all if all == service.ports.len() => Some(service.clone()),
        _ => Some(Arc::new(service.with_ports(kept))),
    }
}
