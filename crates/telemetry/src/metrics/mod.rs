//! Metrics as single-writer cells.
//!
//! A worker thread owns one [`Shard`]: plain counters it alone writes, with a relaxed load and a
//! relaxed store (no read-modify-write, no lock, no shared cache line). A label set becomes a *row*:
//! a dense range of cell numbers, the same in every shard, handed out by the [`Registry`] when the
//! label set is first seen. A scrape sums each cell over all shards.

mod buckets;
mod cells;
mod encode;
mod labels;
mod registry;

pub use buckets::Buckets;
pub use cells::Shard;
pub use encode::{Filter, prometheus, prometheus_to, stats};
pub use registry::{Column, Kind, Limits, Origin, Registry, Row, TableId};

pub(crate) use cells::{bump, observe};
pub(crate) use labels::Labels;
pub(crate) use registry::OVERFLOW;

/// A number that only grows. Cheap to copy; add to it with [`Shard::add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub(crate) u32);

/// A number that goes both ways; the scrape shows the sum over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(pub(crate) u32);

/// A distribution over fixed buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    pub(crate) base: u32,
    pub(crate) buckets: std::sync::Arc<Buckets>,
}

#[cfg(test)]
mod tests;
