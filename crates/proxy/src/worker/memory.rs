//! What a worker holds for slow readers and writers, and what it does when that is too much: it refuses requests, and lets
//! those under way hold less, long before the kernel would end the process.

use std::time::Duration;

use crate::clock::Time;
use crate::net::sockets::HIGH_WATER;
use crate::worker::Worker;
use crate::worker::connection::Conn;

/// How often all that is held is counted while anything happens. In between, no more can be added than the network brings
/// in so short a time.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// For each connection, of which there may be many: counting takes no more than one percent of the time.
const COUNT_EACH: Duration = Duration::from_micros(10);
/// What may wait for a peer while the budget is spent, instead of [`HIGH_WATER`].
const LOW_RATION: usize = 16 * 1024;

/// A worker's budget, as it was counted last.
pub struct Budget {
    /// Bytes.
    limit: usize,
    held: usize,
    /// When it is to be counted again.
    next: Time,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget { limit, held: 0, next: Time::default() }
    }

    /// More is kept than when it was counted: what comes faster than that is known at once.
    #[inline]
    pub fn keep(&mut self, bytes: usize) {
        self.held = self.held.saturating_add(bytes);
    }

    fn is_spent(&self) -> bool {
        self.held > self.limit
    }
}

impl Worker {
    /// Counts anew what is held, if it is time to. Called in every turn: what comes without requests (long bodies, TCP)
    /// counts too.
    #[inline]
    pub(crate) fn count_memory(&mut self) {
        if self.now >= self.budget.next {
            let connections = u32::try_from(self.conns.len()).unwrap_or(u32::MAX);
            self.budget.next = self.now.after(COUNT_EVERY + COUNT_EACH * connections);
            self.budget.held = self.count_held();
        }
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

/// A worker's share of what this process may use: three quarters of the machine's memory, or of its control group's limit,
/// without what the program needs for itself.
pub fn default_budget(workers: usize) -> usize {
    const OWN: u64 = 16 << 20;
    const LEAST: u64 = 8 << 20;
    let share = memory_limit().saturating_mul(3) / 4 / workers.max(1) as u64;
    usize::try_from(share.saturating_sub(OWN).max(LEAST)).unwrap_or(usize::MAX)
}

/// The least of what the machine has and what the control group allows, in bytes.
fn memory_limit() -> u64 {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    [group, machine].into_iter().flatten().min().unwrap_or(1 << 30)
}
