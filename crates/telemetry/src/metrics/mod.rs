//! Metrics as single-writer cells.
//!
//! A worker thread owns one [`Shard`]: plain counters it alone writes, with a relaxed load and a
//! relaxed store (no read-modify-write, no lock, no shared cache line). A label set becomes a *row*:
//! a dense range of cell numbers, the same in every shard, handed out by the [`Registry`] when the
//! label set is first seen. A scrape sums each cell over all shards.

mod buckets;
mod cells;
mod encode;
mod handles;
mod labels;
mod registry;
mod shard;

pub use buckets::Buckets;
pub use encode::{Filter, prometheus, prometheus_to, stats};
pub use handles::{Counter, Gauge, Histogram};
pub use registry::{Column, Kind, Limits, Origin, Registry, Row, TableId};
pub use shard::Shard;

pub(crate) use cells::{bump, observe};
pub(crate) use labels::Labels;
pub(crate) use registry::OVERFLOW;

#[cfg(test)]
mod tests;
