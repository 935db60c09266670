//! Counting what a peer does that costs more than it brings (bad-inputs class N).

use std::time::Duration;

use super::{config::AbuseLimits, error::ConnectionError};

type Verdict = Result<(), ConnectionError>;

/// The counts of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abuse {
    closed: u32,
    premature: u32,
    local_resets: u32,
    empty: u32,
    priorities: u64,
    window_updates: u64,
    streams: u64,
    data_sent: u64,
    control: f32,
    control_at: Duration,
    queued_control: u32,
}

impl Abuse {
    pub fn stream_opened(&mut self) {
        self.streams += 1;
    }

    pub fn data_sent(&mut self, frames: u64) {
        self.data_sent += frames;
    }

    /// All output has left.
    pub fn flushed(&mut self) {
        self.queued_control = 0;
    }

    /// A stream ended as it should.
    pub fn ended_well(&mut self) {
        self.closed = self.closed.saturating_add(1);
        self.local_resets = self.local_resets.saturating_sub(1);
    }

    /// The peer gave a stream up, `lived` after it opened it.
    pub fn reset_by_peer(&mut self, lived: Duration, limits: &AbuseLimits) -> Verdict {
        self.closed = self.closed.saturating_add(1);
        if lived >= limits.premature_lifetime {
            return Ok(());
        }
        self.premature = self.premature.saturating_add(1);
        // Envoy's rule: early on an absolute number, later the larger part.
        if self.premature >= limits.premature_resets / 2
            && (self.closed < limits.premature_resets || self.premature >= self.closed / 2)
        {
            return Err(ConnectionError::flood("streams are reset as fast as they are opened"));
        }
        Ok(())
    }

    /// The peer's error made us reset or refuse a stream.
    pub fn reset_by_us(&mut self, limits: &AbuseLimits) -> Verdict {
        self.closed = self.closed.saturating_add(1);
        self.local_resets += 1;
        over(self.local_resets > limits.local_resets, "too many streams had to be reset")?;
        self.answered(limits)
    }

    /// A frame was written in answer to one of the peer's.
    pub fn answered(&mut self, limits: &AbuseLimits) -> Verdict {
        self.queued_control += 1;
        over(self.queued_control > limits.queued_control_frames, "answers are not read")
    }

    /// PING, SETTINGS, and frames of unknown types.
    pub fn control(&mut self, now: Duration, limits: &AbuseLimits) -> Verdict {
        let burst = limits.control_frames as f32;
        let passed = now.saturating_sub(self.control_at).as_secs_f32();
        self.control_at = now;
        self.control = (self.control - passed * burst / 10.0).max(0.0) + 1.0;
        over(self.control > burst, "too many control frames")
    }

    pub fn empty(&mut self, limits: &AbuseLimits) -> Verdict {
        self.empty += 1;
        over(self.empty > limits.empty_frames, "too many empty frames")
    }

    pub fn not_empty(&mut self) {
        self.empty = 0;
    }

    pub fn priority(&mut self, limits: &AbuseLimits) -> Verdict {
        self.priorities += 1;
        let allowed = u64::from(limits.priorities_per_stream) * (1 + self.streams);
        over(self.priorities > allowed, "too many PRIORITY frames")
    }

    pub fn window_update(&mut self, limits: &AbuseLimits) -> Verdict {
        self.window_updates += 1;
        let allowed = 100 + 2 * self.streams + u64::from(limits.window_updates_per_data) * self.data_sent;
        over(self.window_updates > allowed, "too many WINDOW_UPDATE frames")
    }
}

fn over(is: bool, why: &'static str) -> Verdict {
    if is { Err(ConnectionError::flood(why)) } else { Ok(()) }
}
