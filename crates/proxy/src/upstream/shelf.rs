//! Idle connections that any worker may use: each worker offers those nobody has used for a moment, so that a host asked
//! now and then has as many connections as it has requests at a time, not as many as there are workers.
//!
//! An offered connection stays its worker's, which watches it and closes it in its time; here lies a second descriptor of
//! it. Whoever takes that, under the lock, has the connection: another worker, or its own, which takes it back before it
//! reads or closes it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Time;
use crate::net::network::Stream;
use crate::net::sockets::Key;
use crate::upstream::host::PoolKey;

#[derive(Default)]
pub struct Shelf {
    clusters: Mutex<HashMap<Arc<str>, Vec<Offered>>>,
}

pub struct Offered {
    pub address: SocketAddr,
    pub made: PoolKey,
    /// Whose it is, and which of its sockets.
    pub worker: usize,
    pub key: Key,
    pub stream: Stream,
    pub state: Carried,
}

/// What is known of a connection, whoever uses it.
#[derive(Clone, Copy)]
pub struct Carried {
    pub opened: Time,
    pub idle_since: Time,
    pub requests: u32,
    /// Bytes sent on it.
    pub written: u64,
    pub local: Option<SocketAddr>,
    pub introduced: bool,
}

impl Shelf {
    pub fn put(&self, cluster: &Arc<str>, offered: Offered) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.entry(cluster.clone()).or_default().push(offered);
    }

    /// The connection to this address, made in this way, that was offered last.
    pub fn take(&self, cluster: &str, address: SocketAddr, made: &PoolKey) -> Option<Offered> {
        self.remove(cluster, |offered| offered.address == address && offered.made == *made)
    }

    /// A worker's own connection. `None`: another has taken it.
    pub fn take_back(&self, cluster: &str, worker: usize, key: Key) -> Option<Offered> {
        self.remove(cluster, |offered| offered.worker == worker && offered.key == key)
    }

    fn remove(&self, cluster: &str, wanted: impl Fn(&Offered) -> bool) -> Option<Offered> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let all = clusters.get_mut(cluster)?;
        let offered = all.iter().rposition(wanted).map(|at| all.remove(at));
        if all.is_empty() {
            clusters.remove(cluster);
        }
        offered
    }
}
