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
    ("filamesh-mcp", &[]),
    ("filamesh-model", &["filamesh-xds", "filamesh-telemetry"]),
    ("filamesh-proxy", &["filamesh-wire", "filamesh-telemetry", "filamesh-xds", "filamesh-model"]),
    (
        "filamesh-control",
        &[
            "filamesh-wire",
            "filamesh-api",
            "filamesh-xds",
            "filamesh-mcp",
            "filamesh-telemetry",
            "filamesh-model",
        ],
    ),
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
    for name in ["filamesh-wire", "filamesh-model", "filamesh-telemetry", "filamesh-api", "filamesh-mcp"] {
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

/// The files of a crate by the paths of their modules, without those of tests.
fn modules(directory: &str) -> BTreeMap<String, PathBuf> {
    let directory = root().join(directory);
    let files = sources(directory.to_str().unwrap()).into_iter();
    let files =
        files.filter(|file| !file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")));
    let modules = files.map(|file| {
        let place = file.strip_prefix(&directory).unwrap().with_extension("");
        let name = place.to_str().unwrap().replace('/', "::");
        let name = if name == "lib" { "" } else { name.strip_suffix("::mod").unwrap_or(&name) };
        (name.to_owned(), file)
    });
    modules.collect()
}

/// Is a path made of such a character?
fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The path that `text` begins with, its groups spread out, behind `before`: `a::{b, c::{d, e}}` is three, `a::b`, `a::c::d`
/// and `a::c::e`. Returns how long it is.
fn spread(before: &str, text: &str, found: &mut BTreeSet<String>) -> usize {
    let length = text.find(|c| !is_of_path(c)).unwrap_or(text.len());
    let path = format!("{before}{}", &text[..length]);
    if !text[length..].starts_with('{') || !(path.is_empty() || path.ends_with("::")) {
        found.insert(path);
        return length;
    }
    let mut at = length + 1;
    while !text[at..].starts_with('}') {
        at += match text[at..].starts_with(is_of_path) {
            true => spread(&path, &text[at..], found),
            false => 1,
        };
    }
    at + 1
}

/// The module that a path leads into.
fn leads_into(path: &str, modules: &BTreeMap<String, PathBuf>) -> Option<String> {
    match modules.contains_key(path) {
        true => Some(path.to_owned()),
        false if path.is_empty() => None,
        false => leads_into(path.rsplit_once("::").map_or("", |(above, _)| above), modules),
    }
}

/// The modules that the source of one imports from: those its paths lead into, whether they begin with `crate`, `super` or a
/// child's name. Its tests are left out.
fn imports(of: &str, source: &str, modules: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let source = source.split("\n#[cfg(test)]").next().unwrap();
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let parent = of.rsplit_once("::").map_or(String::new(), |(parent, _)| format!("{parent}::"));
    let (mut paths, mut at) = (BTreeSet::new(), 0);
    while let Some(start) = code[at..].find(is_of_path).map(|start| at + start) {
        let text = &code[start..];
        let first = text.split("::").next().unwrap();
        let child = if of.is_empty() { first.to_owned() } else { format!("{of}::{first}") };
        at = start
            + match first {
                "crate" => spread("", &text["crate::".len()..], &mut paths) + "crate::".len(),
                "super" => spread(&parent, &text["super::".len()..], &mut paths) + "super::".len(),
                _ if modules.contains_key(&child) && text[first.len()..].starts_with("::") => {
                    spread(&child[..child.len() - first.len()], text, &mut paths)
                }
                _ => text.find(|c| !is_of_path(c)).unwrap_or(text.len()),
            };
    }
    paths.iter().filter_map(|path| leads_into(path, modules)).filter(|module| module != of).collect()
}

/// What is left of a graph when again and again all is taken away that leads nowhere, or that nothing leads to: the circles, and
/// what lies between them.
fn circles(mut graph: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        graph.values_mut().for_each(|leads_to| leads_to.retain(|node| left.contains(node)));
        let led_to: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|node, leads_to| !leads_to.is_empty() && led_to.contains(node));
        if graph.len() == left.len() {
            return graph;
        }
    }
}

#[test]
fn circles_of_imports_are_found() {
    let modules = ["", "a", "a::b", "c"].map(|name| (name.to_owned(), PathBuf::new())).into();
    let read = |of, source| (String::from(of), imports(of, source, &modules));
    let both = |a, c| circles([read("a::b", "use crate::c::X;\n"), read("a", a), read("c", c)].into());
    // Down only: by a group, by a child's name, by the parent's.
    assert_eq!(read("c", "use crate::{a::{b::{X, Y}, Z}, D};").1, ["", "a", "a::b"].map(String::from).into());
    assert_eq!(read("a", "fn f() { b::g(super::c::h()) }").1, ["a::b", "c"].map(String::from).into());
    assert_eq!(both("use b::X;\nuse crate::c::Y;\n", "// use crate::a::X;\n"), BTreeMap::new());
    assert_eq!(
        both("use b::X;\n", "struct X;\n#[cfg(test)]\nmod tests { use crate::a::X; }\n"),
        BTreeMap::new()
    );
    let circle = both("use b::X;\n", "fn f(x: crate::a::X) {}");
    assert_eq!(circle.keys().collect::<Vec<_>>(), ["a", "a::b", "c"]);
}

/// What each module of a crate imports from.
fn graph(directory: &str) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(directory);
    let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
    modules.iter().map(|(name, file)| (name.clone(), imports(name, &read(file), &modules))).collect()
}

/// Data stand below, the worker that owns them in the middle, its verbs above: whoever reads a file need not know what stands
/// above it.
#[test]
fn rooms_of_the_proxy_import_downwards_only() {
    let graph = graph("crates/proxy/src");
    assert!(graph["worker"].contains("exchange::all") && graph["exchange::all"].contains("exchange"));
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 400, "imports are found");
    assert_eq!(
        circles(graph),
        BTreeMap::new(),
        "files that import each other in a circle, and what they import"
    );
}

/// Those that have no circle keep to it.
#[test]
fn other_crates_import_downwards_only() {
    for name in ["cli", "telemetry"] {
        let graph = graph(&format!("crates/{name}/src"));
        assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 4, "{name}: imports are found");
        assert_eq!(circles(graph), BTreeMap::new(), "{name}: files that import each other in a circle");
    }
}

/// The modules that a file's table names in its first column, if it has a table.
fn mapped(source: &str) -> Option<BTreeSet<String>> {
    let mut rows = source.lines().filter_map(|line| line.strip_prefix("//! |"));
    let head = rows.next()?.split('|').next()?.trim().to_owned();
    if head != "module" && head != "files" {
        return None;
    }
    let first = rows.skip(1).filter_map(|row| row.split('|').next());
    let names = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Some(names.map(|name| name.trim_end_matches("()").trim_end_matches(".rs").to_owned()).collect())
}

/// The modules a file declares, but those for tests.
fn declared(source: &str) -> BTreeSet<String> {
    let of = |line: &str| {
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        let name = line.strip_prefix("mod ")?.trim_end_matches(" {").strip_suffix(';').or_else(|| {
            line.ends_with('{').then(|| line.trim_start_matches("mod ").trim_end_matches(" {"))
        })?;
        (!["tests", "fuzzing", "macros"].contains(&name)).then(|| name.to_owned())
    };
    source.lines().filter_map(of).collect()
}

/// Who opens the first file of a room finds every module in its table, and none that is not there.
#[test]
fn tables_of_modules_name_what_is_there() {
    let mut tables = 0;
    for file in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
        for path in sources(&format!("crates/{}/src", file.file_name().display())) {
            let source = std::fs::read_to_string(&path).unwrap();
            let Some(mapped) = mapped(&source) else { continue };
            tables += 1;
            assert_eq!(mapped, declared(&source), "{}: its table beside its modules", path.display());
        }
    }
    assert!(tables > 20, "tables are found: {tables}");
    let source = "//! | module | what |\n//! |---|---|\n//! | [`a`], `b.rs` | x `y` |\npub mod a;\nmod b;\nmod tests;\npub mod c {\n";
    assert_eq!(mapped(source).unwrap().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(declared(source).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

/// What lies beside the crates: each is named in a document or read by a tool.
#[test]
fn nothing_lies_in_the_root_that_nobody_put_there() {
    let known = [
        ".ci",
        ".git",
        ".gitignore",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "bench",
        "crates",
        "deny.toml",
        "dist",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "samples",
        "soak",
        "target",
        "test",
    ];
    let found = std::fs::read_dir(root()).unwrap().flatten();
    let strangers: Vec<_> =
        found.map(|entry| entry.file_name()).filter(|name| !known.iter().any(|k| name == *k)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
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
