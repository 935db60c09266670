//! Figures that stand for themselves: not a contender's under a shared load, but what one thing does to
//! one process, each with the goal it is held to.

use serde::Serialize;

use crate::scenario::Scenario;
use crate::statistics::Spread;
use crate::table::Table;

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub scenario: Scenario,
    pub what: String,
    pub unit: &'static str,
    /// At most this. `None`: printed only.
    pub limit: Option<f64>,
    /// One for each round.
    pub rounds: Vec<f64>,
}

impl Figure {
    pub fn new(
        scenario: Scenario,
        what: impl Into<String>,
        unit: &'static str,
        limit: impl Into<Option<f64>>,
        rounds: Vec<f64>,
    ) -> Figure {
        Figure { scenario, what: what.into(), unit, limit: limit.into(), rounds }
    }

    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().copied())
    }
}

/// Those without a goal: the others are in the table of goals.
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new(&["further figures", "median", "rounds"]);
    for figure in figures.iter().filter(|figure| figure.limit.is_none()) {
        let Some(Spread { median, min, max }) = figure.spread() else { continue };
        table.row(vec![
            figure.what.clone(),
            format!("{median:.2}{}", figure.unit),
            format!("{min:.2}..{max:.2}"),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_without_a_goal_are_printed_with_their_rounds() {
        let figures = [
            Figure::new(Scenario::Wear, "shown", " KiB", None, vec![3.0, 1.0, 2.0]),
            Figure::new(Scenario::Wear, "a goal's", "", 1.0, vec![1.0]),
            Figure::new(Scenario::Wear, "not measured", "", None, vec![]),
        ];
        let text = table(&figures);
        assert!(text.contains("shown") && text.contains("2.00 KiB") && text.contains("1.00..3.00"), "{text}");
        assert!(!text.contains("a goal's") && !text.contains("not measured"));
    }
}
