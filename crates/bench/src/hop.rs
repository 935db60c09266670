//! One hop: every contender under the same load, round after round.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::contenders::{Contender, Hop};
use crate::cores::Cores;
use crate::load::Measured;
use crate::procfs::{self, Memory};
use crate::rivals::Programs;
use crate::running::{Placement, Running, free_address};
use crate::statistics::Spread;

/// Before each window: connections are opened, pools filled, caches warmed.
const WARM_UP: f64 = 0.25;

/// A load that all contenders meet.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub scenario: &'static str,
    pub what: &'static str,
    pub connections: usize,
    pub rate: Option<f64>,
    pub body: usize,
    pub reply: usize,
}

pub const H1: [Shape; 2] = [
    Shape {
        scenario: "h1",
        what: "GET, 1 KiB reply, 64 connections, closed loop",
        connections: 64,
        rate: None,
        body: 0,
        reply: 1024,
    },
    Shape {
        scenario: "h1-rate",
        what: "GET, 1 KiB reply, 64 connections, open loop at 5000/s",
        connections: 64,
        rate: Some(5000.0),
        body: 0,
        reply: 1024,
    },
];

pub const POST: [Shape; 1] = [Shape {
    scenario: "post",
    what: "POST of 1 KiB, 1 KiB reply, 64 connections, closed loop",
    connections: 64,
    rate: None,
    body: 1024,
    reply: 1024,
}];

pub const LARGE: [Shape; 1] = [Shape {
    scenario: "64k",
    what: "GET, 64 KiB reply, 32 connections, closed loop",
    connections: 32,
    rate: None,
    body: 0,
    reply: 64 * 1024,
}];

/// Where and how long.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub contenders: &'a [Contender],
    pub programs: &'a Programs,
    pub rounds: usize,
    pub seconds: f64,
    pub cores: Cores,
    pub real_time: bool,
    pub directory: &'a Path,
    pub files: u64,
}

/// One contender's rounds under one load.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub contender: &'static str,
    pub rounds: Vec<Measured>,
    /// Bytes resident after the rounds.
    pub resident: Option<u64>,
}

impl Entry {
    /// Over the rounds; `None` if one has no such figure.
    pub fn spread(&self, figure: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        let figures: Option<Vec<f64>> = self.rounds.iter().map(figure).collect();
        Spread::of(figures?)
    }

    pub fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors).sum()
    }
}

/// All contenders under one load.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub scenario: &'static str,
    pub what: &'static str,
    pub entries: Vec<Entry>,
}

/// A contender that is missing from an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub contender: &'static str,
    pub ours: bool,
    pub reason: String,
}

impl Plan<'_> {
    /// Starts all, loads them in turn, ends them.
    pub fn measure(&self, shapes: &[Shape], missing: &mut Vec<Missing>) -> anyhow::Result<Vec<Outcome>> {
        let reply = shapes.first().map_or(1024, |shape| shape.reply);
        let (_upstream, upstream) = self.upstream(reply)?;
        let mut hops: Vec<Hop> = Vec::new();
        for contender in self.contenders {
            match self.start(*contender, upstream) {
                Ok(hop) => hops.push(hop),
                Err(e) => miss(missing, *contender, &e),
            }
        }
        let mut outcomes: Vec<Outcome> = shapes
            .iter()
            .map(|shape| Outcome {
                scenario: shape.scenario,
                what: shape.what,
                entries: hops.iter().map(|hop| entry(hop.contender)).collect(),
            })
            .collect();
        for round in 1..=self.rounds {
            eprintln!("{}: round {round} of {}", shapes.first().map_or("", |s| s.scenario), self.rounds);
            let mut broken = Vec::new();
            for hop in &hops {
                for (shape, outcome) in shapes.iter().zip(&mut outcomes) {
                    let measured = self.load(shape, hop);
                    let entry = outcome.entries.iter_mut().find(|e| e.contender == hop.contender.name());
                    match (measured, entry) {
                        (Ok(measured), Some(entry)) => entry.rounds.push(measured),
                        (Err(e), _) => {
                            miss(missing, hop.contender, &e.context(shape.scenario));
                            broken.push(hop.contender);
                            break;
                        }
                        (Ok(_), None) => {}
                    }
                }
                if let Some(reason) = hop.shirks().filter(|_| !broken.contains(&hop.contender)) {
                    miss(missing, hop.contender, &anyhow::anyhow!("{reason}: its figures would not compare"));
                    broken.push(hop.contender);
                }
                hop.empty_log();
            }
            hops.retain(|hop| !broken.contains(&hop.contender));
            for outcome in &mut outcomes {
                outcome
                    .entries
                    .retain(|entry| hops.iter().any(|hop| hop.contender.name() == entry.contender));
            }
        }
        for hop in &hops {
            let resident = hop.pid().map(|pid| procfs::memory_of_tree(pid).resident);
            for outcome in &mut outcomes {
                for entry in outcome.entries.iter_mut().filter(|e| e.contender == hop.contender.name()) {
                    entry.resident = resident;
                }
            }
        }
        Ok(outcomes)
    }

    pub fn start(&self, contender: Contender, upstream: SocketAddr) -> anyhow::Result<Hop> {
        Hop::start(contender, self.programs, upstream, self.cores.proxy, self.directory, self.files)
    }

    /// Ends when the handle is dropped.
    pub fn upstream(&self, reply: usize) -> anyhow::Result<(Running, SocketAddr)> {
        let address = free_address()?;
        let program = std::env::current_exe()?.display().to_string();
        let command = [program, "upstream".to_owned(), format!("{address}={reply}")];
        let mut running =
            Running::start("upstream", &command, &[], self.load_placement(), self.directory, false)?;
        running.wait_listening(address)?;
        Ok((running, address))
    }

    pub fn load_placement(&self) -> Placement {
        Placement { core: Some(self.cores.load), real_time: self.real_time }
    }

    fn load(&self, shape: &Shape, hop: &Hop) -> anyhow::Result<Measured> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        command.args(["place", "--parent", &std::process::id().to_string()]);
        command.args(["--core", &self.cores.load.to_string()]);
        if self.real_time {
            command.arg("--real-time");
        }
        command.arg("--").arg(&program).args(["load", &hop.address.to_string()]);
        command.args(["--connections", &shape.connections.to_string(), "--body", &shape.body.to_string()]);
        command.args(["--warm-up", &WARM_UP.to_string(), "--seconds", &self.seconds.to_string()]);
        if let Some(rate) = shape.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(pid) = hop.pid() {
            command.args(["--watch", &pid.to_string()]);
        }
        let output = command.stdin(Stdio::null()).output().context("the load generator")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("what the load generator said")
    }
}

/// Memory without and with idle connections.
#[derive(Debug, Clone, Serialize)]
pub struct IdleEntry {
    pub contender: &'static str,
    /// Bytes.
    pub resident: u64,
    pub anonymous: u64,
    /// Connections held, and bytes resident with them.
    pub held: Vec<(usize, u64)>,
}

impl IdleEntry {
    pub fn new(contender: Contender, memory: Memory) -> IdleEntry {
        IdleEntry {
            contender: contender.name(),
            resident: memory.resident,
            anonymous: memory.anonymous,
            held: Vec::new(),
        }
    }

    /// Bytes that one of the held connections costs.
    pub fn per_connection(&self, held: usize) -> Option<f64> {
        let (count, resident) = self.held.iter().find(|(count, _)| *count == held)?;
        Some((*resident as f64 - self.resident as f64) / *count as f64)
    }
}

fn entry(contender: Contender) -> Entry {
    Entry { contender: contender.name(), rounds: Vec::new(), resident: None }
}

/// Notes it once, and says it at once: a table without a row must not pass unseen.
pub fn miss(missing: &mut Vec<Missing>, contender: Contender, error: &anyhow::Error) {
    let reason = format!("{error:#}");
    eprintln!("SKIPPED: {} ({reason})", contender.name());
    let new = Missing { contender: contender.name(), ours: contender.ours(), reason };
    if !missing.contains(&new) {
        missing.push(new);
    }
}
