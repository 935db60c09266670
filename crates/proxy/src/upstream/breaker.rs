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

    /// What is taken of each cluster, all in all.
    pub fn taken(&self) -> Vec<(Arc<str>, u32)> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |counts: &Counts| counts.counters.iter().flatten().map(|count| count.load(Relaxed)).sum();
        clusters.iter().map(|(name, counts)| (name.clone(), of(counts))).collect()
    }
}

/// What is under way in one cluster.
#[derive(Debug, Default)]
pub struct Counts {
    counters: [[AtomicU32; 4]; 2],
}

/// What a breaker limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    Connections,
    Pending,
    Requests,
    Retries,
}

impl Counts {
    fn counter(&self, priority: Priority, what: Limited) -> &AtomicU32 {
        let [default, high] = &self.counters;
        let [connections, pending, requests, retries] = match priority {
            Priority::Default => default,
            Priority::High => high,
        };
        match what {
            Limited::Connections => connections,
            Limited::Pending => pending,
            Limited::Requests => requests,
            Limited::Retries => retries,
        }
    }

    pub fn count(&self, priority: Priority, what: Limited) -> u32 {
        self.counter(priority, what).load(Relaxed)
    }

    /// Takes one if `limit` allows. `None`: it does not.
    pub fn take(self: &Arc<Self>, priority: Priority, what: Limited, limit: u32) -> Option<Taken> {
        if limit == u32::MAX {
            return Some(Taken(None));
        }
        let taken = self.take_anyway(priority, what);
        // One too many is given back by being dropped.
        (taken.before < limit).then_some(taken.slot)
    }

    /// Takes one whatever a limit says, unless there is none.
    pub fn take_over(self: &Arc<Self>, priority: Priority, what: Limited, limit: u32) -> Taken {
        match limit {
            u32::MAX => Taken(None),
            _ => self.take_anyway(priority, what).slot,
        }
    }

    fn take_anyway(self: &Arc<Self>, priority: Priority, what: Limited) -> TakenAt {
        let before = self.counter(priority, what).fetch_add(1, Relaxed);
        TakenAt { before, slot: Taken(Some((self.clone(), priority, what))) }
    }
}

struct TakenAt {
    before: u32,
    slot: Taken,
}

/// A place taken in a breaker; given back when it is dropped.
#[derive(Debug, Default)]
#[must_use = "what is taken is given back when this is dropped"]
pub struct Taken(Option<(Arc<Counts>, Priority, Limited)>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some((counts, priority, what)) = &self.0 {
            counts.counter(*priority, *what).fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Priority = Priority::Default;

    #[test]
    fn a_limit_holds_and_what_is_taken_is_given_back_when_it_is_dropped() {
        let counts = Arc::<Counts>::default();
        let first = counts.take(DEFAULT, Limited::Pending, 1).unwrap();
        assert!(counts.take(DEFAULT, Limited::Pending, 1).is_none());
        assert_eq!(counts.count(DEFAULT, Limited::Pending), 1, "a refused one is not counted");
        assert!(counts.take(Priority::High, Limited::Pending, 1).is_some(), "priorities are apart");
        assert!(counts.take(DEFAULT, Limited::Requests, 1).is_some(), "and so is what is limited");
        drop(first);
        assert_eq!(counts.count(DEFAULT, Limited::Pending), 0);
        let over = [(); 3].map(|()| counts.take_over(DEFAULT, Limited::Retries, 0));
        assert_eq!(counts.count(DEFAULT, Limited::Retries), 3);
        drop(over);
        assert_eq!(counts.count(DEFAULT, Limited::Retries), 0);
    }

    /// As the slot of a former attempt is by the next one's.
    #[test]
    fn a_slot_that_is_overwritten_is_given_back() {
        let counts = Arc::<Counts>::default();
        let mut held = vec![Taken::default()];
        for _ in 0..5 {
            let slot = counts.take_over(DEFAULT, Limited::Pending, 2);
            held.iter_mut().for_each(|held| *held = Taken::default());
            held = vec![slot];
            assert_eq!(counts.count(DEFAULT, Limited::Pending), 1);
        }
        drop(held);
        assert_eq!(counts.count(DEFAULT, Limited::Pending), 0);
    }

    /// Without a limit the memory that workers share is not touched.
    #[test]
    fn no_limit_counts_nothing() {
        let counts = Arc::<Counts>::default();
        let taken = counts.take(DEFAULT, Limited::Connections, u32::MAX).unwrap();
        assert_eq!(counts.count(DEFAULT, Limited::Connections), 0);
        assert_eq!(Arc::strong_count(&counts), 1);
        drop(taken);
        assert_eq!(counts.count(DEFAULT, Limited::Connections), 0);
    }
}
