//! Quantiles of a histogram that was read back.

/// The value below which a share `q` (0 to 1) of the observations lies, by linear interpolation within
/// its bucket, as Prometheus' `histogram_quantile` does. `buckets` are (upper bound, cumulative count),
/// ascending, the last bound infinite. Past the last finite bound the answer is that bound. `None`
/// without observations or without a finite bound.
pub fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total.is_nan() || total <= 0.0 || q.is_nan() {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * total;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && *count > 0.0 {
            if bound.is_infinite() {
                break;
            }
            let inside = count - below.1;
            let share = if inside > 0.0 { (rank - below.1) / inside } else { 1.0 };
            return Some(below.0 + (bound - below.0) * share.clamp(0.0, 1.0));
        }
        if bound.is_finite() {
            below = (*bound, *count);
        }
    }
    // The quantile lies in the bucket `+Inf`, which has no upper bound: its lower bound is the answer.
    buckets.iter().rev().map(|(bound, _)| *bound).find(|bound| bound.is_finite())
}
