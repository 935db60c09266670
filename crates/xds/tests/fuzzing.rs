//! Replays the fuzzers' corpora as ordinary tests, and tries bytes at random. A new finding is one more file.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

fn replay(folder: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        target(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "no corpus in {}", folder.display());
}

#[test]
fn corpora() {
    replay("requests", xds::fuzzing::fuzz_requests);
    replay("cache", xds::fuzzing::fuzz_cache);
    replay("stream", xds::fuzzing::fuzz_stream);
    replay("state", xds::fuzzing::fuzz_state);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn requests(data in vec(any::<u8>(), 0..200)) {
        xds::fuzzing::fuzz_requests(&data);
    }

    #[test]
    fn cache(data in vec(any::<u8>(), 0..200)) {
        xds::fuzzing::fuzz_cache(&data);
    }

    #[test]
    fn stream(data in vec(any::<u8>(), 0..600)) {
        xds::fuzzing::fuzz_stream(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn state(data in vec(any::<u8>(), 0..600)) {
        xds::fuzzing::fuzz_state(&data);
    }
}

/// Replays the file that `XDS_FUZZ_STREAM` or `XDS_FUZZ_STATE` names, for whoever looks into a finding.
#[test]
fn one_stream() {
    if let Some(file) = std::env::var_os("XDS_FUZZ_STREAM") {
        xds::fuzzing::fuzz_stream(&std::fs::read(file).unwrap());
    }
    if let Some(file) = std::env::var_os("XDS_FUZZ_STATE") {
        xds::fuzzing::fuzz_state(&std::fs::read(file).unwrap());
    }
}
