//! The buffer access-log lines leave a worker through.
//!
//! Rendering never waits for a sink: when the sink blocks, lines pile up to a bound and then new ones
//! are dropped and counted; when it fails (a full disk), what is buffered is dropped and counted. The
//! owner decides when to flush, by [`LogBuffer::due`], and hands in a sink that does not block: a
//! non-blocking descriptor, or a file written by another thread.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// One worker's lines.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    /// How much of `bytes` the sink has taken.
    written: usize,
    /// Where lines begin to be worth a write, and where they are dropped.
    flush_bytes: usize,
    max_bytes: usize,
    interval: Duration,
    /// When the oldest line still here was added, as far as the owner said.
    waiting_since: Option<Instant>,
    dropped: u64,
    /// The sink failed in the middle of a line: whatever comes next begins on a new one.
    broken_line: bool,
}

/// What a flush did.
#[derive(Debug)]
pub enum Flush {
    /// Everything is out.
    Done,
    /// The sink takes no more for now.
    Blocked,
    /// The sink failed; this many lines are gone.
    Failed { error: std::io::Error, lines: u64 },
}

impl Default for LogBuffer {
    /// Flushes at 64 KiB or after a second, drops past 1 MiB. Holds no memory while empty.
    fn default() -> LogBuffer {
        LogBuffer::new(64 * 1024, 1024 * 1024, Duration::from_secs(1))
    }
}

impl LogBuffer {
    pub fn new(flush_bytes: usize, max_bytes: usize, interval: Duration) -> LogBuffer {
        LogBuffer {
            bytes: Vec::new(),
            written: 0,
            flush_bytes,
            max_bytes: max_bytes.max(flush_bytes),
            interval,
            waiting_since: None,
            dropped: 0,
            broken_line: false,
        }
    }

    /// Adds a line that `render` appends (with its line feed), or counts it as dropped when the buffer
    /// is full. `now` may be the worker's coarse clock.
    pub fn line(&mut self, now: Instant, render: impl FnOnce(&mut Vec<u8>)) {
        if self.pending() >= self.max_bytes {
            self.dropped += 1;
            return;
        }
        let before = self.bytes.len();
        render(&mut self.bytes);
        if self.bytes.len() > before && self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
        self.waiting_since.get_or_insert(now);
    }

    /// Whether enough or old enough lines are waiting.
    pub fn due(&self, now: Instant) -> bool {
        self.pending() >= self.flush_bytes
            || self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= self.interval)
    }

    /// When [`LogBuffer::due`] becomes true without more lines; `None` while nothing waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.interval)
    }

    /// Bytes waiting.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Lines dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Writes what waits. A sink that blocks is tried again after the interval.
    pub fn flush(&mut self, sink: &mut impl Write, now: Instant) -> Flush {
        if self.broken_line && self.pending() > 0 {
            match sink.write(b"\n") {
                Ok(1..) => self.broken_line = false,
                Ok(0) => return self.blocked(now),
                Err(error)
                    if error.kind() == ErrorKind::Interrupted || error.kind() == ErrorKind::WouldBlock =>
                {
                    return self.blocked(now);
                }
                Err(error) => return self.failed(error),
            }
        }
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match sink.write(rest) {
                Ok(0) => return self.blocked(now),
                Ok(taken) => self.written += taken.min(rest.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.blocked(now),
                Err(error) => return self.failed(error),
            }
        }
        self.clear();
        Flush::Done
    }

    fn blocked(&mut self, now: Instant) -> Flush {
        self.bytes.drain(..self.written);
        self.written = 0;
        self.waiting_since = (!self.bytes.is_empty()).then_some(now);
        Flush::Blocked
    }

    fn failed(&mut self, error: std::io::Error) -> Flush {
        let (out, lost) = self.bytes.split_at(self.written);
        self.broken_line |= out.last().is_some_and(|byte| *byte != b'\n');
        let lines = lost.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped += lines;
        self.clear();
        Flush::Failed { error, lines }
    }

    /// Empties the buffer, and gives back what a burst made it grow to.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(self.flush_bytes * 2);
        self.written = 0;
        self.waiting_since = None;
    }
}

#[cfg(test)]
mod tests;
