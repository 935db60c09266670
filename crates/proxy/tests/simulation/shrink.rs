//! A failing history made smaller: whatever can be left out without its finding going away.

use crate::check::live;
use crate::history::History;
use crate::net::Faults;
use crate::plan::{ClientFault, HostFault};

/// What is wrong, without its numbers: two histories fail alike if this is alike.
pub fn kind(wrong: &str) -> String {
    let mut kind: String = wrong.chars().filter(|c| !c.is_ascii_digit()).collect();
    if let Some(at) = kind.find([':', '(', '{']) {
        kind.truncate(at);
    }
    kind.truncate(60);
    kind
}

pub fn shrink(history: &History, wrong: &str) -> History {
    let kind_of = kind(wrong);
    let fails =
        |history: &History| live(history, false).wrong.first().is_some_and(|wrong| kind(wrong) == kind_of);
    let mut best = history.clone();
    loop {
        let smaller = candidates(&best).into_iter().find(|smaller| fails(smaller));
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Each a little less than the history.
fn candidates(of: &History) -> Vec<History> {
    let mut all = vec![];
    let mut with = |change: &dyn Fn(&mut History)| {
        let mut smaller = of.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    for party in 0..of.parties.len() {
        with(&|history| {
            history.parties.remove(party);
        });
    }
    for step in 0..of.script.len() {
        with(&|history| {
            history.script.remove(step);
        });
    }
    let inside = of.inside;
    for quieter in [
        Faults { short: 0, ..inside },
        Faults { would_block: 0, ..inside },
        Faults { shuffle: false, ..inside },
        Faults { no_descriptors: 0, ..inside },
    ] {
        if quieter != inside {
            with(&|history| history.inside = quieter);
        }
    }
    if of.early > 0 {
        with(&|history| history.early = 0);
    }
    for party in 0..of.parties.len() {
        for plan in 0..of.parties[party].plans.len() {
            if of.parties[party].plans.len() > 1 {
                with(&|history| {
                    history.parties[party].plans.remove(plan);
                });
            }
            let id = of.parties[party].plans[plan];
            if of.plans[id].host != HostFault::None {
                with(&|history| history.plans[id].host = HostFault::None);
            }
            if of.plans[id].client != ClientFault::None {
                with(&|history| history.plans[id].client = ClientFault::None);
            }
            if of.plans[id].response > 100 {
                with(&|history| history.plans[id].response /= 8);
            }
            if of.plans[id].post && of.plans[id].request > 100 {
                with(&|history| history.plans[id].request /= 8);
            }
            if of.plans[id].post {
                with(&|history| history.plans[id].post = false);
            }
        }
    }
    all
}

/// For people.
pub fn describe(history: &History) -> String {
    let mut out = format!("seed {}: inside {:?}, early {}\n", history.seed, history.inside, history.early);
    for (at, step) in &history.script {
        out += &format!("  at {} ms {step:?}\n", at / 1_000_000);
    }
    for party in &history.parties {
        out += &format!("  from {} ms {:?}\n", party.begins / 1_000_000, party.kind);
        for id in &party.plans {
            out += &format!("    {:?}\n", history.plans[*id]);
        }
    }
    out
}
