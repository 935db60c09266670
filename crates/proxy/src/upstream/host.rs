//! One host of a cluster, as one worker sees it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use telemetry::istio::Peer;

use super::ClusterState;
use super::outlier::Window;
use crate::clock::Time;
use crate::net::sockets::Key;
use crate::worker::exchange::ExchangeId;

pub struct Host {
    /// Never given to another host of this worker.
    pub number: u64,
    pub address: SocketAddr,
    pub cluster: Weak<ClusterState>,
    /// Who it is, for metrics; what the control plane says of it.
    pub labels: Option<Arc<Peer>>,
    pub hostname: Arc<str>,
    /// In the mesh: understands our introduction.
    pub mesh: bool,
    /// A filamesh proxy is there that takes all requests over shared HTTP/2 connections.
    pub hop: bool,
    weight: u32,
    healthy: bool,
    /// Kept-alive connections without a request, the most recently used last.
    pub idle: RefCell<Vec<Key>>,
    /// HTTP/2 connections.
    pub shared: RefCell<Vec<Key>>,
    /// Requests waiting for one.
    pub queue: RefCell<VecDeque<ExchangeId>>,
    pub connections: Cell<u32>,
    /// Requests in flight.
    pub active: Cell<u32>,
    pub total_requests: Cell<u64>,
    pub failed_connects: Cell<u64>,
    pub errors: Cell<u64>,
    /// Failures in a row: any 5xx, gateway errors only.
    pub consecutive_5xx: Cell<u32>,
    pub consecutive_gateway: Cell<u32>,
    pub ejected_until: Cell<Time>,
    pub ejections: Cell<u32>,
    /// For comparison with the other hosts.
    pub window: Window,
    /// Connections made before this take no further request.
    pub drained: Cell<Time>,
    /// No longer among the cluster's hosts: its connections are not kept.
    pub gone: Cell<bool>,
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
}

impl Host {
    pub fn new(
        number: u64,
        cluster: &Rc<ClusterState>,
        address: SocketAddr,
        told: Option<&model::Host>,
    ) -> Host {
        Host {
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
            hop: told.is_some_and(|host| cluster.config.borrow().multiplexes(host)),
            weight: told.map_or(1, |host| host.weight),
            healthy: told.is_none_or(|host| host.health == model::endpoints::HostHealth::Healthy),
            ..Host::unknown(Rc::downgrade(cluster), address)
        }
    }

    /// A host of which nothing is known but its address.
    pub fn unknown(cluster: Weak<ClusterState>, address: SocketAddr) -> Host {
        Host {
            number: 0,
            address,
            cluster,
            labels: None,
            hostname: "".into(),
            mesh: false,
            hop: false,
            weight: 1,
            healthy: true,
            idle: RefCell::default(),
            shared: RefCell::default(),
            queue: RefCell::default(),
            connections: Cell::new(0),
            active: Cell::new(0),
            total_requests: Cell::new(0),
            failed_connects: Cell::new(0),
            errors: Cell::new(0),
            consecutive_5xx: Cell::new(0),
            consecutive_gateway: Cell::new(0),
            ejected_until: Cell::default(),
            ejections: Cell::new(0),
            window: Window::default(),
            drained: Cell::default(),
            gone: Cell::new(false),
        }
    }

    /// Whether this is the host the control plane describes, and nothing said about it has changed.
    pub fn describes(&self, told: &model::Host, config: &model::Cluster) -> bool {
        let workload = told.workload.as_ref();
        self.hostname == told.hostname
            && self.hop == config.multiplexes(told)
            && self.weight == told.weight
            && self.healthy == (told.health == model::endpoints::HostHealth::Healthy)
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

    /// The same address described anew: how it fared is not forgotten. Connections stay with the old one until they
    /// are used up.
    pub fn inherit(&self, old: &Host) {
        self.consecutive_5xx.set(old.consecutive_5xx.get());
        self.consecutive_gateway.set(old.consecutive_gateway.get());
        self.ejected_until.set(old.ejected_until.get());
        self.ejections.set(old.ejections.get());
        self.idle.swap(&old.idle);
        old.gone.set(true);
    }

    /// Whether it takes requests, as far as is known.
    pub fn failed(&self, now: Time) -> bool {
        !self.healthy || self.ejected_until.get() > now
    }

    pub fn in_use(&self) -> bool {
        self.connections.get() > 0 || !self.queue.borrow().is_empty()
    }

    pub fn report(&self, cluster: &Arc<str>, now: Time) -> HostReport {
        HostReport {
            cluster: cluster.clone(),
            address: self.address,
            hostname: self.hostname.clone(),
            connections: self.connections.get(),
            active: self.active.get(),
            total_requests: self.total_requests.get(),
            failed_connects: self.failed_connects.get(),
            errors: self.errors.get(),
            weight: self.weight,
            healthy: self.healthy,
            ejected: self.ejected_until.get() > now,
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
            healthy: told.health == model::endpoints::HostHealth::Healthy,
            ejected: false,
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
    }
}

/// Adds to a counter in a cell.
pub fn bump<T: Copy + std::ops::Add<Output = T>>(cell: &Cell<T>, by: T) {
    cell.set(cell.get() + by);
}
