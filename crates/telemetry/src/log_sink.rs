//! The buffer access-log lines leave a worker through.
//!
//! Rendering never waits for a sink and never copies for it: the buffer itself is handed over, and comes
//! back untouched when the sink is full. While a sink is full, lines pile up to a bound; then new ones
//! are dropped and counted. The owner decides when to hand over, by [`LogBuffer::due`], and to whom:
//! the queue of a thread that writes.

use std::time::{Duration, Instant};

/// One worker's lines for one sink.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    /// Where lines begin to be worth handing over, and where they are dropped.
    flush_bytes: usize,
    max_bytes: usize,
    interval: Duration,
    /// When the oldest line still here was added, as far as the owner said; since the last refusal
    /// when there was one.
    waiting_since: Option<Instant>,
    /// The sink was full: it is not asked again before.
    not_before: Option<Instant>,
    /// What the buffer handed over last had grown to: the next one begins with it, so that it is one
    /// allocation.
    usual_bytes: usize,
    dropped: u64,
}

/// What the sink did with the lines.
#[derive(Debug)]
pub enum Handover {
    Taken,
    /// No room for now: the lines come back.
    Full(Vec<u8>),
    /// There is no sink any more: these lines are lost.
    Gone(Vec<u8>),
}

/// A full sink is asked again at most this often, however many lines come: it costs a look at a queue.
/// A worker without traffic is not woken for it, but after the interval.
const RETRY: Duration = Duration::from_millis(10);

impl Default for LogBuffer {
    /// Due at 64 KiB or after a second, drops past 1 MiB. Holds no memory while empty.
    fn default() -> LogBuffer {
        LogBuffer::new(64 * 1024, 1024 * 1024, Duration::from_secs(1))
    }
}

impl LogBuffer {
    pub fn new(flush_bytes: usize, max_bytes: usize, interval: Duration) -> LogBuffer {
        LogBuffer {
            bytes: Vec::new(),
            flush_bytes,
            max_bytes: max_bytes.max(flush_bytes),
            interval,
            waiting_since: None,
            not_before: None,
            usual_bytes: 0,
            dropped: 0,
        }
    }

    /// Adds a line that `render` appends (with its line feed), or counts it as dropped when the buffer
    /// is full. `now` may be the worker's coarse clock.
    pub fn line(&mut self, now: Instant, render: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.len() >= self.max_bytes {
            self.dropped += 1;
            return;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.usual_bytes);
        }
        let before = self.bytes.len();
        render(&mut self.bytes);
        if self.bytes.len() > before && self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
        self.waiting_since.get_or_insert(now);
    }

    /// Whether enough or old enough lines are waiting, and the sink was not full a moment ago.
    pub fn due(&self, now: Instant) -> bool {
        (self.bytes.len() >= self.flush_bytes && self.not_before.is_none_or(|moment| now >= moment))
            || self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= self.interval)
    }

    /// When [`LogBuffer::due`] becomes true at the latest without more lines; `None` while nothing
    /// waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.interval)
    }

    /// Bytes waiting.
    pub fn pending(&self) -> usize {
        self.bytes.len()
    }

    /// Lines dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Drops what waits, and counts it: nobody will hand it over any more.
    pub fn give_up(&mut self) {
        self.dropped += count(&self.bytes);
        self.bytes.clear();
        self.waiting_since = None;
    }

    /// Gives what waits to `sink`, and takes it back if there is no room.
    pub fn hand_over(&mut self, now: Instant, sink: impl FnOnce(Vec<u8>) -> Handover) {
        if self.bytes.is_empty() {
            return;
        }
        let length = self.bytes.len();
        match sink(std::mem::take(&mut self.bytes)) {
            Handover::Taken => {
                // A burst does not make all later buffers large.
                self.usual_bytes = length.min(self.flush_bytes) + length.min(self.flush_bytes) / 8;
                self.not_before = None;
                self.waiting_since = None;
            }
            Handover::Full(lines) => {
                self.bytes = lines;
                self.not_before = Some(now + RETRY);
                self.waiting_since = Some(now);
            }
            Handover::Gone(lines) => {
                self.dropped += count(&lines);
                self.not_before = None;
                self.waiting_since = None;
            }
        }
    }
}

/// How many lines these bytes are.
pub fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
