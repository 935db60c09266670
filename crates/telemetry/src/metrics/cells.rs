//! The storage behind a shard: chunks of atomics that double in size, so that growing never moves a
//! cell a scraper may be reading and a small proxy stays small.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::buckets::Buckets;

/// `cells` holds the buckets and then the sum.
#[inline]
pub(crate) fn observe(cells: &[AtomicU64], buckets: &Buckets, value: u64) {
    if let (Some(bucket), Some(sum)) = (cells.get(buckets.index(value)), cells.get(buckets.len())) {
        bump(bucket, 1);
        bump(sum, value);
    }
}

/// A plain add: the calling thread is the only writer, the scraper only needs whole words.
#[inline]
pub(crate) fn bump(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// The first chunk holds 2^8 cells (2 KiB), each further one twice as many.
const FIRST_BITS: u32 = 8;
const CHUNKS: usize = 20;

pub(super) struct CellStore {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl CellStore {
    pub(super) fn new() -> CellStore {
        CellStore { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// The cells `base..base + width`, made if they are not there yet. Only for the writer. Empty when
    /// the registry never handed them out.
    #[inline]
    pub(super) fn block(&self, base: u32, width: usize) -> &[AtomicU64] {
        let (chunk, offset) = locate(base);
        let Some(slot) = self.chunks.get(chunk) else { return &[] };
        let cells = slot.get_or_init(|| (0..chunk_len(chunk)).map(|_| AtomicU64::new(0)).collect());
        cells.get(offset..offset + width).unwrap_or(&[])
    }

    /// The cells for reading; `None` while the writer has not touched their chunk, which reads as zero.
    pub(super) fn read(&self, base: u32, width: usize) -> Option<&[AtomicU64]> {
        let (chunk, offset) = locate(base);
        self.chunks.get(chunk)?.get()?.get(offset..offset + width)
    }
}

/// The chunk a cell lies in and its place there.
#[inline]
fn locate(cell: u32) -> (usize, usize) {
    let shifted = u64::from(cell) + (1 << FIRST_BITS);
    let chunk = (u64::BITS - 1 - FIRST_BITS - shifted.leading_zeros()) as usize;
    (chunk, (shifted - (1 << (FIRST_BITS as usize + chunk))) as usize)
}

fn chunk_len(chunk: usize) -> usize {
    1 << (FIRST_BITS as usize + chunk)
}

/// Hands out ranges of cells that never straddle two chunks.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    next: u64,
}

impl Allocator {
    /// The first cell of a fresh range; `None` when the numbers are used up.
    pub(super) fn take(&mut self, width: usize) -> Option<u32> {
        loop {
            let base = u32::try_from(self.next).ok()?;
            let (chunk, offset) = locate(base);
            if chunk >= CHUNKS {
                return None;
            }
            if offset + width <= chunk_len(chunk) {
                self.next += width as u64;
                return Some(base);
            }
            self.next += (chunk_len(chunk) - offset) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_map_to_chunks_without_gap_or_overlap() {
        assert_eq!(locate(0), (0, 0));
        assert_eq!(locate(255), (0, 255));
        assert_eq!(locate(256), (1, 0));
        assert_eq!(locate(767), (1, 511));
        assert_eq!(locate(768), (2, 0));
    }

    #[test]
    fn ranges_stay_within_a_chunk() {
        let mut allocator = Allocator::default();
        let mut end = 0;
        for width in [64, 64, 64, 60, 64, 1, 700, 0, 64] {
            let base = allocator.take(width).unwrap();
            assert!(base >= end);
            end = base + width as u32;
            let (chunk, offset) = locate(base);
            assert!(offset + width <= chunk_len(chunk), "width {width} at {base}");
        }
    }

    #[test]
    fn an_impossible_width_ends() {
        assert_eq!(Allocator::default().take(usize::MAX / 2), None);
    }
}
