//! Where requests go: one worker's view of clusters, their hosts and the connections kept to them.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | clusters by number, brought up to date with the configuration as they are used |
//! | `host.rs` | one host: its idle connections, what waits for it, how it fares |
//! | `breaker.rs` | what may be under way at once, over all workers |
//! | `outlier.rs` | hosts left out for failing |
//! | `dns.rs` | names resolved beside the workers |
//! | `connect.rs` | sockets to hosts and to the application |

pub mod breaker;
pub mod connect;
pub mod dns;
mod host;
mod outlier;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::cluster::ClusterKind;
use model::endpoints::{Endpoints, HostAddress};
use model::http1::HeaderCase;
use model::lb::{HostDecision, HostPlan, Rotation, Tried, pick};
use model::{Cluster, ClusterId, Snapshot};
use telemetry::envoy::{ClusterCodes, ClusterStats, EnvoyStats};

pub use host::{Host, HostReport, bump};

use crate::clock::Time;
use crate::net::sockets::Key;
use crate::options::Shared;
use crate::telemetry_sink::Telemetry;
use crate::worker::route::Routed;
use breaker::Counts;
use dns::Resolver;
use outlier::{Ejections, Judge};

/// A host of a cluster, as those who use it hold it.
pub type HostRef = Rc<Host>;

/// The clusters of one worker.
pub struct Clusters {
    /// By [`ClusterId::index`], made when first used.
    by_id: Vec<Option<Rc<ClusterState>>>,
    envoy: EnvoyStats,
    shared: Arc<Shared>,
    next_host: Cell<u64>,
}

/// One cluster as a worker uses it.
pub struct ClusterState {
    pub name: Arc<str>,
    /// Counted within the worker, as [`Rc`]: requests take it up and put it down.
    pub config: RefCell<Rc<ClusterConfig>>,
    pub stats: ClusterStats,
    pub codes: ClusterCodes,
    pub counts: Arc<Counts>,
    /// Requests in flight from this worker, for retry budgets.
    pub active: Cell<u32>,
    source: RefCell<Arc<Endpoints>>,
    hosts: RefCell<Hosts>,
    /// Of an original-destination cluster, by address.
    originals: RefCell<HashMap<SocketAddr, HostRef>>,
    resolved: Cell<u64>,
    pub ejections: Ejections,
}

/// A cluster's settings.
pub struct ClusterConfig {
    cluster: Arc<Cluster>,
    /// Those of its HTTP/2 connections, as the codec has them.
    pub h2: Arc<wire::h2::Config>,
}

impl ClusterConfig {
    fn new(cluster: Arc<Cluster>, limits: &wire::h1::Limits) -> Rc<ClusterConfig> {
        let h2 = Arc::new(crate::http2::codec_config(&cluster.http2, limits));
        Rc::new(ClusterConfig { cluster, h2 })
    }
}

impl std::ops::Deref for ClusterConfig {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// The hosts there are now, and the plan by which they are picked.
struct Hosts {
    list: Vec<Option<HostRef>>,
    /// Of each in `list`.
    priorities: Vec<u32>,
    plan: HostPlan,
    rotation: Rotation,
}

/// Original destinations kept per cluster before the idle ones are forgotten.
const MAX_ORIGINALS: usize = 1024;

/// No host could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHost;

/// Who a series of metrics is about.
pub struct SeriesDestination {
    pub number: u64,
    pub has_service: bool,
}

impl Clusters {
    pub fn new(shared: &Arc<Shared>) -> Clusters {
        Clusters {
            by_id: vec![],
            envoy: shared.envoy.clone(),
            shared: shared.clone(),
            next_host: Cell::new(1),
        }
    }

    /// The cluster, brought up to date. `None`: there is none of that number now.
    pub fn get(&mut self, snapshot: &Snapshot, id: ClusterId, now: Time) -> Option<Rc<ClusterState>> {
        let entry = snapshot.cluster(id)?;
        if self.by_id.len() <= id.index() {
            self.by_id.resize(snapshot.cluster_capacity().max(id.index() + 1), None);
        }
        let place = self.by_id.get_mut(id.index())?;
        let state = match place {
            Some(state) => state.clone(),
            None => {
                let codes = self.envoy.cluster_codes(&entry.cluster.name);
                let state = Rc::new(ClusterState {
                    name: entry.cluster.name.clone(),
                    stats: codes.cluster().clone(),
                    codes,
                    counts: self.shared.breakers.cluster(&entry.cluster.name),
                    active: Cell::new(0),
                    source: RefCell::default(),
                    hosts: RefCell::new(Hosts::none(&entry.cluster)),
                    originals: RefCell::default(),
                    resolved: Cell::new(0),
                    ejections: Ejections::default(),
                    config: RefCell::new(ClusterConfig::new(
                        entry.cluster.clone(),
                        &self.shared.upstream_limits,
                    )),
                });
                *place = Some(state.clone());
                state
            }
        };
        let new_config = !Arc::ptr_eq(&state.config.borrow().cluster, &entry.cluster);
        let new_hosts = !Arc::ptr_eq(&state.source.borrow(), &entry.endpoints);
        let dns = matches!(entry.cluster.kind, ClusterKind::StrictDns | ClusterKind::LogicalDns);
        let new_names = dns && state.resolved.get() != self.shared.resolver.version();
        if new_config || new_hosts || new_names || state.ejections.changed(now) {
            if new_config || state.resolved.get() == 0 {
                self.warn(&entry.cluster);
            }
            if new_config {
                *state.config.borrow_mut() =
                    ClusterConfig::new(entry.cluster.clone(), &self.shared.upstream_limits);
            }
            *state.source.borrow_mut() = entry.endpoints.clone();
            state.refresh(&self.shared.resolver, &self.next_host, now);
        }
        Some(state)
    }

    /// Brings every cluster used so far up to date. Returns the idle and the shared connections to hosts that are no
    /// longer there.
    pub fn take_up(&mut self, snapshot: &Snapshot, now: Time) -> Vec<Key> {
        let mut useless = vec![];
        for index in 0..self.by_id.len() {
            let Some(Some(state)) = self.by_id.get(index).cloned() else { continue };
            let before = state.hosts();
            let live = snapshot.cluster_id(&state.name).filter(|id| id.index() == index);
            let there = live.is_some_and(|id| self.get(snapshot, id, now).is_some());
            // Envoy: all connections are drained when hosts come or go.
            let redo = state.config.borrow().close_connections_on_host_set_change
                && state.addresses() != before.iter().map(|host| host.address).collect::<BTreeSet<_>>();
            let after = if redo { state.hosts() } else { vec![] };
            if !there && let Some(place) = self.by_id.get_mut(index) {
                *place = None;
            }
            for host in before.into_iter().chain(after) {
                if !there {
                    host.gone.set(true);
                }
                if redo {
                    host.drained.set(now);
                }
                if host.gone.get() || redo {
                    useless.append(&mut host.idle.borrow_mut());
                    useless.extend_from_slice(&host.shared.borrow());
                }
            }
        }
        useless
    }

    /// Names once what a cluster asks for and does not get.
    fn warn(&self, cluster: &Cluster) {
        if cluster.outlier.as_ref().is_some_and(|outlier| outlier.split_local_origin) {
            let what = "outlier detection does not tell local failures from the host's \
                (split_external_local_origin_errors)";
            self.shared.warn_once(what, &cluster.name);
        }
        let told = [
            (
                cluster.http1.header_case == HeaderCase::Proper,
                "proper_case_words: names of headers are sent as they came",
            ),
            (cluster.health_check.is_some(), "health_checks: hosts are not checked yet"),
            (cluster.max_headers_count != 100, "max_headers_count: responses may have 100 fields"),
        ];
        let told = told.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what);
        for what in told.chain(crate::http2::unheeded(&cluster.http2)) {
            self.shared.warn_once(what, &cluster.name);
        }
    }

    /// Every cluster used so far.
    pub fn all(&self) -> impl Iterator<Item = &Rc<ClusterState>> {
        self.by_id.iter().flatten()
    }

    /// The host at the address a connection was meant for.
    pub fn original(&self, cluster: &Rc<ClusterState>, address: SocketAddr) -> HostRef {
        let mut originals = cluster.originals.borrow_mut();
        if let Some(host) = originals.get(&address) {
            return host.clone();
        }
        if originals.len() >= MAX_ORIGINALS {
            originals.retain(|_, host| Rc::strong_count(host) > 1 || host.in_use());
        }
        let host = Rc::new(Host::new(next(&self.next_host), cluster, address, None));
        originals.insert(address, host.clone());
        host
    }

    /// Who a request went to, in a number for the cache of series.
    pub fn series_destination(&self, routed: Option<&Routed>, host: Option<&HostRef>) -> SeriesDestination {
        let cluster = routed.and_then(Routed::cluster);
        let has_service = cluster
            .and_then(|cluster| routed?.snapshot().cluster(cluster.id))
            .is_some_and(|entry| entry.cluster.service.is_some());
        let number = match (host, cluster) {
            (Some(host), _) => host.number << 1,
            (None, Some(cluster)) => (cluster.id.index() as u64) << 1 | 1,
            (None, None) => u64::MAX,
        };
        SeriesDestination { number, has_service }
    }

    /// The service of the cluster a request was routed to: host and name.
    pub fn service(&self, routed: Option<&Routed>) -> Option<(String, String)> {
        let routed = routed?;
        let cluster = routed.cluster()?;
        if let Some(entry) = routed.snapshot().cluster(cluster.id)
            && let Some(service) = &entry.cluster.service
        {
            return Some((service.host.to_string(), service.name.to_string()));
        }
        // Istio calls unmatched traffic by its cluster.
        match &*cluster.name {
            "PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster" => {
                Some((String::new(), cluster.name.to_string()))
            }
            _ => None,
        }
    }
}

fn next(counter: &Cell<u64>) -> u64 {
    let number = counter.get();
    counter.set(number + 1);
    number
}

impl Hosts {
    fn none(config: &Cluster) -> Hosts {
        let endpoints: Arc<Endpoints> = Arc::default();
        let plan = HostPlan::new(config, &endpoints, |_| true);
        Hosts { rotation: plan.rotation(), plan, list: vec![], priorities: vec![] }
    }
}

impl ClusterState {
    /// Takes over the hosts as they are now; those that stay keep their connections.
    fn refresh(self: &Rc<Self>, resolver: &Resolver, next_host: &Cell<u64>, now: Time) {
        let config = self.config.borrow().clone();
        let source = self.source.borrow().clone();
        self.resolved.set(resolver.version());
        let endpoints = match config.kind {
            ClusterKind::StrictDns | ClusterKind::LogicalDns => {
                let first_only = config.kind == ClusterKind::LogicalDns;
                let family = config.dns.family;
                let lookup = |name: &Arc<str>| {
                    let found = resolver.addresses(name, config.dns.refresh)?;
                    Some(connect::of_family(&found, family))
                };
                Arc::new(source.resolved(first_only, lookup))
            }
            _ => source,
        };
        let old = std::mem::replace(&mut *self.hosts.borrow_mut(), Hosts::none(&config));
        let mut known: HashMap<SocketAddr, HostRef> =
            old.list.into_iter().flatten().map(|host| (host.address, host)).collect();
        let list: Vec<Option<HostRef>> = endpoints
            .hosts
            .iter()
            .map(|host| match &host.address {
                HostAddress::Ip(address) => {
                    let same = known.get(address).filter(|known| known.describes(host, &config)).cloned();
                    let taken = same.unwrap_or_else(|| {
                        let fresh = Host::new(next(next_host), self, *address, Some(host));
                        if let Some(old) = known.get(address) {
                            fresh.inherit(old);
                        }
                        Rc::new(fresh)
                    });
                    taken.gone.set(false);
                    Some(taken)
                }
                // A name not resolved yet, or a pipe, which `connect` does not do.
                HostAddress::Name(..) | HostAddress::Pipe(_) => None,
            })
            .collect();
        for host in list.iter().flatten() {
            known.remove(&host.address);
        }
        for gone in known.values() {
            gone.gone.set(true);
        }
        let available = |index: u32| {
            let host = list.get(index as usize).and_then(Option::as_ref);
            host.is_some_and(|host| host.ejected_until.get() <= now)
        };
        self.ejections.recount(list.iter().flatten(), now);
        let plan = HostPlan::new(&config, &endpoints, available);
        let priorities = endpoints.hosts.iter().map(|host| host.priority).collect();
        *self.hosts.borrow_mut() = Hosts { rotation: plan.rotation(), plan, list, priorities };
    }

    /// A host for the next attempt.
    pub fn pick(
        &self,
        tried: &[HostRef],
        attempts: u32,
        priorities: &[u32],
        random: impl FnMut() -> u64,
    ) -> Result<HostRef, NoHost> {
        let mut hosts = self.hosts.borrow_mut();
        let Hosts { plan, rotation, list, .. } = &mut *hosts;
        // Usually nothing was tried before, and nothing is allocated for it.
        let mut avoid = vec![];
        for host in tried {
            let at =
                list.iter().position(|known| known.as_ref().is_some_and(|known| Rc::ptr_eq(known, host)));
            avoid.extend(at.and_then(|at| u32::try_from(at).ok()));
        }
        let tried =
            Tried { hosts: &avoid, attempts: if avoid.is_empty() { 0 } else { attempts }, priorities };
        let at = |index: u32| list.get(index as usize).and_then(Option::as_ref);
        let active = |index: u32| at(index).map_or(u32::MAX, |host| host.active.get());
        match pick(plan, rotation, tried, active, random) {
            HostDecision::Host { host, .. } => at(host).cloned().ok_or(NoHost),
            HostDecision::NoHealthyHost => Err(NoHost),
        }
    }

    /// The hosts there are, for reports.
    pub fn hosts(&self) -> Vec<HostRef> {
        let mut hosts: Vec<HostRef> = self.hosts.borrow().list.iter().flatten().cloned().collect();
        hosts.extend(self.originals.borrow().values().cloned());
        hosts
    }

    fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.hosts().iter().map(|host| host.address).collect()
    }

    /// How an attempt at a host ended, for outlier detection. True: a host is left out now.
    pub fn observe(
        &self,
        host: &HostRef,
        status: u16,
        now: Time,
        telemetry: &Telemetry,
        dice: impl FnMut() -> u64,
    ) -> bool {
        let config = self.config.borrow();
        let Some(settings) = &config.outlier else { return false };
        let hosts = &self.hosts.borrow().list;
        let judge = Judge { settings, hosts, now, shard: &telemetry.shard, stats: &self.stats };
        self.ejections.observe(&judge, host, status, dice)
    }

    /// Whether a request is dropped for the endpoints' `drop_overloads`; `Some(true)`: as all are.
    pub fn drops(&self, mut dice: impl FnMut() -> u64) -> Option<bool> {
        let source = self.source.borrow();
        let (_, fraction) = source.drops.iter().find(|(_, fraction)| fraction.hits(dice()))?;
        Some(*fraction == model::Fraction::ALWAYS)
    }

    /// Whether the host at this address takes no requests now.
    pub fn failed(&self, address: SocketAddr, now: Time) -> bool {
        let hosts = self.hosts.borrow();
        hosts.list.iter().flatten().any(|host| host.address == address && host.failed(now))
    }

    /// The priorities of hosts tried, as they are to be avoided after every `every` attempts (Envoy:
    /// `PreviousPrioritiesRetryPriority`).
    pub fn tried_priorities(&self, tried: &[HostRef], every: u32) -> Vec<u32> {
        let every = every.max(1) as usize;
        let known = tried.get(..tried.len() / every * every).unwrap_or_default();
        let hosts = self.hosts.borrow();
        let priority = |host: &HostRef| {
            let at = hosts.list.iter().position(|known| known.as_ref().is_some_and(|h| Rc::ptr_eq(h, host)));
            hosts.priorities.get(at?).copied()
        };
        let mut priorities: Vec<u32> = known.iter().filter_map(priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }
}
