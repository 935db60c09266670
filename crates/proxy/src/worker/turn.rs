//! The loop of a worker: what one turn does, and how long to sleep between two. Whoever drives it (the kernel's driver in
//! [`crate::worker::run`], a simulation) calls [`Worker::sleep`] and [`Worker::turn`] by turns.

use std::io;
use std::time::Duration;

use crate::net::network::Event;
use crate::net::sockets::{Key, Writable};
use crate::worker::connection::Conn;
use crate::worker::share::Stops;
use crate::worker::{FIRST_LISTENER, READ_BUFFER, WAKER, Worker};

/// Read at once of an HTTP/2 connection, which may hold hundreds of requests.
const SHARED_READ: usize = 64 * 1024;
/// What is done in one turn before timers, accepting and sending get theirs: bytes read, and as many for each beginning and
/// each end of an exchange. Some 64 requests and their answers, or 1 MiB of bodies: about 2 ms either way. Who is left over
/// comes first in the next turn.
const TURN_SHARE: usize = 1024 * 1024;
const EXCHANGE_COST: usize = 8192;
/// After a sleep of at least this long there is no load.
const REST_AFTER: Duration = Duration::from_millis(200);
/// How often the time of day is read anew: it can be set, and it runs while a suspended machine's own clock stands.
const LOOK_AT_WALL_CLOCK: Duration = Duration::from_secs(1);

impl Worker {
    /// It was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// How long the worker may sleep when nothing happens; `None` for ever.
    pub fn sleep(&self) -> Option<Duration> {
        // As of the turn that has ended: a timer may be late by its length, and never makes a turn that comes too early.
        let now = self.now;
        if !self.again.is_empty() || (!self.accept_more.is_empty() && self.accept_pause.is_none()) {
            return Some(Duration::ZERO);
        }
        let timers = self.sockets.sleep(now);
        let exchanges = self.exchanges.sleep(now);
        let pause = self.accept_pause.map(|until| until.0.saturating_sub(now.0));
        let log = self.telemetry.flush_due().map(|due| due.0.saturating_sub(now.0));
        let back = self.clusters.next_back().map(|until| until.0.saturating_sub(now.0));
        let check = self.checks.next_due().map(|due| due.0.saturating_sub(now.0));
        let nanos = [timers, exchanges, log, pause, back, check].into_iter().flatten().min();
        // epoll counts in milliseconds: rounded up, so that no turn comes before its time.
        let sleep = nanos.map(|nanos| Duration::from_millis(nanos.div_ceil(1_000_000)));
        match self.could_rest() {
            true => Some(sleep.unwrap_or(REST_AFTER).min(REST_AFTER)),
            false => sleep,
        }
    }

    /// One turn: what the events ask for, what is due, what was left over; then all that was gathered is sent.
    pub fn turn(&mut self, events: impl IntoIterator<Item = Event>) {
        self.begin_turn();
        self.clusters.end_ejections(self.now);
        // Whoever was stopped before this turn is read on once in it, after what is new: small requests do not wait for a
        // long body twice. After a turn that was used up before, those left over come first, or they would never come.
        let mut left_over = self.again.len();
        if std::mem::take(&mut self.behind) {
            self.read_on_in_turn(std::mem::take(&mut left_over));
        }
        let mut happened = 0;
        for event in events {
            match Key::of_word(event.token) {
                Some(key) => {
                    happened += 1;
                    self.stream_event(key, event);
                }
                None => {
                    happened += 2;
                    match event.token {
                        WAKER => self.take_commands(),
                        listener => self.accept((listener - FIRST_LISTENER) as usize),
                    }
                }
            }
            self.settle();
        }
        self.expire();
        self.run_checks();
        self.accept_on();
        self.read_on_in_turn(left_over);
        self.send_gathered();
        // What one connection asked for is soon done: not worth another look at the clock.
        if happened != 1 {
            self.telemetry.turn_took(self.now);
        }
        self.end_turn();
    }

    fn begin_turn(&mut self) {
        let now = self.clock.now().max(self.now);
        if now.since(self.now) >= REST_AFTER {
            self.rest();
        }
        if now >= self.look_at_wall_clock {
            self.clock.look_at_wall_clock(now);
            self.look_at_wall_clock = now.after(LOOK_AT_WALL_CLOCK);
        }
        self.now = now;
        self.read_in_turn = 0;
        self.handshakes_in_turn = 0;
        self.passed_before = self.exchanges.passed();
        self.pace.turn(now, self.passed_before);
    }

    fn end_turn(&mut self) {
        self.telemetry.turn_ended(self.now);
        let conns = &mut self.conns;
        self.sockets.end_turn(|key| conns.vacate(key));
        self.tell_load();
    }

    fn stream_event(&mut self, key: Key, event: Event) {
        if event.writable {
            self.writable(key, event.hung_up);
        }
        if event.hung_up {
            self.sockets.over(key);
        }
        let handshaking = self.sockets.is_handshaking(key);
        if !(event.readable || event.hung_up || handshaking) {
            return;
        }
        if self.sockets.may_read(key, event.hung_up) {
            // Handshakes are dear: those of one turn are counted, first come, first served.
            if handshaking || self.turn_is_used_up() || self.sockets.is_queued(key) {
                self.read_later(key);
            } else {
                self.readable(key, Stops::default());
            }
        } else if self.sockets.is_offered(key) {
            self.offered_event(key);
        }
    }

    pub(crate) fn turn_is_used_up(&self) -> bool {
        let exchanges = self.exchanges.passed().wrapping_sub(self.passed_before);
        self.read_in_turn.saturating_add(exchanges.saturating_mul(EXCHANGE_COST)) >= TURN_SHARE
    }

    /// The connection has something to read, and others come first.
    pub(crate) fn read_later(&mut self, key: Key) {
        self.read_on_later(key, Stops::default());
    }

    fn read_on_later(&mut self, key: Key, stops: Stops) {
        if self.sockets.queue(key) {
            self.again.push_back((key, stops));
        }
    }

    /// So many connections that were stopped before their end, in the order in which they were.
    fn read_on_in_turn(&mut self, left_over: usize) {
        for _ in 0..left_over {
            if self.turn_is_used_up() {
                self.behind = true;
                return;
            }
            let Some((key, stops)) = self.again.pop_front() else { return };
            self.sockets.unqueue(key);
            self.kept_bytes(key);
            if self.turn_is_used_up() {
                // No more is read while some is kept.
                self.read_on_later(key, stops);
            } else if self.sockets.may_read(key, false) {
                self.readable(key, stops);
            }
            self.settle();
        }
    }

    /// A client's bytes that were read in a turn which others used up.
    fn kept_bytes(&mut self, key: Key) {
        match self.conns.get(key) {
            Some(Conn::Downstream(down)) if down.has_kept() => self.downstream_bytes(key, &[]),
            Some(Conn::DownstreamH2(down)) if !down.held.is_empty() => self.h2_read_held(key),
            _ => {}
        }
    }

    /// Sends what this turn has gathered, until that makes nothing more to send.
    fn send_gathered(&mut self) {
        loop {
            self.flush_all();
            self.sockets.uncork();
            if !self.sockets.any_broken() {
                return;
            }
            self.settle();
        }
    }

    /// Listening sockets that were left with connections waiting.
    fn accept_on(&mut self) {
        if self.accept_more.is_empty() || self.accept_pause.is_some_and(|until| until > self.now) {
            return;
        }
        self.accept_pause = None;
        for key in std::mem::take(&mut self.accept_more) {
            self.accept(key);
        }
    }

    /// Handles what one event left for later: sockets that broke under a send, requests sent ahead whose turn came.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some((key, error)) = self.sockets.next_broken() {
                self.broken(key, error);
            } else if let Some(key) = self.continued.pop() {
                self.downstream_bytes(key, &[]);
            } else if let Some(host) = self.roomy.pop() {
                self.serve_queue(&host);
            } else if !self.begin_next_call() {
                return;
            }
        }
    }

    /// Reads until a short read says that nothing is left, or others' turn comes.
    fn readable(&mut self, key: Key, stops: Stops) {
        if self.sockets.is_handshaking(key) && !self.handshake_on(key) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut share = self.pace.share(stops);
        let length = match self.conns.get(key) {
            Some(Conn::DownstreamH2(_) | Conn::UpstreamH2(_)) => SHARED_READ.min(share),
            _ => READ_BUFFER.min(share),
        };
        let whole = buffer.get_mut(..length).unwrap_or_default();
        let mut done = false;
        while share > 0 && self.sockets.may_read(key, false) {
            match self.sockets.receive(key, whole) {
                Ok(0) => {
                    self.ended(key);
                    done = true;
                    break;
                }
                Ok(read) => {
                    share = share.saturating_sub(read);
                    self.read_in_turn += read;
                    self.budget.read += read;
                    self.bytes(key, whole.get(..read).unwrap_or_default());
                    if read < whole.len() && self.sockets.short_read_is_last(key) {
                        done = true;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    done = true;
                    break;
                }
                Err(error) => {
                    self.broken(key, error.kind());
                    done = true;
                    break;
                }
            }
        }
        self.buffer = buffer;
        if !done && self.sockets.is_open(key) {
            // Stopped before the end: paused, or others' turn.
            if self.sockets.is_paused(key) {
                self.sockets.note_readable(key);
            } else {
                self.read_on_later(key, stops.once_more());
            }
        }
    }

    pub(crate) fn writable(&mut self, key: Key, hung_up: bool) {
        match self.sockets.writable(key, hung_up) {
            Writable::Nothing => self.flush(key),
            Writable::Failed => {}
            Writable::Connected => self.connected(key),
            Writable::Drained => self.drained(key),
            Writable::Finished => self.sockets.close(key),
        }
    }

    /// A host that closed while it was still being sent to may have answered before: that is what its client should see.
    #[cold]
    pub(crate) fn last_words(&mut self, key: Key) {
        let mut buffer = vec![0; SHARED_READ];
        while let Ok(length @ 1..) = self.sockets.receive(key, &mut buffer) {
            self.bytes(key, buffer.get(..length).unwrap_or_default());
        }
    }
}
