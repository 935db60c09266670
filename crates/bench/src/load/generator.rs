//! The generator's loop.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::connection::Connection;
use super::schedule::Schedule;
use super::{Load, Measured, request};
use crate::histogram::Histogram;
use crate::procfs;

/// Larger than the largest reply, so that one read takes it.
const BUFFER: usize = 256 * 1024;
/// After this many failures there is nothing left to measure.
const ERROR_LIMIT: u64 = 1000;
/// How long replies are waited for after the window.
const DRAIN: Duration = Duration::from_secs(2);
/// For the first reply, beyond the warm-up.
const PATIENCE: Duration = Duration::from_secs(2);
/// A turn is never longer, so that the end of the window is not missed by much when nothing comes.
const TURN: Duration = Duration::from_millis(20);
const TIMER: Token = Token(usize::MAX);
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Runs one load; bounded in time whatever the target does.
pub fn run(load: &Load) -> anyhow::Result<Measured> {
    let mut generator = Generator::open(load)?;
    let warm = Duration::from_secs_f64(load.warm_up);
    generator.turn_until(warm)?;
    // A target that others keep from running at all is slow, not silent.
    while generator.replies == 0 && generator.errors == 0 && generator.now() < warm + PATIENCE {
        generator.turn()?;
    }
    if generator.replies == 0 {
        let waited = generator.now().as_secs_f64();
        bail!("{} gave no reply in {waited:.1} s of warm-up{}", load.target, generator.why());
    }
    let used = || (!load.watch.is_empty()).then(|| procfs::cpu_of_trees(&load.watch));
    let before = used();
    let start = generator.open_window();
    generator.turn_until(start + Duration::from_secs_f64(load.seconds))?;
    let after = used();
    let seconds = (generator.now() - start).as_secs_f64();
    let replies = generator.replies;
    generator.drain()?;
    if replies == 0 {
        bail!("{} gave no reply in {seconds:.1} s{}", load.target, generator.why());
    }

    let used = before.zip(after).map(|(before, after)| Measured::split(after.since(before), replies)).unzip();
    let quantile = |share| generator.latencies.quantile(share).map(|ns| ns as f64 / 1e3);
    Ok(Measured {
        replies,
        served: generator.served,
        errors: generator.errors,
        seconds,
        rps: replies as f64 / seconds,
        user_us: used.0,
        system_us: used.1,
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: Some(generator.latencies.longest() as f64 / 1e3),
        first_error: generator.first_error,
    })
}

struct Generator<'a> {
    load: &'a Load,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Open loop only: connections without a request, in turn, and requests without a connection.
    free: VecDeque<usize>,
    waiting: VecDeque<u64>,
    timer: Option<Timer>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    started: Instant,
    /// Nanoseconds from the start; requests due before it are not counted.
    window: u64,
    sending: bool,
    latencies: Histogram,
    replies: u64,
    served: u64,
    errors: u64,
    first_error: Option<String>,
}

struct Timer {
    fd: std::os::fd::OwnedFd,
    schedule: Schedule,
}

impl<'a> Generator<'a> {
    fn open(load: &'a Load) -> anyhow::Result<Generator<'a>> {
        let poll = Poll::new().context("epoll")?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let connection = Connection::open(load.target)
                .with_context(|| format!("connection {index} to {}", load.target))?;
            connections.push(connection);
        }
        for (index, connection) in connections.iter_mut().enumerate() {
            poll.registry().register(
                &mut connection.stream,
                Token(index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
        }
        let timer = load.rate.map(Timer::new).transpose()?;
        if let Some(timer) = &timer {
            let raw = timer.fd.as_raw_fd();
            poll.registry().register(&mut SourceFd(&raw), TIMER, Interest::READABLE)?;
        }
        Ok(Generator {
            load,
            poll,
            events: Events::with_capacity(1024),
            free: (0..connections.len()).collect(),
            connections,
            waiting: VecDeque::new(),
            timer,
            request: request(load.body),
            buffer: vec![0; BUFFER],
            started: Instant::now(),
            window: 0,
            sending: true,
            latencies: Histogram::new(),
            replies: 0,
            served: 0,
            errors: 0,
            first_error: None,
        }
        .begin())
    }

    fn begin(mut self) -> Self {
        if self.timer.is_none() {
            self.free.clear();
            let now = self.now_ns();
            for index in 0..self.connections.len() {
                self.send(index, now);
            }
        }
        self
    }

    /// Counts anew from now. The time since the start is returned.
    fn open_window(&mut self) -> Duration {
        let now = self.now();
        self.window = nanoseconds(now);
        self.latencies = Histogram::new();
        self.replies = 0;
        self.errors = 0;
        self.first_error = None;
        now
    }

    fn turn_until(&mut self, end: Duration) -> anyhow::Result<()> {
        while self.now() < end {
            self.turn()?;
            if self.errors > ERROR_LIMIT {
                bail!("{}: more than {ERROR_LIMIT} failures{}", self.load.target, self.why());
            }
        }
        Ok(())
    }

    /// Waits for what is under way; what does not come counts as failed.
    fn drain(&mut self) -> anyhow::Result<()> {
        self.sending = false;
        let end = self.now() + DRAIN;
        let outstanding =
            |this: &Self| this.connections.iter().filter(|c| c.due.is_some()).count() + this.waiting.len();
        while outstanding(self) > 0 && self.now() < end && self.errors <= ERROR_LIMIT {
            self.turn()?;
        }
        let lost = outstanding(self);
        if lost > 0 {
            self.errors += lost as u64;
            self.first_error.get_or_insert_with(|| "no reply within 2 s of the end".to_owned());
        }
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.send_due()?;
        if let Err(e) = self.poll.poll(&mut self.events, Some(TURN))
            && e.kind() != io::ErrorKind::Interrupted
        {
            return Err(e).context("epoll");
        }
        // Taken out, for handling an event borrows the rest.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(index) = event.token();
            if event.token() == TIMER {
                continue;
            }
            if event.is_readable() {
                self.receive(index);
            }
            if event.is_writable() {
                let Some(connection) = self.connections.get_mut(index) else { continue };
                if let Err(e) = connection.send_rest(&self.request) {
                    self.fail(index, &e);
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn send_due(&mut self) -> anyhow::Result<()> {
        let now = self.now_ns();
        if self.timer.is_none() {
            return Ok(());
        }
        if self.sending {
            while let Some(due) = self.timer.as_mut().and_then(|timer| timer.schedule.take(now)) {
                self.waiting.push_back(due);
            }
        }
        while let Some(index) = self.free.pop_front() {
            let Some(due) = self.waiting.pop_front() else {
                self.free.push_front(index);
                break;
            };
            self.send(index, due);
        }
        if self.sending
            && let Some(timer) = &self.timer
        {
            timer.arm(self.started.elapsed())?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, due: u64) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if let Err(e) = connection.send(&self.request, due) {
            self.fail(index, &e);
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let status = match connection.receive(&mut self.buffer) {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(e) => return self.fail(index, &e),
        };
        let due = connection.due.take();
        let now = self.now_ns();
        if status == 200 {
            self.replies += 1;
            self.served += 1;
            if let Some(due) = due
                && due >= self.window
            {
                self.latencies.record(now.saturating_sub(due));
            }
        } else {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| format!("status {status}"));
        }
        self.next(index, now);
    }

    /// The connection is free again.
    fn next(&mut self, index: usize, now: u64) {
        if self.timer.is_none() {
            if self.sending {
                self.send(index, now);
            }
        } else {
            self.free.push_back(index);
        }
    }

    /// Counts a failure and opens the connection anew.
    fn fail(&mut self, index: usize, error: &io::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
        if self.errors > ERROR_LIMIT {
            return;
        }
        let Ok(mut fresh) = Connection::open(self.load.target) else {
            // Its errors are counted by those that still run; a target that is gone ends the run by the limit.
            self.errors += ERROR_LIMIT;
            return;
        };
        let Some(connection) = self.connections.get_mut(index) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut fresh.stream, Token(index), interest).is_ok() {
            *connection = fresh;
            // Not sent at once: a target that closes every connection must not recurse.
            let now = self.now_ns();
            if self.timer.is_none() && self.sending {
                if let Some(connection) = self.connections.get_mut(index)
                    && connection.send(&self.request, now).is_err()
                {
                    self.errors += 1;
                }
            } else {
                self.free.push_back(index);
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.now())
    }

    fn why(&self) -> String {
        self.first_error.as_ref().map(|error| format!(" (first: {error})")).unwrap_or_default()
    }
}

impl Timer {
    fn new(rate: f64) -> anyhow::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).context("timerfd")?;
        Ok(Timer { fd, schedule: Schedule::new(rate, SEED) })
    }

    /// epoll's own timeout counts milliseconds; requests fall due in microseconds. Setting it also takes back
    /// an expiry nobody read.
    fn arm(&self, now: Duration) -> anyhow::Result<()> {
        let wait = self.schedule.next().saturating_sub(nanoseconds(now)).max(1);
        let wait = Timespec {
            tv_sec: i64::try_from(wait / 1_000_000_000)?,
            tv_nsec: i64::try_from(wait % 1_000_000_000)?,
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: wait };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once).context("timerfd")?;
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
