//! What is counted for as long as it lasts: connections, requests, what waits for a connection.
//!
//! Each is held by the very thing that is counted and names the host or cluster it was counted at, so that an account
//! can neither be forgotten nor moved to another: whatever ends the thing drops the guard.

use std::rc::Rc;

use model::route::Priority;

use crate::upstream::breaker::{Limited, Taken};
use crate::upstream::cluster_core::ClusterCore;
use crate::upstream::host::{HostPool, HostRef, bump};

/// One connection to a host.
pub struct ConnectionSlot {
    pool: Rc<HostPool>,
    _slot: Taken,
    /// The connection lives on, as another worker's.
    lent: bool,
}

impl ConnectionSlot {
    /// `slot`: its place in the cluster's breaker.
    pub fn new(host: &HostRef, slot: Taken) -> ConnectionSlot {
        let pool = host.pool.clone();
        bump(&pool.connections, 1);
        pool.cluster.shard.shift(pool.cluster.stats.upstream_cx_active, 1);
        ConnectionSlot { pool, _slot: slot, lent: false }
    }

    /// Another worker counts the connection from now on, and its end.
    pub fn lend(&mut self) {
        self.lent = true;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let HostPool { connections, cluster, .. } = &*self.pool;
        connections.set(connections.get().saturating_sub(1));
        cluster.shard.shift(cluster.stats.upstream_cx_active, -1);
        if !self.lent {
            cluster.shard.inc(cluster.stats.upstream_cx_destroy);
        }
    }
}

/// One request that was given to a host.
pub struct RequestAtHost(Rc<HostPool>);

impl RequestAtHost {
    pub fn new(pool: &Rc<HostPool>) -> RequestAtHost {
        bump(&pool.active, 1);
        pool.cluster.shard.shift(pool.cluster.stats.upstream_rq_active, 1);
        RequestAtHost(pool.clone())
    }
}

impl Drop for RequestAtHost {
    fn drop(&mut self) {
        let HostPool { active, cluster, .. } = &*self.0;
        active.set(active.get().saturating_sub(1));
        cluster.shard.shift(cluster.stats.upstream_rq_active, -1);
    }
}

/// One request of a cluster, over all its attempts.
pub struct RequestSlot {
    cluster: Rc<ClusterCore>,
    _slot: Taken,
}

impl RequestSlot {
    /// `None`: the breaker's limit is reached.
    pub fn take(cluster: &Rc<ClusterCore>, priority: Priority, limit: u32) -> Option<RequestSlot> {
        let slot = cluster.counts.take(priority, Limited::Requests, limit)?;
        bump(&cluster.active, 1);
        Some(RequestSlot { cluster: cluster.clone(), _slot: slot })
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let active = &self.cluster.active;
        active.set(active.get().saturating_sub(1));
    }
}

/// One attempt that waits for a connection to be made or to come free.
pub struct PendingSlot {
    cluster: Rc<ClusterCore>,
    _slot: Taken,
}

impl PendingSlot {
    /// `None`: the breaker's limit is reached.
    pub fn take(cluster: &Rc<ClusterCore>, priority: Priority, limit: u32) -> Option<PendingSlot> {
        let slot = cluster.counts.take(priority, Limited::Pending, limit)?;
        cluster.shard.shift(cluster.stats.upstream_rq_pending_active, 1);
        Some(PendingSlot { cluster: cluster.clone(), _slot: slot })
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        self.cluster.shard.shift(self.cluster.stats.upstream_rq_pending_active, -1);
    }
}
