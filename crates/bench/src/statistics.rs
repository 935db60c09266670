//! What several rounds say together.

use serde::Serialize;

/// Median, least and greatest of some rounds. All in the unit of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` if there is no round, or if one is not a number.
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = rounds.into_iter().collect();
        if sorted.iter().any(|value| value.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Spread { median: f64::midpoint(lower, upper), min, max })
    }

    /// How far apart the rounds lie, as a share of the median.
    pub fn width(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// `value` as a multiple of `base`; `None` where that says nothing.
pub fn ratio(value: f64, base: f64) -> Option<f64> {
    (base > 0.0 && value.is_finite()).then(|| value / base)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static [f64], Option<(f64, f64, f64)>);

    #[test]
    fn spreads() {
        let table: [Case; 6] = [
            (&[], None),
            (&[f64::NAN, 1.0], None),
            (&[4.0], Some((4.0, 4.0, 4.0))),
            (&[4.0, 1.0], Some((2.5, 1.0, 4.0))),
            (&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
            (&[4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0))),
        ];
        for (rounds, expected) in table {
            let spread = Spread::of(rounds.iter().copied()).map(|s| (s.median, s.min, s.max));
            assert_eq!(spread, expected, "{rounds:?}");
        }
    }

    #[test]
    fn width_is_relative() {
        assert_eq!(Spread { median: 2.0, min: 1.0, max: 4.0 }.width(), 1.5);
        assert_eq!(Spread { median: 0.0, min: 0.0, max: 0.0 }.width(), 0.0);
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(1.0, 4.0), Some(0.25));
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(f64::INFINITY, 1.0), None);
    }
}
