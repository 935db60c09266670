//! What is counted with: where the cells of a metric are, the same in every shard.

use std::sync::Arc;

use super::buckets::Buckets;

/// A number that only grows. Cheap to copy; add to it with [`Shard::add`](super::Shard::add).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub(crate) u32);

/// A number that goes both ways; the scrape shows the sum over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(pub(crate) u32);

/// A distribution over fixed buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    pub(crate) base: u32,
    pub(crate) buckets: Arc<Buckets>,
}
