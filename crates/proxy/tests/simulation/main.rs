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
mod history;
mod host;
mod machine;
mod net;
mod plan;
mod random;
mod raw;
mod shrink;
mod stream;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use check::{Outcome, live};
use coverage::Coverage;
use history::History;

/// Seeds that are tried always, first; then those behind `SIMULATION_BASE`, which is printed.
const FIXED: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
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
    let limit = Duration::from_secs(seconds.unwrap_or(10));
    let begun = Instant::now();
    // The same seeds at every landing: what fails then is the change, not the dice. `./soak` throws them.
    let base = number("SIMULATION_BASE").unwrap_or(0);
    println!("seeds from 1 to {FIXED}, then from {}", base + FIXED + 1);
    let mut coverage = Coverage::default();
    let (mut histories, mut turns) = (0u64, 0u64);
    let mut found = BTreeMap::new();
    while begun.elapsed() < limit {
        let seed = if histories < FIXED { histories + 1 } else { base + histories + 1 };
        let history = History::draw(seed);
        let Outcome { wrong, coverage: met, turns: took, .. } = live(&history, false);
        histories += 1;
        turns += took;
        if let Some(first) = wrong.first() {
            if collect {
                found.entry(shrink::kind(first)).or_insert((0u64, seed, first.clone())).0 += 1;
            } else {
                let spent = begun.elapsed().as_secs_f64();
                println!("FOUND after {histories} histories, {spent:.1} s, by seed {seed}: {first}");
                let smaller = shrink::shrink(&history, first);
                panic!("{wrong:#?}\n{}SIMULATION_SEED={seed} replays it", shrink::describe(&smaller));
            }
        }
        coverage.add(&met);
    }
    let rate = histories as f64 / begun.elapsed().as_secs_f64();
    println!("{histories} histories, {turns} turns, {rate:.0} histories a second");
    for (count, seed, first) in found.values() {
        println!("{count:>8} times, first by seed {seed}: {first}");
    }
    for (point, count) in coverage.iter() {
        println!("{count:>10} {point}");
    }
    let missed = coverage.missed();
    assert!(found.is_empty());
    // A busy machine may not get everywhere in a minute; whoever asked for a time gave enough.
    assert!(seconds.is_none() || missed.is_empty(), "never met: {missed:#?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..30 {
        let history = History::draw(seed);
        assert_eq!(live(&history, false).trace, live(&history, false).trace, "seed {seed}");
    }
}
