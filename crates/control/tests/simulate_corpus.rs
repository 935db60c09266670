//! Recorded answers of Istio's control plane: what it generates for a proxy, and what a call then meets in it.
//!
//! Every case goes through parsing, the world and the translation; the calls are decided by `model`, the code the proxy
//! decides with. A case passes when every call's answer is Istio's in full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::MeshConfig;
use control::proxy::{Profile, Proxy};
use control::translate::{Options, resources};
use control::world::{Settings, World};
use model::simulate::{Call, CallResult, Simulation};
use serde::Deserialize;

/// Cases of each file that pass, at least: figures may rise and must not fall.
const FLOOR: &[(&str, usize)] = &[
    ("delegates", 18),
    ("gateway", 51),
    ("gateway-api", 2),
    ("gateway-conflict", 20),
    ("host-rules", 12),
    ("inbound", 26),
    ("istio", 60),
    ("service-entry", 29),
    ("service-ports", 15),
    ("sidecar-scope", 35),
    ("tls-tcp-routes", 26),
    ("virtual-service", 56),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    id: String,
    config: String,
    #[serde(default)]
    kubernetes: String,
    #[serde(default)]
    mesh_config: Option<serde_json::Value>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    proxy: Proxy,
    calls: Vec<Call>,
    istio: Vec<CallResult>,
}

#[test]
fn calls_are_answered_as_istio_answers_them() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: recorded calls (no shared corpus)");
        return;
    };
    let shows = std::env::var("FILAMESH_SHOW").ok();
    let mut by_file: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (file, case) in cases(&corpus) {
        let answers = answer(&case);
        assert_eq!(answers.len(), case.calls.len(), "{}: an answer for every call", case.id);
        let wrong: Vec<usize> =
            (0..answers.len()).filter(|at| answers.get(*at) != case.istio.get(*at)).collect();
        let (passed, all) = by_file.entry(file).or_default();
        *all += 1;
        *passed += usize::from(wrong.is_empty());
        if let Some(at) = wrong.first().copied().filter(|_| {
            shows.as_ref().is_some_and(|wanted| wanted.is_empty() || case.id.contains(wanted.as_str()))
        }) {
            eprintln!("{} call {at} of {}: {}", case.id, case.calls.len(), json(case.calls.get(at)));
            eprintln!("    istio {}", json(case.istio.get(at)));
            eprintln!("    ours  {}", json(answers.get(at)));
        }
    }
    let (mut passed, mut all) = (0, 0);
    for (file, (of_file, of_all)) in &by_file {
        eprintln!("{file:<28} {of_file:>4} of {of_all}");
        passed += of_file;
        all += of_all;
    }
    eprintln!("{:<28} {passed:>4} of {all}", "all");
    for (file, floor) in FLOOR {
        let (of_file, _) = by_file.get(*file).copied().unwrap_or_default();
        assert!(of_file >= *floor, "{file}: {of_file} cases pass, {floor} did before");
    }
}

fn answer(case: &Case) -> Vec<CallResult> {
    let parse = api::Options { validate: false, keep_invalid: true, ..Default::default() };
    let mut objects = api::parse_documents("config", &case.config, &parse).objects;
    objects.extend(api::parse_documents("kubernetes", &case.kubernetes, &parse).objects);
    let mesh = match &case.mesh_config {
        Some(written) => api::parse_mesh_config("meshConfig", &written.to_string(), &parse).0,
        None => MeshConfig::istio_default(),
    };
    let world = World::build(objects, Vec::new(), mesh, Settings::default());
    let options = Options { profile: Profile::Istio, identity: true, env: case.env.clone() };
    let made = resources(&world, &case.proxy, &options);
    let (simulation, rejected) = Simulation::new(&made.listeners, &made.routes);
    for rejection in rejected {
        eprintln!("{}: {rejection:?}", case.id);
    }
    case.calls.iter().map(|call| simulation.decide(call)).collect()
}

fn json<T: serde::Serialize>(value: Option<&T>) -> String {
    value.and_then(|value| serde_json::to_string(value).ok()).unwrap_or_default()
}

/// All cases with the name of the file (or group) they are in.
fn cases(corpus: &Path) -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    for path in files(&corpus.join("istio")) {
        let text = std::fs::read_to_string(&path).expect("a case is readable");
        cases.push(("istio".to_owned(), serde_json::from_str(&text).expect("a case is JSON")));
    }
    for path in files(&corpus.join("generated")) {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(&path).expect("cases are readable");
        for line in text.lines().filter(|line| !line.is_empty()) {
            cases.push((name.clone(), serde_json::from_str(line).expect("a case is JSON")));
        }
    }
    cases
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the corpus has the folder")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn corpus() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("FILAMESH_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| workspace.join("../shared"));
    let corpus = shared.join("corpus/simulate");
    corpus.is_dir().then_some(corpus)
}
