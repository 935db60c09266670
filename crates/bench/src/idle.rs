//! Memory of idle proxies, alone and with idle connections.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::contenders::Contender;
use crate::hop::{IdleEntry, Missing, Plan, miss};
use crate::procfs;
use crate::running::Running;

/// Until a proxy that did something is at rest.
const SETTLE: Duration = Duration::from_millis(400);
/// However long it takes, it does not take longer.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);

/// Starts each contender alone.
pub fn measure(
    plan: &Plan<'_>,
    counts: &[usize],
    missing: &mut Vec<Missing>,
) -> anyhow::Result<Vec<IdleEntry>> {
    let (_upstream, upstream) = plan.upstream(1024)?;
    let mut entries = Vec::new();
    for contender in plan.contenders {
        if *contender == Contender::Direct {
            continue;
        }
        eprintln!("idle: {}", contender.name());
        let measured = (|| {
            let hop = plan.start(*contender, upstream)?;
            let pid = hop.pid().context("it has no process")?;
            let mut entry = IdleEntry::new(*contender, procfs::memory_of_tree(pid));
            settle(pid);
            let memory = procfs::memory_of_tree(pid);
            (entry.resident, entry.anonymous) = (memory.resident, memory.anonymous);
            for count in counts {
                let program = std::env::current_exe()?.display().to_string();
                let command = [
                    program,
                    "hold".to_owned(),
                    hop.address.to_string(),
                    "--connections".to_owned(),
                    count.to_string(),
                ];
                let mut holder =
                    Running::start("hold", &command, &[], plan.load_placement(), plan.directory, true)?;
                let (_held_until_dropped, said) = holder.pipes().context("no pipes")?;
                let mut line = String::new();
                BufReader::new(said).read_line(&mut line)?;
                ensure!(line.starts_with("holding"), "{count} connections: {}", holder.last_words());
                settle(pid);
                entry.held.push((*count, procfs::memory_of_tree(pid).resident));
            }
            Ok(entry)
        })();
        match measured {
            Ok(entry) => entries.push(entry),
            Err(e) => miss(missing, *contender, &e),
        }
    }
    Ok(entries)
}

/// Waits until its memory has not changed for a while.
pub fn settle(pid: u32) {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let mut last = procfs::memory_of_tree(pid).resident;
    let mut since = Instant::now();
    while since.elapsed() < SETTLE && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        let now = procfs::memory_of_tree(pid).resident;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// As many as the limit on open files lets one process hold, with some left for its own.
pub fn affordable(counts: &[usize], files: u64) -> Vec<usize> {
    let most = usize::try_from(files.saturating_sub(500) / 2).unwrap_or(usize::MAX);
    let mut affordable: Vec<usize> = counts.iter().map(|count| (*count).min(most)).collect();
    affordable.dedup();
    affordable.retain(|count| *count > 0);
    affordable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_connections_fit_the_limit() {
        let table: [(u64, &[usize]); 4] =
            [(20_000, &[1000, 9000]), (4_096, &[1000, 1798]), (1_024, &[262]), (100, &[])];
        for (files, expected) in table {
            assert_eq!(affordable(&[1000, 9000], files), expected, "{files}");
        }
    }
}
