//! The golden signals between two scrapes, from Istio's standard metrics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::parse::Sample;
use super::quantile::quantile;

/// What happened to one group of requests between two scrapes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Traffic {
    pub requests: f64,
    /// Requests that failed: code 5xx, no code at all (0), or a gRPC status other than 0.
    pub failures: f64,
    /// Requests per second.
    pub rate: f64,
    /// (upper bound in milliseconds, cumulative count), ascending.
    pub latency: Vec<(f64, f64)>,
    /// Bytes on TCP connections, sent to and received from the client.
    pub tcp_sent: f64,
    pub tcp_received: f64,
}

impl Traffic {
    /// The share that succeeded, 0 to 1; `None` without requests.
    pub fn success(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| 1.0 - self.failures / self.requests)
    }

    /// Milliseconds within which a share `q` of the requests ended.
    pub fn latency_ms(&self, q: f64) -> Option<f64> {
        quantile(&self.latency, q)
    }
}

/// Groups what `after` counts beyond `before` by what `group` answers for a sample (`None` leaves it
/// out). A series that shrank was reset by a restart and counts from zero; `before` may be empty to
/// look at everything since the start, with `elapsed` the time since then.
pub fn traffic<K: Ord>(
    before: &[Sample<'_>],
    after: &[Sample<'_>],
    elapsed: Duration,
    group: impl Fn(&Sample<'_>) -> Option<K>,
) -> BTreeMap<K, Traffic> {
    let earlier: HashMap<SeriesId<'_>, f64> =
        before.iter().filter(|sample| wanted(sample)).map(|sample| (series(sample), sample.value)).collect();
    let mut groups: BTreeMap<K, (Traffic, BTreeMap<u64, f64>)> = BTreeMap::new();
    for sample in after.iter().filter(|sample| wanted(sample)) {
        let Some(key) = group(sample) else { continue };
        let was = earlier.get(&series(sample)).copied().unwrap_or(0.0);
        let grown = if sample.value >= was { sample.value - was } else { sample.value };
        let (traffic, buckets) = groups.entry(key).or_default();
        match sample.name {
            REQUESTS => {
                traffic.requests += grown;
                if failed(sample) {
                    traffic.failures += grown;
                }
            }
            TCP_SENT => traffic.tcp_sent += grown,
            TCP_RECEIVED => traffic.tcp_received += grown,
            _ => {
                let bound = sample
                    .label("le")
                    .and_then(|le| if le == "+Inf" { Some(f64::INFINITY) } else { le.parse().ok() });
                // Bounds are not negative, so their bits sort as they do.
                if let Some(bound) = bound.filter(|bound| *bound >= 0.0) {
                    *buckets.entry(bound.to_bits()).or_default() += grown;
                }
            }
        }
    }
    let seconds = elapsed.as_secs_f64();
    groups
        .into_iter()
        .map(|(key, (mut traffic, buckets))| {
            traffic.rate = if seconds > 0.0 { traffic.requests / seconds } else { 0.0 };
            traffic.latency =
                buckets.into_iter().map(|(bound, count)| (f64::from_bits(bound), count)).collect();
            (key, traffic)
        })
        .collect()
}

const REQUESTS: &str = "istio_requests_total";
const LATENCY: &str = "istio_request_duration_milliseconds_bucket";
const TCP_SENT: &str = "istio_tcp_sent_bytes_total";
const TCP_RECEIVED: &str = "istio_tcp_received_bytes_total";

fn wanted(sample: &Sample<'_>) -> bool {
    matches!(sample.name, REQUESTS | LATENCY | TCP_SENT | TCP_RECEIVED) && sample.value.is_finite()
}

type SeriesId<'a> = (&'a str, Vec<(&'a str, &'a str)>);

fn series<'a>(sample: &'a Sample<'_>) -> SeriesId<'a> {
    let mut labels: Vec<(&str, &str)> =
        sample.labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    labels.sort_unstable();
    (sample.name, labels)
}

fn failed(sample: &Sample<'_>) -> bool {
    let code = sample.label("response_code").unwrap_or("");
    let grpc = sample.label("grpc_response_status").unwrap_or("");
    code.starts_with('5') || code == "0" || !matches!(grpc, "" | "0")
}
