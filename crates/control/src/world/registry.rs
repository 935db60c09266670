//! All services, by age, by who sees them, by host.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::{MeshConfig, Object, Spec};

use super::age::by_name;
use super::instances::{self, Instance, Instances};
use super::kubernetes::{Named, Registrar, Slices};
use super::service::{Registry, Resolution, Service};
use super::{MovedEndpoints, Settings, Visible, addresses, hop, service_entry};
use crate::workload::Workload;

#[derive(Debug, Default)]
pub struct Services {
    all: Vec<Arc<Service>>,
    visible: Visible<Arc<Service>>,
    /// The oldest of each host and namespace.
    by_host: HashMap<String, BTreeMap<String, Arc<Service>>>,
    /// Kubernetes Services by their namespace.
    of_namespace: HashMap<String, Vec<Arc<Service>>>,
    /// ServiceEntries by the addresses of their endpoints.
    entries_at: HashMap<String, Vec<Arc<Service>>>,
    /// Addresses of endpoints of services without an address of their own.
    headless: HashSet<String>,
}

impl Services {
    /// Oldest first, equally old ones by `name.namespace`.
    pub fn all(&self) -> &[Arc<Service>] {
        &self.all
    }

    /// What a namespace sees: its private ones, those exported to it by name, the public ones.
    pub fn seen_from(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.visible.seen_from(namespace)
    }

    /// The Kubernetes Services of a namespace, oldest first.
    pub fn of_namespace(&self, namespace: &str) -> &[Arc<Service>] {
        self.of_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// The ServiceEntries with an endpoint at this address, oldest first.
    pub fn entries_at(&self, address: &str) -> &[Arc<Service>] {
        self.entries_at.get(address).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a service that is called by its endpoints' addresses has one here.
    pub fn is_headless_endpoint(&self, address: &str) -> bool {
        self.headless.contains(address)
    }

    /// Puts a service in the place of one that differs from it in its endpoints only. Not for a ServiceEntry or a
    /// headless service, which are found by their endpoints.
    pub(super) fn replace(&mut self, old: &Arc<Service>, new: &Arc<Service>) {
        let put = |list: &mut Vec<Arc<Service>>| {
            list.iter_mut().filter(|one| Arc::ptr_eq(one, old)).for_each(|one| *one = new.clone());
        };
        put(&mut self.all);
        self.visible.lists_mut().for_each(put);
        self.of_namespace.get_mut(&old.namespace).into_iter().for_each(put);
        let of_host = self.by_host.get_mut(&old.host).into_iter().flat_map(BTreeMap::values_mut);
        of_host.filter(|one| Arc::ptr_eq(one, old)).for_each(|one| *one = new.clone());
    }

    /// The hosts whose endpoints alone differ from those of `older`; `None` if anything else does, or if what a client
    /// is sent beside clusters depends on the endpoints (who is called by them, who is resolved).
    pub(super) fn moved_since(&self, older: &Self) -> Option<MovedEndpoints> {
        if self.all.len() != older.all.len() {
            return None;
        }
        let mut moved = MovedEndpoints::default();
        for (new, old) in self.all.iter().zip(&older.all) {
            if !new.is_same_but_for_endpoints(old) {
                return None;
            }
            if new.endpoints != old.endpoints {
                if new.resolution != Resolution::Endpoints {
                    return None;
                }
                moved.hosts.insert(new.host.clone());
                let both = old.endpoints.iter().chain(new.endpoints.iter());
                moved.addresses.extend(both.map(|endpoint| endpoint.address.clone()));
            }
        }
        Some(moved)
    }

    /// The services of a host, by namespace.
    pub fn of_host(&self, host: &str) -> Option<&BTreeMap<String, Arc<Service>>> {
        self.by_host.get(host)
    }
}

pub(super) fn instances(objects: &[Arc<Object>], workloads: &[Workload]) -> Instances {
    let mut deployments: HashMap<(&str, &str), &Object> = HashMap::new();
    for object in objects {
        if matches!(object.spec, Spec::Deployment(_)) {
            deployments.insert((object.namespace(), object.name()), object);
        }
    }
    let mut all: Vec<Instance> = Vec::new();
    for object in objects {
        all.extend(instances::of_pod(object));
        all.extend(instances::of_entry_object(object));
    }
    for workload in workloads {
        let deployment = deployments.get(&(workload.namespace.as_str(), workload.name.as_str()));
        all.push(instances::of_workload(workload, deployment.copied()));
    }
    // The order of what is read must not show in what is sent.
    all.sort_by(|left, right| {
        let key = |one: &Instance| (one.namespace.clone(), one.name.clone(), one.addresses.clone());
        key(left).cmp(&key(right))
    });
    Instances::new(all)
}

pub(super) fn services(
    objects: &[Arc<Object>],
    slice_objects: &[Arc<Object>],
    workloads: &[Workload],
    instances: &Instances,
    mesh: &MeshConfig,
    settings: &Settings,
) -> Services {
    let export_to = &mesh.default_service_export_to;
    let slices = slices(slice_objects, |_, _| true);
    let named = named(workloads, |_, _| true);
    let registrar =
        Registrar { domain: &settings.domain, export_to, slices: &slices, instances, named: &named };

    let mut all: Vec<Service> = Vec::new();
    for object in objects {
        match &object.spec {
            Spec::Service(_) => all.extend(registrar.service(object)),
            Spec::ServiceEntry(_) => all.extend(service_entry::services(object, export_to, instances)),
            _ => {}
        }
    }
    let hosts: HashSet<String> = all.iter().map(|service| service.host.clone()).collect();
    all.extend(registrar.implied(workloads, |host| hosts.contains(host)));

    all.sort_by(|left, right| {
        left.age
            .cmp(&right.age)
            .then_with(|| by_name((&left.name, &left.namespace), (&right.name, &right.namespace)))
    });
    assign_addresses(&mut all, settings);
    hop::keep_to_http(&mut all);
    link_aliases(&mut all);
    index(all)
}

/// The EndpointSlices of services, by namespace and name; of those wanted.
pub(super) fn slices(objects: &[Arc<Object>], wanted: impl Fn(&str, &str) -> bool) -> Slices {
    let mut slices: Slices = HashMap::new();
    for object in objects {
        if let Spec::EndpointSlice(_) = &object.spec
            && let Some(service) = object.meta.labels.get(api::kubernetes::EndpointSlice::SERVICE_NAME_LABEL)
            && wanted(object.namespace(), service)
        {
            let key = (object.namespace().to_owned(), service.clone());
            slices.entry(key).or_default().push(object.clone());
        }
    }
    slices.values_mut().for_each(|of_one| of_one.sort_by(|left, right| left.name().cmp(right.name())));
    slices
}

/// The workloads that name their service, by its namespace and name; of those wanted.
pub(super) fn named(workloads: &[Workload], wanted: impl Fn(&str, &str) -> bool) -> Named {
    let mut named: Named = HashMap::new();
    for workload in workloads {
        if let Some(service) = workload.service.as_ref().filter(|name| wanted(&workload.namespace, name)) {
            let key = (workload.namespace.clone(), service.clone());
            named.entry(key).or_default().push(workload.name.clone());
        }
    }
    named.values_mut().for_each(|names| {
        names.sort();
        names.dedup();
    });
    named
}

fn assign_addresses(all: &mut [Service], settings: &Settings) {
    addresses::assign(all);
    for service in all.iter_mut() {
        if service.registry == Registry::Kubernetes {
            // Only where nobody else gives Services their addresses.
            let automatic = service.automatic_address.take();
            if let Some(address) = automatic.filter(|_| settings.assign_addresses) {
                service.address = address;
            }
        }
    }
}

/// Tells every service which ExternalName services mean it, however many lie between.
fn link_aliases(all: &mut [Service]) {
    let mut meant: HashMap<String, String> = HashMap::new();
    for service in all.iter().filter(|service| service.resolution == Resolution::Alias) {
        if let Some(external) = &service.external_name {
            meant.entry(service.host.clone()).or_insert_with(|| external.clone());
        }
    }
    let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
    for host in meant.keys() {
        let mut target = host;
        // Circles end here.
        for _ in 0..10 {
            match meant.get(target) {
                Some(next) => target = next,
                None => break,
            }
        }
        if !meant.contains_key(target) {
            aliases.entry(target.clone()).or_default().push(host.clone());
        }
    }
    for service in all.iter_mut().filter(|service| service.resolution != Resolution::Alias) {
        if let Some(names) = aliases.get(&service.host) {
            service.aliases.clone_from(names);
            service.aliases.sort();
        }
    }
}

fn index(all: Vec<Service>) -> Services {
    let mut services = Services::default();
    for service in all {
        let service = Arc::new(service);
        services.visible.push(&service.namespace, &service.visibility, service.clone());
        services
            .by_host
            .entry(service.host.clone())
            .or_default()
            .entry(service.namespace.clone())
            .or_insert_with(|| service.clone());
        match service.registry {
            Registry::Kubernetes => {
                services.of_namespace.entry(service.namespace.clone()).or_default().push(service.clone());
            }
            Registry::ServiceEntry => {
                let addresses: BTreeSet<&str> =
                    service.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
                for address in addresses {
                    services.entries_at.entry(address.to_owned()).or_default().push(service.clone());
                }
            }
        }
        if service.resolution == Resolution::Passthrough {
            services.headless.extend(service.endpoints.iter().map(|endpoint| endpoint.address.clone()));
        }
        services.all.push(service);
    }
    services
}
