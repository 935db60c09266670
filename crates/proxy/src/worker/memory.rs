//! What a worker holds for slow readers and writers, and what it does when that is too much: it refuses requests, and lets
//! those under way hold less, long before the kernel would end the process.

use std::time::Duration;

use crate::net::sockets::HIGH_WATER;
use crate::worker::Worker;
use crate::worker::connection::Conn;
use crate::worker::room;

/// How often all that is held is counted while anything happens, unless so much is read before that what is held may have
/// grown past the budget.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// For each connection, of which there may be many: counting takes no more than one percent of the time.
const COUNT_EVERY_EACH: Duration = Duration::from_micros(10);
const COUNT_AFTER_EACH: usize = 4096;
/// What may wait for a peer while the budget is spent, instead of [`HIGH_WATER`].
const LOW_RATION: usize = 16 * 1024;

impl Worker {
    /// Counts anew what is held, if it is time to. Called in every turn: what comes without requests (long bodies, TCP)
    /// counts too.
    #[inline]
    pub(crate) fn count_memory(&mut self) {
        let connections = self.conns.len();
        let is_time = self.now >= self.budget.next;
        if is_time || self.budget.read >= self.budget.count_after() + COUNT_AFTER_EACH * connections {
            self.budget.held = self.count_held();
            self.budget.read = 0;
        }
        if is_time {
            let connections = u32::try_from(connections).unwrap_or(u32::MAX);
            self.budget.next = self.now.after(COUNT_EVERY + COUNT_EVERY_EACH * connections);
            self.budget.no_room = room::is_short(self.shared.to_hand);
        }
    }

    /// Whether not even a connection may be begun.
    #[inline]
    pub(crate) fn has_no_room(&mut self) -> bool {
        self.count_memory();
        self.budget.no_room
    }

    /// Whether a request or a connection must be refused for lack of memory.
    #[inline]
    pub(crate) fn is_out_of_memory(&mut self) -> bool {
        self.count_memory();
        self.budget.is_spent()
    }

    /// How much is still on its way through this worker: exchanges, sessions, and connections with bytes that their peers
    /// have not yet been sent. What stops a worker waits until it is nothing.
    pub(crate) fn undelivered(&self) -> usize {
        let waiting = self.conns.iter().filter(|(key, conn)| match conn {
            Conn::TcpDownstream(_) | Conn::Lingering(_) => true,
            // Their exchanges are counted; what is left is the answer of one that has ended.
            Conn::Downstream(down) => down.exchange.is_none() && self.sockets.backlog(*key) > 0,
            Conn::DownstreamH2(down) => down.codec.open_streams() > 0 || !down.codec.output().is_empty(),
            Conn::Upstream(_) | Conn::UpstreamH2(_) | Conn::Undecided(_) | Conn::TcpUpstream(_) => false,
            Conn::Inspecting(_) | Conn::Securing(_) | Conn::Check(_) | Conn::Vacant => false,
        });
        // Nobody waits for what calls bring.
        self.exchanges.active().saturating_sub(self.calls.active()) + waiting.count()
    }

    /// How much may wait for a peer before nothing more is read for it.
    #[inline]
    pub(crate) fn ration(&self) -> usize {
        if self.budget.is_spent() { LOW_RATION } else { HIGH_WATER }
    }

    pub(crate) fn count_held(&self) -> usize {
        let connections = self.conns.iter().map(|(_, conn)| match conn {
            Conn::Downstream(down) => down.inbox.capacity(),
            Conn::Upstream(up) => up.inbox.capacity(),
            Conn::DownstreamH2(down) => down.codec.memory() + down.held.capacity(),
            Conn::UpstreamH2(up) => up.codec.memory(),
            Conn::Inspecting(inspecting) => inspecting.bytes.capacity(),
            Conn::TcpDownstream(session) => session.early.capacity(),
            Conn::Securing(_)
            | Conn::Undecided(_)
            | Conn::TcpUpstream(_)
            | Conn::Check(_)
            | Conn::Lingering(_)
            | Conn::Vacant => 0,
        });
        self.sockets.kept() + self.exchanges.kept() + connections.sum::<usize>()
    }
}
