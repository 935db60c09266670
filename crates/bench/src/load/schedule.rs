//! When requests fall due.

/// Exponential intervals, so that arrivals are independent of each other as those of many clients are.
#[derive(Debug)]
pub struct Schedule {
    mean_ns: f64,
    next_ns: u64,
    state: u64,
}

impl Schedule {
    /// `rate` in requests a second. The seed makes a run repeatable.
    pub fn new(rate: f64, seed: u64) -> Schedule {
        let mut schedule = Schedule { mean_ns: 1e9 / rate, next_ns: 0, state: seed | 1 };
        schedule.advance();
        schedule
    }

    /// The next due time, nanoseconds from the start.
    pub fn next(&self) -> u64 {
        self.next_ns
    }

    /// The due time that has come, if one has.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        (self.next_ns <= now_ns).then(|| {
            let due = self.next_ns;
            self.advance();
            due
        })
    }

    fn advance(&mut self) {
        // xorshift64*: ample for intervals, and no dependency.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        // In (0, 1]: the logarithm is finite.
        let uniform = (bits + 1) as f64 / (1_u64 << 53) as f64;
        self.next_ns += (-uniform.ln() * self.mean_ns) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_the_intervals_are_exponential() {
        let mut schedule = Schedule::new(5000.0, 7);
        let mut intervals = Vec::new();
        let mut last = 0;
        while let Some(due) = schedule.take(10_000_000_000) {
            intervals.push(due - last);
            last = due;
        }
        let count = intervals.len() as f64;
        assert!((count - 50_000.0).abs() < 1_000.0, "{count} in 10 s");
        // Of exponential intervals a share of 1/e is longer than the mean.
        let long = intervals.iter().filter(|ns| **ns > 200_000).count() as f64 / count;
        assert!((long - 0.368).abs() < 0.01, "{long}");
    }

    #[test]
    fn nothing_falls_due_early() {
        let mut schedule = Schedule::new(1.0, 3);
        assert_eq!(schedule.take(schedule.next() - 1), None);
        assert!(schedule.take(schedule.next()).is_some());
    }
}
