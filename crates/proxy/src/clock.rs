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
pub struct Clock {
    source: Source,
    /// Nanoseconds from 1970 to the clock's beginning, as of when the time of day was last looked at.
    beginning: u64,
}

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<ManualTime>),
}

/// Stands still until a test moves it: nanoseconds.
#[derive(Debug, Default)]
pub struct ManualTime {
    pub monotonic: AtomicU64,
    /// Since 1970.
    pub of_day: AtomicU64,
}

impl Clock {
    pub fn system() -> Clock {
        Clock::from(Source::System(Instant::now()))
    }

    pub fn manual(time: Arc<ManualTime>) -> Clock {
        Clock::from(Source::Manual(time))
    }

    fn from(source: Source) -> Clock {
        let mut clock = Clock { source, beginning: 0 };
        clock.look_at_wall_clock(clock.now());
        clock
    }

    pub fn now(&self) -> Time {
        match &self.source {
            Source::System(start) => Time::default().after(start.elapsed()),
            Source::Manual(time) => Time(time.monotonic.load(Relaxed)),
        }
    }

    /// The same as an `Instant`, for those who count in them.
    pub fn instant(&self, time: Time) -> Instant {
        match self.source {
            Source::System(start) => start + Duration::from_nanos(time.0),
            Source::Manual(_) => Instant::now(),
        }
    }

    /// Follows the time of day, which can be set and which goes on while a suspended machine's own time stands still.
    pub fn look_at_wall_clock(&mut self, now: Time) {
        let of_day = match &self.source {
            Source::System(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            Source::Manual(time) => time.of_day.load(Relaxed),
        };
        self.beginning = of_day.saturating_sub(now.0);
    }

    /// Nanoseconds since 1970 at `time`, by the time of day last looked at. Differences are those of the monotonic time.
    pub fn unix_nanos(&self, time: Time) -> u64 {
        self.beginning.saturating_add(time.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_followed_and_durations_are_not_touched() {
        let time = Arc::new(ManualTime::default());
        time.of_day.store(1_000, Relaxed);
        let mut clock = Clock::manual(time.clone());
        let began = clock.now();
        // Asleep: the day went on, the monotonic time only a little.
        time.monotonic.store(5, Relaxed);
        time.of_day.store(9_000, Relaxed);
        clock.look_at_wall_clock(clock.now());
        assert_eq!(clock.unix_nanos(clock.now()), 9_000);
        assert_eq!(clock.now().since(began), Duration::from_nanos(5));
        assert_eq!(clock.unix_nanos(clock.now()) - clock.unix_nanos(began), 5);
        // Set back.
        time.of_day.store(100, Relaxed);
        clock.look_at_wall_clock(clock.now());
        assert_eq!(clock.unix_nanos(clock.now()), 100);
    }
}
