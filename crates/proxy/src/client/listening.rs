//! The sockets a worker takes connections from, and those connections that go to other workers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::net::network::Acceptor;
use crate::worker::mailbox::{Accepted, Load};

/// A socket this worker takes connections from.
pub struct Listening {
    pub(super) socket: Acceptor,
    pub listener: Arc<str>,
    pub(super) redirected: bool,
}

/// Accepted connections on their way to other workers.
pub struct Deal {
    waiting: Vec<Vec<Accepted>>,
}

impl Deal {
    pub fn new(workers: usize) -> Deal {
        Deal { waiting: (0..workers).map(|_| vec![]).collect() }
    }

    /// The worker with the least to do, if that is less than the accepting one has by more than an eighth: a connection
    /// costs a little on its way to another, and where there are many they even out.
    pub(super) fn other(index: usize, own: usize, loads: &[Load]) -> Option<usize> {
        let others = loads.iter().enumerate().filter(|(worker, _)| *worker != index);
        let (least, worker) = others
            .map(|(worker, load)| {
                let given = load.given.load(Relaxed);
                let on_its_way = given.saturating_sub(load.received.load(Relaxed));
                (load.work.load(Relaxed).saturating_add(on_its_way), worker)
            })
            .min()?;
        (own > least.saturating_add(least / 8)).then_some(worker)
    }

    pub(super) fn give(&mut self, worker: usize, accepted: Accepted, loads: &[Load]) {
        if let (Some(waiting), Some(load)) = (self.waiting.get_mut(worker), loads.get(worker)) {
            waiting.push(accepted);
            load.given.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn given(&mut self) -> impl Iterator<Item = (usize, Vec<Accepted>)> {
        let waiting = self.waiting.iter_mut().enumerate().filter(|(_, waiting)| !waiting.is_empty());
        waiting.map(|(worker, waiting)| (worker, std::mem::take(waiting)))
    }
}
