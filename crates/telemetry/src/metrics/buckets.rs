//! Histogram bounds. Observations are integers in a base unit; `scale` base units make one exported
//! unit, so that milliseconds can be counted exactly in microseconds without floating point.

/// Upper bounds of a histogram, ascending, the infinite one implied.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Inclusive upper bounds in base units.
    limits: Box<[u64]>,
    /// The same bounds in exported units, as numbers and as the text of the `le` label.
    bounds: Box<[f64]>,
    texts: Box<[String]>,
    scale: u64,
}

/// Istio's bounds, in milliseconds for durations and in bytes for sizes
/// (`DefaultBucketCount = 20` with the infinite one, in Istio's integration tests).
const ISTIO_BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0,
    300000.0, 600000.0, 1800000.0, 3600000.0,
];

impl Buckets {
    /// Bounds in exported units; `scale` base units are one exported unit. Bounds that are not finite
    /// or negative are left out, the rest is sorted and made unique.
    pub fn new(bounds: &[f64], scale: u64) -> Buckets {
        let mut bounds: Vec<f64> = bounds.iter().copied().filter(|b| b.is_finite() && *b >= 0.0).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let scale = scale.max(1);
        Buckets {
            // Float to integer saturates: a bound beyond u64 holds everything.
            limits: bounds.iter().map(|bound| (bound * scale as f64).floor() as u64).collect(),
            texts: bounds.iter().map(f64::to_string).collect(),
            bounds: bounds.into(),
            scale,
        }
    }

    /// Istio's bounds for durations, observed in microseconds and exported in milliseconds.
    pub fn istio_duration() -> Buckets {
        Buckets::new(&ISTIO_BOUNDS, 1000)
    }

    /// Istio's bounds for sizes in bytes.
    pub fn istio_bytes() -> Buckets {
        Buckets::new(&ISTIO_BOUNDS, 1)
    }

    /// The bucket `value` (base units) falls into; the last one is the infinite one.
    pub(crate) fn index(&self, value: u64) -> usize {
        self.limits.partition_point(|limit| *limit < value)
    }

    /// Buckets including the infinite one.
    pub fn len(&self) -> usize {
        self.limits.len() + 1
    }

    /// Never: the infinite bucket is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Finite bounds in exported units.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(crate) fn scale(&self) -> u64 {
        self.scale
    }

    /// Cells a histogram takes: its buckets and the sum. The count is the sum of the buckets, so that
    /// it can never disagree with them.
    pub(crate) fn cells(&self) -> usize {
        self.len() + 1
    }
}
