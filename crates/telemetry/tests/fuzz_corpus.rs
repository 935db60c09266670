//! Replays the fuzzers' corpora as ordinary tests. A new finding is one more file.

use std::path::Path;

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
fn formats() {
    replay("format", telemetry::fuzzing::fuzz_format);
}

#[test]
fn values() {
    replay("value", telemetry::fuzzing::fuzz_value);
}

#[test]
fn scrapes() {
    replay("scrape", telemetry::fuzzing::fuzz_scrape);
}
