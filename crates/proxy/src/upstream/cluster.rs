//! One cluster as one worker uses it: its hosts, and the plan by which they are picked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::Cluster;
use model::cluster::ClusterKind;
use model::endpoints::{Endpoints, HostAddress};
use model::lb::{HostDecision, HostPlan, Rotation, Tried, Why, pick};
use model::snapshot::ClusterEntry;

use crate::clock::Time;
use crate::options::Shared;
use crate::upstream::cluster_core::{ClusterConfig, ClusterCore};
use crate::upstream::connect;
use crate::upstream::health::HostHealth;
use crate::upstream::host::{Host, HostPool, HostRef, PoolKey};
use crate::upstream::outlier::{Ejection, Fared, Judge};

/// One cluster as a worker uses it.
pub struct ClusterState {
    pub core: Rc<ClusterCore>,
    source: RefCell<Arc<Endpoints>>,
    hosts: RefCell<Hosts>,
    /// Of an original-destination cluster, by address.
    originals: RefCell<HashMap<SocketAddr, HostRef>>,
    /// The resolver's version last looked at, and the sum of those of this cluster's names.
    resolved: Cell<u64>,
    names: Cell<u64>,
}

/// The hosts there are now, and the plan by which they are picked.
struct Hosts {
    endpoints: Arc<Endpoints>,
    list: Vec<Option<HostRef>>,
    plan: HostPlan,
    rotation: Rotation,
    /// The version of the outlier detection that the plan was made by, and when the first host comes back.
    planned: u64,
    next_back: Time,
}

/// Original destinations kept per cluster before the idle ones are forgotten.
const MAX_ORIGINALS: usize = 1024;

impl std::ops::Deref for ClusterState {
    type Target = ClusterCore;

    fn deref(&self) -> &ClusterCore {
        &self.core
    }
}

impl Hosts {
    fn none(config: &Cluster) -> Hosts {
        let endpoints: Arc<Endpoints> = Arc::default();
        let plan = HostPlan::new(config, &endpoints, |_| true);
        Hosts {
            endpoints,
            rotation: Rotation::default(),
            plan,
            list: vec![],
            planned: 0,
            next_back: Time::NEVER,
        }
    }

    fn position(&self, host: &HostRef) -> Option<usize> {
        self.list.iter().position(|known| known.as_ref().is_some_and(|known| Rc::ptr_eq(known, host)))
    }
}

/// No host could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHost;

/// What a cluster's hosts are made with.
pub(super) struct Making<'a> {
    pub shared: &'a Shared,
    pub next_host: &'a Cell<u64>,
    pub random: &'a mut wire::id::Random,
    pub now: Time,
}

impl Making<'_> {
    fn number(&self) -> u64 {
        let number = self.next_host.get();
        self.next_host.set(number + 1);
        number
    }
}

impl ClusterState {
    /// Without hosts yet: they come with [`ClusterState::bring_up_to_date`].
    pub fn new(core: ClusterCore) -> ClusterState {
        let hosts = Hosts::none(&core.config.borrow());
        ClusterState {
            core: Rc::new(core),
            source: RefCell::default(),
            hosts: RefCell::new(hosts),
            originals: RefCell::default(),
            resolved: Cell::new(0),
            names: Cell::new(0),
        }
    }

    /// Takes over what has changed since it was last used.
    pub(super) fn bring_up_to_date(&self, entry: &ClusterEntry, making: &mut Making<'_>) {
        let new_config = !Arc::ptr_eq(&self.config.borrow().cluster, &entry.cluster);
        let new_hosts = !Arc::ptr_eq(&self.source.borrow(), &entry.endpoints);
        if new_config {
            *self.config.borrow_mut() =
                ClusterConfig::new(entry.cluster.clone(), &making.shared.upstream_limits);
        }
        if new_hosts {
            *self.source.borrow_mut() = entry.endpoints.clone();
        }
        if new_config || new_hosts || self.has_new_names(making.shared) {
            self.refresh(making);
        } else if self.has_new_health(making.now) {
            self.plan(making);
        }
    }

    fn has_new_names(&self, shared: &Shared) -> bool {
        let config = self.config.borrow();
        if !matches!(config.kind, ClusterKind::StrictDns | ClusterKind::LogicalDns) {
            return false;
        }
        let version = shared.resolver.version();
        if self.resolved.replace(version) == version {
            return false;
        }
        let source = self.source.borrow();
        let names = source.hosts.iter().filter_map(|host| match &host.address {
            HostAddress::Name(name, _) => Some(name),
            _ => None,
        });
        let names = shared.resolver.versions(names);
        self.names.replace(names) != names
    }

    fn has_new_health(&self, now: Time) -> bool {
        if !self.config.borrow().watches() {
            return false;
        }
        let hosts = self.hosts.borrow();
        hosts.planned != self.health.version() || hosts.next_back <= now
    }

    /// Takes over the hosts as they are now; those that stay keep their connections.
    fn refresh(&self, making: &mut Making<'_>) {
        let config = self.config.borrow().clone();
        let source = self.source.borrow().clone();
        let resolver = &making.shared.resolver;
        let endpoints = match config.kind {
            ClusterKind::StrictDns | ClusterKind::LogicalDns => {
                let first_only = config.kind == ClusterKind::LogicalDns;
                let family = config.dns.family;
                let lookup = |name: &Arc<str>| {
                    let found = resolver.addresses(name)?;
                    Some(connect::of_family(&found, family))
                };
                Arc::new(source.resolved(first_only, lookup))
            }
            _ => source,
        };
        let old = std::mem::replace(&mut *self.hosts.borrow_mut(), Hosts::none(&config));
        let mut known: HashMap<SocketAddr, HostRef> =
            old.list.into_iter().flatten().map(|host| (host.address, host)).collect();
        let watched = config.watches();
        let list: Vec<Option<HostRef>> = endpoints
            .hosts
            .iter()
            .map(|host| match &host.address {
                HostAddress::Ip(address) => {
                    let key = PoolKey::new(&config, Some(host));
                    let before = known.get(address);
                    let checked = config.health_check.is_some() && !host.check.disabled;
                    if let Some(same) = before.filter(|known| known.describes(host, &key, watched, checked)) {
                        return Some(same.clone());
                    }
                    let pool = match before.filter(|known| known.key == key) {
                        Some(known) => known.pool.clone(),
                        None => HostPool::new(&self.core, *address, key),
                    };
                    let health = watched.then(|| self.health.host(*address));
                    Some(Rc::new(Host::new(making.number(), pool, health, checked, Some(host))))
                }
                // A name not resolved yet, or a pipe, which `connect` does not do.
                HostAddress::Name(..) | HostAddress::Pipe(_) => None,
            })
            .collect();
        for host in list.iter().flatten() {
            if known.get(&host.address).is_some_and(|known| Rc::ptr_eq(&known.pool, &host.pool)) {
                known.remove(&host.address);
            }
        }
        for gone in known.values() {
            gone.gone.set(true);
        }
        drop(known);
        if watched {
            self.health.forget_gone();
        }
        self.originals.borrow_mut().retain(|_, host| {
            let same = host.key == PoolKey::new(&config, None);
            host.gone.set(!same);
            same
        });
        {
            let mut hosts = self.hosts.borrow_mut();
            hosts.endpoints = endpoints;
            hosts.list = list;
            hosts.rotation = old.rotation;
        }
        self.plan(making);
    }

    /// Plans anew by whom requests are taken now.
    fn plan(&self, making: &mut Making<'_>) {
        let config = self.config.borrow().clone();
        let mut hosts = self.hosts.borrow_mut();
        let Hosts { endpoints, list, plan, rotation, planned, next_back } = &mut *hosts;
        *planned = self.health.version();
        let back = |host: &HostRef| host.health.as_ref()?.ejected_until(making.now);
        *next_back = list.iter().flatten().filter_map(back).min().unwrap_or(Time::NEVER);
        let takes = |index: u32| {
            let host = list.get(index as usize).and_then(Option::as_ref);
            host.is_some_and(|host| !host.ejected(making.now) && !host.fails_checks())
        };
        *plan = HostPlan::new(&config, endpoints, takes);
        *rotation = plan.rotation_after(rotation, || making.random.next_u64());
        let healthy = list.iter().flatten().filter(|host| !host.failed(making.now)).count();
        let all = list.iter().flatten().count();
        drop(hosts);
        self.tell_members(all, healthy);
    }

    fn tell_members(&self, all: usize, healthy: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (all, healthy) = self.health.members(count(all), count(healthy));
        self.shard.shift(self.stats.membership_total, all);
        self.shard.shift(self.stats.membership_healthy, healthy);
    }

    /// It is no longer in the configuration: its hosts' connections are not kept.
    pub(super) fn remove(&self) {
        for host in self.hosts() {
            host.gone.set(true);
        }
        self.tell_members(0, 0);
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
        // Usually nothing was tried before, and nothing is allocated for it.
        let avoid: Vec<u32> =
            tried.iter().filter_map(|host| u32::try_from(hosts.position(host)?).ok()).collect();
        let Hosts { plan, rotation, list, .. } = &mut *hosts;
        let tried =
            Tried { hosts: &avoid, attempts: if avoid.is_empty() { 0 } else { attempts }, priorities };
        let at = |index: u32| list.get(index as usize).and_then(Option::as_ref);
        let active = |index: u32| at(index).map_or(u32::MAX, |host| host.active.get());
        match pick(plan, rotation, tried, active, random) {
            HostDecision::Host { host, why, .. } => {
                if why == Why::Panic {
                    self.shard.inc(self.stats.lb_healthy_panic);
                }
                at(host).cloned().ok_or(NoHost)
            }
            HostDecision::NoHealthyHost => Err(NoHost),
        }
    }

    /// The host at the address a connection was meant for.
    pub(super) fn original(&self, address: SocketAddr, next_host: &Cell<u64>) -> HostRef {
        let mut originals = self.originals.borrow_mut();
        if let Some(host) = originals.get(&address) {
            return host.clone();
        }
        if originals.len() >= MAX_ORIGINALS {
            originals.retain(|_, host| Rc::strong_count(host) > 1 || host.in_use());
        }
        let number = next_host.get();
        next_host.set(number + 1);
        let config = self.config.borrow();
        let pool = HostPool::new(&self.core, address, PoolKey::new(&config, None));
        let host = Rc::new(Host::new(number, pool, None, false, None));
        originals.insert(address, host.clone());
        host
    }

    /// The hosts there are, for reports.
    pub fn hosts(&self) -> Vec<HostRef> {
        let mut hosts: Vec<HostRef> = self.hosts.borrow().list.iter().flatten().cloned().collect();
        hosts.extend(self.originals.borrow().values().cloned());
        hosts
    }

    /// The connections to each of its hosts.
    pub fn each_pool(&self, mut see: impl FnMut(&HostPool)) {
        self.hosts.borrow().list.iter().flatten().for_each(|host| see(host));
        self.originals.borrow().values().for_each(|host| see(host));
    }

    /// The hosts whose health is to be checked, and what the control plane says of them.
    pub fn checked_hosts(&self) -> Vec<(SocketAddr, Arc<HostHealth>, model::Host)> {
        let hosts = self.hosts.borrow();
        let told = hosts.list.iter().zip(&hosts.endpoints.hosts).filter(|(_, told)| !told.check.disabled);
        told.filter_map(|(host, told)| {
            let host = host.as_ref()?;
            Some((host.address, host.health.clone()?, told.clone()))
        })
        .collect()
    }

    pub(super) fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.hosts().iter().map(|host| host.address).collect()
    }

    /// How an attempt at a host ended, for outlier detection. The hosts left out for it.
    pub fn observe(
        &self,
        host: &HostRef,
        fared: Fared,
        now: Time,
        dice: impl FnMut() -> u64,
    ) -> Vec<Ejection> {
        let config = self.config.borrow();
        let (Some(settings), Some(health)) = (&config.outlier, &host.health) else { return vec![] };
        let judge = || Judge {
            settings,
            hosts: self.hosts.borrow().list.iter().flatten().filter_map(|host| host.health.clone()).collect(),
            cluster: &self.core,
            now,
        };
        self.health.observe(settings, now, health, fared, judge, dice)
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
            let at = hosts.position(host)?;
            hosts.endpoints.hosts.get(at).map(|host| host.priority)
        };
        let mut priorities: Vec<u32> = known.iter().filter_map(priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }
}
