//! What is printed: tables, the machine's noise, what is missing, goals.

use std::fmt::Write as _;

use serde::Serialize;

use crate::contenders::Contender;
use crate::demo::Weights;
use crate::figures::{self, Figure};
use crate::goal::{self, Goal};
use crate::hop::{Entry, Missing, Outcome};
use crate::idle::Idle;
use crate::load::Measured;
use crate::machine::{Machine, Noise};
use crate::profile::{self, Spent};
use crate::propagation::Propagation;
use crate::statistics::ratio;
use crate::syscalls::Syscalls;
use crate::table::{Table, figure};

const MIB: f64 = 1024.0 * 1024.0;
/// Ratios are given to these, where they ran.
const BASES: [Contender; 8] = [
    Contender::Envoy,
    Contender::EnvoyLog,
    Contender::EnvoyMux,
    Contender::Nginx,
    Contender::Haproxy,
    Contender::Relay,
    Contender::Floor,
    Contender::FloorMux,
];

/// Everything a run measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub versions: Vec<(&'static str, String)>,
    pub rounds: usize,
    pub seconds: f64,
    pub hops: Vec<Outcome>,
    pub idle: Vec<Idle>,
    pub syscalls: Vec<Syscalls>,
    pub figures: Vec<Figure>,
    pub demo: Option<Weights>,
    pub propagation: Option<Propagation>,
    pub noise: Option<Noise>,
    /// Of the whole run, builds and downloads of rivals aside.
    pub took_seconds: f64,
    /// Of the lines that miss a goal.
    pub spent: Vec<Spent>,
    pub missing: Vec<Missing>,
    /// Scenarios that could not be run, and why.
    pub failed: Vec<String>,
    #[serde(serialize_with = "goal::with_verdicts")]
    pub goals: Vec<Goal>,
}

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        self.write_machine(out)?;
        for outcome in &self.hops {
            outcome.write(out, self.rounds, self.seconds)?;
        }
        if !self.idle.is_empty() {
            write_idle(out, &self.idle)?;
        }
        if !self.syscalls.is_empty() {
            write_syscalls(out, &self.syscalls)?;
        }
        if self.figures.iter().any(|figure| figure.limit.is_none()) {
            write!(out, "\n{}", figures::table(&self.figures))?;
        }
        if let Some(weights) = &self.demo {
            write_demo(out, weights)?;
        }
        if let Some(propagation) = &self.propagation {
            write_propagation(out, propagation)?;
        }
        if let Some(noise) = &self.noise {
            write_noise(out, noise)?;
        }
        for missing in &self.missing {
            writeln!(out, "SKIPPED: {} from {} ({})", missing.contender, missing.from, missing.reason)?;
        }
        for failed in &self.failed {
            writeln!(out, "FAILED: {failed}")?;
        }
        if !self.goals.is_empty() {
            write!(out, "\n{}", goal::table(&self.goals))?;
        }
        if !self.spent.is_empty() {
            writeln!(
                out,
                "\nwhere the time of missed lines goes: us of CPU a request (perf), the kernel's by system call, \
                 then ours by crate"
            )?;
            write!(out, "{}", profile::table(&self.spent))?;
        }
        let whole = self.took_seconds.round();
        writeln!(out, "\ntook {:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    }

    fn write_machine(&self, out: &mut String) -> std::fmt::Result {
        let Machine { kernel, processor, cores, proxy_core, load_core, congestion_control, .. } =
            &self.machine;
        writeln!(out, "machine: {processor}, {cores} cores, Linux {kernel}, TCP {congestion_control}")?;
        let class = if self.machine.real_time {
            "SCHED_FIFO; the proxies before all ordinary processes"
        } else {
            "ordinary scheduling: this user may not have SCHED_FIFO"
        };
        writeln!(out, "proxies on core {proxy_core}, load and upstream on core {load_core} ({class})")?;
        if proxy_core == load_core {
            writeln!(out, "WARNING: one core for all: proxies and load wait for each other")?;
        }
        for (name, version) in &self.versions {
            writeln!(out, "{name}: {version}")?;
        }
        Ok(())
    }
}

impl Outcome {
    fn write(&self, out: &mut String, rounds: usize, seconds: f64) -> std::fmt::Result {
        writeln!(out, "\n{}: {} ({rounds} rounds of {seconds} s, medians)", self.name, self.what)?;
        let bases: Vec<(&str, f64)> =
            BASES.iter().filter_map(|base| Some((base.name(), cpu(self.entry(*base)?)?))).collect();
        let mut header = vec!["", "CPU us", "min..max", "user/sys"];
        let ratios: Vec<String> = bases.iter().map(|(base, _)| format!("/{base}")).collect();
        header.extend(ratios.iter().map(String::as_str));
        header.extend(["req/s", "p50 us", "p99 us", "RSS MiB", "errors"]);
        let mut table = Table::new(&header);
        for entry in &self.entries {
            let median =
                |figure: fn(&Measured) -> Option<f64>| entry.spread(figure).map(|spread| spread.median);
            let spread = entry.spread(Measured::cpu_us);
            let mut row = vec![
                entry.contender.to_owned(),
                figure(spread.map(|s| s.median), 1),
                spread.map_or_else(|| "-".to_owned(), |s| format!("{:.1}..{:.1}", s.min, s.max)),
                match (median(|m| m.user_us), median(|m| m.system_us)) {
                    (Some(user), Some(system)) => format!("{user:.1}/{system:.1}"),
                    _ => "-".to_owned(),
                },
            ];
            for (_, base) in &bases {
                row.push(figure(spread.and_then(|s| ratio(s.median, *base)), 2));
            }
            row.push(figure(median(|m| Some(m.rps)), 0));
            row.push(figure(median(|m| m.p50_us), 0));
            row.push(figure(median(|m| m.p99_us), 0));
            row.push(figure(entry.resident.map(|bytes| bytes as f64 / MIB), 1));
            row.push(entry.errors().to_string());
            table.row(row);
        }
        write!(out, "{table}")?;
        for entry in &self.entries {
            if let Some(error) = entry.rounds.iter().find_map(|round| round.first_error.as_ref()) {
                writeln!(out, "  {}: {} errors, the first: {error}", entry.contender, entry.errors())?;
            }
        }
        Ok(())
    }
}

fn cpu(entry: &Entry) -> Option<f64> {
    entry.spread(Measured::cpu_us).map(|spread| spread.median)
}

fn write_idle(out: &mut String, all: &[Idle]) -> std::fmt::Result {
    writeln!(
        out,
        "\nidle: memory of one hop's proxy: started, at rest after a load (base), then with idle connections \
         that made one\n  request each; KiB each: growth of RSS over the base; own: the same without pages of \
         files; slope: from the first\n  count to the last; released: when they are closed again"
    )?;
    let mut counts: Vec<usize> =
        all.iter().flat_map(|i| i.held.iter().map(|held| held.connections)).collect();
    counts.sort_unstable();
    counts.dedup();
    let mut header: Vec<String> = ["", "MiB started", "base", "own"].map(str::to_owned).to_vec();
    for count in &counts {
        header.extend([format!("{count}: MiB"), "KiB each".to_owned(), "own".to_owned()]);
    }
    header.extend(["slope".to_owned(), "MiB released".to_owned()]);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(&header);
    for idle in all {
        let mib = |bytes: u64| figure(Some(bytes as f64 / MIB), 1);
        let kib = |bytes: Option<f64>| figure(bytes.map(|bytes| bytes / 1024.0), 2);
        let mut row = vec![
            idle.contender.to_owned(),
            mib(idle.started.resident),
            mib(idle.base.resident),
            mib(idle.base.anonymous),
        ];
        for count in &counts {
            let held = idle.held.iter().find(|held| held.connections == *count);
            row.push(held.map_or_else(|| "-".to_owned(), |held| mib(held.memory.resident)));
            row.push(kib(idle.per_connection(*count)));
            row.push(kib(idle.own_per_connection(*count)));
        }
        row.push(kib(idle.slope()));
        row.push(mib(idle.released.resident));
        table.row(row);
    }
    write!(out, "{table}")
}

fn write_syscalls(out: &mut String, all: &[Syscalls]) -> std::fmt::Result {
    writeln!(out, "\nsyscalls of a request: GET, 1 KiB reply, HTTP/1, 16 connections, closed loop (strace)")?;
    let mut table = Table::new(&["", "network", "epoll", "others"]);
    for counted in all {
        let mut row = vec![counted.contender.to_owned()];
        row.extend([counted.network, counted.wait, counted.others].map(|calls| figure(Some(calls), 2)));
        table.row(row);
    }
    write!(out, "{table}")
}

fn write_demo(out: &mut String, weights: &Weights) -> std::fmt::Result {
    writeln!(
        out,
        "\ndemo at rest, ten seconds after it was ready: MiB resident, with shared pages divided (PSS), and of its own (anonymous)"
    )?;
    let mut table = Table::new(&["", "RSS", "PSS", "own"]);
    for weight in weights.sidecars.iter().chain([&weights.control, &weights.whole]) {
        let mib = |bytes: u64| figure(Some(bytes as f64 / MIB), 1);
        table.row(vec![
            weight.name.clone(),
            mib(weight.resident),
            mib(weight.proportional),
            mib(weight.anonymous),
        ]);
    }
    write!(out, "{table}")?;
    writeln!(out, "  ({} processes in all, applications included)", weights.processes)
}

fn write_propagation(out: &mut String, propagation: &Propagation) -> std::fmt::Result {
    use crate::statistics::Spread;
    writeln!(
        out,
        "\npropagation: milliseconds from the rename of a file, {} changes",
        propagation.acted.len()
    )?;
    let mut table = Table::new(&["", "median", "min", "max"]);
    let rows = [
        ("requests follow it", Spread::of(propagation.acted.iter().copied())),
        ("all proxies confirmed it", Spread::of(propagation.confirmed.iter().copied())),
        ("the later of both", propagation.last()),
    ];
    for (name, spread) in rows {
        table.row(vec![
            name.to_owned(),
            figure(spread.map(|s| s.median), 1),
            figure(spread.map(|s| s.min), 1),
            figure(spread.map(|s| s.max), 1),
        ]);
    }
    write!(out, "{table}")
}

fn write_noise(out: &mut String, noise: &Noise) -> std::fmt::Result {
    writeln!(out, "\nnoise")?;
    for (when, spread) in [("before", noise.calibration_before), ("after", noise.calibration_after)] {
        if let Some(spread) = spread {
            let width = spread.width() * 100.0;
            writeln!(
                out,
                "  the same work {when}: {:.1} ms ({:.1}..{:.1}, spread {width:.0} %)",
                spread.median, spread.min, spread.max
            )?;
        }
    }
    let percent = |share: f64| share * 100.0;
    writeln!(
        out,
        "  stolen time {:.2} %, load average at the end {}",
        percent(noise.steal),
        noise.load_average
    )?;
    writeln!(
        out,
        "  the proxies' core was {:.0} % busy with others just before",
        percent(noise.busy_before)
    )?;
    if noise.busy_before > 0.1 || noise.steal > 0.01 {
        writeln!(out, "  WARNING: the machine was not quiet; trust ratios of CPU, not rates or latencies")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals;
    use crate::scenario::Scenario;

    fn measured(cpu: f64) -> Measured {
        Measured {
            replies: 1000,
            served: 1100,
            errors: 0,
            first_error: None,
            seconds: 1.0,
            rps: 1000.0,
            user_us: Some(cpu / 4.0),
            system_us: Some(cpu * 3.0 / 4.0),
            p50_us: Some(50.0),
            p90_us: Some(60.0),
            p99_us: None,
            p999_us: None,
            max_us: Some(100.0),
        }
    }

    fn entry(contender: &'static str, cpu: &[f64]) -> Entry {
        Entry { contender, rounds: cpu.iter().map(|cpu| measured(*cpu)).collect(), resident: Some(1 << 20) }
    }

    fn report(entries: Vec<Entry>) -> Report {
        let mut report = Report {
            machine: Machine {
                kernel: "6".into(),
                processor: "P".into(),
                cores: 2,
                proxy_core: 0,
                load_core: 1,
                real_time: true,
                congestion_control: "cubic".into(),
                open_files: 1024,
            },
            versions: vec![],
            rounds: 3,
            seconds: 1.0,
            hops: vec![Outcome { name: "h1", what: "a hop", entries }],
            idle: vec![],
            figures: vec![],
            syscalls: vec![],
            demo: None,
            propagation: None,
            noise: None,
            took_seconds: 125.4,
            spent: vec![],
            missing: vec![Missing {
                from: "h1".into(),
                contender: "nginx",
                ours: false,
                reason: "not installed".into(),
            }],
            failed: vec![],
            goals: vec![],
        };
        report.goals = goals::goals(&report, |scenario| scenario == Scenario::H1);
        report
    }

    #[test]
    fn ratios_are_of_medians_and_decide_the_goal() {
        let report = report(vec![entry("envoy", &[40.0, 39.0, 90.0]), entry("filamesh", &[10.0, 7.0, 8.0])]);
        let goal = report.goals.iter().find(|goal| goal.what.ends_with("filamesh / envoy")).unwrap();
        assert_eq!((goal.measured, goal.met()), (Some(0.2), Some(true)));
        let text = report.text();
        let row = text.lines().find(|line| line.trim_start().starts_with("filamesh ")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(&cells[..5], ["filamesh", "8.0", "7.0..10.0", "2.0/6.0", "0.20"], "{text}");
        assert!(text.contains("SKIPPED: nginx from h1 (not installed)"), "{text}");
        let row = text.lines().find(|line| line.contains("CPU, filamesh / envoy ")).unwrap();
        assert!(row.contains(" met ") && row.contains("0.09..0.25"), "{row}");
        assert!(text.ends_with("took 2 min 5 s\n"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        let goals = json["goals"].as_array().unwrap();
        assert!(goals.iter().any(|goal| goal["met"] == true));
    }

    #[test]
    fn a_goal_without_its_rival_is_not_decided() {
        let report = report(vec![entry("filamesh", &[8.0])]);
        assert_eq!(report.goals[0].met(), None);
        assert!(report.text().contains("not measured"));
    }
}
