//! How much is read of one connection in a turn, before others get theirs.

use std::time::Duration;

use crate::clock::Time;

/// As a rule, whatever the connection speaks.
const USUAL: usize = 128 * 1024;
/// Of a long body while requests come: a piece of the usual size in each turn would stand in the way of each of them twice,
/// of its head and of its answer. It costs the body two thirds more processor time, so that nobody else pays.
const MAKING_WAY: usize = 16 * 1024;
/// A connection that was not at its end in so many turns, one after the other, carries a long body: 8 MiB have come.
const LONG: u32 = 64;
/// Exchanges that begin or end in a window are requests that come. Of long bodies, fewer fit into it.
const WINDOW: Duration = Duration::from_millis(10);
const MANY: usize = 8;

/// Turns in which a connection was stopped before its end, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops(u32);

impl Stops {
    pub(super) fn once_more(self) -> Stops {
        Stops(self.0.saturating_add(1))
    }
}

/// Whether requests come, as of the last whole window.
#[derive(Debug, Default)]
pub struct Pace {
    began: Time,
    /// Exchanges that had begun or ended by then.
    before: usize,
    requests_come: bool,
}

impl Pace {
    /// Once in each turn.
    #[inline]
    pub(super) fn turn(&mut self, now: Time, passed: usize) {
        let lasted = now.since(self.began);
        if lasted >= WINDOW {
            // A window without a turn was one without requests.
            self.requests_come = passed.wrapping_sub(self.before) >= MANY && lasted < 2 * WINDOW;
            (self.began, self.before) = (now, passed);
        }
    }

    pub(super) fn share(&self, stops: Stops) -> usize {
        if self.requests_come && stops.0 >= LONG { MAKING_WAY } else { USUAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_after(stops: u32, every: Duration, passed_each: usize) -> usize {
        let mut pace = Pace::default();
        let stops = stops.checked_sub(1).map_or(Stops::default(), |before| Stops(before).once_more());
        for turn in 1..100 {
            pace.turn(Time::default().after(every * turn), passed_each * turn as usize);
        }
        pace.share(stops)
    }

    #[test]
    fn a_connection_may_be_stopped_for_ever() {
        assert_eq!(Stops(u32::MAX).once_more(), Stops(u32::MAX));
    }

    #[test]
    fn only_long_bodies_make_way_and_only_while_requests_come() {
        let milli = Duration::from_millis(1);
        for (stops, every, passed_each, share) in [
            (LONG, milli, 1, MAKING_WAY),
            (u32::MAX, milli, 1, MAKING_WAY),
            // Shorter ones are worth their throughput.
            (LONG - 1, milli, 1, USUAL),
            (0, milli, 1, USUAL),
            // Nobody is in a hurry.
            (LONG, milli, 0, USUAL),
            (LONG, 5 * milli, 1, USUAL),
            (LONG, 100 * milli, 10, USUAL),
        ] {
            assert_eq!(
                share_after(stops, every, passed_each),
                share,
                "{stops} stops, {passed_each} each {every:?}"
            );
        }
    }
}
