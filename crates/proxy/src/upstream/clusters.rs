//! The clusters of one worker by number, brought up to date with the configuration as they are used.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::cluster::{ClusterKind, UpstreamProtocol};
use model::health_check::Probe;
use model::http1::HeaderCase;
use model::snapshot::ClusterEntry;
use model::{Cluster, ClusterId, Snapshot};
use telemetry::Shard;
use telemetry::envoy::EnvoyStats;
use wire::id::Random;

use crate::clock::Time;
use crate::net::sockets::Key;
use crate::options::Shared;
use crate::upstream::cluster::{ClusterState, Making};
use crate::upstream::cluster_core::{ClusterConfig, ClusterCore};
use crate::upstream::host::{Host, HostPool, HostRef, PoolKey};
use crate::upstream::outlier::{Ejection, Fared};

/// The clusters of one worker.
pub struct Clusters {
    /// By [`ClusterId::index`], made when first used.
    by_id: Vec<Option<Rc<ClusterState>>>,
    /// Beside `by_id`: what of the configuration each was brought up to date with.
    seen: Vec<Seen>,
    envoy: EnvoyStats,
    shared: Arc<Shared>,
    shard: Rc<Shard>,
    next_host: Cell<u64>,
    random: Random,
    /// Hosts left out by this worker's decision.
    ejections: Vec<Ejection>,
}

/// Which settings and hosts a cluster was brought up to date with, by their addresses: the cluster holds both, so nothing
/// else can lie there. Thousands of these are compared in the time in which the clusters themselves, each in its own place
/// in memory, would be reached for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen([usize; 2]);

impl Seen {
    #[inline]
    fn of(entry: &ClusterEntry) -> Seen {
        Seen([Arc::as_ptr(&entry.cluster) as usize, Arc::as_ptr(&entry.endpoints) as usize])
    }
}

/// What came of a new configuration.
#[derive(Debug, Default)]
pub struct TakenUp {
    /// The idle and the shared connections to hosts that are no longer there.
    pub useless: Vec<Key>,
    /// Some cluster in use has changed.
    pub changed: bool,
}

impl Clusters {
    pub fn new(shared: &Arc<Shared>, shard: &Rc<Shard>, seed: u64) -> Clusters {
        Clusters {
            by_id: vec![],
            seen: vec![],
            envoy: shared.envoy.clone(),
            shared: shared.clone(),
            shard: shard.clone(),
            next_host: Cell::new(1),
            random: Random::from_seed(seed),
            ejections: vec![],
        }
    }

    /// The cluster, brought up to date. `None`: there is none of that number now.
    pub fn get(&mut self, snapshot: &Snapshot, id: ClusterId, now: Time) -> Option<Rc<ClusterState>> {
        let entry = snapshot.cluster(id)?;
        if self.by_id.len() <= id.index() {
            let capacity = snapshot.cluster_capacity().max(id.index() + 1);
            self.by_id.resize(capacity, None);
            self.seen.resize(capacity, Seen::default());
        }
        let place = self.by_id.get_mut(id.index())?;
        let state = match place {
            Some(state) => state.clone(),
            None => {
                let codes = self.envoy.cluster_codes(&entry.cluster.name);
                let config = ClusterConfig::new(entry.cluster.clone(), &self.shared.upstream_limits);
                let state = Rc::new(ClusterState::new(ClusterCore {
                    id,
                    name: entry.cluster.name.clone(),
                    stats: codes.cluster().clone(),
                    codes,
                    shard: self.shard.clone(),
                    counts: self.shared.breakers.cluster(&entry.cluster.name),
                    active: Cell::new(0),
                    health: self.shared.outliers.cluster(&entry.cluster.name),
                    config: config.into(),
                }));
                warn(&self.shared, &entry.cluster);
                *place = Some(state.clone());
                state
            }
        };
        let shared = &self.shared;
        let mut making = Making { shared, next_host: &self.next_host, random: &mut self.random, now };
        state.bring_up_to_date(entry, &mut making);
        if let Some(seen) = self.seen.get_mut(id.index()) {
            *seen = Seen::of(entry);
        }
        Some(state)
    }

    /// Brings every cluster used so far up to date. What has not changed costs two comparisons of addresses.
    pub fn take_up(&mut self, snapshot: &Snapshot, now: Time) -> TakenUp {
        let TakenUp { mut useless, mut changed } = TakenUp::default();
        for index in 0..self.by_id.len() {
            let entry = snapshot.entries().get(index).and_then(Option::as_ref);
            if entry.map(Seen::of).as_ref() == self.seen.get(index) {
                continue;
            }
            let Some(Some(state)) = self.by_id.get(index) else { continue };
            let entry = entry.filter(|entry| entry.cluster.name == state.name);
            changed = true;
            let state = state.clone();
            let before = state.hosts();
            if entry.is_some() {
                if let Some(entry) = entry {
                    warn(&self.shared, &entry.cluster);
                }
                self.get(snapshot, state.id, now);
            } else {
                state.remove();
                self.envoy.forget_cluster(&state.name);
                if let (Some(place), Some(seen)) = (self.by_id.get_mut(index), self.seen.get_mut(index)) {
                    (*place, *seen) = Default::default();
                }
            }
            // Envoy: all connections are drained when hosts come or go.
            let redo = state.config.borrow().close_connections_on_host_set_change
                && state.addresses() != before.iter().map(|host| host.address).collect::<BTreeSet<_>>();
            let after = if redo { state.hosts() } else { vec![] };
            for host in before.into_iter().chain(after) {
                if redo {
                    host.drained.set(now);
                }
                if host.gone.get() || redo {
                    useless.append(&mut host.idle.borrow_mut());
                    useless.extend_from_slice(&host.shared.borrow());
                }
            }
        }
        if changed {
            self.ejections.retain(|ejection| !ejection.is_stale());
        }
        TakenUp { useless, changed }
    }

    /// Every cluster used so far.
    pub fn all(&self) -> impl Iterator<Item = &Rc<ClusterState>> {
        self.by_id.iter().flatten()
    }

    /// The host at the address a connection was meant for.
    pub fn original(&self, cluster: &Rc<ClusterState>, address: SocketAddr) -> HostRef {
        cluster.original(address, &self.next_host)
    }

    /// How an attempt at a host ended, for outlier detection. True: a host is left out now.
    pub fn observe(&mut self, cluster: &ClusterState, host: &HostRef, fared: Fared, now: Time) -> bool {
        let random = &mut self.random;
        let mut ejected = cluster.observe(host, fared, now, || random.next_u64());
        let any = !ejected.is_empty();
        self.ejections.append(&mut ejected);
        any
    }

    /// The host by which another's health is checked: with a pool and counts of its own, that no statistics show.
    pub fn check_target(
        &self,
        cluster: &ClusterState,
        config: &Rc<ClusterConfig>,
        told: &model::Host,
        address: SocketAddr,
    ) -> HostRef {
        let codes = self.envoy.unseen_cluster();
        let core = Rc::new(ClusterCore {
            id: cluster.id,
            name: cluster.name.clone(),
            stats: codes.cluster().clone(),
            codes,
            shard: self.shard.clone(),
            counts: Default::default(),
            active: Cell::new(0),
            health: Default::default(),
            config: config.clone().into(),
        });
        let mut key = PoolKey::new(config, Some(told));
        key.hop = false;
        key.protocol = match config.health_check.as_ref().map(|check| &check.probe) {
            Some(Probe::Http(probe)) if !probe.http2 => UpstreamProtocol::Http1,
            _ => UpstreamProtocol::Http2,
        };
        let pool = HostPool::new(&core, told.check.target(address), key);
        Rc::new(Host::new(0, pool, None, false, None))
    }

    /// When the next host this worker has left out comes back.
    pub fn next_back(&self) -> Option<Time> {
        self.ejections.iter().map(|ejection| ejection.until).min()
    }

    /// Lets hosts back whose time is over.
    pub fn end_ejections(&mut self, now: Time) {
        if !self.ejections.is_empty() {
            self.ejections.retain(|ejection| ejection.until > now);
        }
    }
}

/// Names once what a cluster asks for and does not get.
fn warn(shared: &Shared, cluster: &Cluster) {
    let told = [
        (
            cluster.http1.header_case == HeaderCase::Proper,
            "proper_case_words: names of headers are sent as they came",
        ),
        (
            cluster.health_check.is_some()
                && !cluster.ignore_health_on_host_removal
                && matches!(cluster.kind, ClusterKind::Eds | ClusterKind::StrictDns),
            "ignore_health_on_host_removal is not set: hosts that are no longer named leave all the same, also while \
                they pass their health checks",
        ),
        (cluster.max_headers_count != 100, "max_headers_count: responses may have 100 fields"),
        (
            cluster.dns.respect_ttl,
            "respect_dns_ttl: names are looked up as often as dns_refresh_rate says, whatever their answers",
        ),
    ];
    let told = told.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what);
    for what in told.chain(crate::http2::unheeded(&cluster.http2)) {
        shared.warn_once(what, &cluster.name);
    }
}
