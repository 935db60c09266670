//! What `/proc` says about processes and the machine. Reading fails soft: a process that is gone used nothing.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::scheduling;

/// CPU time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// User and system, in nanoseconds of the scheduler.
    pub total: Duration,
    /// In clock ticks, which are too coarse for anything but the share that each has.
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn since(&self, before: Cpu) -> Cpu {
        Cpu {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    /// The part of the total spent in user space, as a share.
    pub fn user_share(&self) -> f64 {
        let ticked = self.user + self.system;
        if ticked.is_zero() { 0.0 } else { self.user.as_secs_f64() / ticked.as_secs_f64() }
    }
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

/// CPU time of processes and all their living descendants so far.
pub fn cpu_of_trees(roots: &[u32]) -> Cpu {
    let all = processes();
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / hertz as f64);
    let mut sum = Cpu::default();
    for pid in roots.iter().flat_map(|root| tree_in(&all, *root)) {
        let Some(stat) = all.get(&pid) else { continue };
        let (user, system) = (time(stat.user_ticks), time(stat.system_ticks));
        sum.user += user;
        sum.system += system;
        sum.total += scheduling::cpu_time(pid).unwrap_or(user + system);
    }
    sum
}

/// Established TCP connections of which this is the server's address.
pub fn connections_to(address: SocketAddr) -> usize {
    connections_in(&fs::read_to_string("/proc/net/tcp").unwrap_or_default(), address)
}

/// A process and all its living descendants, itself first.
pub fn tree(root: u32) -> Vec<u32> {
    tree_in(&processes(), root)
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident set.
    pub resident: u64,
    /// Resident, with shared pages divided among those who share them: these may be added up.
    pub proportional: u64,
    /// Pages of its own that are no file's: what it allocated.
    pub anonymous: u64,
}

/// `None` if the process is gone.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = kibibytes(&status, "VmRSS:")? * 1024;
    let anonymous = kibibytes(&status, "RssAnon:").unwrap_or(0) * 1024;
    // Absent where the kernel is built without it, denied for other users' processes.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let proportional = kibibytes(&rollup, "Pss:").map_or(resident, |pss| pss * 1024);
    Some(Memory { resident, proportional, anonymous })
}

/// Bytes that were resident at most since the process started; `None` if it is gone.
pub fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kibibytes(&status, "VmHWM:")? * 1024)
}

/// The sum over a process and its descendants.
pub fn memory_of_tree(root: u32) -> Memory {
    let mut sum = Memory::default();
    for memory in tree(root).into_iter().filter_map(memory) {
        sum.resident += memory.resident;
        sum.proportional += memory.proportional;
        sum.anonymous += memory.anonymous;
    }
    sum
}

/// How often the threads of a process and its descendants have gone to sleep by themselves: as often they were woken.
pub fn wake_ups_of_tree(root: u32) -> u64 {
    let of_thread = |path: std::path::PathBuf| -> Option<u64> {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    let threads = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tree(root).into_iter().flat_map(threads).filter_map(|thread| of_thread(thread.path())).sum()
}

/// The threads of a process whose names begin so.
pub fn threads_named(pid: u32, prefix: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
    });
    named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Ticks of one processor, or of all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    pub idle: u64,
    pub steal: u64,
    pub total: u64,
}

impl Ticks {
    pub fn since(&self, before: Ticks) -> Ticks {
        Ticks {
            idle: self.idle.saturating_sub(before.idle),
            steal: self.steal.saturating_sub(before.steal),
            total: self.total.saturating_sub(before.total),
        }
    }

    pub fn busy_share(&self) -> f64 {
        1.0 - self.idle as f64 / self.total.max(1) as f64
    }

    pub fn steal_share(&self) -> f64 {
        self.steal as f64 / self.total.max(1) as f64
    }
}

/// Of `cpu0` and the like; of all, for `cpu`.
pub fn ticks(name: &str) -> Option<Ticks> {
    ticks_in(&fs::read_to_string("/proc/stat").ok()?, name)
}

fn processes() -> HashMap<u32, Stat> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = fs::read_to_string(entry.path().join("stat")).ok().and_then(|text| stat_in(&text))
        {
            all.insert(pid, stat);
        }
    }
    all
}

fn tree_in(all: &HashMap<u32, Stat>, root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let mut children: Vec<u32> = all
            .iter()
            .filter(|(pid, stat)| stat.parent == parent && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        children.sort_unstable();
        found.extend(children);
        next += 1;
    }
    found
}

/// The program's name may hold spaces and parentheses: fields are counted from the last one. proc(5).
fn stat_in(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        user_ticks: fields.get(11)?.parse().ok()?,
        system_ticks: fields.get(12)?.parse().ok()?,
    })
}

/// Addresses are hexadecimal, those of IPv4 as the machine stores an integer in network order. proc_net_tcp(5).
fn connections_in(text: &str, address: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    let IpAddr::V4(ip) = address.ip() else { return 0 };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let matches = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some(&local) && fields.nth(1) == Some(ESTABLISHED)
    };
    text.lines().filter(matches).count()
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// user nice system idle iowait irq softirq steal guest guest_nice; guest is in user already. proc(5).
fn ticks_in(text: &str, name: &str) -> Option<Ticks> {
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name))?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
    Some(Ticks { idle: fields.get(3)? + fields.get(4)?, steal: *fields.get(7)?, total: fields.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name() {
        let text = "17 (a) S 1 (b) R 4 17 17 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 1 0 5 1 1\n";
        assert_eq!(stat_in(text), Some(Stat { parent: 4, user_ticks: 250, system_ticks: 75 }));
        assert_eq!(stat_in("17 (cut) S 1"), None);
        assert_eq!(stat_in(""), None);
    }

    #[test]
    fn trees() {
        let stat = |parent| Stat { parent, user_ticks: 0, system_ticks: 0 };
        let all = HashMap::from([(2, stat(1)), (3, stat(2)), (4, stat(2)), (5, stat(4)), (6, stat(1))]);
        assert_eq!(tree_in(&all, 2), [2, 3, 4, 5]);
        assert_eq!(tree_in(&all, 6), [6]);
        // A process that is its own parent ends the walk.
        assert_eq!(tree_in(&HashMap::from([(7, stat(7))]), 7), [7]);
    }

    #[test]
    fn processor_ticks() {
        let text = "cpu  10 0 10 70 5 0 1 4 3 0\ncpu0 1 0 1 7 0 0 0 1 0 0\nintr 5\n";
        let all = ticks_in(text, "cpu").unwrap();
        assert_eq!(all, Ticks { idle: 75, steal: 4, total: 100 });
        assert_eq!(all.steal_share(), 0.04);
        assert_eq!(all.busy_share(), 0.25);
        assert_eq!(ticks_in(text, "cpu0").map(|t| t.total), Some(10));
        assert_eq!(ticks_in(text, "cpu1"), None);
        assert_eq!(ticks_in("cpu 1 2", "cpu"), None);
    }

    #[test]
    fn connections_are_counted_at_the_server() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100007F:2328 00000000:0000 0A 0:0\n\
            1: 0100007F:2328 0100007F:C001 01 0:0\n\
            2: 0100007F:C001 0100007F:2328 01 0:0\n\
            3: 0100007F:2328 0100007F:C002 06 0:0\n";
        let text =
            if cfg!(target_endian = "big") { text.replace("0100007F", "7F000001") } else { text.to_owned() };
        assert_eq!(connections_in(&text, "127.0.0.1:9000".parse().unwrap()), 1);
        assert_eq!(connections_in(&text, "127.0.0.1:9001".parse().unwrap()), 0);
    }

    #[test]
    fn this_process_has_memory_and_used_time() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 100_000 && memory.anonymous <= memory.resident, "{memory:?}");
        assert!(peak(std::process::id()) >= Some(memory.resident));
        let used = || cpu_of_trees(&[std::process::id()]);
        let before = used();
        let mut sum = 0_u64;
        while used().since(before).user.is_zero() {
            sum = (0..1_000_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31) ^ n);
        }
        assert_ne!(sum, 1);
        let since = used().since(before);
        assert!(!since.total.is_zero() && since.user_share() > 0.0, "{since:?}");
    }
}
