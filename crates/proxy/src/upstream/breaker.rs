//! Circuit breakers: what of a cluster may be under way at once, over all workers.
//!
//! A limit nobody set (Istio's default is 2^32-1 everywhere) is not counted at all, so the usual request touches no
//! memory shared between threads. As in Envoy the limits may be overshot by about one per worker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use model::route::Priority;

/// The counts of all clusters, by name.
#[derive(Default)]
pub struct Breakers {
    clusters: Mutex<HashMap<Arc<str>, Arc<Counts>>>,
}

impl Breakers {
    pub fn cluster(&self, name: &Arc<str>) -> Arc<Counts> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.entry(name.clone()).or_default().clone()
    }
}

/// What is under way in one cluster.
#[derive(Debug, Default)]
pub struct Counts {
    default: Counters,
    high: Counters,
}

#[derive(Debug, Default)]
pub struct Counters {
    pub connections: AtomicU32,
    pub pending: AtomicU32,
    pub requests: AtomicU32,
    pub retries: AtomicU32,
}

impl Counts {
    pub fn of(&self, priority: Priority) -> &Counters {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

/// Something taken from a breaker, to be given back once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken(bool);

/// Takes one if `limit` allows. `None`: it does not.
pub fn take(counter: &AtomicU32, limit: u32) -> Option<Taken> {
    if limit == u32::MAX {
        return Some(Taken(false));
    }
    let before = counter.fetch_add(1, Relaxed);
    if before >= limit {
        counter.fetch_sub(1, Relaxed);
        return None;
    }
    Some(Taken(true))
}

/// Takes one whatever the limit says.
pub fn take_anyway(counter: &AtomicU32, limit: u32) -> Taken {
    if limit == u32::MAX {
        return Taken(false);
    }
    counter.fetch_add(1, Relaxed);
    Taken(true)
}

/// Gives back what was taken, if anything.
pub fn give_back(counter: &AtomicU32, taken: &mut Taken) {
    if std::mem::take(taken).0 {
        counter.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_what_is_taken_is_given_back_once() {
        let counter = AtomicU32::new(0);
        let mut first = take(&counter, 1).unwrap();
        assert!(take(&counter, 1).is_none());
        give_back(&counter, &mut first);
        give_back(&counter, &mut first);
        assert_eq!(counter.load(Relaxed), 0);
        assert!(take(&counter, 1).is_some());
    }

    #[test]
    fn no_limit_counts_nothing() {
        let counter = AtomicU32::new(0);
        let mut taken = take(&counter, u32::MAX).unwrap();
        assert_eq!(counter.load(Relaxed), 0);
        give_back(&counter, &mut taken);
        assert_eq!(counter.load(Relaxed), 0);
    }
}
