//! Every statistic that is exported is counted by somebody: one that stays 0 for ever is believed by
//! whoever alerts on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sources of a crate without its tests, with all white space gone so that a call over several
/// lines is found too.
fn sources(directory: &Path, out: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            sources(&path, out);
        } else if name.ends_with(".rs") && !name.contains("tests") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                out.extend(line.chars().filter(|letter| !letter.is_whitespace()));
            }
        }
    }
}

/// Names declared by `stats!` and in how many of its sets each is.
fn declared(text: &str) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("Counter" | "Gauge" | "Histogram"), Some(name), Some(stat)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if stat.starts_with('"') {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

/// How often the handle of a statistic is used: a handle is good for nothing but counting.
fn writes(sources: &str, name: &str) -> usize {
    let field = format!(".{name}");
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    sources.match_indices(&field).filter(|(at, _)| sources.get(at + field.len()..).is_some_and(ends)).count()
}

#[test]
fn every_exported_statistic_is_counted_somewhere() {
    let declarations = std::fs::read_to_string(root().join("crates/telemetry/src/envoy.rs")).unwrap();
    let declared = declared(&declarations);
    assert!(declared.len() > 60, "the declarations changed their shape: {declared:?}");
    let mut text = String::new();
    sources(&root().join("crates/proxy/src"), &mut text);
    // What counts several at once.
    sources(&root().join("crates/telemetry/src/envoy"), &mut text);
    text.extend(declarations.chars().filter(|letter| !letter.is_whitespace()));
    let uncounted: Vec<&str> = declared
        .iter()
        // A name in two sets needs a place for each.
        .filter(|(name, sets)| writes(&text, name) < **sets)
        .map(|(name, _)| *name)
        .collect();
    assert!(uncounted.is_empty(), "exported and never counted: {uncounted:?}");
}

#[test]
fn a_statistic_nobody_counts_is_found() {
    let declared = declared("    Counter seen \"seen\" \"Seen.\";\n    Gauge unseen \"un.seen\" \"Not.\";\n");
    assert_eq!(declared.into_keys().collect::<Vec<_>>(), ["seen", "unseen"]);
    let text = "shard.inc(cluster.stats.seen);shard.inc(stats.unseen_too)";
    assert_eq!((writes(text, "seen"), writes(text, "unseen")), (1, 0));
}
