//! Istio's verdict on single objects, recorded from its schema and its webhook, against ours.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// Kinds whose every case must come out as in Istio.
const JUDGED: &[&str] = &[
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "networking.istio.io/Gateway",
    "Sidecar",
    "WorkloadEntry",
    "WorkloadGroup",
    "PeerAuthentication",
    "MeshConfig",
    "AuthorizationPolicy",
    "RequestAuthentication",
    "ProxyConfig",
    "EnvoyFilter",
    "Telemetry",
    "WasmPlugin",
    "TrafficExtension",
    "gateway.networking.k8s.io/Gateway",
    "HTTPRoute",
    "ReferenceGrant",
    // Known and not looked into; all recorded cases are valid, so these guard against false alarms only.
    "GatewayClass",
    "GRPCRoute",
    "TCPRoute",
    "TLSRoute",
    "ListenerSet",
    "BackendTLSPolicy",
];

#[test]
fn every_case_comes_out_as_in_istio() {
    let Some(path) = common::shared("validation cases", "corpus/validation/cases.jsonl") else {
        return;
    };
    let text = std::fs::read_to_string(path).expect("readable cases");
    let mut tally: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut wrong = String::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case per line");
        let yaml = case["yaml"].as_str().expect("yaml");
        let mut kind = case["kind"].as_str().expect("kind").to_owned();
        if kind == "Gateway" {
            let group = if yaml.contains("networking.istio.io") {
                "networking.istio.io"
            } else {
                "gateway.networking.k8s.io"
            };
            kind = format!("{group}/Gateway");
        }
        let parsed = api::parse_documents("case.yaml", yaml, &api::Options::default());
        let errors: Vec<_> = parsed.problems.iter().filter(|problem| problem.is_error()).collect();
        let warned = parsed.problems.len() > errors.len();
        let expected_valid = case["verdict"] == "valid";
        let expected_warned = case["warnings"] == true;
        let right = errors.is_empty() == expected_valid && (!expected_valid || warned == expected_warned);
        let placed = errors.iter().all(|error| error.line > 0 && error.column > 0 && error.object.is_some());
        let counts = tally.entry(kind.clone()).or_default();
        counts.1 += 1;
        if right && placed {
            counts.0 += 1;
        } else if JUDGED.contains(&kind.as_str()) {
            let _ = writeln!(
                wrong,
                "{}: expected {} warned {expected_warned} by {} ({}) {}\n{yaml}\ngot:",
                case["id"], case["verdict"], case["by"], case["message"], case["warning"]
            );
            for problem in &parsed.problems {
                let _ = writeln!(wrong, "  {problem}");
            }
        }
    }
    let (mut right, mut all) = (0, 0);
    for (kind, counts) in &tally {
        eprintln!(
            "{kind}: {} of {}{}",
            counts.0,
            counts.1,
            if JUDGED.contains(&kind.as_str()) { "" } else { " (not judged yet)" }
        );
        right += counts.0;
        all += counts.1;
    }
    eprintln!("validation: {right} of {all}");
    assert!(wrong.is_empty(), "{wrong}");
}
