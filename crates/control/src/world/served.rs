//! Which services something changed behind, and their endpoints made anew: of all sources of endpoints, by what connects them
//! to services (selectors, EndpointSlices' labels, names that workloads give).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::kubernetes::EndpointSlice;
use api::protocol::istio_port;
use api::{Object, ObjectId, Spec};

use super::endpoints::Declared;
use super::instances::{self, Instance, Source};
use super::reads::{Changes, Topic};
use super::service::{Endpoint, EndpointsKey, Registry, Service};
use super::{World, kubernetes, service_entry};
use crate::workload::{Workload, WorkloadKey};

/// A service's namespace and name.
type Name = (String, String);

/// Kinds whose Pods' labels complete a workload registered by their name; the first that exists does.
const WORKLOAD_KINDS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];

/// What endpoints belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// A Kubernetes Service, or one that workloads imply.
    Kubernetes(Name),
    ServiceEntry(Arc<ObjectId>),
}

#[derive(Debug, Default)]
pub(super) struct Served {
    /// EndpointSlices by the service they belong to, by name.
    slices: HashMap<Name, BTreeMap<String, Arc<Object>>>,
    /// How many endpoints of a service's slices have an address.
    sliced_at: HashMap<String, BTreeMap<Name, usize>>,
    /// Workloads by the service they name.
    named: HashMap<Name, BTreeSet<WorkloadKey>>,
    /// Those services by their hosts.
    named_hosts: HashMap<String, Name>,
    /// The keys each ServiceEntry's endpoints have.
    entry_keys: HashMap<Arc<ObjectId>, Vec<EndpointsKey>>,
    /// Whose endpoints may differ.
    stale: BTreeSet<Owner>,
    /// Services of which it may differ whether, and how, workloads imply them.
    naming: BTreeSet<Name>,
}

impl Served {
    /// A Service or ServiceEntry has changed.
    pub fn written(
        &mut self,
        id: &Arc<ObjectId>,
        before: Option<&Arc<Object>>,
        now: Option<&Arc<Object>>,
        domain: &str,
    ) {
        for object in before.into_iter().chain(now) {
            match &object.spec {
                Spec::Service(_) => {
                    self.stale.insert(Owner::Kubernetes((id.namespace.clone(), id.name.clone())));
                    self.rename(&kubernetes::host(&id.name, &id.namespace, domain));
                }
                Spec::ServiceEntry(entry) => {
                    self.stale.insert(Owner::ServiceEntry(id.clone()));
                    entry.hosts.iter().for_each(|host| self.rename(&host.to_lowercase()));
                }
                _ => {}
            }
        }
    }

    fn rename(&mut self, host: &str) {
        self.naming.extend(self.named_hosts.get(host).cloned());
    }

    /// An EndpointSlice has changed.
    pub fn slice(&mut self, before: Option<&Arc<Object>>, now: Option<&Arc<Object>>) {
        let service = |object: &Arc<Object>| {
            let name = object.meta.labels.get(EndpointSlice::SERVICE_NAME_LABEL)?;
            Some((object.namespace().to_owned(), name.clone()))
        };
        for (object, is_now) in before.map(|b| (b, false)).into_iter().chain(now.map(|n| (n, true))) {
            let (Spec::EndpointSlice(slice), Some(service)) = (&object.spec, service(object)) else {
                continue;
            };
            let of_service = self.slices.entry(service.clone()).or_default();
            if is_now {
                of_service.insert(object.name().to_owned(), object.clone());
            } else {
                of_service.remove(object.name());
            }
            if of_service.is_empty() {
                self.slices.remove(&service);
            }
            for address in slice.endpoints.iter().filter_map(|endpoint| endpoint.addresses.first()) {
                let services = self.sliced_at.entry(address.clone()).or_default();
                let count = services.entry(service.clone()).or_default();
                *count = if is_now { *count + 1 } else { count.saturating_sub(1) };
                services.retain(|_, count| *count > 0);
                if services.is_empty() {
                    self.sliced_at.remove(address);
                }
            }
            self.stale.insert(Owner::Kubernetes(service));
        }
    }

    /// A workload names another service than before, or says something else of itself.
    fn name(&mut self, key: &WorkloadKey, before: Option<&Workload>, now: Option<&Workload>, domain: &str) {
        if let Some(service) = before.and_then(named_service) {
            let members = self.named.entry(service.clone()).or_default();
            members.remove(key);
            if members.is_empty() {
                self.named.remove(&service);
                self.named_hosts.remove(&kubernetes::host(&service.1, &service.0, domain));
            }
            self.naming.insert(service);
        }
        if let Some(service) = now.and_then(named_service) {
            self.named.entry(service.clone()).or_default().insert(key.clone());
            self.named_hosts.insert(kubernetes::host(&service.1, &service.0, domain), service.clone());
            self.naming.insert(service);
        }
    }
}

impl World {
    /// A workload registered, said something else, or is gone.
    pub(super) fn register(&mut self, key: &WorkloadKey, now: Option<Workload>, changes: &mut Changes) {
        let before = match &now {
            Some(workload) => self.workloads.insert(key.clone(), workload.clone()),
            None => self.workloads.remove(key),
        };
        if before == now {
            return;
        }
        self.served.name(key, before.as_ref(), now.as_ref(), &self.settings.domain);
        let instance = now.map(|workload| instances::of_workload(&workload, self.workload_object(key)));
        self.set_instance(Source::Workload(key.clone()), instance, changes);
    }

    fn workload_object(&self, (namespace, name, _): &WorkloadKey) -> Option<&Object> {
        let id = |kind: &str| ObjectId {
            group: "apps".into(),
            kind: kind.into(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        WORKLOAD_KINDS.iter().find_map(|kind| self.objects.get(&id(kind))).map(|object| &**object)
    }

    /// A Deployment has changed: the workloads of its name have other labels.
    pub(super) fn complete_workloads(&mut self, id: &ObjectId, changes: &mut Changes) {
        let of_name = |(key, _): &(&WorkloadKey, &Workload)| key.0 == id.namespace && key.1 == id.name;
        let concerned: Vec<Workload> =
            self.workloads.iter().filter(of_name).map(|(_, workload)| workload.clone()).collect();
        for workload in concerned {
            let key = workload.key();
            let instance = instances::of_workload(&workload, self.workload_object(&key));
            self.set_instance(Source::Workload(key), Some(instance), changes);
        }
    }

    /// A Pod or a WorkloadEntry has changed.
    pub(super) fn instance_of(
        &mut self,
        id: &Arc<ObjectId>,
        object: Option<&Arc<Object>>,
        changes: &mut Changes,
    ) {
        let instance = object
            .and_then(|object| instances::of_pod(object).or_else(|| instances::of_entry_object(object)));
        self.set_instance(Source::Object(id.clone()), instance, changes);
    }

    fn set_instance(&mut self, source: Source, now: Option<Instance>, changes: &mut Changes) {
        if self.instances.of(&source) == now.as_ref() {
            return;
        }
        // The service it names has it whatever its labels are.
        if let Source::Workload(key) = &source {
            let service = self.workloads.get(key).and_then(named_service);
            self.served.stale.extend(service.map(Owner::Kubernetes));
        }
        let before = self.instances.set(source, now.clone());
        for instance in before.iter().chain(&now) {
            if instance.is_pod() {
                changes.of(Topic::Pod, &[&instance.name, &instance.namespace]);
            }
            for address in &instance.addresses {
                changes.of(Topic::Registered, &[address]);
                let sliced = self.served.sliced_at.get(address).into_iter().flatten();
                self.served.stale.extend(sliced.map(|(service, _)| Owner::Kubernetes(service.clone())));
            }
            let selects = |service: &&Arc<Service>| {
                !service.selector.is_empty() && api::selector::matches(&service.selector, &instance.labels)
            };
            let selecting = self.services.of_owner(&instance.namespace).iter().filter(selects);
            self.served.stale.extend(selecting.filter_map(|service| owner(service)));
        }
    }

    /// Makes services of what workloads name and no object says anything of.
    pub(super) fn imply_services(&mut self) {
        for (namespace, name) in std::mem::take(&mut self.served.naming) {
            let host = kubernetes::host(&name, &namespace, &self.settings.domain);
            let service = (!self.services.is_written(&host))
                .then(|| self.implied(&namespace, &name))
                .flatten()
                .map(|spec| {
                    let export_to = &self.mesh.default_service_export_to;
                    kubernetes::implied_service(&name, &namespace, &spec, &self.settings.domain, export_to)
                });
            self.services.imply(&namespace, &name, service);
            self.served.stale.insert(Owner::Kubernetes((namespace, name)));
        }
    }

    /// What the workloads that name a service imply it to be; `None` if nobody who serves anything does: whoever only calls
    /// is behind no service, so that nobody gets anything else when it joins.
    fn implied(&self, namespace: &str, name: &str) -> Option<api::kubernetes::Service> {
        let members = self.served.named.get(&(namespace.to_owned(), name.to_owned()))?;
        let members: Vec<&Workload> = members.iter().filter_map(|key| self.workloads.get(key)).collect();
        Some(kubernetes::implied(&members)).filter(|service| !service.ports.is_empty())
    }

    /// Makes the endpoints anew of whoever something changed behind.
    pub(super) fn serve(&mut self, changes: &mut Changes) {
        for owner in std::mem::take(&mut self.served.stale) {
            match owner {
                Owner::Kubernetes((namespace, name)) => {
                    let key = kubernetes::key(&name, &namespace);
                    let (endpoints, declared) =
                        self.kubernetes_endpoints(&namespace, &name).unwrap_or_default();
                    self.endpoints.set(&key, endpoints, declared, changes);
                }
                Owner::ServiceEntry(id) => self.serve_entry(&id, changes),
            }
        }
    }

    fn kubernetes_endpoints(&self, namespace: &str, name: &str) -> Option<(Vec<Endpoint>, Declared)> {
        let id = ObjectId {
            group: String::new(),
            kind: "Service".into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let implied;
        let spec = match self.objects.get(&id).map(|object| &object.spec) {
            Some(Spec::Service(spec)) => &**spec,
            _ if self.services.is_implied(namespace, name) => {
                implied = self.implied(namespace, name)?;
                &implied
            }
            _ => return None,
        };
        if kubernetes::is_external(spec) {
            return None;
        }
        let service = (namespace.to_owned(), name.to_owned());
        let served = kubernetes::Served {
            instances: &self.instances,
            slices: self.served.slices.get(&service),
            named: self.served.named.get(&service),
        };
        let ports = kubernetes::ports_of(spec);
        let declared =
            Declared::of(spec.is_headless(), ports.iter().map(|port| (port.number, port.protocol)));
        Some((served.endpoints(spec, namespace), declared))
    }

    fn serve_entry(&mut self, id: &Arc<ObjectId>, changes: &mut Changes) {
        let mut older = self.served.entry_keys.remove(id).unwrap_or_default();
        if let Some(object) = self.objects.get(id)
            && let Spec::ServiceEntry(entry) = &object.spec
        {
            let headless = entry.resolution == api::networking::Resolution::None;
            let ports = entry.ports.iter().map(|port| (port.number, istio_port(&port.protocol, &port.name)));
            let declared = Declared::of(headless, ports);
            let mut keys = Vec::with_capacity(entry.hosts.len());
            for (key, endpoints) in service_entry::endpoints(object, &self.instances) {
                older.retain(|other| *other != key);
                self.endpoints.set(&key, endpoints, declared.clone(), changes);
                keys.push(key);
            }
            self.served.entry_keys.insert(id.clone(), keys);
        }
        for gone in older {
            self.endpoints.set(&gone, Vec::new(), Declared::default(), changes);
        }
    }
}

fn named_service(workload: &Workload) -> Option<Name> {
    let name = workload.service.clone().filter(|name| !name.is_empty())?;
    Some((workload.namespace.clone(), name))
}

fn owner(service: &Service) -> Option<Owner> {
    match service.registry {
        Registry::Kubernetes => Some(Owner::Kubernetes((service.namespace.clone(), service.name.clone()))),
        Registry::ServiceEntry => service.object.clone().map(Owner::ServiceEntry),
    }
}
