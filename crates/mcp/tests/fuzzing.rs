//! Replays the fuzzers' corpus as ordinary tests, and tries bytes at random. A new finding is one more file.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/resource");
    let files = std::fs::read_dir(&folder).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_is_read_or_refused() {
    assert!(corpus().len() >= 5);
    for data in corpus() {
        mcp::fuzzing::resource(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn bytes_are_read_or_refused(data in vec(any::<u8>(), 0..200)) {
        mcp::fuzzing::resource(&data);
    }

    /// What was once a resource, with some bytes others.
    #[test]
    fn damaged_resources_are_read_or_refused(which in any::<prop::sample::Index>(), at in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let corpus = corpus();
        let mut data = which.get(&corpus).clone();
        if !data.is_empty() {
            for (at, byte) in at {
                let at = at.index(data.len());
                data[at] = byte;
            }
        }
        mcp::fuzzing::resource(&data);
    }
}
