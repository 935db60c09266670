//! Workers in a simulated world: network, time and randomness come from a seed, and so does everything that happens. After
//! every turn of a worker and at the end of each history it is looked at what must hold whatever happened.
//!
//! | variable | what |
//! |---|---|
//! | `SIMULATION_SEED` | replays one history and prints what happens in it |
//! | `SIMULATION_SECONDS` | how long to go on; then every point of [`coverage::REQUIRED`] must have been met |
//! | `SIMULATION_BASE` | what is added to the seeds behind the first; 0 unless given |
//! | `SIMULATION_COLLECT` | tells all kinds of findings, each by its first seed, instead of stopping at the first |
//!
//! `./soak` sets them.

#![allow(clippy::print_stdout, reason = "a run tells what it met")]

mod actor;
mod check;
mod client;
mod config;
mod coverage;
mod crowd;
mod flood;
mod h1;
mod h2;
mod heap;
mod history;
mod host;
mod machine;
mod net;
mod plan;
mod price;
mod random;
mod raw;
mod shadow;
mod shrink;
mod stream;
mod trace;
mod visitors;
mod web;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use check::{Outcome, live};
use coverage::Coverage;
use history::History;

/// Seeds that are tried always, first; then those behind `SIMULATION_BASE`, which is printed.
const FIXED: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What all threads together have met.
#[derive(Default)]
struct Run {
    coverage: Coverage,
    histories: u64,
    turns: u64,
    /// The history that took longest, by its seed.
    slowest: (Duration, u64),
    /// By kind: how often, by which seed first, and what.
    found: BTreeMap<String, (u64, u64, String)>,
}

impl Run {
    fn add(&mut self, other: Run) {
        self.coverage.add(&other.coverage);
        self.histories += other.histories;
        self.turns += other.turns;
        self.slowest = self.slowest.max(other.slowest);
        for (kind, (count, seed, first)) in other.found {
            let known = self.found.entry(kind).or_insert((0, seed, first.clone()));
            known.0 += count;
            if seed < known.1 {
                (known.1, known.2) = (seed, first);
            }
        }
    }
}

/// The seeds of a run, dealt to the threads one by one, until the time is over or something is found.
struct Seeds {
    next: AtomicU64,
    base: u64,
    until: Instant,
    over: AtomicBool,
}

impl Seeds {
    fn next(&self) -> Option<u64> {
        if self.over.load(Relaxed) || Instant::now() >= self.until {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        Some(if number <= FIXED { number } else { self.base + number })
    }
}

fn live_all(seeds: &Seeds, collect: bool) -> Run {
    let mut run = Run::default();
    while let Some(seed) = seeds.next() {
        let begun = Instant::now();
        let Outcome { wrong, coverage, turns, .. } = live(&History::draw(seed), false);
        run.slowest = run.slowest.max((begun.elapsed(), seed));
        run.histories += 1;
        run.turns += turns;
        run.coverage.add(&coverage);
        if let Some(first) = wrong.first() {
            let found = run.found.entry(shrink::kind(first)).or_insert((0, seed, first.clone()));
            found.0 += 1;
            seeds.over.store(!collect, Relaxed);
        }
    }
    run
}

#[test]
fn what_must_hold_holds_in_every_history() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let outcome = live(&History::draw(seed), true);
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:#?}", outcome.wrong);
        return;
    }
    let seconds = number("SIMULATION_SECONDS");
    let collect = std::env::var_os("SIMULATION_COLLECT").is_some();
    let begun = Instant::now();
    // The same seeds at every landing: what fails then is the change, not the dice. `./soak` throws them.
    let base = number("SIMULATION_BASE").unwrap_or(0);
    println!("seeds from 1 to {FIXED}, then from {}", base + FIXED + 1);
    let until = begun + Duration::from_secs(seconds.unwrap_or(10));
    let seeds = Seeds { next: AtomicU64::new(1), base, until, over: AtomicBool::new(false) };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut run = Run::default();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| live_all(&seeds, collect))).collect();
        for thread in all {
            match thread.join() {
                Ok(part) => run.add(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let spent = begun.elapsed().as_secs_f64();
    if let (Some((_, seed, first)), false) = (run.found.values().min_by_key(|found| found.1), collect) {
        println!("FOUND after {} histories, {spent:.1} s, by seed {seed}: {first}", run.histories);
        let smaller = shrink::shrink(&History::draw(*seed), first);
        panic!("{first}\n{}SIMULATION_SEED={seed} replays it", shrink::describe(&smaller));
    }
    let rate = run.histories as f64 / spent;
    println!(
        "{} histories, {} turns, {rate:.0} histories a second on {threads} threads",
        run.histories, run.turns
    );
    println!("the longest took {} ms: seed {}", run.slowest.0.as_millis(), run.slowest.1);
    for (count, seed, first) in run.found.values() {
        println!("{count:>8} times, first by seed {seed}: {first}");
    }
    for (point, count) in run.coverage.iter() {
        println!("{count:>10} {point}");
    }
    let missed = run.coverage.missed();
    assert!(run.found.is_empty());
    // A busy machine may not get everywhere in a moment; whoever asked for a time gave enough.
    assert!(seconds.is_none() || missed.is_empty(), "never met: {missed:#?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..30 {
        let history = History::draw(seed);
        let (one, other) = (live(&history, false), live(&history, false));
        assert_eq!((one.trace, one.turns), (other.trace, other.turns), "seed {seed}");
    }
}
