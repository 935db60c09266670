//! What is printed: a table for each run, what missed, how quiet the machine was.

use std::fmt::Write as _;

use serde::Serialize;

use super::plan::Run;
use super::quantities::{self, Line};
use super::steps::Steps;
use crate::goal::Short;
use crate::machine::{Machine, Noise};
use crate::table::Table;

/// One run and its steps.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub run: Run,
    pub steps: Steps,
}

/// The rows of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub run: String,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub noise: Option<Noise>,
    pub took_seconds: f64,
    pub runs: Vec<Measured>,
    pub judged: Vec<Judged>,
    /// Runs that ended early or whose figures say nothing, and why.
    pub failed: Vec<String>,
}

impl Report {
    pub fn new(machine: Machine) -> Report {
        Report { machine, noise: None, took_seconds: 0.0, runs: vec![], judged: vec![], failed: vec![] }
    }

    /// Fills in the rows, and what went wrong in runs that came to their end.
    pub fn judge(&mut self) {
        for measured in &self.runs {
            let run = measured.run;
            let mut lines = quantities::lines(run, &measured.steps);
            let half = |other: &&Measured| {
                other.run.scope == run.scope && other.run.size.twice_the_proxies() == run.size
            };
            if let Some(once) = self.runs.iter().find(half) {
                lines.extend(quantities::scaling(&once.steps, &measured.steps));
            }
            self.judged.push(Judged { run: run.to_string(), lines });
            self.failed.extend(measured.steps.faults().into_iter().map(|fault| format!("{run}: {fault}")));
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Machine { kernel, processor, cores, .. } = &self.machine;
        writeln!(out, "machine: {processor}, {cores} cores, Linux {kernel}")?;
        for Judged { run, lines } in &self.judged {
            writeln!(out, "\n{run}")?;
            write!(out, "{}", table(lines))?;
        }
        let verdicts = || self.judged.iter().flat_map(|judged| &judged.lines).filter_map(Line::met);
        let (met, all) = (verdicts().filter(|met| *met).count(), verdicts().count());
        writeln!(out, "\n{met} of {all} goals met; istiod: as recorded, with 1,000 proxies or as said")?;
        if let Some(noise) = &self.noise {
            write_noise(out, noise)?;
        }
        for failed in &self.failed {
            writeln!(out, "FAILED: {failed}")?;
        }
        let whole = self.took_seconds.round();
        writeln!(out, "took {:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    }
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&["quantity", "met", "measured", "rounds", "goal", "istiod"]);
    for line in lines {
        let verdict = match (line.met(), line.limit) {
            (Some(true), _) => "met",
            (Some(false), _) => "MISSED",
            (None, Some(_)) => "not measured",
            (None, None) => "",
        };
        let rounds = line.measured.filter(|spread| spread.min < spread.max);
        table.row(vec![
            line.what.clone(),
            verdict.to_owned(),
            line.measured.map_or_else(|| "-".to_owned(), |m| format!("{}{}", Short(m.median), line.unit)),
            rounds.map_or_else(String::new, |m| format!("{}..{}", Short(m.min), Short(m.max))),
            line.limit.map_or_else(String::new, |limit| format!("<= {}{}", Short(limit), line.unit)),
            line.istiod.to_owned(),
        ]);
    }
    table
}

fn write_noise(out: &mut String, noise: &Noise) -> std::fmt::Result {
    for (when, spread) in [("before", noise.calibration_before), ("after", noise.calibration_after)] {
        if let Some(spread) = spread {
            write!(
                out,
                "the same work {when}: {:.1} ms ({:.1}..{:.1}); ",
                spread.median, spread.min, spread.max
            )?;
        }
    }
    writeln!(out, "stolen time {:.2} %, load average {}", noise.steal * 100.0, noise.load_average)?;
    if noise.busy_before > 0.1 || noise.steal > 0.01 {
        writeln!(out, "WARNING: the machine was not quiet; trust CPU, bytes and memory, not the times")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::plan::{Scope, Size};
    use crate::control::quantities::tests::steps;

    fn report(runs: Vec<Measured>) -> Report {
        let mut report = Report::new(Machine {
            kernel: "6".into(),
            processor: "P".into(),
            cores: 2,
            proxy_core: 0,
            load_core: 1,
            real_time: false,
            congestion_control: "cubic".into(),
            open_files: 1024,
        });
        report.runs = runs;
        report.judge();
        report
    }

    #[test]
    fn verdicts_are_printed_beside_istiod() {
        let run = Run { scope: Scope::Iso, size: Size::ISSUE };
        let text = report(vec![Measured { run, steps: steps(1000) }]).text();
        let row = |what: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(what));
            line.unwrap_or_else(|| panic!("{what}: {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            row("one endpoint: CPU"),
            "one endpoint: CPU met 2.50 ms 2.00..9.00 <= 3.00 ms 49 to 67 ms"
        );
        assert_eq!(
            row("one DestinationRule: CPU"),
            "one DestinationRule: CPU MISSED 9.50 ms <= 8.00 ms 94 to 386 ms"
        );
        assert_eq!(row("one new service: CPU"), "one new service: CPU 7.00 ms 125 to 342 ms");
        assert!(text.contains("16 of 17 goals met"), "{text}");
    }

    #[test]
    fn twice_the_proxies_are_judged_beside_the_half_of_the_same_scope_only() {
        let run = |scope, size, proxies| Measured { run: Run { scope, size }, steps: steps(proxies) };
        let twice = Size::ISSUE.twice_the_proxies();
        let rows = |runs| report(runs).text().matches("beside half the proxies").count();
        assert_eq!(rows(vec![run(Scope::Iso, Size::ISSUE, 1000), run(Scope::Iso, twice, 2000)]), 3);
        assert_eq!(rows(vec![run(Scope::Iso, Size::ISSUE, 1000), run(Scope::Full, twice, 2000)]), 0);
    }

    #[test]
    fn faults_of_a_run_are_failures() {
        let mut broken = steps(1000);
        broken.syncs[1].all_synced = false;
        let run = Run { scope: Scope::Full, size: Size::ISSUE };
        let report = report(vec![Measured { run, steps: broken }]);
        assert!(report.text().contains("FAILED: full, 1000 services"), "{}", report.text());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["runs"][0]["scope"], "full");
        assert_eq!(json["judged"][0]["lines"][0]["measured"]["median"], 0.4);
    }
}
