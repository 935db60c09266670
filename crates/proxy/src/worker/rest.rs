//! What a worker gives back when a burst is over and nothing is to do.

use crate::worker::Worker;

/// Memory freed since it was last given back to the system, from which giving back is worth a look through the heap.
const MUCH: usize = 1024 * 1024;

/// What a connection of a client takes and leaves, roughly.
const CONNECTION: usize = 1024;

/// Bytes that were freed, or whose place was moved as a table grew, since memory was last given back to the system.
#[derive(Default)]
pub struct Stirred(usize);

impl Stirred {
    pub fn freed(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    /// A client came or went.
    pub fn connection(&mut self) {
        self.freed(CONNECTION);
    }

    fn is_much(&self) -> bool {
        self.0 >= MUCH
    }
}

impl Worker {
    /// More is kept than a worker needs that has nothing to do: somebody has to wake up to give it back.
    pub(crate) fn could_rest(&self) -> bool {
        self.exchanges.could_rest() || self.gives_back()
    }

    fn gives_back(&self) -> bool {
        self.stirred.is_much() && self.shared.give_back.is_some()
    }

    /// Nothing was to do for a while.
    pub(crate) fn rest(&mut self) {
        self.exchanges.rest();
        if let Some(give_back) = self.shared.give_back
            && self.stirred.is_much()
        {
            self.stirred = Stirred::default();
            give_back();
        }
    }
}
