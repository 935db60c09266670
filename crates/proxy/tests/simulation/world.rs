//! The simulation itself: time goes from one thing that happens to the next; after every turn of a worker it is looked at
//! what must always hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proxy::machine::{Command, ManualTime, Piece};

use crate::actor::{Actor, Cx, Next};
use crate::config;
use crate::coverage::Coverage;
use crate::history::{History, Script};
use crate::machine::{Machine, proxy};
use crate::net::{Faults, MICRO, MILLI, Nanos, Net, SECOND};
use crate::plan::{Fate, Plan};
use crate::random::Dice;
use crate::trace::Trace;

/// Events a worker takes in one turn.
const EVENTS: usize = 256;
/// What may be kept on account of one connection: the high-water mark, and what was read before that was noticed.
const LARGEST: usize = 768 * 1024;
/// Turns in which nobody told anything and nothing was done, in one simulated second: timers that were moved away.
const IDLE_TURNS: u64 = 60;
/// How late a timer may be: a tick of the wheel, and what a sleep is rounded up by.
const LATE: Nanos = 10 * MILLI;
/// Turns somebody readable may wait, beside one for each of those who waited before. One of them is a turn in which what was
/// new came first and used it up: the next begins with those left over.
const WAITS: u64 = 4;
/// Turns in which one and the same other connection may be read of meanwhile: in the one in which the wait began, once
/// more if the other one was before; and as often again after a read that falsely would have blocked.
const PASSED: u64 = 4;

/// Exchanges that may begin and end in one turn, together: the share of a turn, and as many that end at once with one
/// connection or one timer.
const TURN_STEPS: usize = 512;

/// Somebody who has something to read and waits.
struct Waiting {
    /// Reads of it when it began to, and how many bytes were kept and not looked at yet.
    progress: (u64, usize),
    turns: u64,
    most: u64,
    /// Who was read of meanwhile, in how many turns.
    passed: BTreeMap<u64, u64>,
}

pub struct World {
    pub net: Net,
    time: Arc<ManualTime>,
    pub now: Nanos,
    pub machines: Vec<Machine>,
    actors: Vec<Option<Box<dyn Actor>>>,
    wakes: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    /// The wake that counts, of each actor.
    due: Vec<Nanos>,
    order: u64,
    pub plans: Vec<Plan>,
    pub fates: Vec<Fate>,
    pub coverage: Coverage,
    pub wrong: Vec<String>,
    dice: Dice,
    script: Vec<(Nanos, Script)>,
    leaving: bool,
    /// Turns may come early: once in so many sleeps.
    early: u64,
    /// Per worker, who has something to read and waits, by token.
    waiting: Vec<BTreeMap<u64, Waiting>>,
    /// Per worker, the timer that is due next, and since when it is the next.
    due_since: Vec<(Nanos, Nanos)>,
    budget: usize,
    futile: u64,
    pub turns: u64,
    log_blocks: bool,
    /// When a stopping worker is waited for no longer.
    stop_by: Option<Nanos>,
    /// The worker was stopped when it had said that nothing is under way.
    pub stopped_well: bool,
    ask_again: Option<Nanos>,
}

impl World {
    pub fn new(history: &History, printed: bool) -> World {
        let mut dice = Dice::new(history.seed ^ 0x5eed);
        let faults = if history.faults { history.inside } else { Faults::default() };
        let near: &[usize] = if history.two_workers { &[0, 2] } else { &[0] };
        let net = Net::new(1 + near.len(), faults, dice.fork(), Trace::new(printed));
        let time = Arc::new(ManualTime::default());
        time.of_day.store(1_700_000_000 * SECOND, Relaxed);
        let mut machines = proxy(near, &net, &time, history, history.seed);
        machines.insert(1, proxy(&[1], &net, &time, history, history.seed ^ 1).remove(0));
        for number in near {
            machines[*number].configure(&config::ALL.near[0]);
        }
        machines[0].listen(&net, "main", config::MAIN);
        machines[near[near.len() - 1]].listen(&net, "raw", config::RAW);
        machines[1].configure(&config::ALL.far);
        machines[1].listen(&net, "far", config::FAR);
        World {
            net,
            time,
            now: 0,
            machines,
            actors: vec![],
            wakes: BinaryHeap::new(),
            due: vec![],
            order: 0,
            plans: history.plans.clone(),
            fates: vec![Fate::default(); history.plans.len()],
            coverage: Coverage::default(),
            wrong: vec![],
            dice,
            script: history.script.clone(),
            leaving: false,
            early: if history.faults { history.early } else { 0 },
            waiting: (0..=near.len()).map(|_| BTreeMap::new()).collect(),
            due_since: vec![(0, 0); near.len() + 1],
            budget: history.budget,
            futile: 0,
            turns: 0,
            log_blocks: false,
            stop_by: None,
            stopped_well: false,
            ask_again: None,
        }
    }

    /// The number the next actor will have.
    pub fn next_actor(&self) -> usize {
        self.actors.len()
    }

    pub fn add(&mut self, actor: Box<dyn Actor>) {
        self.actors.push(Some(actor));
        self.due.push(Nanos::MAX);
        self.wake(self.actors.len() - 1, self.now);
    }

    fn wake(&mut self, actor: usize, at: Nanos) {
        if at < self.due[actor] {
            self.due[actor] = at;
            self.order += 1;
            self.wakes.push(Reverse((at, self.order, actor)));
        }
    }

    fn step_actor(&mut self, me: usize) {
        let Some(mut actor) = self.actors[me].take() else { return };
        let mut born = vec![];
        let next = actor.step(&mut Cx {
            now: self.now,
            me,
            net: &self.net,
            plans: &self.plans,
            fates: &mut self.fates,
            born: &mut born,
            next_actor: self.actors.len(),
            coverage: &mut self.coverage,
            wrong: &mut self.wrong,
            leaving: self.leaving,
        });
        if next != Next::Done {
            self.actors[me] = Some(actor);
        }
        for (_, actor) in born {
            self.add(actor);
        }
        if let Next::At(at) = next {
            self.wake(me, at.max(self.now + 1));
        }
    }

    fn step_woken(&mut self) {
        for _ in 0..10_000 {
            let woken = self.net.lock().take_woken();
            let Some(actor) = woken else { return };
            self.step_actor(actor);
        }
        self.wrong.push("actors wake one another for ever".into());
    }

    /// Goes on until this time, or until something is wrong.
    pub fn run(&mut self, until: Nanos) {
        while self.wrong.is_empty() {
            self.step_woken();
            let net = self.net.lock();
            for machine in &mut self.machines {
                if machine.looks_at.is_none() && net.has_events(machine.index) {
                    machine.looks_at = Some(self.now + 1 + self.dice.below(30 * MICRO));
                }
            }
            let due = net.next_due();
            drop(net);
            let next = [
                self.wakes.peek().map(|wake| wake.0.0),
                due,
                self.script.first().map(|(at, _)| *at),
                self.ask_again,
                self.machines.iter().filter_map(|m| m.looks_at).min(),
                self.machines.iter().filter_map(|m| m.sleeps_until).min(),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= until) else { break };
            self.advance(next.max(self.now));
            if self.ask_again.is_some_and(|at| at <= self.now) {
                self.ask_again = None;
                self.machines[0].ask_active();
            }
            while self.script.first().is_some_and(|(at, _)| *at <= self.now) {
                let (_, step) = self.script.remove(0);
                self.act(step);
            }
            while let Some(Reverse((at, _, actor))) = self.wakes.peek().copied()
                && at <= self.now
            {
                self.wakes.pop();
                if self.due[actor] == at {
                    self.due[actor] = Nanos::MAX;
                    self.step_actor(actor);
                }
            }
            for index in 0..self.machines.len() {
                let machine = &self.machines[index];
                if machine.looks_at.is_some_and(|at| at <= self.now)
                    || machine.sleeps_until.is_some_and(|at| at <= self.now)
                {
                    self.turn(index);
                }
            }
        }
        if self.wrong.is_empty() {
            self.advance(until);
        }
    }

    fn advance(&mut self, to: Nanos) {
        let by = to - self.now;
        self.now = to;
        self.time.monotonic.store(to, Relaxed);
        self.time.of_day.fetch_add(by, Relaxed);
        let mut net = self.net.lock();
        net.trace.now = to;
        net.advance(to);
    }

    fn act(&mut self, step: Script) {
        self.net.lock().trace.note("script", step.number(), 0);
        match step {
            Script::Configure(which) => {
                self.coverage.met("configuration changes");
                for machine in self.machines.iter().filter(|machine| machine.first == 0) {
                    machine.configure(&config::ALL.near[which % config::ALL.near.len()]);
                }
            }
            Script::JumpOfDay(by) => {
                self.coverage.met("time of day jumps");
                let now = self.time.of_day.load(Relaxed);
                self.time.of_day.store(now.saturating_add_signed(by), Relaxed);
            }
            Script::LogBlocks(blocks) => {
                self.coverage.met("log sink blocks");
                self.log_blocks = blocks;
            }
            Script::Stop => {
                self.coverage.met("a worker stopped");
                self.stop_by = Some(self.now + 60 * SECOND);
                self.act(Script::Drain);
                self.machines[0].ask_active();
            }
            Script::Drain => {
                self.coverage.met("listeners drained");
                for machine in self.machines.iter().filter(|machine| machine.first == 0) {
                    machine.queue.send(Command::Unlisten(None));
                    machine.queue.send(Command::Drain);
                }
            }
        }
    }

    /// One turn of a worker, and what must hold after each.
    fn turn(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let (events, before) = {
            let mut net = self.net.lock();
            let events = net.events(index, EVENTS);
            (events, net.moves)
        };
        // A signal that nothing came of is no event, and no timer either.
        let by_timer = events.is_empty() && machine.sleeps_until.is_some_and(|at| at <= self.now);
        machine.turn(events);
        self.turns += 1;
        machine.looks_at = None;
        let sleep = machine.worker.sleep();
        let moved = self.net.lock().moves - before;
        self.net.lock().trace.note(
            "turn",
            index as u64,
            sleep.map_or(u64::MAX, |sleep| sleep.as_nanos() as u64),
        );
        match sleep {
            None => machine.sleeps_until = None,
            Some(Duration::ZERO) => {
                machine.looks_at = Some(self.now + MICRO);
                machine.sleeps_until = None;
                self.futile = if moved == 0 { self.futile + 1 } else { 0 };
            }
            Some(sleep) => {
                let sleep = sleep.as_nanos() as Nanos;
                let early = self.dice.one_in(self.early);
                machine.sleeps_until = Some(self.now + if early { self.dice.below(sleep) } else { sleep });
            }
        }
        if by_timer && moved == 0 {
            machine.idle_turns += 1;
            let seconds = self.now / SECOND + 1;
            let woken_early = machine.turns.checked_div(self.early).map_or(0, |turns| turns + 10);
            if machine.idle_turns > IDLE_TURNS * seconds + woken_early {
                self.wrong.push(format!(
                    "worker {index} woke {} times for nothing in {seconds} s",
                    machine.idle_turns
                ));
            }
        }
        if !self.log_blocks {
            self.read_log(self.machines[index].first);
        }
        if let (0, Some(by), Some(active)) = (index, self.stop_by, self.machines[0].active()) {
            if active == 0 || self.now >= by {
                self.stop_by = None;
                self.net.lock().trace.note("stop", active as u64, 0);
                let net = self.net.clone();
                self.stopped_well = active == 0;
                self.machines[0].stop(&net);
                self.read_log(0);
                return;
            }
            self.ask_again = Some(self.now + SECOND / 10);
        }
        self.look(index);
    }

    /// Takes the lines that were written, each about one exchange.
    pub fn read_log(&mut self, index: usize) {
        while let Some(piece) = self.machines[index].piece() {
            let Piece::Lines(lines) = piece else { continue };
            self.net.lock().trace.bytes(&lines);
            for line in lines.split(|byte| *byte == b'\n') {
                // Those of nobody's plans say so by their first byte.
                if !line.first().is_some_and(u8::is_ascii_digit) {
                    continue;
                }
                let line = String::from_utf8_lossy(line);
                let mut fields = line.split(' ');
                let id = fields.next().and_then(|id| id.parse::<usize>().ok());
                let Some(fate) = id.and_then(|id| self.fates.get_mut(id)) else { continue };
                let status = fields.next().and_then(|status| status.parse().ok()).unwrap_or(0);
                let flags = fields.next().unwrap_or_default();
                // The nearer proxy is the one the clients speak to.
                if index == 0 {
                    fate.lines += 1;
                    fate.logged = status;
                    flags.clone_into(&mut fate.flags);
                } else {
                    fate.far_flags += flags;
                    fate.far_flags.push(';');
                }
            }
        }
    }

    /// Lines are taken from now on.
    pub fn log_flows(&mut self) {
        self.log_blocks = false;
        for index in 0..self.machines.len() {
            self.read_log(index);
        }
    }

    fn look(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let census = machine.worker.census();
        let steps = census.passed.wrapping_sub(std::mem::replace(&mut machine.passed, census.passed));
        if steps > 0 {
            self.futile = 0;
        }
        if self.futile > 8 {
            self.wrong.push(format!("worker {index} spins: it does not sleep and does nothing"));
        }
        if steps > TURN_STEPS {
            self.wrong.push(format!("worker {index} begins and ends {steps} exchanges in one turn"));
        }
        if census.largest > LARGEST {
            self.wrong.push(format!("worker {index} keeps {} bytes for one connection", census.largest));
        }
        // What was read before it was counted: a turn's share, and for each connection what it may hold all the same.
        if census.held > self.budget + (2 << 20) + census.sockets * (64 << 10) {
            self.wrong.push(format!("worker {index} holds {} bytes of its {}", census.held, self.budget));
        }
        if let Some(due) = census.next_due {
            // What wakes the worker next, if not an event.
            let wakes = machine.looks_at.or(machine.sleeps_until).unwrap_or(Nanos::MAX);
            if wakes > due.0.max(self.now) + LATE {
                self.wrong
                    .push(format!("worker {index} sleeps until {wakes}, and a timer is due at {}", due.0));
            }
            // One that is set to what has passed is due with the next tick.
            let known = &mut self.due_since[index];
            if known.0 != due.0 {
                *known = (due.0, self.now);
            }
            let since = known.1;
            if since.max(due.0) + LATE < self.now {
                self.wrong
                    .push(format!("worker {index} does nothing about a timer that was due at {}", due.0));
            }
        }
        if let Some(first) = census.loose.first() {
            self.wrong.push(format!("worker {index} holds what names nobody: {first}"));
        }
        let mut net = self.net.lock();
        let waiting = &mut self.waiting[index];
        if census.waiting.is_empty() {
            waiting.clear();
            net.read_now[index].clear();
            return;
        }
        let read_now = std::mem::take(&mut net.read_now[index]);
        waiting.retain(|token, _| census.waiting.iter().any(|(waits, _)| waits == token));
        let most = WAITS + census.waiting.len() as u64;
        for (token, kept) in &census.waiting {
            let Some(asked) = net.asked_of(index, *token) else { continue };
            let progress = (asked, *kept);
            let begins = || Waiting { progress, turns: 0, most, passed: BTreeMap::new() };
            let wait = waiting.entry(*token).or_insert_with(begins);
            if wait.progress != progress {
                *wait = begins();
            }
            wait.turns += 1;
            for other in read_now.iter().filter(|other| *other != token) {
                *wait.passed.entry(*other).or_default() += 1;
            }
            let passed = wait.passed.values().max().copied().unwrap_or(0);
            if wait.turns > wait.most || passed > PASSED {
                self.wrong.push(format!(
                    "worker {index} lets a connection with something to read wait, for {} turns; another was read of in {passed} of them",
                    wait.turns
                ));
            }
        }
    }

    /// From now on whoever only waits goes.
    pub fn leave(&mut self) {
        self.leaving = true;
        for actor in 0..self.actors.len() {
            self.wake(actor, self.now);
        }
    }

    pub fn actors(&self) -> Vec<String> {
        self.actors
            .iter()
            .flatten()
            .map(|actor| actor.describe())
            .filter(|text| !text.starts_with("host "))
            .collect()
    }
}
