//! The figures the project has promised, and whether this run shows them.

use crate::contenders::Contender::{self, *};
use crate::goal::{Bound, Goal, OF_FLOOR};
use crate::hop::{Entry, Outcome};
use crate::load::Measured;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::statistics::{Spread, ratio};

const MIB: f64 = 1024.0 * 1024.0;

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

#[cfg(test)]
mod tests {
    use super::*;

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
