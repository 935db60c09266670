//! From one world to the next when only workloads and EndpointSlices have changed: no rule is looked at again, and of the
//! services only those that something changed behind.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::kubernetes::EndpointSlice;
use api::{Object, Spec};

use super::instances::{Instance, Instances};
use super::kubernetes::Registrar;
use super::service::{Endpoint, Registry, Resolution, Service};
use super::{World, hop, registry};
use crate::workload::Workload;

/// How a world differs from the one before.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    /// Only in where services of these hosts are served, by known addresses.
    Endpoints(MovedEndpoints),
    /// In anything.
    Everything,
}

/// Services that are served elsewhere than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MovedEndpoints {
    pub hosts: BTreeSet<String>,
    /// Where they were served and are; and of workloads that came, went or changed.
    pub addresses: BTreeSet<String>,
}

impl World {
    /// Becomes the world with other workloads and EndpointSlices. Says how it differs from what it was.
    pub fn move_endpoints(&mut self, slices: Vec<Arc<Object>>, workloads: Vec<Workload>) -> Moved {
        let change = Change::between(self, &slices, &workloads);
        let instances = match change.addresses.is_empty() {
            true => std::mem::take(&mut self.instances),
            false => registry::instances(&self.objects, &workloads),
        };
        let moved = match self.remade(&change, &slices, &workloads, &instances) {
            Some(remade) => Moved::Endpoints(self.take(remade)),
            None => {
                let objects = &self.objects;
                let services =
                    registry::services(objects, &slices, &workloads, &instances, &self.mesh, &self.settings);
                let moved = services.moved_since(&self.services);
                self.services = services;
                moved.map_or(Moved::Everything, Moved::Endpoints)
            }
        };
        (self.instances, self.slices, self.workloads) = (instances, slices, workloads);
        match moved {
            Moved::Endpoints(mut moved) => {
                moved.addresses.extend(change.addresses);
                Moved::Endpoints(moved)
            }
            Moved::Everything => Moved::Everything,
        }
    }

    /// The new endpoints of every service that something changed behind, by its place among all. `None` if more than
    /// the endpoints of services with known ones may have changed, or that would be hard to say.
    fn remade(
        &self,
        change: &Change,
        slices: &[Arc<Object>],
        workloads: &[Workload],
        instances: &Instances,
    ) -> Option<HashMap<usize, Vec<Endpoint>>> {
        let changed: Vec<&Instance> = change.before.iter().chain(change.registered(instances)).collect();
        let mut concerned = Vec::new();
        for (at, service) in self.services.all().iter().enumerate() {
            if !change.concerns(service, &changed) {
                continue;
            }
            if service.registry != Registry::Kubernetes || service.resolution != Resolution::Endpoints {
                return None;
            }
            concerned.push((at, service));
        }
        // A service that no object stands for has the ports of its workloads.
        let is_object = |namespace: &str, name: &str| {
            let of_namespace = self.services.of_namespace(namespace).iter();
            of_namespace.filter(|service| service.object.is_some()).any(|service| service.name == name)
        };
        if change.named.iter().any(|(namespace, name)| !is_object(namespace, name)) {
            return None;
        }
        let keys: HashSet<(&str, &str)> =
            concerned.iter().map(|(_, s)| (s.namespace.as_str(), s.name.as_str())).collect();
        let slices = registry::slices(slices, |namespace, name| keys.contains(&(namespace, name)));
        let named = registry::named(workloads, |namespace, name| keys.contains(&(namespace, name)));
        let registrar = Registrar {
            domain: &self.settings.domain,
            export_to: &[],
            slices: &slices,
            instances,
            named: &named,
        };
        let mut remade = HashMap::with_capacity(concerned.len());
        for (at, service) in concerned {
            let Some(Spec::Service(spec)) = service.object.as_ref().map(|object| &object.spec) else {
                return None;
            };
            remade.insert(at, registrar.endpoints(spec, &service.name, &service.namespace));
        }
        let takes_hops = |address: &str| instances.at_address(address).any(|instance| instance.hop);
        // A slice may name a workload's address for a service that knows nothing of it.
        if !change.sliced.is_empty() && remade.values().flatten().any(|e| takes_hops(&e.address)) {
            return None;
        }
        hop::keep_to_http_among(self.services.all(), &mut remade);
        Some(remade)
    }

    fn take(&mut self, remade: HashMap<usize, Vec<Endpoint>>) -> MovedEndpoints {
        let mut moved = MovedEndpoints::default();
        for (at, endpoints) in remade {
            let Some(old) = self.services.all().get(at).cloned() else { continue };
            if *old.endpoints == endpoints {
                continue;
            }
            moved.hosts.insert(old.host.clone());
            let both = old.endpoints.iter().chain(&endpoints);
            moved.addresses.extend(both.map(|endpoint| endpoint.address.clone()));
            let new = Service { endpoints: Arc::new(endpoints), ..(*old).clone() };
            self.services.replace(&old, &Arc::new(new));
        }
        moved
    }
}

/// What is other than in a world.
struct Change {
    /// Services, by namespace and name, whose EndpointSlices changed.
    sliced: HashSet<(String, String)>,
    /// Of workloads that came, went or changed.
    addresses: BTreeSet<String>,
    /// What was registered there.
    before: Vec<Instance>,
    /// Services they name.
    named: HashSet<(String, String)>,
}

impl Change {
    fn between(world: &World, slices: &[Arc<Object>], workloads: &[Workload]) -> Self {
        let pointers = |of: &[Arc<Object>]| of.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
        let (old, new) = (pointers(&world.slices), pointers(slices));
        let one_only = world.slices.iter().filter(|slice| !new.contains(&Arc::as_ptr(slice)));
        let one_only = one_only.chain(slices.iter().filter(|slice| !old.contains(&Arc::as_ptr(slice))));
        let service_of = |slice: &Arc<Object>| {
            let service = slice.meta.labels.get(EndpointSlice::SERVICE_NAME_LABEL)?;
            Some((slice.namespace().to_owned(), service.clone()))
        };
        let sliced = one_only.filter_map(service_of).collect();
        fn by_key(of: &[Workload]) -> HashMap<(&str, &str, std::net::IpAddr), &Workload> {
            of.iter().map(|w| ((w.namespace.as_str(), w.name.as_str(), w.address), w)).collect()
        }
        let (old, new) = (by_key(&world.workloads), by_key(workloads));
        let gone = old.iter().filter(|(key, workload)| new.get(*key) != Some(*workload));
        let come = new.iter().filter(|(key, workload)| old.get(*key) != Some(*workload));
        let mut change =
            Self { sliced, addresses: BTreeSet::new(), before: Vec::new(), named: HashSet::new() };
        for (_, workload) in gone.chain(come) {
            change.addresses.insert(workload.address.to_string());
            if let Some(service) = workload.service.as_ref().filter(|name| !name.is_empty()) {
                change.named.insert((workload.namespace.clone(), service.clone()));
            }
        }
        change.before = change.registered(&world.instances).cloned().collect();
        change
    }

    /// What is registered at the addresses.
    fn registered<'i>(&self, instances: &'i Instances) -> impl Iterator<Item = &'i Instance> {
        let found: Vec<&Instance> =
            self.addresses.iter().flat_map(|address| instances.at_address(address)).collect();
        found.into_iter().filter(|instance| instance.is_registered())
    }

    /// Whether something changed behind the service.
    fn concerns(&self, service: &Service, changed: &[&Instance]) -> bool {
        let selects = |instance: &&Instance| {
            instance.namespace == service.namespace
                && api::selector::matches(&service.selector, &instance.labels)
        };
        (!service.selector.is_empty() && changed.iter().any(selects)) || {
            let is_it = |set: &HashSet<(String, String)>| {
                set.iter().any(|(namespace, name)| *namespace == service.namespace && *name == service.name)
            };
            service.registry == Registry::Kubernetes && (is_it(&self.sliced) || is_it(&self.named))
        }
    }
}
