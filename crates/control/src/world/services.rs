//! All services, by age, by who sees them, by host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::hosts::is_wildcard;
use api::{MeshConfig, Object, ObjectId, Spec};

use super::reads::{Changes, Topic};
use super::service::{EndpointsKey, Registry, Resolution, Service};
use super::{Age, Settings, Visible, addresses, kubernetes, order, service_entry};

/// Where a service stands among all: the oldest first, equally old ones by `name.namespace`, then in the order of the
/// objects that say so and as written there. One that no object says comes last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    age: Age,
    name: String,
    object_age: Age,
    object_name: String,
    object: Option<Arc<ObjectId>>,
    at: usize,
}

/// Written by objects and implied by workloads one by one; settled together.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// As their objects say, before addresses and aliases are given.
    written: BTreeMap<Rank, Arc<Service>>,
    ranks: HashMap<Arc<ObjectId>, Vec<Rank>>,
    /// How many services that objects say there are have a host.
    hosts: HashMap<String, usize>,
    /// Those that workloads imply, by namespace and name.
    implied: BTreeMap<(String, String), Rank>,
    /// Whether anything was written since the last [`Services::settle`].
    stale: bool,
    /// As written, and as they are: in the order of rank.
    settled: BTreeMap<Rank, (Arc<Service>, Arc<Service>)>,
    visible: Visible<Arc<Service>>,
    /// The first of each host and namespace.
    by_host: HashMap<String, BTreeMap<String, Arc<Service>>>,
    /// By the namespace that owns them.
    by_owner: HashMap<String, Vec<Arc<Service>>>,
    by_key: HashMap<EndpointsKey, Vec<Arc<Service>>>,
    wildcards: BTreeSet<String>,
}

impl Services {
    /// What a namespace sees: its private ones, those exported to it by name, the public ones.
    pub fn visible(&self) -> &Visible<Arc<Service>> {
        &self.visible
    }

    /// Those a namespace owns, in order.
    pub fn of_owner(&self, namespace: &str) -> &[Arc<Service>] {
        self.by_owner.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// The services of a host, by namespace.
    pub fn of_host(&self, host: &str) -> Option<&BTreeMap<String, Arc<Service>>> {
        self.by_host.get(host)
    }

    /// Those with these endpoints: one, or one for each address of a ServiceEntry.
    pub fn of_key(&self, key: &str) -> &[Arc<Service>] {
        self.by_key.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// The hosts of services that stand for many.
    pub fn wildcards(&self) -> impl Iterator<Item = &String> {
        self.wildcards.iter()
    }

    pub fn is_implied(&self, namespace: &str, name: &str) -> bool {
        self.implied.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Takes what an object says in the place of what the object of this name said.
    pub fn write(
        &mut self,
        id: &Arc<ObjectId>,
        object: Option<&Arc<Object>>,
        mesh: &MeshConfig,
        domain: &str,
    ) {
        let export_to = &mesh.default_service_export_to;
        let made = match object.map(|object| (&object.spec, object)) {
            Some((Spec::Service(_), object)) => {
                kubernetes::service(object, domain, export_to).into_iter().collect()
            }
            Some((Spec::ServiceEntry(_), object)) => service_entry::services(object, export_to),
            _ => Vec::new(),
        };
        let rank = |at: usize, service: &Service| Rank {
            age: service.age,
            name: order::text(&service.name, &service.namespace),
            object_age: object.map_or(Age::Last, |object| Age::of_istio(object)),
            object_name: order::text(&id.name, &id.namespace),
            object: Some(id.clone()),
            at,
        };
        let ranks: Vec<Rank> = made.iter().enumerate().map(|(at, service)| rank(at, service)).collect();
        let before = self.ranks.remove(id).unwrap_or_default();
        let same = before == ranks
            && ranks
                .iter()
                .zip(&made)
                .all(|(rank, made)| self.written.get(rank).is_some_and(|w| **w == *made));
        if !same {
            self.stale = true;
            for service in before.iter().filter_map(|rank| self.written.remove(rank)) {
                if let Some(count) = self.hosts.get_mut(&service.host) {
                    *count -= 1;
                    if *count == 0 {
                        self.hosts.remove(&service.host);
                    }
                }
            }
            for (rank, service) in ranks.iter().zip(made) {
                *self.hosts.entry(service.host.clone()).or_default() += 1;
                self.written.insert(rank.clone(), Arc::new(service));
            }
        }
        if !ranks.is_empty() {
            self.ranks.insert(id.clone(), ranks);
        }
    }

    /// The same for a service that no object says anything of.
    pub fn imply(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.implied.get(&key);
        match service {
            None => {
                if let Some(rank) = self.implied.remove(&key) {
                    self.written.remove(&rank);
                    self.stale = true;
                }
            }
            Some(service) => {
                if before.and_then(|rank| self.written.get(rank)).is_some_and(|known| **known == service) {
                    return;
                }
                let rank = Rank {
                    age: service.age,
                    name: order::text(name, namespace),
                    object_age: Age::Last,
                    object_name: String::new(),
                    object: None,
                    at: 0,
                };
                self.written.insert(rank.clone(), Arc::new(service));
                self.implied.insert(key, rank);
                self.stale = true;
            }
        }
    }

    /// Whether an object says that there is a service of this host.
    pub fn is_written(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Gives addresses and aliases, which depend on all services, and indexes them anew; says which differ.
    pub fn settle(&mut self, settings: &Settings, changes: &mut Changes) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let all = std::mem::take(&mut self.written);
        let addresses = addresses::assign(all.values().map(|service| &**service));
        let aliases = aliases(all.values().map(|service| &**service));
        let mut older = std::mem::take(&mut self.settled);
        (self.visible, self.by_host, self.by_owner, self.by_key) = Default::default();
        self.wildcards.clear();
        for ((rank, written), address) in all.iter().zip(addresses) {
            let own = aliases.get(written.host.as_str()).filter(|_| written.resolution != Resolution::Alias);
            let own = own.map(Vec::as_slice).unwrap_or_default();
            let given = Given::of(written, address, own, settings);
            let before = older.remove(rank);
            let service = match before {
                Some((before, settled)) if Arc::ptr_eq(&before, written) && given.is_that_of(&settled) => {
                    settled
                }
                before => {
                    before.iter().for_each(|(_, before)| differs(before, changes));
                    let made = Arc::new(given.to(written));
                    differs(&made, changes);
                    made
                }
            };
            self.index(&service);
            self.settled.insert(rank.clone(), (written.clone(), service));
        }
        self.written = all;
        older.values().for_each(|(_, gone)| differs(gone, changes));
    }

    fn index(&mut self, service: &Arc<Service>) {
        self.visible.push(&service.namespace, &service.visibility, service.clone());
        let of_host = self.by_host.entry(service.host.clone()).or_default();
        of_host.entry(service.namespace.clone()).or_insert_with(|| service.clone());
        self.by_owner.entry(service.namespace.clone()).or_default().push(service.clone());
        if is_wildcard(&service.host) {
            self.wildcards.insert(service.host.clone());
        }
        for part in &service.endpoints {
            self.by_key.entry(part.key.clone()).or_default().push(service.clone());
        }
    }
}

fn differs(service: &Service, changes: &mut Changes) {
    changes.of(Topic::Services, &[]);
    changes.of(Topic::ServicesOf, &[&service.namespace]);
    changes.of(Topic::Host, &[&service.host]);
}

/// What a service has from the others: an address nobody else has, and the names that mean it.
struct Given<'a> {
    address: String,
    automatic: Option<String>,
    aliases: &'a [String],
}

impl<'a> Given<'a> {
    fn of(written: &Service, automatic: Option<String>, aliases: &'a [String], settings: &Settings) -> Self {
        match written.registry {
            Registry::ServiceEntry => Self { address: written.address.clone(), automatic, aliases },
            // Only where nobody else gives Services their addresses.
            Registry::Kubernetes => {
                let address = automatic.filter(|_| settings.assign_addresses);
                let address = address.unwrap_or_else(|| written.address.clone());
                Self { address, automatic: None, aliases }
            }
        }
    }

    fn is_that_of(&self, service: &Service) -> bool {
        self.address == service.address
            && self.automatic == service.automatic_address
            && self.aliases == service.aliases
    }

    fn to(self, written: &Service) -> Service {
        Service {
            address: self.address,
            automatic_address: self.automatic,
            aliases: self.aliases.to_vec(),
            ..written.clone()
        }
    }
}

/// Which ExternalName services mean a host, however many lie between.
fn aliases<'s>(all: impl Iterator<Item = &'s Service>) -> HashMap<&'s str, Vec<String>> {
    let mut meant: HashMap<&str, &str> = HashMap::new();
    for service in all.filter(|service| service.resolution == Resolution::Alias) {
        if let Some(external) = &service.external_name {
            meant.entry(&service.host).or_insert(external);
        }
    }
    let mut aliases: HashMap<&str, Vec<String>> = HashMap::new();
    for host in meant.keys() {
        let mut target = *host;
        // Circles end here.
        for _ in 0..10 {
            match meant.get(target) {
                Some(next) => target = next,
                None => break,
            }
        }
        if !meant.contains_key(target) {
            aliases.entry(target).or_default().push((*host).to_owned());
        }
    }
    aliases.values_mut().for_each(|names| names.sort());
    aliases
}
