//! `./bench control`: what a change, a connection and a restart cost the control plane, beside istiod's recorded figures.
//!
//! Meshload, a tool in the folder `shared` beside the project, writes a mesh of many services as files, starts
//! `filamesh control` on them, holds as many delta ADS streams as there are proxies and changes one object at a time. It
//! knows any Envoy v3 server, so that istiod was measured with the same one.
//!
//! | module | holds |
//! |---|---|
//! | [`meshload`] | getting the tool |
//! | [`plan`] | sizes of meshes, the steps of a run, the command |
//! | [`steps`] | what the tool says of each step |
//! | [`readings`] | figures out of the steps |
//! | [`quantities`] | which figures make the table, and what each is held to |
//! | [`report`] | the table |

pub mod meshload;
pub mod plan;
pub mod quantities;
pub mod readings;
pub mod report;
pub mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use crate::cores::Cores;
use crate::machine::{Machine, Watch};
use crate::procfs;
use crate::running::Running;
use meshload::Meshload;
use plan::{Effort, Run, Scope, Size};
use report::{Measured, Report};
use steps::Steps;

/// Measure the control plane: changes, connections, restarts, memory, beside istiod's recorded figures
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ./bench control                                  1,000 services, 1,000 proxies: with a Sidecar per namespace, and without
  ./bench control --all                            the same, then with 2,000 proxies, then with 5,000 services
  ./bench control --iso --services 300 --proxies 100 --quick")]
pub struct Options {
    #[arg(long, default_value_t = Size::ISSUE.services, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    services: u32,
    /// Of each service
    #[arg(long, default_value_t = Size::ISSUE.endpoints, value_parser = clap::value_parser!(u32).range(1..=100))]
    endpoints: u32,
    #[arg(long, default_value_t = Size::ISSUE.namespaces, value_parser = clap::value_parser!(u32).range(1..=1000))]
    namespaces: u32,
    #[arg(long, default_value_t = Size::ISSUE.proxies, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    proxies: u32,
    /// Only with a Sidecar in each namespace, so that a proxy sees the services of its own
    #[arg(long, conflicts_with_all = ["full", "all"])]
    iso: bool,
    /// Only without Sidecars: every proxy sees every service
    #[arg(long, conflicts_with = "all")]
    full: bool,
    /// Both, then with twice the proxies, then with five times the services of ten endpoints
    #[arg(long)]
    all: bool,
    /// Fewer changes, shorter waits
    #[arg(long)]
    quick: bool,
    /// Measure this program, and not the one just built
    #[arg(long, value_name = "PROGRAM")]
    pub filamesh: Option<PathBuf>,
    /// Write every figure there, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    fn size(&self) -> Size {
        let Options { services, endpoints, namespaces, proxies, .. } = *self;
        Size { services, endpoints, namespaces, proxies }
    }

    fn runs(&self) -> Vec<Run> {
        let size = self.size();
        let both = |size: Size| [Scope::Iso, Scope::Full].map(|scope| Run { scope, size });
        match (self.iso, self.full, self.all) {
            (true, ..) => vec![Run { scope: Scope::Iso, size }],
            (_, true, _) => vec![Run { scope: Scope::Full, size }],
            (.., true) => [both(size), both(size.twice_the_proxies()), both(size.many_services())].concat(),
            _ => both(size).to_vec(),
        }
    }
}

/// Where things are.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub filamesh: &'a Path,
    /// The build directory.
    pub target: &'a Path,
    /// The project's.
    pub workspace: &'a Path,
    /// Meshes, state and logs of this run.
    pub directory: &'a Path,
}

/// An error if nothing can be measured; a run that fails is named in the report.
pub fn measure(options: &Options, places: Places<'_>) -> anyhow::Result<Report> {
    anyhow::ensure!(places.filamesh.is_file(), "{} does not exist", places.filamesh.display());
    let tool = Meshload::build(places.target, places.workspace).map_err(anyhow::Error::msg)?;
    // Each proxy is a socket here and one in the control plane, which inherits the limit.
    let files = crate::scheduling::raise_file_limit();
    let cores = Cores::choose()?;
    let effort = if options.quick { Effort::QUICK } else { Effort::USUAL };
    let mut report = Report::new(Machine::read(cores, false, files));
    let began = Instant::now();
    let watch = Watch::begin(cores);
    for run in options.runs() {
        eprintln!("control: {run}");
        match one(run, effort, &tool, places) {
            Ok(steps) => report.runs.push(Measured { run, steps }),
            Err(e) => report.failed.push(format!("{run}: {e:#}")),
        }
    }
    report.judge();
    report.noise = Some(watch.end(cores));
    report.took_seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// One mesh, one control plane, one load.
fn one(run: Run, effort: Effort, tool: &Meshload, places: Places<'_>) -> anyhow::Result<Steps> {
    let session = plan::Session::prepare(run, effort, tool, places)?;
    let command = session.command()?;
    let mut running =
        Running::start("meshload", &command, &[], Default::default(), &session.directory, false)?;
    // The load restarts its one child, the control plane: the peaks of both are needed, and only the second one's is told.
    let mut peak = None;
    let ended = running.wait(effort.limit, |load| {
        let children = procfs::tree(load).into_iter().filter(|pid| *pid != load);
        peak = peak.max(children.filter_map(procfs::peak).max());
    });
    ended.with_context(|| session.server_said())?;
    let mut steps = Steps::read(&std::fs::read_to_string(&session.result)?)?;
    steps.peak_rss = peak;
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn runs_that_are_asked_for() {
        let runs = |line: &str| {
            let parsed = Line::try_parse_from(line.split_whitespace()).map_err(|e| e.kind().to_string())?;
            let names = parsed.options.runs().into_iter().map(|run| run.to_string()).collect::<Vec<_>>();
            Ok::<_, String>(names.join("; "))
        };
        let both = "iso, 1000 services of 2 endpoints, 20 namespaces, 1000 proxies; \
                    full, 1000 services of 2 endpoints, 20 namespaces, 1000 proxies";
        assert_eq!(runs("control").unwrap(), both);
        assert_eq!(
            runs("control --iso --services 30 --proxies 5 --namespaces 3").unwrap(),
            "iso, 30 services of 2 endpoints, 3 namespaces, 5 proxies"
        );
        let all = runs("control --all").unwrap();
        assert!(all.starts_with(both) && all.matches("2000 proxies").count() == 2, "{all}");
        assert!(all.contains("iso, 5000 services of 10 endpoints, 20 namespaces, 1000 proxies"), "{all}");
        for refused in ["--iso --full", "--all --iso", "--proxies 0", "--services 0", "--namespaces x"] {
            assert!(runs(&format!("control {refused}")).is_err(), "{refused}");
        }
    }
}
