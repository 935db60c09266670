//! Histories of a stream drawn from a seed: the server's [`xds::delta_server::Connection`] and a client, a model of
//! Envoy or the session of our own proxy, over a network that delays and breaks. After each step it is looked at what
//! must hold; the same seed gives the same history.
//!
//! `ADS_SEED=N cargo test -p filamesh-xds --test simulation` replays one; `ADS_SEEDS=N` runs so many.
//!
//! | module | what |
//! |---|---|
//! | `config` | what is configured, and what is wrong with it |
//! | `client` | what a client holds; our session |
//! | `envoy` | the model of Envoy |
//! | `history` | one history |
//! | `must` | what must hold |

// Seeds are printed for whoever reads the run.
#![allow(clippy::print_stdout)]

mod client;
mod config;
mod envoy;
mod history;
mod must;
mod random;

use history::History;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_must_hold() {
    if let Some(seed) = number("ADS_SEED") {
        let mut history = History::new(seed, true);
        history.run();
        return;
    }
    let seeds = number("ADS_SEEDS").unwrap_or(1500);
    println!("seeds 0 to {}", seeds - 1);
    let (mut responses, mut refusals, mut reconnects) = (0, 0, 0);
    for seed in 0..seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut history = History::new(seed, false);
            history.run();
            history.counts()
        });
        let Ok(counts) = ran else { panic!("seed {seed}: ADS_SEED={seed} replays it") };
        responses += counts.0;
        refusals += counts.1;
        reconnects += counts.2;
    }
    println!("{responses} responses, {refusals} refusals, {reconnects} reconnects");
    assert!(refusals > 100 && reconnects > 100 || seeds < 1000, "histories in which something happens");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let trace = |seed| {
        let mut history = History::new(seed, false);
        history.run();
        history.trace().to_vec()
    };
    for seed in [3, 4] {
        assert_eq!(trace(seed), trace(seed));
    }
}
