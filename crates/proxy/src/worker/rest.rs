//! What a worker gives back when a burst is over and nothing is to do.

use crate::worker::Worker;
use crate::worker::budget::Stirred;
use crate::worker::connection::Conn;

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
            self.move_together();
            give_back();
        }
    }

    /// Moves what idle connections are to other places. Where they stand, among what was freed of them, each keeps a page
    /// from being given back; one after the other they find room in the same few.
    fn move_together(&mut self) {
        for key in self.conns.keys() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            *conn = match std::mem::take(conn) {
                Conn::Downstream(down) => Conn::Downstream(Box::new(*down)),
                Conn::DownstreamH2(down) => Conn::DownstreamH2(Box::new(*down)),
                Conn::Upstream(up) => Conn::Upstream(Box::new(*up)),
                Conn::UpstreamH2(up) => Conn::UpstreamH2(Box::new(*up)),
                other => other,
            };
        }
    }
}
