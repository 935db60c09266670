//! The parser takes anything: a corpus replayed, and properties over generated text.

use api::fuzzing;
use proptest::prelude::*;

#[test]
fn corpus() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/documents");
    let mut count = 0;
    for entry in std::fs::read_dir(root).expect("a corpus") {
        let data = std::fs::read(entry.expect("an entry").path()).expect("a readable file");
        fuzzing::documents(&data);
        fuzzing::mesh_config(&data);
        // Every beginning of it too: files are cut where writing stopped.
        for end in 0..data.len() {
            fuzzing::documents(&data[..end]);
        }
        count += 1;
    }
    assert!(count >= 10, "only {count} files");
}

/// Pieces of which mistakes are made.
fn fragment() -> impl Strategy<Value = String> {
    let words: &[&str] = &[
        "apiVersion: networking.istio.io/v1\n",
        "kind: VirtualService\n",
        "kind: DestinationRule\n",
        "kind: Gateway\n",
        "metadata:\n  name: a\n",
        "spec:\n",
        "  hosts: [a.b, \"*\"]\n",
        "  http:\n",
        "  - match:\n",
        "    - uri:\n",
        "        exact: /\n",
        "    route:\n",
        "    - destination: {host: a}\n",
        "      weight: -1\n",
        "    timeout: 1s\n",
        "---\n",
        "...\n",
        "- ",
        "? ",
        ": ",
        "| ",
        ">-\n",
        "&a ",
        "*a ",
        "!!int ",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "#",
        "%",
        "@",
        "`",
        "\t",
        "\r\n",
        "\n",
        "  ",
        "    ",
        "\u{feff}",
        "页面",
        "\\u12",
        "0x",
        "1e999",
        ".nan",
    ];
    prop_oneof![3 => proptest::sample::select(words).prop_map(str::to_owned), 1 => ".{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_documents(pieces in prop::collection::vec(fragment(), 0..40)) {
        let text = pieces.concat();
        fuzzing::documents(text.as_bytes());
        fuzzing::mesh_config(text.as_bytes());
    }

    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::documents(&data);
    }

    #[test]
    fn any_hosts(left in r"(\*|\*\.)?[ab]{0,2}(\.[ab]{1,2}){0,2}", right in r"(\*|\*\.)?[ab]{0,2}(\.[ab]{1,2}){0,2}") {
        fuzzing::host_names(&left, &right);
    }
}
