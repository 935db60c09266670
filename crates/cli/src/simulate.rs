//! `filamesh simulate`: what calls would meet, decided by the control plane's and the proxy's own code, no network.
use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use control::proxy::Proxy;
use control::translate::{self, Options};
use control::world::{Settings, World};
use model::simulate::{Call, CallResult, Simulation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::{Failure, Outcome};
use crate::output::{put, say};
use crate::validate::texts;

/// What each call of a case would meet: listener, filter chain, route, cluster, or which error
#[derive(Debug, Args)]
#[command(
    after_help = "Input: one case, an array of cases, or JSON lines, each with config, kubernetes, meshConfig, proxy and calls.
Output: one JSON line a case: {\"id\":…,\"results\":[…]}.

Examples:
  filamesh simulate case.json
  filamesh simulate cases.jsonl | jq -c .results[]"
)]
pub struct Simulate {
    /// JSON or JSON lines; `-` is standard input
    file: std::path::PathBuf,
}

/// One case. Fields it does not name here are for others and left alone.
#[derive(Debug, Deserialize)]
struct Case {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    config: String,
    #[serde(default)]
    kubernetes: String,
    #[serde(default, rename = "meshConfig")]
    mesh_config: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    proxy: Proxy,
    calls: Vec<Call>,
}

#[derive(Debug, Serialize)]
struct Answer {
    id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<CallResult>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid: Option<String>,
}

pub fn run(args: &Simulate) -> Outcome {
    for (name, text) in texts(&args.file)? {
        let values: Vec<Value> = serde_json::Deserializer::from_str(&text)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e| Failure::input(format!("{name}: {e}")))?;
        let cases = values.into_iter().flat_map(|value| match value {
            Value::Array(cases) => cases,
            one => vec![one],
        });
        for (number, case) in cases.enumerate() {
            let case: Case = serde_json::from_value(case)
                .map_err(|e| Failure::input(format!("{name}: case {}: {e}", number + 1)))?;
            let answer =
                serde_json::to_string(&answer(case)).map_err(|e| Failure::input(format!("{name}: {e}")))?;
            put(&(answer + "\n"))?;
        }
    }
    Ok(())
}

fn answer(case: Case) -> Answer {
    let world = match world(&case) {
        Ok(world) => world,
        Err(why) => return Answer { id: case.id, results: None, invalid: Some(why) },
    };
    let options = Options { identity: true, env: case.env, ..Options::default() };
    let made = translate::resources(&world, &case.proxy, &options);
    let (simulation, rejections) = Simulation::new(&made.listeners, &made.routes);
    for rejection in rejections {
        say(format_args!("{}: {rejection}", case.id));
    }
    let results = case.calls.iter().map(|call| simulation.decide(call)).collect();
    Answer { id: case.id, results: Some(results), invalid: None }
}

fn world(case: &Case) -> Result<World, String> {
    let mut objects: Vec<Arc<api::Object>> = Vec::new();
    let mut errors = Vec::new();
    for (name, text) in [("config", &case.config), ("kubernetes", &case.kubernetes)] {
        // What Istio's webhook would refuse may still be in a cluster: only what cannot be read is invalid here.
        let options = api::Options { keep_invalid: true, ..api::Options::default() };
        let parsed = api::parse_documents(name, text, &options);
        let read: std::collections::HashSet<String> = parsed.objects.iter().map(|o| o.id()).collect();
        let unread =
            |p: &&api::Problem| p.is_error() && !p.object.as_ref().is_some_and(|id| read.contains(id));
        errors.extend(parsed.problems.iter().filter(unread).map(ToString::to_string));
        objects.extend(parsed.objects);
    }
    let mesh = match &case.mesh_config {
        None => api::MeshConfig::istio_default(),
        Some(value) => {
            let (mesh, problems) =
                api::parse_mesh_config("meshConfig", &value.to_string(), &api::Options::default());
            errors.extend(problems.iter().filter(|p| p.is_error()).map(ToString::to_string));
            mesh
        }
    };
    if errors.is_empty() {
        Ok(World::build(objects, Vec::new(), mesh, Settings::default()))
    } else {
        Err(errors.join("; "))
    }
}
