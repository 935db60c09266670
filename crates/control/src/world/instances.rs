//! What selectors choose from: Pods, WorkloadEntries and registered workloads of a namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use api::kubernetes::PortReference;
use api::networking::WorkloadEntry;
use api::selector::matches;
use api::{Object, ObjectId, Spec};

use super::Locality;
use crate::workload::{Workload, WorkloadKey, WorkloadPort};

const TLS_MODE: &str = "security.istio.io/tlsMode";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
/// Istio's own label; dots stand for slashes.
const ISTIO_LOCALITY: &str = "istio-locality";

/// One running thing with an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub name: String,
    pub namespace: String,
    pub addresses: Vec<String>,
    pub labels: Arc<BTreeMap<String, String>>,
    pub service_account: String,
    pub locality: Locality,
    pub weight: u32,
    pub mutual_tls: bool,
    /// Its sidecar takes the multiplexed hop.
    pub hop: bool,
    pub ready: bool,
    pub hostname: String,
    pub network: String,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq)]
enum Ports {
    Pod(Arc<Object>),
    Entry(BTreeMap<String, u32>),
    Registered(Vec<WorkloadPort>),
}

impl Instance {
    pub fn address(&self) -> &str {
        self.addresses.first().map(String::as_str).unwrap_or_default()
    }

    pub fn is_pod(&self) -> bool {
        matches!(self.ports, Ports::Pod(_))
    }

    pub fn is_registered(&self) -> bool {
        matches!(self.ports, Ports::Registered(_))
    }

    /// Where it serves a Kubernetes Service's port; `None` if it has no port of the name.
    pub fn kubernetes_port(&self, port: u16, name: &str, target: &PortReference) -> Option<u32> {
        match (&self.ports, target) {
            (Ports::Registered(ports), _) => {
                let own = ports.iter().find(|own| own.port == port);
                let named = || match target {
                    PortReference::Name(target) => ports.iter().find(|own| own.name == *target),
                    PortReference::Number(_) => None,
                };
                match (own.or_else(named), target) {
                    (Some(own), _) => Some(own.target_port.into()),
                    (None, PortReference::Number(number)) => Some((*number).into()),
                    (None, PortReference::Name(_)) => None,
                }
            }
            (Ports::Entry(ports), PortReference::Number(number)) => {
                Some(ports.get(name).copied().unwrap_or_else(|| (*number).into()))
            }
            (Ports::Entry(ports), PortReference::Name(target)) => {
                ports.get(target).or_else(|| ports.get(name)).copied()
            }
            (Ports::Pod(_), PortReference::Number(number)) => Some((*number).into()),
            (Ports::Pod(object), PortReference::Name(target)) => match &object.spec {
                Spec::Pod(pod) => pod.named_port(target).map(Into::into),
                _ => None,
            },
        }
    }

    /// Where it serves a ServiceEntry's port: its own word, the entry's target port, the port itself.
    pub fn entry_port(&self, name: &str, number: u32, target: u32) -> u32 {
        let own = match &self.ports {
            Ports::Entry(ports) => ports.get(name).copied(),
            Ports::Registered(ports) => {
                ports.iter().find(|own| u32::from(own.port) == number).map(|own| own.target_port.into())
            }
            Ports::Pod(_) => None,
        };
        own.filter(|port| *port > 0).unwrap_or(if target > 0 { target } else { number })
    }
}

/// What an instance was made from: each gives at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    Object(Arc<ObjectId>),
    Workload(WorkloadKey),
}

/// Where an instance stands among the others. The order of what is read must not show in what is sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    namespace: String,
    name: String,
    addresses: Vec<String>,
    source: Source,
}

/// Instances by namespace and label, so that a selector looks at those with one of its labels only.
#[derive(Debug, Default)]
pub(super) struct Instances {
    all: HashMap<Arc<Place>, Instance>,
    by_source: HashMap<Source, Arc<Place>>,
    by_namespace: HashMap<String, BTreeSet<Arc<Place>>>,
    by_label: HashMap<(String, String, String), BTreeSet<Arc<Place>>>,
    by_address: HashMap<String, BTreeSet<Arc<Place>>>,
}

impl Instances {
    /// Puts what a source gives now in the place of what it gave; returns that.
    pub fn set(&mut self, source: Source, instance: Option<Instance>) -> Option<Instance> {
        let before = self.by_source.remove(&source).and_then(|place| self.take_out(&place));
        if let Some(instance) = instance {
            let place = Arc::new(Place {
                namespace: instance.namespace.clone(),
                name: instance.name.clone(),
                addresses: instance.addresses.clone(),
                source: source.clone(),
            });
            self.put_in(&place, &instance);
            self.by_source.insert(source, place.clone());
            self.all.insert(place, instance);
        }
        before
    }

    pub fn of(&self, source: &Source) -> Option<&Instance> {
        self.all.get(self.by_source.get(source)?)
    }

    fn put_in(&mut self, place: &Arc<Place>, instance: &Instance) {
        self.by_namespace.entry(instance.namespace.clone()).or_default().insert(place.clone());
        for (key, value) in instance.labels.iter() {
            let label = (instance.namespace.clone(), key.clone(), value.clone());
            self.by_label.entry(label).or_default().insert(place.clone());
        }
        for address in &instance.addresses {
            self.by_address.entry(address.clone()).or_default().insert(place.clone());
        }
    }

    fn take_out(&mut self, place: &Arc<Place>) -> Option<Instance> {
        let instance = self.all.remove(place)?;
        remove(&mut self.by_namespace, &instance.namespace, place);
        for (key, value) in instance.labels.iter() {
            remove(&mut self.by_label, &(instance.namespace.clone(), key.clone(), value.clone()), place);
        }
        for address in &instance.addresses {
            remove(&mut self.by_address, address, place);
        }
        Some(instance)
    }

    /// Those of the namespace that have all labels of the selector; an empty one selects all.
    pub fn select<'i>(
        &'i self,
        namespace: &str,
        selector: &'i BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'i Instance> {
        let candidates = match selector.first_key_value() {
            Some((key, value)) => self.by_label.get(&(namespace.to_owned(), key.clone(), value.clone())),
            None => self.by_namespace.get(namespace),
        };
        self.at(candidates).filter(move |instance| matches(selector, &instance.labels))
    }

    pub fn at_address<'i>(&'i self, address: &str) -> impl Iterator<Item = &'i Instance> {
        self.at(self.by_address.get(address))
    }

    pub fn pod(&self, name: &str, namespace: &str) -> Option<&Instance> {
        let of_namespace = self.by_namespace.get(namespace).into_iter().flatten();
        let named = of_namespace.filter(|place| place.name == name);
        named.filter_map(|place| self.all.get(place)).find(|instance| instance.is_pod())
    }

    fn at<'i>(&'i self, places: Option<&'i BTreeSet<Arc<Place>>>) -> impl Iterator<Item = &'i Instance> {
        places.into_iter().flatten().filter_map(|place| self.all.get(place))
    }
}

fn remove<K: Eq + Hash>(from: &mut HashMap<K, BTreeSet<Arc<Place>>>, key: &K, place: &Arc<Place>) {
    if let Some(places) = from.get_mut(key) {
        places.remove(place);
        if places.is_empty() {
            from.remove(key);
        }
    }
}

/// A Pod; `None` if it has no address or has ended.
pub(super) fn of_pod(object: &Arc<Object>) -> Option<Instance> {
    let Spec::Pod(pod) = &object.spec else { return None };
    if matches!(pod.status.phase, api::kubernetes::PodPhase::Succeeded | api::kubernetes::PodPhase::Failed) {
        return None;
    }
    let mut addresses: Vec<String> = pod.status.pod_ips.iter().map(|ip| ip.ip.clone()).collect();
    if !pod.status.pod_ip.is_empty() {
        addresses.retain(|address| *address != pod.status.pod_ip);
        addresses.insert(0, pod.status.pod_ip.clone());
    }
    if addresses.is_empty() {
        return None;
    }
    let labels = object.meta.labels.clone();
    Some(Instance {
        name: object.name().to_owned(),
        namespace: object.namespace().to_owned(),
        addresses,
        locality: locality_of_labels(&labels),
        mutual_tls: labels.get(TLS_MODE).is_some_and(|mode| mode == "istio"),
        labels: Arc::new(labels),
        service_account: pod.spec.service_account_name.clone(),
        weight: 0,
        hop: false,
        ready: pod.is_ready(),
        hostname: pod.spec.hostname.clone(),
        network: String::new(),
        ports: Ports::Pod(object.clone()),
    })
}

pub(super) fn of_entry_object(object: &Arc<Object>) -> Option<Instance> {
    let Spec::WorkloadEntry(entry) = &object.spec else { return None };
    Some(of_entry(entry, object.name(), object.namespace()))
}

/// A WorkloadEntry, or an endpoint written in a ServiceEntry (which has no name).
pub(super) fn of_entry(entry: &WorkloadEntry, name: &str, namespace: &str) -> Instance {
    // Istio: the label decides; without it, whoever has a service account has a proxy.
    let mutual_tls = match entry.labels.get(TLS_MODE) {
        Some(mode) => mode == "istio",
        None => !entry.service_account.is_empty(),
    };
    let locality = match entry.locality.is_empty() {
        true => locality_of_labels(&entry.labels),
        false => Locality::parse(&entry.locality),
    };
    Instance {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        addresses: vec![entry.address.clone()],
        labels: Arc::new(entry.labels.clone()),
        service_account: entry.service_account.clone(),
        locality,
        weight: entry.weight,
        mutual_tls,
        hop: false,
        ready: true,
        hostname: String::new(),
        network: entry.network.clone(),
        ports: Ports::Entry(entry.ports.clone()),
    }
}

/// A registered workload; a Deployment of its name adds the labels and the service account of its Pods.
pub(super) fn of_workload(workload: &Workload, deployment: Option<&Object>) -> Instance {
    let mut labels = workload.labels.clone();
    let mut service_account = workload.service_account.clone();
    if let Some(Spec::Deployment(deployment)) = deployment.map(|object| &object.spec) {
        for (key, value) in &deployment.template.metadata.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        if service_account.is_empty() {
            service_account.clone_from(&deployment.template.spec.service_account_name);
        }
    }
    if service_account.is_empty() {
        service_account = "default".into();
    }
    Instance {
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        addresses: vec![workload.address.to_string()],
        locality: locality_of_labels(&labels),
        labels: Arc::new(labels),
        service_account,
        weight: 0,
        mutual_tls: true,
        hop: workload.hop,
        ready: true,
        hostname: String::new(),
        network: String::new(),
        ports: Ports::Registered(workload.ports.clone()),
    }
}

fn locality_of_labels(labels: &BTreeMap<String, String>) -> Locality {
    if let Some(text) = labels.get(ISTIO_LOCALITY) {
        return Locality::parse(&text.replace('.', "/"));
    }
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    Locality { region: label(REGION), zone: label(ZONE), subzone: label(SUBZONE) }
}
