//! Latencies, counted in logarithmic buckets with 128 linear steps to the octave: a value read back is at most
//! 0.8 % above the true one, whatever its size, and recording is two shifts and an increment.

const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^40 ns, 18 minutes; longer ones count as that.
const OCTAVES: usize = 40 - STEP_BITS as usize;

/// Counts of durations in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { counts: vec![0; STEPS * (OCTAVES + 1)], total: 0, longest: 0 }
    }

    pub fn record(&mut self, nanoseconds: u64) {
        let index = bucket(nanoseconds);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest recorded, exactly.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The duration that this share (0 to 1) of the recorded ones does not exceed. `None` if nothing was recorded.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        // At least one, so that the quantile 0 is the shortest recorded.
        let wanted = ((share.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(upper_bound(index).min(self.longest));
            }
        }
        Some(self.longest)
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min((1 << 40) - 1);
    // Below 2 * STEPS every value has its own bucket; above, each octave is cut into STEPS.
    let octave = (64 - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    octave as usize * STEPS + (value >> octave) as usize
}

fn upper_bound(bucket: usize) -> u64 {
    let octave = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - octave * STEPS) as u64;
    ((step + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::new();
        for value in [3, 1, 2, 200, 255] {
            histogram.record(value);
        }
        assert_eq!(histogram.quantile(0.0), Some(1));
        assert_eq!(histogram.quantile(0.6), Some(3));
        assert_eq!(histogram.quantile(0.8), Some(200));
        assert_eq!(histogram.quantile(1.0), Some(255));
        assert_eq!(histogram.total(), 5);
    }

    #[test]
    fn an_empty_one_has_no_quantile() {
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn beyond_the_range_counts_in_the_last_bucket() {
        let mut histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.longest(), u64::MAX);
        assert_eq!(histogram.quantile(0.5), Some((1 << 40) - 1));
    }

    #[test]
    fn every_bucket_follows_the_one_before() {
        let mut last = bucket(0);
        let mut value = 0_u64;
        while value < 1 << 20 {
            let now = bucket(value);
            assert!(now == last || now == last + 1, "{value}");
            last = now;
            value += 1;
        }
    }

    proptest! {
        /// Against the naive way: sort and index.
        #[test]
        fn a_quantile_is_within_a_hundredth_of_the_sorted_one(
            mut values in prop::collection::vec(0_u64..1 << 39, 1..300), share in 0.0_f64..=1.0,
        ) {
            let mut histogram = Histogram::new();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let index = ((share * values.len() as f64).ceil() as usize).max(1) - 1;
            let exact = values[index];
            let read = histogram.quantile(share).unwrap();
            prop_assert!(read >= exact && read <= exact + exact / 100 + 1, "{read} for {exact}");
        }
    }
}
