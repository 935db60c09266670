//! The cells of one worker, and how it writes them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cells::{CellStore, bump, observe};
use super::handles::{Counter, Gauge, Histogram};
use super::registry::Registry;

/// One worker's cells. Not `Sync` and not `Clone`: the one who holds it is the only writer.
///
/// Dropped, its cells keep their totals and are handed to the next shard asked for.
pub struct Shard {
    store: Arc<CellStore>,
    registry: Registry,
    single_writer: PhantomData<Cell<()>>,
}

impl Shard {
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        if let Some(cell) = self.store.block(counter.0, 1).first() {
            bump(cell, amount);
        }
    }

    /// Moves a gauge up or down.
    #[inline]
    pub fn shift(&self, gauge: Gauge, by: i64) {
        if let Some(cell) = self.store.block(gauge.0, 1).first() {
            bump(cell, by.cast_unsigned());
        }
    }

    /// Sets this shard's part of a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, value: i64) {
        if let Some(cell) = self.store.block(gauge.0, 1).first() {
            cell.store(value.cast_unsigned(), Relaxed);
        }
    }

    /// Counts `value`, in the base unit of the histogram's buckets.
    #[inline]
    pub fn observe(&self, histogram: &Histogram, value: u64) {
        observe(self.block(histogram.base, histogram.buckets.cells()), &histogram.buckets, value);
    }

    #[inline]
    pub(crate) fn block(&self, base: u32, width: usize) -> &[AtomicU64] {
        self.store.block(base, width)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.registry.retire(&self.store);
    }
}

impl Registry {
    /// The cells of one more writing thread.
    pub fn shard(&self) -> Shard {
        Shard { store: self.hand_out(), registry: self.clone(), single_writer: PhantomData }
    }
}
