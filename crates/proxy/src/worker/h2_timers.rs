//! The timers of an HTTP/2 connection that no stream owns, the same towards clients and hosts: when it has been idle for too
//! long, when it is too old, when its memory is given back.
//!
//! A connection is *used* where a stream begins and where the last one ends, and at no other time: bytes that come or go
//! (PING, SETTINGS, GOAWAY) do not make it younger. Each thing is due once: [`H2Timers::deadline`] never names a time whose
//! action [`H2Timers::due`] has already given out, so no timer is set into the past again and again.
//!
//! For both sides: [`H2Timers::stream_began`] for every stream; [`H2Timers::streams`] whenever the connection has been flushed,
//! then arm the socket's timer with [`H2Timers::deadline`]; when that fires, act on [`H2Timers::due`] until it is `None`.

use std::time::Duration;

use crate::clock::Time;

/// A connection without streams gives back its memory after this long.
pub const RELEASE_AFTER: Duration = Duration::from_secs(2);

/// What configuration allows; `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct H2Limits {
    /// Without streams (Envoy: `idle_timeout`).
    pub idle: Option<Duration>,
    /// In all (Envoy: `max_connection_duration`).
    pub longest: Option<Duration>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Give back memory.
    Release,
    /// No stream for too long: close it.
    Idle,
    /// It is too old: it takes no new streams, those under way go on.
    TooOld,
}

#[derive(Clone, Copy, Debug)]
pub struct H2Timers {
    opened: Time,
    /// When a stream last began, or the last one ended.
    used: Time,
    busy: bool,
    released: bool,
    idle_told: bool,
    age_told: bool,
}

impl H2Timers {
    pub fn new(now: Time) -> H2Timers {
        H2Timers { opened: now, used: now, busy: false, released: false, idle_told: false, age_told: false }
    }

    #[inline]
    pub fn stream_began(&mut self, now: Time) {
        self.used = now;
        self.released = false;
    }

    /// So many streams are open now.
    #[inline]
    pub fn streams(&mut self, now: Time, open: usize) {
        if std::mem::replace(&mut self.busy, open > 0) && open == 0 {
            self.used = now;
            self.released = false;
        }
    }

    /// The earliest time at which something is due.
    pub fn deadline(&self, limits: H2Limits) -> Time {
        let mut deadline = Time::NEVER;
        if let (Some(longest), false) = (limits.longest, self.age_told) {
            deadline = self.opened.after(longest);
        }
        if self.busy || self.idle_told {
            return deadline;
        }
        if let Some(idle) = limits.idle {
            deadline = deadline.min(self.used.after(idle));
        }
        if !self.released {
            deadline = deadline.min(self.used.after(RELEASE_AFTER));
        }
        deadline
    }

    /// One thing that is due now, each only once.
    pub fn due(&mut self, now: Time, limits: H2Limits) -> Option<Due> {
        if !self.age_told && limits.longest.is_some_and(|longest| self.opened.after(longest) <= now) {
            self.age_told = true;
            return Some(Due::TooOld);
        }
        if self.busy || self.idle_told {
            return None;
        }
        if limits.idle.is_some_and(|idle| self.used.after(idle) <= now) {
            self.idle_told = true;
            return Some(Due::Idle);
        }
        if !self.released && self.used.after(RELEASE_AFTER) <= now {
            self.released = true;
            return Some(Due::Release);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: H2Limits =
        H2Limits { idle: Some(Duration::from_secs(60)), longest: Some(Duration::from_secs(100)) };

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(seconds))
    }

    /// Fires the timer whenever it is set, as the worker does: what was due, and when.
    fn run(timers: &mut H2Timers, limits: H2Limits, until: u64) -> Vec<(u64, Due)> {
        let mut told = vec![];
        let mut now = Time::default();
        for _ in 0..1000 {
            let deadline = timers.deadline(limits);
            if deadline > at(until) {
                return told;
            }
            assert!(deadline > now, "set into the past: {deadline:?} at {now:?}, {told:?}");
            now = deadline;
            while let Some(due) = timers.due(now, limits) {
                told.push((now.0 / 1_000_000_000, due));
            }
        }
        panic!("the timer fires without end: {told:?}");
    }

    #[test]
    fn an_idle_connection_is_woken_once_to_release_and_once_to_end() {
        let told = run(&mut H2Timers::new(at(0)), LIMITS, 1_000_000);
        assert_eq!(told, [(2, Due::Release), (60, Due::Idle), (100, Due::TooOld)]);
        let told = run(&mut H2Timers::new(at(0)), H2Limits::default(), 1_000_000);
        assert_eq!(told, [(2, Due::Release)]);
    }

    #[test]
    fn a_long_stream_on_an_old_connection_is_woken_for_its_age_once() {
        let mut timers = H2Timers::new(at(0));
        timers.stream_began(at(0));
        timers.streams(at(0), 1);
        assert_eq!(run(&mut timers, LIMITS, 1_000_000), [(100, Due::TooOld)]);
    }

    #[test]
    fn idle_counts_from_the_end_of_the_last_stream_and_not_from_what_is_flushed_after_it() {
        let mut timers = H2Timers::new(at(0));
        timers.stream_began(at(10));
        timers.streams(at(10), 1);
        timers.streams(at(30), 0);
        // A PING is answered.
        timers.streams(at(50), 0);
        let limits = H2Limits { longest: None, ..LIMITS };
        assert_eq!(run(&mut timers, limits, 1_000), [(32, Due::Release), (90, Due::Idle)]);
    }

    #[test]
    fn a_stream_that_begins_and_ends_within_one_turn_is_a_use() {
        let mut timers = H2Timers::new(at(0));
        assert_eq!(timers.due(at(2), LIMITS), Some(Due::Release));
        timers.stream_began(at(5));
        timers.streams(at(5), 0);
        assert_eq!(timers.deadline(LIMITS), at(7));
        assert_eq!(timers.due(at(64), LIMITS), Some(Due::Release));
        assert_eq!(timers.due(at(65), LIMITS), Some(Due::Idle));
    }
}
