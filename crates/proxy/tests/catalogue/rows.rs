//! That no row of the catalogue is left out without a word.

use std::path::{Path, PathBuf};

/// A row's id, and what the catalogue expects.
pub struct Row(pub &'static str, pub &'static str);

/// The tables of all classes.
fn all() -> impl Iterator<Item = &'static Row> {
    [
        crate::framing::ROWS,
        crate::upgrades::ROWS,
        crate::multiplexed::ROWS,
        crate::load::ROWS,
        crate::grpc::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Rows, or parts of rows, that need what this program does not have, or not yet.
const NOT_HERE: &[(&str, &str)] = &[
    ("U-05 ext_authz", "there is no external authorization filter"),
    ("U-06", "there is no HBONE; CONNECT is only routed where a route takes it"),
    ("L-04 handshake", "TLS is not terminated yet: a hello is only inspected"),
    ("L-06", "there is no filter that buffers"),
    ("L-07", "there is no decompressor"),
    ("L-09", "TLS is not terminated yet"),
    ("L-12 parsing", "there is no PROXY protocol listener filter; it is refused by name"),
    ("G-06 mark", "the access log says http1.codec_error, as Envoy's does"),
];

#[test]
fn every_row_is_here_and_quoted_as_it_stands() {
    for (row, why) in NOT_HERE {
        println!("NOT COVERED: {row}: {why}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("FILAMESH_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(shared.join("reference/bad-inputs.tsv")) else {
        eprintln!("SKIPPED: the catalogue's rows against its source (no shared corpus)");
        return;
    };
    for line in
        text.lines().filter(|line| ["H-", "U-", "N-", "L-", "G-"].iter().any(|class| line.starts_with(class)))
    {
        let mut fields = line.split('\t');
        let (id, expected) = (fields.next().unwrap(), fields.nth(1).unwrap());
        let row = all().find(|row| row.0 == id).unwrap_or_else(|| panic!("{id} is in no table"));
        assert_eq!(row.1, expected, "{id} says something else now");
    }
}
