//! One host of a cluster, as one worker sees it.
//!
//! A [`Host`] is what the control plane says of an address now; the [`HostPool`] behind it (connections, requests,
//! counts) stays the same while only the description changes, so that no account is ever split between two.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::cluster::{Keepalive, UpstreamProtocol};
use model::endpoints::HostHealth as Told;
use model::http2::Http2Settings;
use model::transport::UpstreamTransport;
use telemetry::istio::Peer;

use crate::clock::Time;
use crate::exchange_id::ExchangeId;
use crate::net::sockets::Key;
use crate::upstream::cluster_core::{ClusterConfig, ClusterCore};
use crate::upstream::health::HostHealth;
use crate::upstream::idle::IdleLimit;

/// A host of a cluster, as those who use it hold it.
pub type HostRef = Rc<Host>;

pub struct Host {
    /// Never given to another host of this worker.
    pub number: u64,
    /// Who it is, for metrics; what the control plane says of it.
    pub labels: Option<Arc<Peer>>,
    pub hostname: Arc<str>,
    /// In the mesh: understands our introduction.
    pub mesh: bool,
    weight: u32,
    healthy: bool,
    /// Its health is checked: it takes requests only while it passes.
    checked: bool,
    /// How it fares, over all workers; `None` without outlier detection and health checks.
    pub health: Option<Arc<HostHealth>>,
    pub pool: Rc<HostPool>,
}

/// The connections to one address, made in one way, and what goes over them.
pub struct HostPool {
    pub address: SocketAddr,
    pub key: PoolKey,
    pub cluster: Rc<ClusterCore>,
    /// Kept-alive connections without a request, the most recently used last.
    pub idle: RefCell<Vec<Key>>,
    /// How long the host keeps those.
    pub idle_limit: Cell<IdleLimit>,
    /// HTTP/2 connections.
    pub shared: RefCell<Vec<Key>>,
    /// Connections whose host has not said yet which HTTP it speaks.
    pub undecided: RefCell<Vec<Key>>,
    /// What it said last was HTTP/1: each request that waits needs a connection of its own.
    pub said_http1: Cell<bool>,
    /// Requests waiting for one.
    pub queue: RefCell<VecDeque<ExchangeId>>,
    pub connections: Cell<u32>,
    /// Requests in flight.
    pub active: Cell<u32>,
    pub total_requests: Cell<u64>,
    pub failed_connects: Cell<u64>,
    pub errors: Cell<u64>,
    /// Connections made before this take no further request.
    pub drained: Cell<Time>,
    /// No host of the cluster uses it now: its connections are not kept.
    pub gone: Cell<bool>,
}

/// How a connection is made, all that decides on it: where one of these changes, no connection made before is used.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolKey {
    pub transport: UpstreamTransport,
    pub protocol: UpstreamProtocol,
    /// A filamesh proxy is there that takes all requests over shared HTTP/2 connections.
    pub hop: bool,
    http2: Http2Settings,
    bind: Option<SocketAddr>,
    keepalive: Option<Keepalive>,
}

impl PoolKey {
    /// `host`: as the control plane describes it; `None` for an original destination.
    pub fn new(config: &ClusterConfig, host: Option<&model::Host>) -> PoolKey {
        PoolKey {
            transport: host.map_or(&config.transport, |host| config.transport_to(host)).clone(),
            protocol: config.protocol,
            hop: host.is_some_and(|host| config.multiplexes(host)),
            http2: config.http2,
            bind: config.bind,
            keepalive: config.keepalive,
        }
    }
}

/// How a host fares, for the admin's eyes.
#[derive(Clone, Debug)]
pub struct HostReport {
    pub cluster: Arc<str>,
    pub address: SocketAddr,
    pub hostname: Arc<str>,
    pub connections: u32,
    pub active: u32,
    pub total_requests: u64,
    pub failed_connects: u64,
    pub errors: u64,
    pub weight: u32,
    pub healthy: bool,
    pub ejected: bool,
    pub fails_checks: bool,
}

impl HostPool {
    pub fn new(cluster: &Rc<ClusterCore>, address: SocketAddr, key: PoolKey) -> Rc<HostPool> {
        Rc::new(HostPool {
            address,
            key,
            cluster: cluster.clone(),
            idle: RefCell::default(),
            idle_limit: Cell::default(),
            shared: RefCell::default(),
            undecided: RefCell::default(),
            said_http1: Cell::new(false),
            queue: RefCell::default(),
            connections: Cell::new(0),
            active: Cell::new(0),
            total_requests: Cell::new(0),
            failed_connects: Cell::new(0),
            errors: Cell::new(0),
            drained: Cell::default(),
            gone: Cell::new(false),
        })
    }

    pub fn in_use(&self) -> bool {
        self.connections.get() > 0 || self.active.get() > 0 || !self.queue.borrow().is_empty()
    }
}

impl std::ops::Deref for Host {
    type Target = HostPool;

    fn deref(&self) -> &HostPool {
        &self.pool
    }
}

impl Host {
    /// `told`: what the control plane says of it.
    pub fn new(
        number: u64,
        pool: Rc<HostPool>,
        health: Option<Arc<HostHealth>>,
        checked: bool,
        told: Option<&model::Host>,
    ) -> Host {
        Host {
            checked,
            number,
            labels: told.and_then(|host| host.workload.as_ref()).map(|workload| {
                Arc::new(Peer {
                    workload: workload.name.to_string(),
                    namespace: workload.namespace.to_string(),
                    // Istio's endpoint metadata carry the canonical names; its proxies fill app and version of an
                    // upstream from them.
                    app: workload.canonical_name.to_string(),
                    version: workload.canonical_revision.to_string(),
                    canonical_service: workload.canonical_name.to_string(),
                    canonical_revision: workload.canonical_revision.to_string(),
                    cluster: workload.cluster.to_string(),
                    principal: String::new(),
                })
            }),
            hostname: told.map_or_else(|| "".into(), |host| host.hostname.clone()),
            mesh: told.is_some_and(|host| host.workload.is_some()),
            weight: told.map_or(1, |host| host.weight),
            healthy: told.is_none_or(|host| host.health == Told::Healthy),
            health,
            pool,
        }
    }

    /// Whether this is the host the control plane describes, and nothing said about it has changed.
    pub fn describes(&self, told: &model::Host, key: &PoolKey, watched: bool, checked: bool) -> bool {
        let workload = told.workload.as_ref();
        self.hostname == told.hostname
            && self.pool.key == *key
            && self.health.is_some() == watched
            && self.checked == checked
            && self.weight == told.weight
            && self.healthy == (told.health == Told::Healthy)
            && match (&self.labels, workload) {
                (None, None) => true,
                (Some(labels), Some(workload)) => {
                    *labels.workload == *workload.name
                        && *labels.namespace == *workload.namespace
                        && *labels.canonical_service == *workload.canonical_name
                        && *labels.canonical_revision == *workload.canonical_revision
                        && *labels.cluster == *workload.cluster
                }
                _ => false,
            }
    }

    /// Left out for failing.
    pub fn ejected(&self, now: Time) -> bool {
        self.health.as_ref().is_some_and(|health| health.ejected(now))
    }

    /// Whether it is asked whether it is well.
    #[inline]
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// It does not pass its health checks, or has not been checked yet.
    pub fn fails_checks(&self) -> bool {
        self.checked && self.health.as_ref().is_some_and(|health| !health.passed_check())
    }

    /// Whether it takes no requests, as far as is known.
    pub fn failed(&self, now: Time) -> bool {
        !self.healthy || self.ejected(now) || self.fails_checks()
    }

    pub fn report(&self, now: Time) -> HostReport {
        HostReport {
            cluster: self.cluster.name.clone(),
            address: self.address,
            hostname: self.hostname.clone(),
            connections: self.connections.get(),
            active: self.active.get(),
            total_requests: self.total_requests.get(),
            failed_connects: self.failed_connects.get(),
            errors: self.errors.get(),
            weight: self.weight,
            healthy: self.healthy,
            ejected: self.ejected(now),
            fails_checks: self.fails_checks(),
        }
    }
}

impl HostReport {
    /// A host no worker has used.
    pub fn unused(cluster: &Arc<str>, address: SocketAddr, told: &model::Host) -> HostReport {
        HostReport {
            cluster: cluster.clone(),
            address,
            hostname: told.hostname.clone(),
            connections: 0,
            active: 0,
            total_requests: 0,
            failed_connects: 0,
            errors: 0,
            weight: told.weight,
            healthy: told.health == Told::Healthy,
            ejected: false,
            fails_checks: false,
        }
    }

    /// The same host as another worker sees it.
    pub fn add(&mut self, other: &HostReport) {
        self.connections += other.connections;
        self.active += other.active;
        self.total_requests += other.total_requests;
        self.failed_connects += other.failed_connects;
        self.errors += other.errors;
        self.ejected |= other.ejected;
        self.fails_checks |= other.fails_checks;
    }
}

/// Adds to a counter in a cell.
pub fn bump<T: Copy + std::ops::Add<Output = T>>(cell: &Cell<T>, by: T) {
    cell.set(cell.get() + by);
}
