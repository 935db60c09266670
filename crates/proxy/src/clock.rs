//! What time it is. Injected, so that a test can say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the clock began. Read once per turn of a worker's loop and shared by all it does in that turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Further away than any deadline.
    pub const NEVER: Time = Time(u64::MAX);

    /// This time and so much more; [`Time::NEVER`] on overflow.
    pub fn after(self, wait: Duration) -> Time {
        Time(u64::try_from(wait.as_nanos()).map_or(u64::MAX, |nanos| self.0.saturating_add(nanos)))
    }

    /// As the time since the clock began.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier`; zero if it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The source of [`Time`] and of the time of day.
#[derive(Clone, Debug)]
pub enum Clock {
    System {
        start: Instant,
        start_unix_nanos: u64,
    },
    /// Stands still until a test moves it: nanoseconds.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::System {
            start: Instant::now(),
            start_unix_nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub fn now(&self) -> Time {
        match self {
            Clock::System { start, .. } => Time::default().after(start.elapsed()),
            Clock::Manual(nanos) => Time(nanos.load(Relaxed)),
        }
    }

    /// The same as an `Instant`, for those who count in them.
    pub fn instant(&self, time: Time) -> Instant {
        match self {
            Clock::System { start, .. } => *start + Duration::from_nanos(time.0),
            Clock::Manual(_) => Instant::now(),
        }
    }

    /// Nanoseconds since 1970 at `time`. The clock's own monotonic run from its start: it follows no later step of
    /// the system's clock, so durations and time stamps of one log agree.
    pub fn unix_nanos(&self, time: Time) -> u64 {
        match self {
            Clock::System { start_unix_nanos, .. } => start_unix_nanos.saturating_add(time.0),
            Clock::Manual(_) => time.0,
        }
    }
}
