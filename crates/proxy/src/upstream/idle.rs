//! How long a host keeps connections, learned from those it has closed while they were idle.
//!
//! A request sent on a connection at the moment its host closes it is lost (RFC 9112 §9.3.1). A host that closes idle
//! connections does so after a fixed time, so connections are retired a little before it; one that closes with an answer,
//! and does not say so in it, does so after a fixed number of answers, so connections are retired with that answer.

use std::time::Duration;

use crate::clock::Time;

/// What is known of one host.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdleLimit {
    /// The last connection the host closed while it was idle.
    seen: Option<Closed>,
    /// When it was learned, and after which idle time connections are closed.
    time: Option<(Time, Duration)>,
    /// The same, and after how many answers.
    answers: Option<(Time, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    at: Time,
    idle: Duration,
    answers: u32,
}

/// What was learned is forgotten after this time: a host may have been given another limit.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// The most by which a connection is retired before its host would close it.
const MARGIN: Duration = Duration::from_millis(200);
/// A connection idle for longer is looked at before it is used: its end may wait unread.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Closed so soon after an answer, a connection was closed with it.
const AT_ONCE: Duration = Duration::from_millis(2);

impl IdleLimit {
    /// The host closed a connection that was opened at `opened`, had brought so many answers, and had been idle for so long
    /// since the last of them. Two that agree are a limit, if the second was opened after the first was closed: a host
    /// that stops closes all it has at once.
    pub fn closed(&mut self, now: Time, opened: Time, idle: Duration, answers: u32) {
        if let Some(other) = self.seen.filter(|other| opened >= other.at) {
            let (less, more) = (idle.min(other.idle), idle.max(other.idle));
            if more < AT_ONCE {
                if answers == other.answers {
                    self.answers = Some((now, answers));
                }
            } else if more - less <= more / 5 {
                self.time = Some((now, less));
            }
        }
        self.seen = Some(Closed { at: now, idle, answers });
    }

    /// A connection idle for so long is used no more.
    pub fn retire_after(&self, now: Time) -> Option<Duration> {
        let (at, limit) = self.time?;
        (now.since(at) < GOOD_FOR).then(|| limit - MARGIN.min(limit / 4))
    }

    /// A connection that has brought so many answers is used no more.
    pub fn is_used_up(&self, now: Time, answers: u32) -> bool {
        self.answers.is_some_and(|(at, most)| answers >= most && now.since(at) < GOOD_FOR)
    }

    /// Whether a connection idle for so long is to be looked at before it is used.
    pub fn look(&self, idle: Duration) -> bool {
        idle >= LOOK_AFTER || self.seen.is_some_and(|seen| idle >= seen.idle / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_limit_is_learned_from_two_connections_that_agree() {
        // (opened, closed, idle) of connections, the limit they make.
        type Closed = (u64, u64, u64);
        let cases: [(&[Closed], Option<u64>); 5] = [
            (&[], None),
            (&[(0, 5000, 4000)], None),
            (&[(0, 5000, 4000), (6000, 11_000, 4100)], Some(3800)),
            // Closed by a host that stops: all were there before.
            (&[(0, 5000, 4000), (900, 5000, 4000)], None),
            // Of no fixed time.
            (&[(0, 5000, 4000), (6000, 7000, 300)], None),
        ];
        for (closed, expected) in cases {
            let mut limit = IdleLimit::default();
            for (opened, now, idle) in closed {
                limit.closed(at(*now), at(*opened), millis(*idle), 3);
                assert!(!limit.is_used_up(at(*now), 3), "{closed:?}");
            }
            assert_eq!(limit.retire_after(at(12_000)), expected.map(millis), "{closed:?}");
            assert_eq!(limit.retire_after(at(612_000)), None, "{closed:?}: not for ever");
        }
    }

    #[test]
    fn a_number_of_answers_is_learned_from_two_connections_closed_with_the_last() {
        // (opened, closed, answers) of connections, after how many one is used up.
        type Closed = (u64, u64, u32);
        let cases: [(&[Closed], Option<u32>); 4] = [
            (&[(0, 50, 3)], None),
            (&[(0, 50, 3), (60, 90, 3)], Some(3)),
            (&[(0, 50, 3), (60, 90, 4)], None),
            // Closed by a host that stops: both were there before.
            (&[(0, 50, 1), (10, 50, 1)], None),
        ];
        for (closed, expected) in cases {
            let mut limit = IdleLimit::default();
            for (opened, now, answers) in closed {
                limit.closed(at(*now), at(*opened), Duration::from_micros(20), *answers);
            }
            let used_up = (1..10).find(|answers| limit.is_used_up(at(100), *answers));
            assert_eq!(used_up, expected, "{closed:?}");
            assert!(!limit.is_used_up(at(600_100), 9), "{closed:?}: not for ever");
            assert_eq!(limit.retire_after(at(100)), None, "{closed:?}: it was not for idleness");
        }
    }

    #[test]
    fn a_connection_is_looked_at_only_when_it_may_have_ended() {
        let mut limit = IdleLimit::default();
        assert_eq!([999, 1000].map(|idle| limit.look(millis(idle))), [false, true]);
        limit.closed(at(100), at(0), millis(60), 1);
        assert_eq!([29, 30].map(|idle| limit.look(millis(idle))), [false, true]);
    }
}
