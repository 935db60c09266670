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

use crate::world::service::{Port, Registry, Service};
use crate::world::virtual_services::MESH;
use crate::world::{DestinationRule, World};

pub use egress::EgressListener;

/// What one proxy sees.
pub struct Scope<'w> {
    pub world: &'w World,
    pub namespace: String,
    pub sidecar: Option<Arc<Object>>,
    /// In the order written; the one without a port, if any, comes last.
    pub egress: Vec<EgressListener>,
    /// Everything imported by any listener, one service per host.
    pub services: Vec<Arc<Service>>,
    by_host: HashMap<String, usize>,
    rules: HashMap<String, Vec<&'w DestinationRule>>,
    labels: BTreeMap<String, String>,
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

impl<'w> Scope<'w> {
    pub fn of_sidecar(world: &'w World, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let sidecar = sidecar_of(world, namespace, labels);
        let spec = sidecar.as_ref().and_then(spec_of);
        let mut scope = Self::empty(world, namespace, labels);
        scope.unmatched = unmatched(world, spec);
        scope.egress = match spec.map(|spec| spec.egress.as_slice()) {
            None | Some([]) => vec![EgressListener::everything(world, namespace)],
            Some(listeners) => listeners
                .iter()
                .enumerate()
                .map(|(at, listener)| EgressListener::written(world, namespace, listener, at))
                .collect(),
        };
        scope.sidecar = sidecar;
        scope.import();
        scope
    }

    /// A gateway sees whatever is exported to its namespace.
    pub fn of_gateway(world: &'w World, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut scope = Self::empty(world, namespace, labels);
        for service in world.services.seen_from(namespace) {
            scope.add(service.clone());
        }
        scope.find_rules();
        scope
    }

    fn empty(world: &'w World, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        Self {
            world,
            namespace: namespace.to_owned(),
            sidecar: None,
            egress: Vec::new(),
            services: Vec::new(),
            by_host: HashMap::new(),
            rules: HashMap::new(),
            labels: labels.clone(),
            unmatched: unmatched(world, None),
        }
    }

    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.by_host.get(host).and_then(|at| self.services.get(*at))
    }

    /// The rule for a host: one that selects this proxy, else one for everybody.
    pub fn destination_rule(&self, host: &str) -> Option<&'w DestinationRule> {
        let rules = self.rules.get(host)?;
        let selecting = rules.iter().find(|rule| {
            rule.namespace == self.namespace
                && rule.selector.as_ref().is_some_and(|selector| selector.selects(&self.labels))
        });
        selecting.or_else(|| rules.iter().rev().find(|rule| rule.selector.is_none())).copied()
    }

    /// The listener whose routes a port's are.
    pub fn egress_for(&self, port: u32, bind: &str) -> Option<&EgressListener> {
        self.egress.iter().find(|listener| match &listener.port {
            None => true,
            Some(own) if own.number == port => port != 0 || listener.bind == bind,
            Some(_) => false,
        })
    }

    fn import(&mut self) {
        let listeners = std::mem::take(&mut self.egress);
        for listener in &listeners {
            for service in &listener.services {
                self.add(service.clone());
            }
            // What rules send traffic to must be reachable too.
            for virtual_service in &listener.virtual_services {
                for (host, ports) in virtual_service.destinations(&self.namespace) {
                    if let Some(service) = self.destination_service(host, &ports, listener) {
                        self.add(service);
                    }
                }
            }
        }
        self.egress = listeners;
        self.find_rules();
    }

    fn destination_service(
        &self,
        host: &str,
        ports: &BTreeSet<u32>,
        listener: &EgressListener,
    ) -> Option<Arc<Service>> {
        let candidates = self.world.services.of_host(host)?;
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
        let mut ports = existing.ports.clone();
        let missing = |port: &&Port| existing.port(port.number).is_none();
        ports.extend(service.ports.iter().filter(missing).cloned());
        let mut merged = existing.with_ports(ports);
        if !Arc::ptr_eq(&existing.endpoints, &service.endpoints) {
            let mut endpoints = (*existing.endpoints).clone();
            let new =
                service.endpoints.iter().filter(|endpoint| existing.port(endpoint.service_port).is_none());
            endpoints.extend(new.cloned());
            merged.endpoints = Arc::new(endpoints);
        }
        *existing = Arc::new(merged);
    }

    fn find_rules(&mut self) {
        for service in &self.services {
            let rules =
                self.world.destination_rules.for_service(&self.namespace, &service.host, &service.namespace);
            if !rules.is_empty() {
                self.rules.insert(service.host.clone(), rules);
            }
        }
    }
}

/// The Sidecar of a workload: one that selects it, else its namespace's, else the root namespace's
/// (`istio-behaviour` rule 27).
pub fn sidecar_of(world: &World, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Arc<Object>> {
    let of = |namespace: &str| world.sidecars.get(namespace).into_iter().flatten();
    let selecting = of(namespace).find(|object| {
        let selector = spec_of(object).and_then(|spec| spec.workload_selector.as_ref());
        selector.is_some_and(|selector| selector.selects(labels))
    });
    let plain = |object: &&Arc<Object>| spec_of(object).is_some_and(|spec| spec.workload_selector.is_none());
    selecting
        .or_else(|| of(namespace).find(plain))
        .or_else(|| of(&world.mesh.root_namespace).find(plain))
        .cloned()
}

pub(crate) fn spec_of(object: &Arc<Object>) -> Option<&Sidecar> {
    match &object.spec {
        Spec::Sidecar(spec) => Some(spec),
        _ => None,
    }
}

fn unmatched(world: &World, sidecar: Option<&Sidecar>) -> Unmatched {
    match sidecar.and_then(|spec| spec.outbound_traffic_policy.as_ref()) {
        Some(policy) if policy.mode == OutboundTrafficPolicyMode::RegistryOnly => Unmatched::Refuse,
        Some(policy) => policy.egress_proxy.clone().map_or(Unmatched::Allow, Unmatched::Proxy),
        None => match world.mesh.outbound_traffic_policy.mode {
            MeshOutboundMode::RegistryOnly => Unmatched::Refuse,
            MeshOutboundMode::AllowAny => Unmatched::Allow,
            MeshOutboundMode::AllowAnyDynamicDns => Unmatched::AllowByHost,
        },
    }
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

/// VirtualServices of the mesh a namespace sees.
fn mesh_rules<'w>(
    world: &'w World,
    namespace: &'w str,
) -> impl Iterator<Item = &'w Arc<crate::world::VirtualService>> {
    world.virtual_services.bound(MESH, namespace)
}
