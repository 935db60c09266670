//! Resources by name: applied, refused one by one, and compiled into snapshots.
//!
//! Owned by the one thread that talks to the control plane. A bad resource is refused by name, everything
//! else in its batch goes live, and the bad one's previous version stays.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use xds::type_url;
use xxhash_rust::xxh3::xxh3_128;

use crate::cluster::{Cluster, ClusterId, ClusterRef};
use crate::endpoints::{Endpoints, Naming};
use crate::fields;
use crate::filter::FilterId;
use crate::http_connection::RouteSource;
use crate::listener::Listener;
use crate::network::NetworkAction;
use crate::refusal::{Compiled, Refusal, Rejection};
use crate::route_table::{RouteTable, RouteTableId};
use crate::snapshot::{ClusterEntry, HostNames, Listeners, Snapshot};

/// One resource as the control plane sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub name: String,
    pub version: String,
    pub body: xds::Any,
}

/// Names of what the configuration refers to, by what has to be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Subscriptions {
    /// Route configurations of listeners.
    pub routes: BTreeSet<Arc<str>>,
    /// Load assignments of EDS clusters.
    pub endpoints: BTreeSet<Arc<str>>,
    /// Certificates and trust bundles of TLS contexts.
    pub secrets: BTreeSet<Arc<str>>,
}

impl Subscriptions {
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.endpoints.is_empty() && self.secrets.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct Config {
    names: Names,
    listeners: BTreeMap<Arc<str>, Entry<Listener>>,
    /// What workers have of each listener: an older version while the newest waits for its routes.
    active_listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    clusters: BTreeMap<Arc<str>, Entry<Cluster>>,
    /// What workers have of a cluster whose newest version waits for its endpoints.
    older_clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    endpoints: BTreeMap<Arc<str>, Entry<Endpoints>>,
    routes: BTreeMap<Arc<str>, Entry<RouteTable>>,
    hosts: Arc<HostNames>,
    host_versions: BTreeMap<String, String>,
    listener_index: Arc<Listeners>,
    dirty: Dirty,
    /// What listeners and clusters that went, or changed, referred to.
    released: Subscriptions,
    latest: Arc<Snapshot>,
}

#[derive(Debug)]
struct Entry<T> {
    compiled: Arc<T>,
    version: String,
    /// Of the encoded bytes.
    hash: u128,
    /// From the bootstrap: ADS neither replaces nor removes it.
    fixed: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Dirty {
    any: bool,
    listeners: bool,
}

/// Numbers for names, given out once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    clusters: Arc<HashMap<Arc<str>, ClusterId>>,
    routes: HashMap<Arc<str>, RouteTableId>,
    filters: HashMap<Arc<str>, FilterId>,
}

impl Names {
    /// By the name a filter has in its chain, which is how routes address it.
    pub(crate) fn filter(&mut self, name: &str) -> FilterId {
        if let Some(id) = self.filters.get(name) {
            return *id;
        }
        let id = FilterId(u32::try_from(self.filters.len()).unwrap_or(u32::MAX));
        self.filters.insert(name.into(), id);
        id
    }

    pub(crate) fn cluster(&mut self, name: &str) -> ClusterRef {
        if let Some((name, id)) = self.clusters.get_key_value(name) {
            return ClusterRef { id: *id, name: name.clone() };
        }
        // A name takes memory anyway; four billion of them do not fit.
        let id = ClusterId(u32::try_from(self.clusters.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        Arc::make_mut(&mut self.clusters).insert(name.clone(), id);
        ClusterRef { id, name }
    }

    pub(crate) fn route_table(&mut self, name: &str) -> (Arc<str>, RouteTableId) {
        if let Some((name, id)) = self.routes.get_key_value(name) {
            return (name.clone(), *id);
        }
        let id = RouteTableId(u32::try_from(self.routes.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        self.routes.insert(name.clone(), id);
        (name, id)
    }
}

/// Names that occur more than once: which one is meant nobody knows, so that what there was stays.
fn repeated(resources: &[Resource]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    resources.iter().map(|resource| resource.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}

impl Config {
    pub fn new() -> Config {
        Config::default()
    }

    /// Applies one batch of one type. Returns what was refused; the rest is live with the next
    /// [`Config::snapshot`].
    pub fn apply(&mut self, type_url: &str, added: &[Resource], removed: &[String]) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        let repeated = repeated(added);
        for name in &repeated {
            rejections.push(Refusal::new("occurs more than once in one response").reject(*name));
        }
        for resource in added.iter().filter(|resource| !repeated.contains(resource.name.as_str())) {
            if let Err(refusal) = self.add(type_url, resource, false) {
                rejections.push(refusal.reject(resource.name.clone()));
            }
        }
        self.remove(type_url, removed);
        rejections
    }

    /// The names of all resources of a type with their versions: a reconnecting client sends them as
    /// `initial_resource_versions`.
    pub fn versions(&self, type_url: &str) -> BTreeMap<String, String> {
        fn of<T>(entries: &BTreeMap<Arc<str>, Entry<T>>) -> BTreeMap<String, String> {
            let live = entries.iter().filter(|(_, e)| !e.fixed);
            live.map(|(name, e)| (name.to_string(), e.version.clone())).collect()
        }
        match type_url {
            type_url::LISTENER => of(&self.listeners),
            type_url::CLUSTER => of(&self.clusters),
            type_url::ROUTE => of(&self.routes),
            type_url::ENDPOINT => of(&self.endpoints),
            type_url::NAME_TABLE => self.host_versions.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Everything the configuration refers to: what to be subscribed to. What an older version of a listener or a
    /// cluster still serves from is part of it until the newer one is warm.
    pub fn subscriptions(&self) -> Subscriptions {
        let mut names = Subscriptions::default();
        let newest = self.listeners.values().map(|entry| &entry.compiled);
        for listener in newest.chain(self.active_listeners.values()) {
            names.routes.extend(rds_names(listener).cloned());
            for chain in listener.all_chains() {
                if let Some(tls) = chain.transport.tls() {
                    names.secrets.extend(tls.common.secrets().cloned());
                }
            }
        }
        let newest = self.clusters.values().map(|entry| &entry.compiled);
        for cluster in newest.chain(self.older_clusters.values()) {
            names.endpoints.extend(cluster.eds_name.clone());
            let transports = cluster.transport_matches.iter().map(|m| &m.transport);
            for transport in transports.chain([&cluster.transport]) {
                if let crate::transport::UpstreamTransport::Tls(tls) = transport {
                    names.secrets.extend(tls.common.secrets().cloned());
                }
            }
        }
        names
    }

    /// What the configuration refers to and does not have: its listeners and clusters are warming. Empty =
    /// ready. Secrets are left out as long as no live TLS waits for them.
    pub fn missing(&self) -> Subscriptions {
        let mut names = self.subscriptions();
        names.routes.retain(|name| !self.routes.contains_key(name));
        names.endpoints.retain(|name| !self.endpoints.contains_key(name));
        names.secrets.clear();
        names
    }

    /// What was applied up to now. The same `Arc` as before when nothing changed.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if !self.dirty.any {
            return self.latest.clone();
        }
        self.activate_listeners();
        self.drop_older_clusters();
        self.forget_released();
        if self.dirty.listeners {
            self.listener_index = Arc::new(Listeners::new(self.active_listeners.values().cloned().collect()));
        }
        let mut clusters = Vec::new();
        clusters.resize_with(self.names.clusters.len(), || None);
        let mut checked = Vec::new();
        let empty: Arc<Endpoints> = Arc::default();
        for (name, entry) in &self.clusters {
            let versions = [Some(&entry.compiled), self.older_clusters.get(name)];
            let warm = |cluster: &Arc<Cluster>| {
                let endpoints = match &cluster.eds_name {
                    None => cluster.assignment.clone().unwrap_or_else(|| empty.clone()),
                    Some(eds) => self.endpoints.get(eds)?.compiled.clone(),
                };
                Some(ClusterEntry { cluster: cluster.clone(), endpoints })
            };
            let Some(entry) = versions.into_iter().flatten().find_map(warm) else { continue };
            let id = self.names.clusters.get(name);
            if let Some((id, place)) = id.and_then(|id| Some((id, clusters.get_mut(id.index())?))) {
                if entry.cluster.health_check.is_some() {
                    checked.push(*id);
                }
                *place = Some(entry);
            }
        }
        let mut route_tables = vec![None; self.names.routes.len()];
        for (name, entry) in &self.routes {
            let id = self.names.routes.get(name);
            if let Some(place) = id.and_then(|id| route_tables.get_mut(id.0 as usize)) {
                *place = Some(entry.compiled.clone());
            }
        }
        self.latest = Arc::new(Snapshot {
            generation: self.latest.generation + 1,
            listeners: self.listener_index.clone(),
            clusters,
            checked,
            cluster_ids: self.names.clusters.clone(),
            route_tables,
            hosts: self.hosts.clone(),
        });
        self.dirty = Dirty::default();
        self.latest.clone()
    }

    /// Takes the newest version of each listener whose route configurations are all there; a listener that
    /// still waits for one goes on with the version it had (Envoy warms listeners the same way).
    fn activate_listeners(&mut self) {
        for (name, entry) in &self.listeners {
            let newest = &entry.compiled;
            if self.active_listeners.get(name).is_some_and(|active| Arc::ptr_eq(active, newest)) {
                continue;
            }
            let warm = rds_names(newest).all(|name| self.routes.contains_key(name));
            if warm {
                if let Some(older) = self.active_listeners.insert(name.clone(), newest.clone()) {
                    self.released.routes.extend(rds_names(&older).cloned());
                }
                self.dirty.listeners = true;
            }
        }
        let listeners = &self.listeners;
        for (_, gone) in self.active_listeners.extract_if(.., |name, _| !listeners.contains_key(name)) {
            self.released.routes.extend(rds_names(&gone).cloned());
            self.dirty.listeners = true;
        }
    }

    /// Whether a cluster's endpoints are there.
    fn is_warm(&self, cluster: &Cluster) -> bool {
        cluster.eds_name.as_ref().is_none_or(|eds| self.endpoints.contains_key(eds))
    }

    /// A cluster has another version. One that still waits for its endpoints leaves its place to the version that was in
    /// use, as Envoy's do.
    fn replaced(&mut self, name: &str, before: Arc<Cluster>) {
        let Some((name, entry)) = self.clusters.get_key_value(name) else { return };
        if Arc::ptr_eq(&entry.compiled, &before) {
            return;
        }
        if !self.is_warm(&entry.compiled) && self.is_warm(&before) {
            self.older_clusters.insert(name.clone(), before);
        } else {
            self.released.endpoints.extend(before.eds_name.clone());
        }
    }

    /// Older versions go when the newest is warm, and with their cluster.
    fn drop_older_clusters(&mut self) {
        let mut older = std::mem::take(&mut self.older_clusters);
        let is_over = |name: &Arc<str>| self.clusters.get(name).is_none_or(|e| self.is_warm(&e.compiled));
        let gone = older.extract_if(.., |name, _| is_over(name));
        let released: Vec<Arc<str>> = gone.filter_map(|(_, cluster)| cluster.eds_name.clone()).collect();
        self.released.endpoints.extend(released);
        self.older_clusters = older;
    }

    /// Drops route configurations and endpoints whose last listener or cluster went: they are no longer
    /// subscribed to, and would be stale if one came back.
    fn forget_released(&mut self) {
        let released = std::mem::take(&mut self.released);
        if released.is_empty() {
            return;
        }
        let used = self.subscriptions();
        for name in released.routes.difference(&used.routes) {
            take(&mut self.routes, name);
        }
        for name in released.endpoints.difference(&used.endpoints) {
            take(&mut self.endpoints, name);
        }
    }

    pub(crate) fn add(&mut self, type_url: &str, resource: &Resource, fixed: bool) -> Compiled<()> {
        if resource.body.type_url != type_url {
            return refuse!("expected {type_url}, found {}", resource.body.type_url);
        }
        let bytes = resource.body.value.as_slice();
        match type_url {
            type_url::LISTENER => {
                let names = &mut self.names;
                let mut before = Vec::new();
                put(&mut self.listeners, resource, fixed, |previous| {
                    fields::check("envoy.config.listener.v3.Listener", bytes)?;
                    let message: xds::listener::Listener = decode(bytes)?;
                    let listener = Listener::compile(&message, names)?;
                    listener.refuse_ambiguous()?;
                    before = previous.into_iter().flat_map(rds_names).cloned().collect();
                    Ok((message.name, listener))
                })?;
                // Also of a version that never became active.
                self.released.routes.extend(before);
            }
            type_url::CLUSTER => {
                let before = self.clusters.get(resource.name.as_str()).map(|e| e.compiled.clone());
                put(&mut self.clusters, resource, fixed, |_| {
                    fields::check("envoy.config.cluster.v3.Cluster", bytes)?;
                    let message: xds::cluster::Cluster = decode(bytes)?;
                    Ok((message.name.clone(), Cluster::compile(&message)?))
                })?;
                if let Some(before) = before {
                    self.replaced(&resource.name, before);
                }
                self.names.cluster(&resource.name);
            }
            type_url::ENDPOINT => {
                put(&mut self.endpoints, resource, fixed, |_| {
                    fields::check("envoy.config.endpoint.v3.ClusterLoadAssignment", bytes)?;
                    let message: xds::endpoint::ClusterLoadAssignment = decode(bytes)?;
                    Ok((message.cluster_name.clone(), Endpoints::compile(&message, Naming::Addresses)?))
                })?;
            }
            type_url::ROUTE => {
                let names = &mut self.names;
                put(&mut self.routes, resource, fixed, |previous| {
                    let table = RouteTable::compile(bytes, previous, names)?;
                    Ok((table.name.to_string(), table))
                })?;
                self.names.route_table(&resource.name);
            }
            type_url::NAME_TABLE => {
                let table = host_names(&decode(bytes)?);
                if *self.hosts != table {
                    self.hosts = Arc::new(table);
                }
                self.host_versions.insert(resource.name.clone(), resource.version.clone());
            }
            other => return refuse!("resources of type {other} are not supported"),
        }
        self.dirty.any = true;
        Ok(())
    }

    /// Envoy ignores the removal of a route configuration or of endpoints that are in use, and so do we: the
    /// last known good stays.
    fn remove(&mut self, type_url: &str, removed: &[String]) {
        let used = match removed.is_empty() {
            true => return,
            false => self.subscriptions(),
        };
        for name in removed.iter().map(String::as_str) {
            let gone = match type_url {
                type_url::LISTENER => take(&mut self.listeners, name).is_some(),
                type_url::CLUSTER => match take(&mut self.clusters, name) {
                    Some(cluster) => {
                        self.released.endpoints.extend(cluster.eds_name.clone());
                        true
                    }
                    None => false,
                },
                type_url::ENDPOINT if used.endpoints.contains(name) => false,
                type_url::ENDPOINT => take(&mut self.endpoints, name).is_some(),
                type_url::ROUTE if used.routes.contains(name) => false,
                type_url::ROUTE => take(&mut self.routes, name).is_some(),
                type_url::NAME_TABLE if self.host_versions.remove(name).is_some() => {
                    self.hosts = Arc::default();
                    true
                }
                _ => false,
            };
            self.dirty.any |= gone;
        }
    }
}

/// Route configurations a listener refers to.
fn rds_names(listener: &Listener) -> impl Iterator<Item = &Arc<str>> {
    listener.all_chains().filter_map(|chain| match &chain.action {
        NetworkAction::Http(http) => match &http.routes {
            RouteSource::Rds { name, .. } => Some(name),
            RouteSource::Inline(_) => None,
        },
        _ => None,
    })
}

/// The entry, taken out, unless it is the bootstrap's.
fn take<T>(entries: &mut BTreeMap<Arc<str>, Entry<T>>, name: &str) -> Option<Arc<T>> {
    match entries.get(name) {
        Some(entry) if !entry.fixed => entries.remove(name).map(|entry| entry.compiled),
        _ => None,
    }
}

/// Compiles a resource unless its bytes are those it had, and files it under its name.
fn put<T>(
    entries: &mut BTreeMap<Arc<str>, Entry<T>>,
    resource: &Resource,
    fixed: bool,
    compile: impl FnOnce(Option<&T>) -> Compiled<(String, T)>,
) -> Compiled<()> {
    let hash = xxh3_128(&resource.body.value);
    let existing = entries.get_mut(resource.name.as_str());
    if existing.as_ref().is_some_and(|e| e.fixed) {
        return refuse!("the bootstrap has a resource of this name");
    }
    if let Some(existing) = existing {
        if existing.hash == hash {
            existing.version.clone_from(&resource.version);
            return Ok(());
        }
        let (name, compiled) = compile(Some(&existing.compiled))?;
        same_name(resource, &name)?;
        *existing = Entry { compiled: Arc::new(compiled), version: resource.version.clone(), hash, fixed };
        return Ok(());
    }
    let (name, compiled) = compile(None)?;
    same_name(resource, &name)?;
    let entry = Entry { compiled: Arc::new(compiled), version: resource.version.clone(), hash, fixed };
    entries.insert(resource.name.as_str().into(), entry);
    Ok(())
}

fn same_name(resource: &Resource, name: &str) -> Compiled<()> {
    match name == resource.name {
        true => Ok(()),
        false => refuse!("the resource calls itself {name:?}"),
    }
}

fn decode<M: xds::Message + Default>(bytes: &[u8]) -> Compiled<M> {
    M::decode(bytes).map_err(|e| Refusal::new(format!("does not decode: {e}")))
}

fn host_names(message: &xds::nds::NameTable) -> HostNames {
    let mut names = HostNames::default();
    for (name, info) in &message.table {
        let addresses = info.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        names.by_name.insert(name.into(), addresses);
    }
    names
}
