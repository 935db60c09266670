//! How many connections there are, in all and from each address, and what their streams have taken in of large requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xds::limits;

use crate::lock::lock;

/// Limits that tests set lower.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) first_word: Duration,
    pub(crate) without_stream: Duration,
    pub(crate) request_bytes_in_all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            per_address: limits::CONNECTIONS_PER_ADDRESS,
            first_word: limits::FIRST_WORD,
            without_stream: limits::WITHOUT_STREAM,
            request_bytes_in_all: limits::REQUEST_BYTES_IN_ALL,
        }
    }
}

/// Counts them.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    all: AtomicUsize,
    of_address: Mutex<HashMap<IpAddr, usize>>,
    large_requests: AtomicUsize,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("{0} connections are open already")]
    InAll(usize),
    #[error("{0} connections from this address are open already")]
    OfAddress(usize),
}

/// One connection. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Admitted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let (all, large_requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limits, all, of_address: Mutex::default(), large_requests })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, TooMany> {
        let limit = self.limits.connections;
        if self.all.fetch_add(1, Ordering::Relaxed) >= limit {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(TooMany::InAll(limit));
        }
        // Every sidecar of this machine connects from there.
        let limit = if address.is_loopback() { usize::MAX } else { self.limits.per_address };
        let mut of_address = lock(&self.of_address);
        let count = of_address.entry(address).or_insert(0);
        if *count >= limit {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(TooMany::OfAddress(limit));
        }
        *count += 1;
        drop(of_address);
        Ok(Admitted { connections: self.clone(), address })
    }

    /// Room for a request of which a part has come. `None`: there is none now.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let before = self.large_requests.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved { connections: self.clone(), bytes };
        (before.saturating_add(bytes) <= self.limits.request_bytes_in_all).then_some(reserved)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.all.fetch_sub(1, Ordering::Relaxed);
        let mut of_address = lock(&self.connections.of_address);
        if let Some(count) = of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                of_address.remove(&self.address);
            }
        }
    }
}

/// Room for one large request. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reserved {
    connections: Arc<Connections>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.connections.large_requests.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_in_all_and_by_address_and_make_room_when_they_end() {
        let limits = Limits { connections: 4, per_address: 2, ..Limits::default() };
        let connections = Connections::new(limits);
        let [far, other, here] = ["10.0.0.1", "10.0.0.2", "127.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap());
        let first = connections.admit(far).unwrap();
        let _second = connections.admit(far).unwrap();
        assert_eq!(connections.admit(far).unwrap_err(), TooMany::OfAddress(2));
        let _others = [connections.admit(here).unwrap(), connections.admit(here).unwrap()];
        assert_eq!(connections.admit(other).unwrap_err(), TooMany::InAll(4));
        drop(first);
        let _third = connections.admit(far).unwrap();
        assert_eq!(connections.admit(here).unwrap_err(), TooMany::InAll(4));
    }

    #[test]
    fn sidecars_of_this_machine_are_limited_in_all_alone() {
        let connections = Connections::new(Limits { per_address: 1, ..Limits::default() });
        let here: IpAddr = "127.77.0.1".parse().unwrap();
        let admitted: Vec<Admitted> = (0..10).map(|_| connections.admit(here).unwrap()).collect();
        drop(admitted);
        assert!(lock(&connections.of_address).is_empty(), "no address is remembered");
    }

    #[test]
    fn large_requests_share_one_budget() {
        let connections = Connections::new(Limits { request_bytes_in_all: 10, ..Limits::default() });
        let first = connections.reserve(6).unwrap();
        assert!(connections.reserve(5).is_none());
        drop(first);
        assert!(connections.reserve(10).is_some());
        assert!(connections.reserve(10).is_some(), "what was not had was given back");
    }
}
