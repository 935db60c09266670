//! Configurations that Istio accepted must be accepted here: the inputs of the recorded simulations, routing tests and analyses.

mod common;

use std::path::Path;

use serde_json::Value;

fn errors_in(name: &str, text: &str) -> Vec<String> {
    let parsed = api::parse_documents(name, text, &api::Options::default());
    parsed.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect()
}

fn cases(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("readable cases");
    match serde_json::from_str(&text) {
        Ok(Value::Array(cases)) => cases,
        Ok(case) => vec![case],
        Err(_) => text.lines().map(|line| serde_json::from_str(line).expect("a case per line")).collect(),
    }
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(root)
        .expect("a readable directory")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_simulated_is_accepted() {
    let Some(root) = common::shared("simulation inputs", "corpus/simulate") else {
        return;
    };
    let (mut count, mut errors) = (0, Vec::new());
    for path in files(&root.join("istio")).into_iter().chain(files(&root.join("generated"))) {
        for case in cases(&path) {
            count += 1;
            for part in ["config", "kubernetes"] {
                let text = case[part].as_str().unwrap_or_default();
                errors.extend(errors_in(&format!("{}.{part}", case["id"]), text));
            }
            if !case["meshConfig"].is_null() {
                let (_, problems) = api::parse_mesh_config(
                    "meshConfig",
                    &case["meshConfig"].to_string(),
                    &api::Options::default(),
                );
                errors.extend(problems.iter().map(ToString::to_string));
            }
        }
    }
    eprintln!("{count} simulations");
    assert!(count > 300, "only {count} cases");
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn what_is_routed_is_accepted() {
    let Some(root) = common::shared("routing cases", "corpus/routing") else {
        return;
    };
    let mut errors = Vec::new();
    let topology = std::fs::read_to_string(root.join("topology.yaml")).expect("a readable topology");
    errors.extend(errors_in("topology.yaml", &topology));
    let cases = cases(&root.join("cases.jsonl"));
    for case in &cases {
        errors.extend(errors_in(&case["id"].to_string(), case["config"].as_str().unwrap_or_default()));
    }
    eprintln!("{} routing cases", cases.len());
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}
