//! One figure the project has promised, and whether this run shows it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::scenario::Scenario;
use crate::statistics::Spread;
use crate::table::Table;

/// How far from the floor ours may be.
pub const OF_FLOOR: f64 = 1.20;

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
pub struct Short(pub f64);

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
}
