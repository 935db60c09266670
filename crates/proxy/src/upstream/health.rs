//! How hosts fare: one state per cluster and address for the whole process, in atomics that every worker writes.
//!
//! Outlier detection ([`crate::upstream::outlier`]) and health checks write it; every worker's plan of hosts reads it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::clock::Time;

/// The outlier states of all clusters, by name.
#[derive(Default)]
pub struct Outliers {
    clusters: Mutex<HashMap<Arc<str>, Weak<ClusterHealth>>>,
}

impl Outliers {
    pub fn cluster(&self, name: &Arc<str>) -> Arc<ClusterHealth> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clusters.get(name).and_then(Weak::upgrade) {
            return known;
        }
        clusters.retain(|_, known| known.strong_count() > 0);
        let fresh = Arc::<ClusterHealth>::default();
        clusters.insert(name.clone(), Arc::downgrade(&fresh));
        fresh
    }
}

/// The outlier state of a cluster.
#[derive(Default)]
pub struct ClusterHealth {
    hosts: Mutex<HashMap<SocketAddr, Weak<HostHealth>>>,
    /// Grows with every host that is left out or comes back.
    pub(super) version: AtomicU64,
    /// Hosts left out now.
    pub(super) ejected: AtomicU32,
    /// When hosts are next compared with one another; 0 before the first request.
    pub(super) next_sweep: AtomicU64,
    /// Held while it is decided who is left out.
    pub(super) deciding: Mutex<()>,
    /// Hosts, and those of them that take requests, as last told to the gauges.
    members: Mutex<(i64, i64)>,
    /// A connection for requests was made to one of its hosts.
    used: AtomicBool,
}

/// How one host fares.
#[derive(Default)]
pub struct HostHealth {
    /// Failures in a row: any 5xx, gateway errors only, ours to reach it.
    pub(super) consecutive_5xx: AtomicU32,
    pub(super) consecutive_gateway: AtomicU32,
    pub(super) consecutive_local: AtomicU32,
    /// 0: it is not left out.
    pub(super) ejected_until: AtomicU64,
    /// When it last came back.
    pub(super) back_since: AtomicU64,
    /// Ejections not forgiven yet: each further one lasts longer.
    pub(super) ejections: AtomicU32,
    /// Since the last comparison with the others: what the host answered, and whether it could be reached.
    pub(super) answers: Window,
    pub(super) reached: Window,
    /// Whether it is well by its health checks; not before it has passed the first.
    passed_check: AtomicBool,
}

impl HostHealth {
    pub fn passed_check(&self) -> bool {
        self.passed_check.load(Relaxed)
    }

    /// Said by whoever checks it; [`ClusterHealth::changed`] lets the workers look.
    pub fn set_passed_check(&self, passed: bool) {
        self.passed_check.store(passed, Relaxed);
    }

    pub fn ejected(&self, now: Time) -> bool {
        self.ejected_until.load(Relaxed) > now.0
    }

    /// When it takes requests again, if it is left out.
    pub fn ejected_until(&self, now: Time) -> Option<Time> {
        Some(Time(self.ejected_until.load(Relaxed))).filter(|until| *until > now)
    }
}

impl ClusterHealth {
    /// Of the host at this address.
    pub fn host(&self, address: SocketAddr) -> Arc<HostHealth> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::<HostHealth>::default();
        hosts.insert(address, Arc::downgrade(&fresh));
        fresh
    }

    /// Forgets hosts that no worker has any more.
    pub fn forget_gone(&self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, host| host.strong_count() > 0);
    }

    /// Notes how many hosts there are and how many of them take requests: by how much either has changed since a worker
    /// last said so. A gauge is the sum over the workers, and the hosts are the same for all of them.
    pub fn members(&self, all: i64, healthy: i64) -> (i64, i64) {
        let mut told = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, (all, healthy));
        (all - before.0, healthy - before.1)
    }

    pub fn changed(&self) {
        self.version.fetch_add(1, Relaxed);
    }

    pub fn note_used(&self) {
        if !self.is_used() {
            self.used.store(true, Relaxed);
        }
    }

    pub fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Grows whenever another host is left out or one comes back.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Window {
    all: AtomicU32,
    good: AtomicU32,
}

impl Window {
    pub(super) fn count(&self, good: bool) {
        self.all.fetch_add(1, Relaxed);
        if good {
            self.good.fetch_add(1, Relaxed);
        }
    }

    /// How many there were and how many percent of them were good; begins anew.
    pub(super) fn take(&self) -> (u32, f64) {
        let (all, good) = (self.all.swap(0, Relaxed), self.good.swap(0, Relaxed));
        (all, 100.0 * f64::from(good.min(all)) / f64::from(all.max(1)))
    }
}

/// Not written where nothing changes: the line is shared with the other workers.
pub(super) fn clear(failures: &AtomicU32) {
    if failures.load(Relaxed) != 0 {
        failures.store(0, Relaxed);
    }
}
