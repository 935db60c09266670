//! The receiving side's account of a window (RFC 9113 §6.9).

/// The connection's own window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reception {
    /// What the peer may still send.
    window: i64,
    released: u32,
    size: u32,
}

impl Reception {
    pub fn new(size: u32) -> Reception {
        Reception { window: i64::from(size), released: 0, size }
    }

    /// Whether so much was allowed.
    #[inline]
    pub fn take(&mut self, bytes: u32) -> bool {
        self.window -= i64::from(bytes);
        self.window >= 0
    }

    /// So much was consumed. The increment to announce, if it is time to.
    #[inline]
    pub fn release(&mut self, bytes: u32) -> Option<u32> {
        if bytes == 0 {
            return None;
        }
        self.released += bytes;
        let due = is_due(self.released, self.size);
        due.then(|| {
            self.window += i64::from(self.released);
            std::mem::take(&mut self.released)
        })
    }
}

/// Half a window at a time: often enough that a sender does not stall, seldom enough to cost nothing.
#[inline]
pub(super) fn is_due(released: u32, size: u32) -> bool {
    released > 0 && released >= size / 2
}
