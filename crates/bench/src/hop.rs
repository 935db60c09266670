//! Every contender under the same load, round after round.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::contenders::{Contender, Ground, Hop};
use crate::cores::Cores;
use crate::h2load;
use crate::load::Measured;
use crate::procfs;
use crate::rivals::Programs;
use crate::running::{Class, Placement, Running, free_address, output_within};
use crate::scenario::{Group, Pattern, Setting, Shape};
use crate::statistics::Spread;
use crate::upstream::{Answer, Service};

/// Before each window: connections are opened, pools filled, caches warmed. h2load warms up before the first round
/// only, for it has no window of its own.
pub const WARM_UP: f64 = 0.25;
/// A generator that has not ended so long after its time never will.
const OVERTIME: Duration = Duration::from_secs(15);

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
    /// Bytes resident after the rounds, of all its processes.
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
    pub name: &'static str,
    pub what: &'static str,
    pub entries: Vec<Entry>,
}

/// A contender that is missing from an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Of what: the names of shapes, or a scenario.
    pub from: String,
    pub contender: &'static str,
    pub ours: bool,
    pub reason: String,
}

impl Plan<'_> {
    /// Starts all, loads them in turn, ends them. `shapes`: those of the group that are wanted.
    pub fn measure(
        &self,
        group: &Group,
        shapes: &[&Shape],
        missing: &mut Vec<Missing>,
    ) -> anyhow::Result<Vec<Outcome>> {
        let (_upstream, upstream) = self.upstream(group.setting)?;
        let names = shapes.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
        let mut hops: Vec<Hop> = Vec::new();
        for contender in self.contenders {
            if !shapes.iter().any(|shape| shape.contenders.contains(contender)) {
                continue;
            }
            match self.start(*contender, group.setting, upstream) {
                Ok(hop) => hops.push(hop),
                Err(e) => miss(missing, &names, *contender, &e),
            }
        }
        let mut outcomes: Vec<Outcome> = shapes
            .iter()
            .map(|shape| Outcome {
                name: shape.name,
                what: shape.what,
                entries: hops
                    .iter()
                    .filter(|hop| shape.contenders.contains(&hop.contender))
                    .map(|hop| Entry { contender: hop.contender.name(), rounds: vec![], resident: None })
                    .collect(),
            })
            .collect();
        for round in 1..=self.rounds {
            eprintln!("{names}: round {round} of {}", self.rounds);
            for hop in &mut hops {
                self.round(hop, shapes, &mut outcomes, missing, round == 1);
            }
        }
        for hop in &hops {
            let pids = hop.pids();
            let resident =
                (!pids.is_empty()).then(|| pids.iter().map(|p| procfs::memory_of_tree(*p).resident).sum());
            for entry in outcomes.iter_mut().filter_map(|o| o.entry_mut(hop.contender)) {
                entry.resident = resident;
            }
        }
        Ok(outcomes)
    }

    /// One contender's turn. What fails loses its row, there or in all of them.
    fn round(
        &self,
        hop: &mut Hop,
        shapes: &[&Shape],
        outcomes: &mut [Outcome],
        missing: &mut Vec<Missing>,
        first: bool,
    ) {
        for (shape, outcome) in shapes.iter().zip(&mut *outcomes) {
            let Some(entry) = outcome.entry_mut(hop.contender) else { continue };
            if first
                && matches!(shape.pattern, Pattern::Grpc { .. })
                // Whatever is wrong is wrong in the window as well.
                && let Ok(warmed) = self.load(shape, hop, WARM_UP)
            {
                drop(warmed);
            }
            match self.load(shape, hop, self.seconds) {
                Ok(measured) => entry.rounds.push(measured),
                Err(e) => {
                    let e = match hop.ended() {
                        Some(words) => e.context(words),
                        None => e,
                    };
                    miss(missing, shape.name, hop.contender, &e);
                    outcome.drop_entry(hop.contender);
                }
            }
        }
        let loaded: Vec<&str> = outcomes
            .iter_mut()
            .filter_map(|o| o.entry_mut(hop.contender).is_some().then_some(o.name))
            .collect();
        if !loaded.is_empty()
            && let Some(reason) = hop.shirks()
        {
            let e = anyhow::anyhow!("{reason}: its figures would not compare");
            miss(missing, &loaded.join(", "), hop.contender, &e);
            outcomes.iter_mut().for_each(|outcome| outcome.drop_entry(hop.contender));
        }
        hop.empty_logs();
    }

    pub fn start(&self, contender: Contender, setting: Setting, upstream: SocketAddr) -> anyhow::Result<Hop> {
        self.start_before(contender, setting, upstream, None)
    }

    /// `large`: another upstream, for what begins with `/large`.
    pub fn start_before(
        &self,
        contender: Contender,
        setting: Setting,
        upstream: SocketAddr,
        large: Option<SocketAddr>,
    ) -> anyhow::Result<Hop> {
        let ground = Ground {
            programs: self.programs,
            setting,
            upstream,
            large,
            core: self.cores.proxy,
            directory: self.directory,
            files: self.files,
        };
        Hop::start(contender, &ground)
    }

    /// Ends when the handle is dropped.
    pub fn upstream(&self, setting: Setting) -> anyhow::Result<(Running, SocketAddr)> {
        let address = free_address()?;
        let answer = match setting {
            Setting::Hop { reply } => Answer::Http1(reply),
            Setting::Pair => Answer::Http1(1024),
            Setting::Grpc => Answer::Grpc,
        };
        let program = std::env::current_exe()?.display().to_string();
        let command = [program, "upstream".to_owned(), Service { address, answer }.to_string()];
        let mut running =
            Running::start("upstream", &command, &[], self.load_placement(), self.directory, false)?;
        running.wait_listening(address)?;
        Ok((running, address))
    }

    pub fn load_placement(&self) -> Placement {
        let class = if self.real_time { Class::RealTime } else { Class::Ordinary };
        Placement { core: Some(self.cores.load), class }
    }

    /// One window of load.
    pub fn load(&self, shape: &Shape, hop: &Hop, seconds: f64) -> anyhow::Result<Measured> {
        self.load_at(shape.pattern, hop.address, &hop.pids(), seconds)
    }

    /// One window of load on an address; the CPU time of these processes is measured.
    pub fn load_at(
        &self,
        pattern: Pattern,
        target: SocketAddr,
        pids: &[u32],
        seconds: f64,
    ) -> anyhow::Result<Measured> {
        let limit = Duration::from_secs_f64(WARM_UP + seconds) + OVERTIME;
        match pattern {
            Pattern::Http1 { connections, rate, body } => {
                let program = std::env::current_exe()?.display().to_string();
                let mut command = vec![program, "load".to_owned(), target.to_string()];
                let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
                option("connections", connections.to_string());
                option("body", body.to_string());
                option("warm-up", WARM_UP.to_string());
                option("seconds", seconds.to_string());
                if let Some(rate) = rate {
                    option("rate", rate.to_string());
                }
                for pid in pids {
                    option("watch", pid.to_string());
                }
                let said = self.run_generator(&command, limit)?;
                serde_json::from_str(&said).context("what the load generator said")
            }
            Pattern::Grpc { connections, streams } => {
                let program = self.programs.h2load.clone().map_err(anyhow::Error::msg)?;
                let call = self.directory.join("call");
                std::fs::write(&call, h2load::call()).with_context(|| call.display().to_string())?;
                let (target, call) = (target.to_string(), call.display().to_string());
                let mut command = vec![program.display().to_string()];
                command.extend(h2load::options(&target, connections, streams, seconds, &call));
                let used = || (!pids.is_empty()).then(|| procfs::cpu_of_trees(pids));
                let before = used();
                let said = self.run_generator(&command, limit)?;
                let used = used().zip(before).map(|(after, before)| after.since(before));
                h2load::read(&said, seconds, used)
            }
        }
    }

    fn run_generator(&self, generator: &[String], limit: Duration) -> anyhow::Result<String> {
        let command = self.load_placement().command(generator)?;
        let output = output_within(command, limit).context("the load generator")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Outcome {
    pub fn entry(&self, contender: Contender) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contender == contender.name())
    }

    fn entry_mut(&mut self, contender: Contender) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.contender == contender.name())
    }

    fn drop_entry(&mut self, contender: Contender) {
        self.entries.retain(|entry| entry.contender != contender.name());
    }
}

/// Notes it once, and says it at once: a table without a row must not pass unseen.
pub fn miss(missing: &mut Vec<Missing>, from: &str, contender: Contender, error: &anyhow::Error) {
    let reason = one_line(&format!("{error:#}"));
    eprintln!("SKIPPED: {} from {from} ({reason})", contender.name());
    let new = Missing { from: from.to_owned(), contender: contender.name(), ours: contender.ours(), reason };
    if !missing.contains(&new) {
        missing.push(new);
    }
}

/// The end of a long text is what says why.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().rev().nth(LONGEST) {
        Some((start, _)) => format!("... {}", line.get(start..).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_short_line() {
        assert_eq!(one_line("a\n  b: c\n"), "a b: c");
        let long = one_line(&"ä\n".repeat(5000));
        assert!(long.starts_with("... ä") && long.chars().count() < 410, "{long}");
    }
}
