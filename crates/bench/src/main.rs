//! `./bench`: see the library for the method.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use bench::contenders::Contender;
use bench::control::{self, Places};
use bench::cores::Cores;
use bench::demo::Demo;
use bench::disturb;
use bench::figures::Figure;
use bench::hop::{Missing, Plan};
use bench::load::{self, Load};
use bench::machine::{Machine, Watch};
use bench::report::Report;
use bench::rivals::{Programs, Wanted};
use bench::running::{Class, Placement};
use bench::scenario::{GROUPS, Pattern, Scenario, Shape};
use bench::upstream::{self, Service};
use bench::{
    goals, hold, idle, interference, newcomer, profile, propagation, relay, scheduling, syscalls, wear,
};
use clap::{Args, Parser, Subcommand};

/// Compare filamesh with Envoy, nginx, HAProxy and the floor; weigh it; time a change.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  ./bench                                  everything, under 12 minutes
  ./bench --quick                          the same lines, under 4 minutes
  ./bench --profile h1                     where our time goes (perf)
  ./bench --scenario h1 --only envoy,filamesh,floor --rounds 9
  ./bench --json figures.json              every round's figures
  ./bench control                          the control plane, by thousands of streams"
)]
struct Cli {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Debug, Args)]
struct Comparison {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// Only these contenders: direct, envoy, envoy-log, envoy-mux, nginx, haproxy, filamesh, filamesh-bare,
    /// filamesh-mux, floor, floor-mux, relay
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Contender>,
    /// Rounds of every contender [default: 5, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// Seconds of each window [default: 1.5, quick: 0.5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Sample our proxy under this load instead, and show where its time goes
    #[arg(long, value_enum, value_name = "SCENARIO")]
    profile: Option<Scenario>,
    /// Measure this program, and not the one just built
    #[arg(long, value_name = "PROGRAM")]
    filamesh: Option<PathBuf>,
    /// Write every figure there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The pieces, which the comparison starts as processes of their own.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Load an address and print what was measured as JSON
    Load(LoadArgs),
    /// Answer requests: ADDRESS=BYTES (HTTP/1) or ADDRESS=grpc (HTTP/2) for each port
    Upstream {
        services: Vec<Service>,
    },
    /// Move bytes between clients and an upstream, unread
    Relay {
        listen: SocketAddr,
        upstream: SocketAddr,
    },
    /// Hold idle connections until standard input ends
    Hold {
        target: SocketAddr,
        #[arg(long)]
        connections: usize,
        /// HTTP/2 by prior knowledge
        #[arg(long)]
        http2: bool,
    },
    /// Upload without end, or read slowly, until standard input ends
    Disturb {
        target: SocketAddr,
        /// So many read slowly
        #[arg(long, required_unless_present = "upload")]
        readers: Option<usize>,
        #[arg(long, conflicts_with = "readers")]
        upload: bool,
    },
    /// Become a command, on a core and in a scheduling class
    Place(PlaceArgs),
    Control(control::Options),
}

#[derive(Debug, Args)]
struct LoadArgs {
    target: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 0.25)]
    warm_up: f64,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Requests a second, open loop
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of each request's body
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// Measure the CPU time of these processes and their descendants
    #[arg(long, value_name = "PID")]
    watch: Vec<u32>,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    #[arg(long)]
    core: Option<usize>,
    #[arg(long, value_enum, default_value_t = Class::Ordinary)]
    class: Class,
    /// End when this process does
    #[arg(long, value_name = "PID")]
    parent: u32,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Whoever forgets the pieces that hold and disturb.
const HOLD_LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.tool {
        None => compare(&cli.comparison),
        Some(Tool::Load(args)) => load_once(&args),
        Some(Tool::Upstream { services }) => upstream::serve(&services).map(|()| true),
        Some(Tool::Relay { listen, upstream }) => {
            scheduling::raise_file_limit();
            relay::relay(listen, upstream).map(|()| true)
        }
        Some(Tool::Hold { target, connections, http2 }) => {
            scheduling::raise_file_limit();
            hold::hold(target, connections, http2, HOLD_LIMIT).map(|()| true)
        }
        Some(Tool::Disturb { target, readers, upload: _ }) => {
            scheduling::raise_file_limit();
            let done = match readers {
                Some(readers) => disturb::read_slowly(target, readers, HOLD_LIMIT),
                None => disturb::upload(target, HOLD_LIMIT),
            };
            done.map(|()| true)
        }
        Some(Tool::Control(options)) => measure_control(&options),
        Some(Tool::Place(args)) => {
            let placement = Placement { core: args.core, class: args.class };
            scheduling::become_command(&args.command, placement, args.parent).map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn load_once(args: &LoadArgs) -> anyhow::Result<bool> {
    let bounded = |what: &str, value: f64, most: f64| {
        anyhow::ensure!(value > 0.0 && value <= most, "--{what} {value}: more than 0 and at most {most}");
        Ok(())
    };
    bounded("seconds", args.seconds, 600.0)?;
    bounded("warm-up", args.warm_up, 60.0)?;
    if let Some(rate) = args.rate {
        bounded("rate", rate, 1e6)?;
    }
    anyhow::ensure!(args.target.ip().is_loopback(), "{}: load goes to loopback addresses only", args.target);
    anyhow::ensure!(args.body <= 16 << 20, "--body {}: at most 16 MiB", args.body);
    let measured = load::run(&Load {
        target: args.target,
        connections: args.connections,
        warm_up: args.warm_up,
        seconds: args.seconds,
        rate: args.rate,
        body: args.body,
        watch: args.watch.clone(),
    })?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &measured)?;
    writeln!(out)?;
    Ok(true)
}

/// True if everything asked for was measured, rivals that cannot be had aside.
fn compare(args: &Comparison) -> anyhow::Result<bool> {
    let seconds = args.seconds.unwrap_or(if args.quick { 0.5 } else { 1.5 });
    anyhow::ensure!((0.1..=60.0).contains(&seconds), "--seconds {seconds}: from 0.1 to 60");
    let rounds = usize::from(args.rounds.unwrap_or(if args.quick { 3 } else { 5 }));
    let asked = args.profile.unwrap_or(args.scenario);
    let wants = |scenario| asked == scenario || asked == Scenario::All;
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| args.only.is_empty() || args.only.contains(contender))
        // Without log and metrics only if it is asked for.
        .filter(|contender| {
            args.profile.is_none()
                || (contender.ours() && (*contender != Contender::FilameshBare || !args.only.is_empty()))
        })
        .collect();
    let shapes: Vec<&Shape> =
        GROUPS.iter().flat_map(|group| group.shapes).filter(|shape| wants(shape.scenario)).collect();
    let meets = |contender: &Contender| {
        shapes.iter().any(|shape| shape.contenders.contains(contender))
            || (wants(Scenario::Idle) && idle::CONTENDERS.contains(contender))
            || (wants(Scenario::Syscalls) && syscalls::CONTENDERS.contains(contender))
            || (contender.ours() && (wants(Scenario::Wear) || wants(Scenario::Interference)))
    };
    let needed: Vec<Contender> = contenders.iter().copied().filter(meets).collect();
    let wanted = Wanted {
        contenders: &needed,
        h2load: shapes.iter().any(|shape| matches!(shape.pattern, Pattern::Grpc { .. })),
        strace: wants(Scenario::Syscalls),
    };
    let (target, workspace) = directories()?;
    let ours = args.filamesh.clone().unwrap_or_else(|| target.join("dist/filamesh"));
    let programs = Programs::prepare(&wanted, &ours, &target, &workspace);
    let files = scheduling::raise_file_limit();
    let cores = Cores::choose()?;
    let real_time = real_time_allowed();
    let directory = RunDirectory::make(&target.join("bench"))?;
    let plan = Plan {
        contenders: &contenders,
        programs: &programs,
        rounds,
        seconds,
        cores,
        real_time,
        directory: &directory.0,
        files,
    };
    let mut out = std::io::stdout().lock();
    if let Some(scenario) = args.profile {
        write!(out, "{}", profile::profile(&plan, scenario)?)?;
        return Ok(true);
    }
    let mut report = Report {
        machine: Machine::read(cores, real_time, files),
        versions: programs.versions(),
        rounds,
        seconds,
        hops: vec![],
        idle: vec![],
        syscalls: vec![],
        figures: vec![],
        demo: None,
        propagation: None,
        noise: None,
        took_seconds: 0.0,
        spent: vec![],
        missing: vec![],
        failed: vec![],
        goals: vec![],
    };
    let began = Instant::now();
    let watch = Watch::begin(cores);
    for group in &GROUPS {
        let shapes: Vec<&Shape> = group.shapes.iter().filter(|shape| wants(shape.scenario)).collect();
        if shapes.is_empty() {
            continue;
        }
        match plan.measure(group, &shapes, &mut report.missing) {
            Ok(outcomes) => report.hops.extend(outcomes),
            Err(e) => report.failed.push(format!("{e:#}")),
        }
    }
    if wants(Scenario::Idle) {
        measure_idle(&plan, &mut report);
    }
    let ours = contenders.iter().any(|contender| contender.ours());
    if ours {
        measure_further(&plan, wants, args.quick, &mut report);
    }
    if wants(Scenario::Syscalls) {
        match syscalls::measure(&plan, &mut report.missing) {
            Ok(counted) => report.syscalls = counted,
            // A tool that cannot be had, as a rival that cannot.
            Err(e) => report.missing.push(without("syscalls", "strace", &e)),
        }
    }
    if args.scenario == Scenario::Newcomer {
        eprintln!("newcomer: a fresh clone");
        match newcomer::measure(&workspace, &directory.0) {
            Ok(figures) => report.figures.extend(figures),
            Err(e) => report.failed.push(format!("newcomer: {e:#}")),
        }
    }
    if ours && (wants(Scenario::Idle) || wants(Scenario::Propagation)) {
        let changes = wants(Scenario::Propagation).then_some(if args.quick { 10 } else { 20 });
        if let Err(e) = demo(&programs, &directory.0, changes, &mut report) {
            report.failed.push(format!("demo: {e:#}"));
        }
    }
    report.noise = Some(watch.end(cores));
    report.goals = goals::goals(&report, wants);
    match profile::missed(&plan, &report.goals, args.quick) {
        Ok(spent) => report.spent = spent,
        Err(e) => report.missing.push(without("where the time of missed lines goes", "perf", &e)),
    }
    report.took_seconds = began.elapsed().as_secs_f64();
    write!(out, "{}", report.text())?;
    write_json(args.json.as_deref(), &report)?;
    Ok(report.failed.is_empty() && !report.missing.iter().any(|missing| missing.ours))
}

/// A tool that could not be had or used.
fn without(from: &str, tool: &'static str, error: &anyhow::Error) -> Missing {
    Missing { from: from.to_owned(), contender: tool, ours: false, reason: format!("{error:#}") }
}

fn measure_idle(plan: &Plan<'_>, report: &mut Report) {
    const COUNTS: [usize; 2] = [1000, 9500];
    let affordable = idle::affordable(&COUNTS, plan.files);
    if affordable != COUNTS {
        eprintln!("idle: {} open files allow only {affordable:?} connections, not {COUNTS:?}", plan.files);
    }
    match idle::measure(plan, &affordable, &mut report.missing) {
        Ok(entries) => report.idle = entries,
        Err(e) => report.failed.push(format!("idle: {e:#}")),
    }
}

/// What is measured of ours alone.
fn measure_further(plan: &Plan<'_>, wants: impl Fn(Scenario) -> bool, quick: bool, report: &mut Report) {
    let mut take = |figures: anyhow::Result<Vec<Figure>>, what: &str| match figures {
        Ok(figures) => report.figures.extend(figures),
        Err(e) => report.failed.push(format!("{what}: {e:#}")),
    };
    if wants(Scenario::Wear) {
        take(wear::measure(plan, quick), "wear");
    }
    if wants(Scenario::Interference) {
        take(interference::measure(plan), "interference");
    }
}

fn demo(
    programs: &Programs,
    directory: &Path,
    changes: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    eprintln!("demo: starting");
    let filamesh = programs.filamesh.clone().map_err(anyhow::Error::msg)?;
    let demo = Demo::start(&filamesh, directory)?;
    report.demo = Some(demo.weigh());
    if let Some(changes) = changes {
        eprintln!("propagation: {changes} changes");
        report.propagation = Some(propagation::measure(&demo.ready, changes).context("propagation")?);
    }
    Ok(())
}

/// True if every run came to its end with all proxies served, as with the comparison: goals are for the reader.
fn measure_control(options: &control::Options) -> anyhow::Result<bool> {
    let (target, workspace) = directories()?;
    let filamesh = options.filamesh.clone().unwrap_or_else(|| target.join("dist/filamesh"));
    let directory = RunDirectory::make(&target.join("bench"))?;
    let places =
        Places { filamesh: &filamesh, target: &target, workspace: &workspace, directory: &directory.0 };
    let report = control::measure(options, places)?;
    write!(std::io::stdout().lock(), "{}", report.text())?;
    write_json(options.json.as_deref(), &report)?;
    Ok(report.failed.is_empty())
}

fn write_json(path: Option<&Path>, report: &impl serde::Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

/// The build directory, two above this program, and the project's.
fn directories() -> anyhow::Result<(PathBuf, PathBuf)> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("this program lies in no build directory")?.to_owned();
    Ok((target, std::env::current_dir()?))
}

/// Tried in a process of its own: this one must stay ordinary.
fn real_time_allowed() -> bool {
    let placement = Placement { core: None, class: Class::RealTime };
    let Ok(mut command) = placement.command(&["true".to_owned()]) else { return false };
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Configurations and logs of one run; gone at its end.
struct RunDirectory(PathBuf);

impl RunDirectory {
    fn make(parent: &Path) -> anyhow::Result<RunDirectory> {
        // Left by runs that were killed.
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let directory = parent.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(RunDirectory(directory))
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
