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
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().unwrap_or(target);
            assert!(root().join(path).exists(), "{document} links to {path}, which is not there");
            links += 1;
        }
    }
    assert!(links > 10, "the documents link to the code they speak of");
}
