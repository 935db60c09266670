//! Memory of idle proxies, alone and with idle connections.
//!
//! What a connection costs is the growth of the resident memory of one process, against the same process before:
//! up long enough to have given back what its start needed, then warmed by a load, then at rest. So pages of the
//! program that serving needs, and what the load left behind, are in the base, and whatever comes on top is put down
//! to the connections: pages that the process gave back in between and takes again, tables that grow by doubling.
//! Connections are added to those held before, all in one process, so that the growth from the first count to the
//! last shows what a connection costs without any base. Memory that is not a file's ("own") is given beside the
//! whole: it tells growth by allocation from program pages that were read again.

use std::io::{BufRead, BufReader};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::contenders::{Contender, Hop};
use crate::hop::{Missing, Plan, miss};
use crate::procfs::{self, Memory};
use crate::running::{Placement, Running};
use crate::scenario::{Pattern, Scenario, Setting, Shape};

/// In the order of the table.
pub const CONTENDERS: [Contender; 5] =
    [Contender::Envoy, Contender::Nginx, Contender::Haproxy, Contender::Filamesh, Contender::Floor];
/// A proxy that has been up so long has given back what its start needed, if it ever does.
const STARTED: Duration = Duration::from_secs(3);
/// Until a proxy that did something is at rest.
const SETTLE: Duration = Duration::from_millis(400);
/// However long it takes, it does not take longer.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
const WARM_UP_SECONDS: f64 = 0.5;

const WARM_UP: Shape = Shape {
    scenario: Scenario::Idle,
    name: "idle",
    what: "the warm-up of what is then idle",
    pattern: Pattern::Http1 { connections: 64, rate: None, body: 0 },
    contenders: &CONTENDERS,
};

/// Memory without and with idle connections. Bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    pub contender: &'static str,
    /// Before the first request.
    pub started: Memory,
    /// After the load, at rest: what the held connections are compared with.
    pub base: Memory,
    pub held: Vec<Held>,
    /// When the connections are closed again.
    pub released: Memory,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Held {
    pub connections: usize,
    pub memory: Memory,
}

impl Idle {
    /// Bytes resident that each held connection costs, of so many.
    pub fn per_connection(&self, connections: usize) -> Option<f64> {
        self.growth(connections, |memory| memory.resident)
    }

    /// The same of memory that is no file's.
    pub fn own_per_connection(&self, connections: usize) -> Option<f64> {
        self.growth(connections, |memory| memory.anonymous)
    }

    fn growth(&self, connections: usize, of: impl Fn(&Memory) -> u64) -> Option<f64> {
        let held = self.held.iter().find(|held| held.connections == connections)?;
        Some((of(&held.memory) as f64 - of(&self.base) as f64) / connections as f64)
    }

    /// Bytes resident for each connection from the first count to the last.
    pub fn slope(&self) -> Option<f64> {
        let (first, last) = (self.held.first()?, self.held.last()?);
        let more = last.connections.checked_sub(first.connections).filter(|more| *more > 0)?;
        Some((last.memory.resident as f64 - first.memory.resident as f64) / more as f64)
    }
}

/// `counts` rise.
pub fn measure(plan: &Plan<'_>, counts: &[usize], missing: &mut Vec<Missing>) -> anyhow::Result<Vec<Idle>> {
    let setting = Setting::Hop { reply: 1024 };
    let (_upstream, upstream) = plan.upstream(setting)?;
    let mut hops = Vec::new();
    for contender in CONTENDERS.into_iter().filter(|contender| plan.contenders.contains(contender)) {
        match plan.start(contender, setting, upstream) {
            Ok(hop) => hops.push(hop),
            Err(e) => miss(missing, "idle", contender, &e),
        }
    }
    std::thread::sleep(STARTED);
    let mut all = Vec::new();
    for hop in &hops {
        eprintln!("idle: {}", hop.contender.name());
        match weigh(plan, hop, counts) {
            Ok(idle) => all.push(idle),
            Err(e) => miss(missing, "idle", hop.contender, &e),
        }
    }
    Ok(all)
}

fn weigh(plan: &Plan<'_>, hop: &Hop, counts: &[usize]) -> anyhow::Result<Idle> {
    let pid = hop.pids().first().copied().context("it has no process")?;
    let at_rest = || {
        settle(pid);
        procfs::memory_of_tree(pid)
    };
    let started = at_rest();
    plan.load(&WARM_UP, hop, WARM_UP_SECONDS)?;
    let base = at_rest();
    let mut held = Vec::new();
    let mut holders = Vec::new();
    let mut open = 0;
    for connections in counts.iter().copied() {
        holders.push(hold(plan, hop, connections.saturating_sub(open))?);
        open = connections;
        held.push(Held { connections, memory: at_rest() });
    }
    drop(holders);
    Ok(Idle { contender: hop.contender.name(), started, base, held, released: at_rest() })
}

/// Ends when what is returned is dropped.
fn hold(plan: &Plan<'_>, hop: &Hop, connections: usize) -> anyhow::Result<(ChildStdin, Running)> {
    hold_with(plan, hop, connections, &[])
}

/// With further options of the holder.
pub fn hold_with(
    plan: &Plan<'_>,
    hop: &Hop,
    connections: usize,
    options: &[&str],
) -> anyhow::Result<(ChildStdin, Running)> {
    let program = std::env::current_exe()?.display().to_string();
    let (target, count) = (hop.address.to_string(), connections.to_string());
    let mut command = vec![program, "hold".to_owned(), target, "--connections".to_owned(), count];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    begin(plan, "hold", &command, "holding", plan.load_placement())
        .with_context(|| format!("{connections} connections"))
}

/// Starts a piece of ours beside the load and waits until it says this word. Ends when what is returned is
/// dropped.
pub fn begin(
    plan: &Plan<'_>,
    name: &str,
    command: &[String],
    word: &str,
    placement: Placement,
) -> anyhow::Result<(ChildStdin, Running)> {
    let mut piece = Running::start(name, command, &[], placement, plan.directory, true)?;
    let (stdin, said) = piece.pipes().context("no pipes")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    ensure!(line.starts_with(word), "{}", piece.last_words());
    Ok((stdin, piece))
}

/// Waits until its memory has not changed for a while, in which it had next to nothing to do.
pub fn settle(pid: u32) {
    const STEP: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + SETTLE_LIMIT;
    let now = || (procfs::memory_of_tree(pid).resident, procfs::cpu_of_trees(&[pid]));
    let mut last = now();
    let mut since = Instant::now();
    while since.elapsed() < SETTLE && Instant::now() < deadline {
        std::thread::sleep(STEP);
        let (resident, cpu) = now();
        if resident != last.0 || cpu.since(last.1).total > STEP / 10 {
            since = Instant::now();
        }
        last = (resident, cpu);
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
            [(20_000, &[1000, 9500]), (4_096, &[1000, 1798]), (1_024, &[262]), (100, &[])];
        for (files, expected) in table {
            assert_eq!(affordable(&[1000, 9500], files), expected, "{files}");
        }
    }

    #[test]
    fn growth_is_against_the_warmed_process() {
        let memory = |resident, anonymous| Memory { resident, anonymous, proportional: resident };
        let held =
            |connections, resident, anonymous| Held { connections, memory: memory(resident, anonymous) };
        let idle = Idle {
            contender: "c",
            started: memory(1, 1),
            base: memory(10_000, 4_000),
            held: vec![held(100, 60_000, 14_000), held(200, 90_000, 24_000)],
            released: memory(10_000, 4_000),
        };
        assert_eq!(idle.per_connection(100), Some(500.0));
        assert_eq!(idle.per_connection(200), Some(400.0));
        assert_eq!(idle.own_per_connection(200), Some(100.0));
        assert_eq!(idle.slope(), Some(300.0));
        assert_eq!(idle.per_connection(300), None);
    }
}
