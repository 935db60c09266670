//! The rules of the house that no compiler checks: who may depend on whom, and that the map is true.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn metadata() -> serde_json::Value {
    // Of this platform only: the packages of others were never fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each crate and what of ours it may use; dependencies point down only.
const ALLOWED: &[(&str, &[&str])] = &[
    ("filamesh-wire", &[]),
    ("filamesh-telemetry", &[]),
    ("filamesh-api", &[]),
    ("filamesh-capture", &[]),
    ("filamesh-xds", &[]),
    ("filamesh-model", &["filamesh-xds", "filamesh-telemetry"]),
    ("filamesh-proxy", &["filamesh-wire", "filamesh-telemetry", "filamesh-xds", "filamesh-model"]),
    ("filamesh-control", &["filamesh-api", "filamesh-xds", "filamesh-telemetry"]),
    ("filamesh-testkit", &[]),
    ("filamesh-bench", &[]),
    ("bookinfo", &[]),
];

#[test]
fn dependencies_point_down_only() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let ours: BTreeSet<&str> = allowed.keys().copied().chain(["filamesh"]).collect();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if !ours.contains(name) {
            continue;
        }
        seen.insert(name);
        // The binary may use everything.
        let Some(may) = allowed.get(name) else { continue };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            if ours.contains(used) && dependency["kind"].is_null() {
                assert!(may.contains(&used), "{name} must not depend on {used}");
            }
        }
    }
    assert_eq!(seen, ours, "a crate is missing from the list, or gone");
}

#[test]
fn the_data_path_knows_no_istio_and_the_codecs_no_runtime() {
    let metadata = metadata();
    let uses = |name: &str, dependency: &str| {
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|p| p["name"] == name).unwrap();
        let list = package["dependencies"].as_array().unwrap();
        list.iter().any(|d| d["name"] == dependency && d["kind"].is_null())
    };
    for name in ["filamesh-wire", "filamesh-model", "filamesh-telemetry", "filamesh-api"] {
        assert!(!uses(name, "tokio"), "{name} does no I/O");
    }
    assert!(!uses("filamesh-proxy", "filamesh-api"));
    assert!(!uses("filamesh-control", "kube"));
}

#[test]
fn forbidden_crates_are_not_in_the_tree() {
    // `cargo tree`, not `cargo metadata`: the latter also lists what weak optional features could bring.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--offline", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains("filamesh") && built.len() > 100);
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let forbidden: Vec<&str> =
        deny.lines().filter_map(|l| l.split("{ crate = \"").nth(1)?.split('"').next()).collect();
    assert!(forbidden.len() >= 5, "deny.toml lists what is forbidden: {forbidden:?}");
    for name in forbidden {
        assert!(!built.contains(name), "{name} is forbidden by deny.toml");
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut links = 0;
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "crates/proxy/LIFECYCLE.md"] {
        let document = root().join(document);
        let text = std::fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = document.parent().unwrap().join(target.split('#').next().unwrap_or(target));
            assert!(path.exists(), "{} links to {target}, which is not there", document.display());
            links += 1;
        }
    }
    assert!(links > 10, "the documents link to the code they speak of");
}

/// The names of an enum's variants, as its source has them.
fn variants(source: &str, name: &str) -> Vec<String> {
    let body = source.split(&format!("enum {name} {{\n")).nth(1).unwrap().split("\n}\n").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    ")).filter_map(|line| {
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        name.starts_with(|c: char| c.is_ascii_uppercase()).then_some(name)
    });
    names.collect()
}

#[test]
fn the_life_of_an_exchange_is_drawn_with_the_names_of_the_code() {
    let page = std::fs::read_to_string(root().join("crates/proxy/LIFECYCLE.md")).unwrap();
    let room = root().join("crates/proxy/src/exchange");
    let read = |file: &str| std::fs::read_to_string(room.join(file)).unwrap();
    let phases = variants(&read("state.rs"), "Phase");
    assert!(phases.len() >= 7, "{phases:?}");
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for phase in &phases {
        assert!(rows.contains(phase.as_str()), "no row of LIFECYCLE.md is about Phase::{phase}");
    }
    let drawing = page.split("```").nth(1).unwrap();
    for phase in &phases {
        assert!(drawing.contains(&format!("│ {phase} ")), "Phase::{phase} is not drawn");
    }
    for (file, name) in [("timeout.rs", "Due"), ("state.rs", "Ending")] {
        for variant in variants(&read(file), name) {
            let named = page.contains(&format!("`{variant}`")) || page.contains(&format!("::{variant}`"));
            assert!(named, "{name}::{variant} is not on the page");
        }
    }
    // Every function it names is there.
    let mut code = String::new();
    for file in sources("crates/proxy/src") {
        code.push_str(&std::fs::read_to_string(file).unwrap());
    }
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let function = !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        if function && word.contains('_') {
            let known = [format!("fn {word}("), format!("pub {word}:")];
            assert!(
                known.iter().any(|known| code.contains(known)),
                "{word} is on the page and not in the code"
            );
            named += 1;
        }
    }
    assert!(named > 20, "the page names the code");
}

/// The rooms of the proxy that others stand on, and those above them, which they must not know.
#[test]
fn rooms_of_the_proxy_import_downwards_only() {
    const ABOVE: &[&str] =
        &["worker", "client", "host", "exchange", "request", "response", "filters", "call", "tcp"];
    for (room, above) in [("net", [&["upstream"], ABOVE].concat()), ("upstream", ABOVE.to_vec())] {
        let files = sources(&format!("crates/proxy/src/{room}"));
        assert!(files.len() > 4, "{room} is where it was");
        for path in files {
            let source = std::fs::read_to_string(&path).unwrap();
            for other in &above {
                let known = source.contains(&format!("crate::{other}::"));
                assert!(!known, "{} imports crate::{other}", path.display());
            }
        }
    }
}

/// The crates a request's bytes pass through.
const DATA_PATH: &[&str] =
    &["crates/wire/src", "crates/model/src", "crates/telemetry/src", "crates/proxy/src"];

/// Longer than a function should be, as file and name.
const LONG_FUNCTIONS: &[(&str, &str)] = &[("crates/wire/src/h2/hpack/tests.rs", "published_examples")];

fn sources(directory: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The functions of a formatted source and how many lines each has: from its `fn` to the brace that stands as deep.
fn functions(source: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut found = vec![];
    for (at, line) in lines.iter().enumerate() {
        let deep = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(place) = words.iter().position(|word| *word == "fn") else { continue };
        let before = ["pub", "pub(super)", "pub(crate)", "pub(in", "const", "async", "extern", "unsafe"];
        if !words.iter().take(place).all(|word| before.contains(word)) {
            continue;
        }
        let Some(name) = words.get(place + 1).and_then(|name| name.split(['(', '<']).next()) else {
            continue;
        };
        // Its body is on this line, or it has none.
        let closing = format!("{}}}", " ".repeat(deep));
        let end = lines[at..].iter().position(|line| {
            *line == closing || line.trim_end().ends_with(';') && line.len() - line.trim_start().len() == deep
        });
        if line.ends_with('}') {
            continue;
        }
        if let Some(length) = end {
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn no_function_is_over_80_lines_and_no_file_over_500() {
    let (mut long_files, mut long_functions, mut seen) = (BTreeSet::new(), BTreeSet::new(), 0);
    for path in DATA_PATH.iter().flat_map(|directory| sources(directory)) {
        let source = std::fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if source.lines().count() > 500 {
            long_files.insert(path.clone());
        }
        for (name, lines) in functions(&source) {
            seen += 1;
            if lines > 80 {
                long_functions.insert((path.clone(), name));
            }
        }
    }
    assert!(seen > 1000, "functions are found: {seen}");
    assert!(long_files.is_empty(), "files over 500 lines: {long_files:?}");
    let allowed: BTreeSet<(String, String)> =
        LONG_FUNCTIONS.iter().map(|(file, name)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(long_functions, allowed, "functions over 80 lines");
}
