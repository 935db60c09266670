//! The same bootstrap and the same bytes for a real Envoy and for this proxy: nothing Envoy refuses is forwarded,
//! nothing is forwarded twice, what both forward is the same for the host, and so is what the client is told, up to
//! what `allowed.rs` lists with its reason.
//!
//! | file | holds |
//! |---|---|
//! | `generate.rs` | requests, well-formed and not, from a seed |
//! | `subject.rs` | Envoy and this proxy, started from one bootstrap; a client that sends a case to either |
//! | `http2.rs` | the same over HTTP/2 |
//! | `host.rs` | what a host sees of a case |
//! | `calls.rs` | requests of the proxy's own: mirrored requests, health checks |
//! | `allowed.rs` | the differences there may be |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests print what they compared and what they leave out"
)]

mod allowed;
mod calls;
#[path = "../common/mod.rs"]
mod common;
#[path = "../catalogue/frames.rs"]
mod frames;
mod generate;
mod host;
mod http2;
mod subject;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use generate::Case;
use subject::{Outcome, Subject};

fn envoy() -> Option<PathBuf> {
    common::envoy::find("the differential test against a real Envoy")
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn http1_requests_fare_as_with_envoy() {
    let Some(program) = envoy() else { return };
    let seed = number("DIFFERENTIAL_SEED", 20_261_121);
    let count = number("DIFFERENTIAL_CASES", 800) as usize;
    println!("seed {seed}, {count} connections (DIFFERENTIAL_SEED, DIFFERENTIAL_CASES)");
    let cases = generate::cases(seed, count);
    let requests: usize = cases.iter().map(|case| case.requests).sum();
    let subjects = [Subject::envoy(&program), Subject::ours()];
    let began = Instant::now();
    let [theirs, ours] = std::thread::scope(|scope| {
        subjects
            .each_ref()
            .map(|subject| scope.spawn(|| run(subject, &cases)))
            .map(|running| running.join().unwrap())
    });
    println!("sent in {:.1?}", began.elapsed());
    let mut agreed = 0;
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut differing = vec![];
    for verdict in judge_all(&cases, &subjects, theirs, ours) {
        match verdict {
            Ok(None) => agreed += 1,
            Ok(Some(reason)) => *excused.entry(reason).or_default() += 1,
            Err(text) => differing.push(text),
        }
    }
    println!("{requests} requests on {count} connections in {:.1?}: {agreed} alike", began.elapsed());
    for (reason, count) in excused {
        println!("  {count:4} {reason}");
    }
    assert!(differing.is_empty(), "{} of {count} differ:\n{}", differing.len(), differing.join("\n"));
}

/// All cases, the lanes side by side.
fn run(subject: &Subject, cases: &[Case]) -> Vec<Outcome> {
    let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    std::thread::scope(|scope| {
        for lane in 0..subject::LANES {
            let outcomes = &outcomes;
            scope.spawn(move || {
                for (number, case) in cases.iter().enumerate().skip(lane).step_by(subject::LANES) {
                    let outcome = subject.send(lane, case, Duration::from_millis(150));
                    outcomes.lock().unwrap().insert(number, outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap().into_values().collect()
}

/// All verdicts, the lanes side by side.
fn judge_all(
    cases: &[Case],
    subjects: &[Subject; 2],
    theirs: Vec<Outcome>,
    ours: Vec<Outcome>,
) -> Vec<Result<Option<&'static str>, String>> {
    let todo = Mutex::new(cases.iter().zip(theirs.into_iter().zip(ours)));
    let next = || todo.lock().unwrap().next();
    let verdicts = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for lane in 0..subject::LANES {
            let (next, verdicts) = (&next, &verdicts);
            scope.spawn(move || {
                while let Some((case, (theirs, ours))) = next() {
                    let verdict = judge(lane, case, subjects, theirs, ours);
                    verdicts.lock().unwrap().push(verdict);
                }
            });
        }
    });
    verdicts.into_inner().unwrap()
}

/// Alike, or different for a reason, or neither. What differs is tried once more without haste before it is believed.
fn judge(
    lane: usize,
    case: &Case,
    subjects: &[Subject; 2],
    mut theirs: Outcome,
    mut ours: Outcome,
) -> Result<Option<&'static str>, String> {
    let mut difference = allowed::compare(case, &theirs, &ours);
    if difference.is_err() {
        [theirs, ours] = subjects.each_ref().map(|subject| subject.send(lane, case, Duration::from_secs(1)));
        difference = allowed::compare(case, &theirs, &ours);
    }
    difference.map_err(|what| {
        format!(
            "#{} {what}\n  sent  {}\n  Envoy {theirs}\n  ours  {ours}",
            case.number,
            subject::shown(&case.bytes)
        )
    })
}
