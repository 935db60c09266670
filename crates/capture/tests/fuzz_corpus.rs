//! The fuzz targets over their corpus, and over arbitrary and mutated input.

use std::fs;
use std::path::Path;

use capture::fuzzing::{fuzz_answer, fuzz_resolv_conf};
use proptest::prelude::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let inputs: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 5, "the corpus of {target} is missing");
    inputs
}

#[test]
fn corpus_dns() {
    corpus("dns").iter().for_each(|input| fuzz_answer(input));
}

#[test]
fn corpus_resolv_conf() {
    corpus("resolv_conf").iter().for_each(|input| fuzz_resolv_conf(input));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(input in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_answer(&input);
        fuzz_resolv_conf(&input);
    }

    /// Queries that were right until a few bytes changed.
    #[test]
    fn mutated(which in any::<prop::sample::Index>(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let corpus = corpus("dns");
        let mut input = which.get(&corpus).clone();
        for (at, byte) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        fuzz_answer(&input);
    }
}
