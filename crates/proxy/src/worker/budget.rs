//! How much memory a worker may hold, how much it holds, and how much it has freed.

use crate::clock::Time;

/// Memory freed since it was last given back to the system, from which giving back is worth a look through the heap.
const MUCH: usize = 1024 * 1024;
/// What a connection of a client takes and leaves, roughly.
const CONNECTION: usize = 1024;

/// Bounds of what is read before it is counted what is held.
const COUNT_AFTER_LEAST: usize = 64 * 1024;
const COUNT_AFTER_MOST: usize = 1024 * 1024;

/// A worker's budget, as it was counted last.
pub struct Budget {
    /// Bytes.
    limit: usize,
    pub(super) held: usize,
    /// Bytes read since then.
    pub(super) read: usize,
    /// When it is to be counted again.
    pub(super) next: Time,
    /// The kernel gives this process hardly any more.
    pub(super) no_room: bool,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget { limit, held: 0, read: 0, next: Time::default(), no_room: false }
    }

    /// How much may be read before it is counted again: what is read may be held for a replay and for the host, each in a
    /// buffer that has doubled. So no more than a quarter of what is left, and seldom where much is.
    #[inline]
    pub(super) fn count_after(&self) -> usize {
        (self.limit.saturating_sub(self.held) / 4).clamp(COUNT_AFTER_LEAST, COUNT_AFTER_MOST)
    }

    /// More is kept than when it was counted: what comes faster than that is known at once.
    #[inline]
    pub fn keep(&mut self, bytes: usize) {
        self.held = self.held.saturating_add(bytes);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.held > self.limit || self.no_room
    }
}

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

    pub(super) fn is_much(&self) -> bool {
        self.0 >= MUCH
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
