//! The figures the project has promised, and whether this run shows them.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::contenders::Contender::{self, *};
use crate::hop::{Entry, Outcome};
use crate::load::Measured;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::statistics::{Spread, ratio};
use crate::table::Table;

const MIB: f64 = 1024.0 * 1024.0;
/// How far from the floor ours may be.
const OF_FLOOR: f64 = 1.20;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    pub scenario: Scenario,
    pub what: String,
    /// The load and the contender, of a ratio.
    pub line: &'static str,
    pub contender: &'static str,
    pub bound: Bound,
    pub limit: f64,
    pub unit: &'static str,
    /// `None`: not measured in this run.
    pub measured: Option<f64>,
    /// Of the rounds, each by itself: how much the machine wavered.
    pub rounds: Option<Spread>,
    /// The floor in place of ours. Where it misses the limit itself, 1.20 of it is the limit.
    pub floor: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtMost,
    AtLeast,
}

impl Goal {
    pub fn met(&self) -> Option<bool> {
        let (measured, limit) = (self.measured?, self.limit_here());
        Some(match self.bound {
            Bound::AtMost => measured <= limit,
            Bound::AtLeast => measured >= limit,
        })
    }

    /// On this machine.
    fn limit_here(&self) -> f64 {
        match (self.bound, self.floor) {
            (Bound::AtMost, Some(floor)) if floor > self.limit => floor * OF_FLOOR,
            (Bound::AtLeast, Some(floor)) if floor < self.limit => floor / OF_FLOOR,
            _ => self.limit,
        }
    }

    fn raised(&self) -> bool {
        self.limit_here() != self.limit
    }

    fn sign(&self) -> &'static str {
        match self.bound {
            Bound::AtMost => "<=",
            Bound::AtLeast => ">=",
        }
    }
}

/// For JSON: each with its verdict, and the limit that holds on this machine.
pub fn with_verdicts<S: Serializer>(goals: &[Goal], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Judged<'a> {
        #[serde(flatten)]
        goal: &'a Goal,
        limit_here: f64,
        met: Option<bool>,
    }
    serializer.collect_seq(goals.iter().map(|goal| Judged {
        goal,
        limit_here: goal.limit_here(),
        met: goal.met(),
    }))
}

/// All that were measured, and those of the scenarios asked for that were not.
pub fn goals(report: &Report, wanted: impl Fn(Scenario) -> bool) -> Vec<Goal> {
    let outcome = |name: &str| report.hops.iter().find(|outcome| outcome.name == name);
    let mut goals = Vec::new();
    for Promise { scenario, line, ours, base, figure, limit } in PROMISES {
        let outcome = outcome(line);
        let floor = ours.floor();
        let of = |contender| between(outcome?, contender, base, figure);
        let measured = of(ours);
        let (kind, bound) = match figure {
            Figure::Cpu => ("CPU", Bound::AtMost),
            Figure::Rate => ("req/s", Bound::AtLeast),
        };
        goals.push(Goal {
            scenario,
            what: format!("{line}: {kind}, {} / {}", ours.name(), base.name()),
            line,
            contender: ours.name(),
            bound,
            limit,
            unit: "",
            measured: measured.map(|(median, _)| median),
            rounds: measured.and_then(|(_, rounds)| rounds),
            floor: if base == floor { None } else { of(floor).map(|(median, _)| median) },
        });
    }
    let plain = |scenario, what: &str, limit, unit, measured: Option<f64>| Goal {
        scenario,
        what: what.to_owned(),
        line: "",
        contender: Filamesh.name(),
        bound: Bound::AtMost,
        limit,
        unit,
        measured,
        rounds: None,
        floor: None,
    };
    let idle = |contender: Contender| report.idle.iter().find(|idle| idle.contender == contender.name());
    let most = |contender| {
        let idle = idle(contender)?;
        Some(idle.per_connection(idle.held.last()?.connections)? / 1024.0)
    };
    goals.push(Goal {
        floor: most(Floor),
        ..plain(Scenario::Idle, "memory of an idle connection", 0.5, " KiB", most(Filamesh))
    });
    let sidecar = report.demo.as_ref().and_then(|demo| demo.heaviest_sidecar());
    goals.push(plain(
        Scenario::Idle,
        "memory of an idle sidecar (RSS, the heaviest of the demo)",
        8.0,
        " MiB",
        sidecar.map(|bytes| bytes as f64 / MIB),
    ));
    let syscalls = report.syscalls.iter().find(|counted| counted.contender == Filamesh.name());
    goals.push(plain(
        Scenario::Syscalls,
        "network system calls of a small HTTP/1 request",
        4.0,
        "",
        // Connections are opened in the same run: a hundredth is theirs.
        syscalls.map(|counted| (counted.network * 50.0).round() / 50.0),
    ));
    goals.push(plain(
        Scenario::Propagation,
        "file change to last proxy, the slowest",
        1000.0,
        " ms",
        report.propagation.as_ref().and_then(|propagation| propagation.last()).map(|last| last.max),
    ));
    for figure in &report.figures {
        let spread = figure.spread();
        goals.extend(figure.limit.map(|limit| Goal {
            rounds: spread.filter(|_| figure.rounds.len() > 1),
            ..plain(figure.scenario, &figure.what, limit, figure.unit, spread.map(|spread| spread.median))
        }));
    }
    goals.retain(|goal| goal.measured.is_some() || wanted(goal.scenario));
    goals
}

/// A ratio of medians.
struct Promise {
    scenario: Scenario,
    line: &'static str,
    ours: Contender,
    base: Contender,
    figure: Figure,
    limit: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Figure {
    Cpu,
    Rate,
}

const fn cpu(
    scenario: Scenario,
    line: &'static str,
    ours: Contender,
    base: Contender,
    limit: f64,
) -> Promise {
    Promise { scenario, line, ours, base, figure: Figure::Cpu, limit }
}

const PROMISES: [Promise; 21] = [
    cpu(Scenario::H1, "h1", Filamesh, Floor, OF_FLOOR),
    cpu(Scenario::H1, "h1", Filamesh, EnvoyLog, 0.20),
    cpu(Scenario::H1, "h1", Filamesh, Envoy, 0.22),
    cpu(Scenario::H1, "h1", Filamesh, Nginx, 0.75),
    cpu(Scenario::H1, "h1", Filamesh, Haproxy, 0.75),
    cpu(Scenario::Rate, "rate", Filamesh, Floor, 1.12),
    cpu(Scenario::Rate, "rate", Filamesh, Envoy, 0.45),
    cpu(Scenario::Rate, "rate", Filamesh, Relay, 1.12),
    cpu(Scenario::Post, "post", Filamesh, Floor, OF_FLOOR),
    cpu(Scenario::Large, "64k", Filamesh, Floor, 1.10),
    cpu(Scenario::Large, "64k", Filamesh, Envoy, 0.30),
    Promise {
        scenario: Scenario::Large,
        line: "64k",
        ours: Filamesh,
        base: Envoy,
        figure: Figure::Rate,
        limit: 2.4,
    },
    cpu(Scenario::Plain2, "plain2", FilameshMux, Envoy, 0.14),
    cpu(Scenario::Plain2, "plain2", FilameshMux, EnvoyMux, 0.18),
    cpu(Scenario::Plain2, "plain2", FilameshMux, FloorMux, OF_FLOOR),
    cpu(Scenario::Plain2, "plain2", Filamesh, Envoy, 0.20),
    cpu(Scenario::Plain2, "plain2", Filamesh, Floor, OF_FLOOR),
    cpu(Scenario::H2, "h2-32", Filamesh, Envoy, 0.11),
    cpu(Scenario::H2, "h2-32", Filamesh, Floor, 1.8),
    cpu(Scenario::H2, "h2-1", Filamesh, Envoy, 0.22),
    cpu(Scenario::H2, "h2-1", Filamesh, Floor, OF_FLOOR),
];

/// The ratio of the medians, and the spread of the rounds' own ratios.
fn between(
    outcome: &Outcome,
    contender: Contender,
    base: Contender,
    figure: Figure,
) -> Option<(f64, Option<Spread>)> {
    let of = move |measured: &Measured| match figure {
        Figure::Cpu => measured.cpu_us(),
        Figure::Rate => Some(measured.rps),
    };
    let (ours, base) = (outcome.entry(contender)?, outcome.entry(base)?);
    let median = |entry: &Entry| entry.spread(of).map(|spread| spread.median);
    let rounds = ours.rounds.iter().zip(&base.rounds);
    let each: Option<Vec<f64>> = rounds.map(|(ours, base)| ratio(of(ours)?, of(base)?)).collect();
    Some((ratio(median(ours)?, median(base)?)?, each.and_then(Spread::of)))
}

/// As a table, the verdict first in each row.
pub fn table(goals: &[Goal]) -> String {
    let mut table = Table::new(&["goals", "", "measured", "rounds", "goal", "floor"]);
    for goal in goals {
        let verdict = match goal.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let raised = if goal.raised() { "*" } else { "" };
        table.row(vec![
            goal.what.clone(),
            verdict.to_owned(),
            goal.measured.map_or_else(|| "-".to_owned(), |value| format!("{}{}", Short(value), goal.unit)),
            goal.rounds
                .map_or_else(String::new, |rounds| format!("{}..{}", Short(rounds.min), Short(rounds.max))),
            format!("{raised}{} {}{}", goal.sign(), Short(goal.limit_here()), goal.unit),
            goal.floor.map_or_else(String::new, |floor| Short(floor).to_string()),
        ]);
    }
    let mut text = table.to_string();
    for goal in goals.iter().filter(|goal| goal.raised()) {
        text += &format!(
            "  * {}: the floor itself misses {} {} here; 1.20 of it is the goal instead\n",
            goal.what,
            goal.sign(),
            Short(goal.limit)
        );
    }
    text
}

/// Two decimals for a ratio, one for larger figures, none for those that are whole.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short(value) = *self;
        match value {
            _ if value >= 1000.0 => write!(f, "{value:.0}"),
            _ if value >= 10.0 => write!(f, "{value:.1}"),
            _ => write!(f, "{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(bound: Bound, limit: f64, measured: f64, floor: Option<f64>) -> Goal {
        Goal {
            scenario: Scenario::H1,
            what: "w".to_owned(),
            line: "h1",
            contender: "filamesh",
            bound,
            limit,
            unit: "",
            measured: Some(measured),
            rounds: None,
            floor,
        }
    }

    #[test]
    fn the_floor_counts_where_it_misses_the_goal_itself() {
        for (bound, limit, measured, floor, met) in [
            (Bound::AtMost, 0.22, 0.21, None, true),
            (Bound::AtMost, 0.22, 0.23, Some(0.19), false),
            (Bound::AtMost, 0.22, 0.27, Some(0.23), true),
            (Bound::AtMost, 0.22, 0.28, Some(0.23), false),
            (Bound::AtLeast, 2.4, 2.4, Some(2.5), true),
            (Bound::AtLeast, 2.4, 2.3, Some(2.5), false),
            (Bound::AtLeast, 2.4, 1.9, Some(2.2), true),
            (Bound::AtLeast, 2.4, 1.8, Some(2.2), false),
        ] {
            let goal = goal(bound, limit, measured, floor);
            assert_eq!(goal.met(), Some(met), "{goal:?}");
        }
    }

    #[test]
    fn verdicts_are_printed() {
        let missed = table(&[goal(Bound::AtMost, 0.22, 0.31, Some(0.25))]);
        assert!(missed.contains("MISSED") && missed.contains("*<= 0.30"), "{missed}");
        assert!(missed.contains("* w: the floor itself misses <= 0.22 here"), "{missed}");
        let unmeasured = Goal { measured: None, ..goal(Bound::AtMost, 0.22, 0.0, None) };
        assert!(table(&[unmeasured]).contains("not measured"));
    }

    #[test]
    fn promises_are_of_contenders_that_meet() {
        for Promise { scenario, line, ours, base, .. } in PROMISES {
            let mut shapes = crate::scenario::GROUPS.iter().flat_map(|group| group.shapes);
            let shape = shapes.find(|shape| shape.name == line).expect(line);
            assert_eq!(shape.scenario, scenario, "{line}");
            assert!([ours, base].iter().all(|c| shape.contenders.contains(c)), "{line}: {}", base.name());
        }
    }
}
