//! What a worker gives back when a burst is over and nothing is to do.

use crate::worker::Worker;
use crate::worker::budget::Stirred;

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
