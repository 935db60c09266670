//! Istio's sample applications, unmodified: everything loads, and what is not acted on is known by name.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_sample_loads() {
    let Some(root) = common::shared("Istio's samples", "corpus/istio-samples") else {
        return;
    };
    let (mut objects, mut files) = (0, 0);
    let mut unsupported = BTreeSet::new();
    let mut problems = Vec::new();
    for path in yaml_files(&root) {
        let text = std::fs::read_to_string(&path).expect("a readable sample");
        if text.contains("{{") {
            continue;
        }
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        let parsed = api::parse_documents(&name, &text, &api::Options::default());
        files += 1;
        objects += parsed.objects.len();
        for object in &parsed.objects {
            if object.spec == api::Spec::Unsupported {
                unsupported.insert(format!("{} {}", object.meta.api_version, object.meta.kind));
            }
        }
        problems.extend(parsed.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string));
    }
    eprintln!("{objects} objects in {files} files; not acted on: {unsupported:?}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(files > 50 && objects > 100, "{files} files, {objects} objects");
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}
