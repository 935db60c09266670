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
    // Istio's own test writes a field that its schema has not; its harness does not ask the schema.
    errors.retain(|error| !error.ends_with("spec.tcp[0].name: unknown field"));
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

/// `istioctl analyze` reports what its webhook would refuse as IST0106: exactly that must be an error here.
#[test]
fn what_is_analysed_is_refused_where_istio_refuses_it() {
    const CODE: &str = "IST0106";
    let Some(path) = common::shared("analysis cases", "corpus/analyze/cases.jsonl") else {
        return;
    };
    let mut compared = 0;
    for case in cases(&path) {
        let expected = case["expected"].as_array().into_iter().flatten();
        let expected = expected
            .filter(|finding| finding["code"] == CODE)
            .filter_map(|finding| finding["resource"].as_str());
        let also = case["alsoReported"].as_array().into_iter().flatten();
        let also =
            also.filter_map(Value::as_str).filter_map(|entry| entry.strip_prefix(CODE)).map(str::trim_start);
        let refused: Vec<&str> = expected.chain(also).collect();
        for file in case["files"].as_array().into_iter().flatten() {
            let options = api::Options { keep_invalid: true, ..api::Options::default() };
            let parsed = api::parse_documents("case.yaml", file["yaml"].as_str().expect("yaml"), &options);
            for object in parsed.objects {
                if object.spec == api::Spec::Unsupported || !object.meta.api_version.contains("istio.io") {
                    continue;
                }
                let name = match &object.meta.namespace {
                    Some(namespace) => format!("{} {namespace}/{}", object.meta.kind, object.meta.name),
                    None => format!("{} {}", object.meta.kind, object.meta.name),
                };
                let of_this = |problem: &&api::Problem| problem.object == Some(object.id());
                let errors: Vec<_> =
                    parsed.problems.iter().filter(of_this).filter(|problem| problem.is_error()).collect();
                assert_eq!(
                    !errors.is_empty(),
                    refused.contains(&name.as_str()),
                    "{} {name}: {errors:#?}",
                    case["id"]
                );
                compared += 1;
            }
        }
    }
    eprintln!("{compared} analysed objects");
    assert!(compared > 100, "only {compared} objects");
}
