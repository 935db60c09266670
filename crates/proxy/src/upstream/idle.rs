//! How long a host keeps idle connections, learned from those it has closed.
//!
//! A request sent on a connection at the moment its host closes it is lost (RFC 9112 §9.3.1). A host that closes idle
//! connections does so after a fixed time, so connections are retired a little before it.

use std::time::Duration;

use crate::clock::Time;

/// What is known of one host.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdleLimit {
    /// The last connection the host closed while it was idle: when, and after how long.
    seen: Option<(Time, Duration)>,
    learned: Option<(Time, Duration)>,
}

/// What was learned is forgotten after this time: a host may have been given another limit.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// The most by which a connection is retired before its host would close it.
const MARGIN: Duration = Duration::from_millis(200);
/// A connection idle for longer is looked at before it is used: its end may wait unread.
const LOOK_AFTER: Duration = Duration::from_secs(1);

impl IdleLimit {
    /// The host closed a connection that was opened at `opened` and had been idle for so long. Two that agree are a
    /// limit, if the second was opened after the first was closed: a host that stops closes all it has at once.
    pub fn closed(&mut self, now: Time, opened: Time, idle: Duration) {
        let agreed = self.seen.filter(|(at, other)| {
            let (less, more) = (idle.min(*other), idle.max(*other));
            opened >= *at && more - less <= more / 5
        });
        if let Some((_, other)) = agreed {
            self.learned = Some((now, idle.min(other)));
        }
        self.seen = Some((now, idle));
    }

    /// A connection idle for so long is used no more.
    pub fn retire_after(&self, now: Time) -> Option<Duration> {
        let (at, limit) = self.learned?;
        (now.since(at) < GOOD_FOR).then(|| limit - MARGIN.min(limit / 4))
    }

    /// Whether a connection idle for so long is to be looked at before it is used.
    pub fn look(&self, idle: Duration) -> bool {
        idle >= LOOK_AFTER || self.seen.is_some_and(|(_, limit)| idle >= limit / 2)
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
                limit.closed(at(*now), at(*opened), millis(*idle));
            }
            assert_eq!(limit.retire_after(at(12_000)), expected.map(millis), "{closed:?}");
            assert_eq!(limit.retire_after(at(612_000)), None, "{closed:?}: not for ever");
        }
    }

    #[test]
    fn a_connection_is_looked_at_only_when_it_may_have_ended() {
        let mut limit = IdleLimit::default();
        assert_eq!([999, 1000].map(|idle| limit.look(millis(idle))), [false, true]);
        limit.closed(at(100), at(0), millis(60));
        assert_eq!([29, 30].map(|idle| limit.look(millis(idle))), [false, true]);
    }
}
