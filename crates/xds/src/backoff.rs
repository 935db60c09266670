//! When to try again after a stream was lost.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);

/// A stream that held this long was a good one: the next loss starts from the beginning.
const HEALTHY: Duration = Duration::from_secs(2);

/// At once, then 50 ms doubling to 2 s, each between half of that and all of it, so that two thousand
/// proxies do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed | 1 }
    }

    /// How long to wait now that an attempt or a stream that held for `held` has ended.
    pub(crate) fn after(&mut self, held: Duration) -> Duration {
        if held >= HEALTHY {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            return Duration::ZERO;
        }
        let full = FIRST.saturating_mul(1 << (self.failures - 2).min(10)).min(LAST);
        full.mul_f64(0.5 + self.fraction() / 2.0)
    }

    /// Something went well: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Xorshift: in [0, 1), good enough to spread clients.
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_doubling_with_jitter_and_a_limit() {
        let mut backoff = Backoff::new(7);
        assert_eq!(backoff.after(Duration::ZERO), Duration::ZERO);
        for full_ms in [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let wait = backoff.after(Duration::ZERO);
            let full = Duration::from_millis(full_ms);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        assert_eq!(backoff.after(HEALTHY), Duration::ZERO, "a stream that held starts over");
    }
}
