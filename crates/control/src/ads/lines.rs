//! Log lines that a peer causes: what it wrote is escaped and cut, and there are only so many in a minute.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use xds::limits::{LINES_PER_MINUTE, LOGGED_BYTES};

use crate::lock::lock;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Lines {
    log: fn(&str),
    minute: Mutex<Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Instant,
    written: u32,
    left_out: u32,
}

impl Lines {
    pub(super) fn new(log: fn(&str), now: Instant) -> Self {
        Self { log, minute: Mutex::new(Minute { began: now, written: 0, left_out: 0 }) }
    }

    /// Writes the line, or counts it.
    pub(super) fn write(&self, line: &str, now: Instant) {
        let left_out = {
            let mut minute = lock(&self.minute);
            let mut before = 0;
            if now.saturating_duration_since(minute.began) >= MINUTE {
                before = minute.left_out;
                *minute = Minute { began: now, written: 0, left_out: 0 };
            }
            if minute.written >= LINES_PER_MINUTE {
                minute.left_out = minute.left_out.saturating_add(1);
                return;
            }
            minute.written += 1;
            before
        };
        if left_out > 0 {
            (self.log)(&format!("xDS: {left_out} more lines about peers in the minute before"));
        }
        (self.log)(line);
    }
}

/// What a peer wrote, fit for a terminal and a line.
pub(super) fn told(text: &str) -> String {
    let end = (0..=LOGGED_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (shown, rest) = text.split_at(end);
    let mut out = String::with_capacity(shown.len());
    for c in shown.chars() {
        // Formatting characters of Unicode turn a line around; `escape_debug` knows them.
        if c.is_control() || (!c.is_ascii() && c.escape_debug().len() > 1) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    if !rest.is_empty() {
        out.push_str(&format!("... ({} bytes)", text.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_a_peer_wrote_is_escaped_and_cut() {
        assert_eq!(told("a\nb\u{1b}[31mc"), "a\\nb\\u{1b}[31mc");
        assert_eq!(told("turned \u{202e}around"), "turned \\u{202e}around");
        assert_eq!(told("naïve 'quoted' \"text\""), "naïve 'quoted' \"text\"");
        let long = told(&"é".repeat(10_000));
        assert!(long.len() < LOGGED_BYTES + 40 && long.ends_with("... (20000 bytes)"), "{}", long.len());
    }

    static WRITTEN: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn a_minute_has_so_many_lines_and_says_how_many_more_there_were() {
        let start = Instant::now();
        let lines = Lines::new(
            |line| {
                WRITTEN.fetch_add(if line.contains("380 more") { 1_000 } else { 1 }, Ordering::Relaxed);
            },
            start,
        );
        for _ in 0..LINES_PER_MINUTE + 380 {
            lines.write("x", start);
        }
        assert_eq!(WRITTEN.load(Ordering::Relaxed), LINES_PER_MINUTE);
        lines.write("y", start + MINUTE);
        assert_eq!(WRITTEN.load(Ordering::Relaxed), LINES_PER_MINUTE + 1_001);
    }
}
