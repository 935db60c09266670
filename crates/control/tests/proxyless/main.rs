//! A gRPC client without a proxy under our control plane: grpcio dials `xds:///web.default.svc.cluster.local:80` and calls
//! two servers of its own. Runs where `FILAMESH_PEERS_PYTHON` names a Python that has grpcio.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::python::Python;
use common::*;
use serde_json::{Value, json};

const TARGET: &str = "xds:///web.default.svc.cluster.local:80";
const NODE: &str = "sidecar~127.0.0.1~test.default~default.svc.cluster.local";
/// What a gRPC client does anyway.
const PLAIN: &str = "loadBalancer: {simple: ROUND_ROBIN}";
/// The servers are at `.1` and `.2` of it.
const SERVERS: &str = "127.77.8";

/// The client, its servers and their calls.
struct Peer(Python);

impl Peer {
    fn start(python: PathBuf, plane: &Plane) -> Self {
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": plane.xds.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": NODE, "metadata": {"GENERATOR": "grpc"}},
        });
        let file = plane.dir.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxyless/peer.py");
        Self(Python::start(Command::new(python).arg(script).env("GRPC_XDS_BOOTSTRAP", file)))
    }

    fn ask(&mut self, command: &str) -> Value {
        self.0.say(command);
        // A call has the deadline to itself.
        let patience = DEADLINE + Duration::from_secs(5);
        self.0.heard.recv_timeout(patience).unwrap_or_else(|_| panic!("no answer to `{command}`"))
    }

    /// Waits until only this version answers, often enough; no call may ever fail.
    fn is_answered_by(&mut self, version: &str) {
        self.until(&format!("answers of {version} alone"), |answers| {
            answers.len() == 1 && answers.get(version).and_then(Value::as_u64).is_some_and(|many| many >= 10)
        });
    }

    fn until(&mut self, what: &str, holds: impl Fn(&serde_json::Map<String, Value>) -> bool) {
        let mut seen = Value::Null;
        let deadline = std::time::Instant::now() + DEADLINE;
        loop {
            let counts = self.ask("counts");
            assert_eq!(counts["failed"], json!([]), "{what}");
            if holds(counts["answers"].as_object().unwrap()) {
                return;
            }
            seen = if counts["answers"] == json!({}) { seen } else { counts };
            assert!(std::time::Instant::now() < deadline, "{what}: {seen}");
            // As long as it takes to make the calls that are counted.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A Service before two Pods, each of another version.
fn web(port: &Value) -> String {
    let pod = |number: u32| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web-v{number}, namespace: default, \
             labels: {{app: web, version: v{number}}}}}\nspec: {{containers: []}}\n\
             status: {{phase: Running, podIP: {SERVERS}.{number}}}\n"
        )
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\nspec:\n  selector: {{app: web}}\n  \
         ports: [{{name: grpc, port: 80, targetPort: {port}}}]\n{}{}",
        pod(1),
        pod(2)
    )
}

/// A policy, a subset under a name of its own for each version, and what share of the calls it gets: changed as one.
fn rules(policy: &str, subsets: &[(&str, &str, u32)], more: &str) -> String {
    let defined =
        subsets.iter().map(|(name, version, _)| format!("{{name: {name}, labels: {{version: {version}}}}}"));
    let shares = subsets.iter().map(|(name, _, share)| {
        format!("    - {{destination: {{host: web, subset: {name}}}, weight: {share}}}\n")
    });
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: default}}\n\
         spec:\n  host: web\n  trafficPolicy: {{{policy}}}\n  subsets: [{}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: default}}\n\
         spec:\n  hosts: [web]\n  http:\n  - timeout: 8s\n{more}    route:\n{}",
        defined.collect::<Vec<_>>().join(", "),
        shares.collect::<String>()
    )
}

fn shares(v1: u32, v2: u32) -> String {
    rules(PLAIN, &[("v1", "v1", v1), ("v2", "v2", v2)], "")
}

/// What C-core would refuse if it came as a sidecar gets it.
const POLICIES: [&str; 6] = [
    "loadBalancer: {simple: LEAST_REQUEST}",
    "loadBalancer: {simple: RANDOM}, connectionPool: {http: {http2MaxRequests: 100}}",
    "loadBalancer: {simple: PASSTHROUGH}, outlierDetection: {consecutive5xxErrors: 5}",
    "loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 99999999}}}",
    "loadBalancer: {consistentHash: {httpCookie: {name: x, ttl: 0s}, maglev: {}}}",
    "tls: {mode: ISTIO_MUTUAL}",
];

fn refused(plane: &Plane) -> Option<Value> {
    let status = plane.get("/filamesh/v1/proxies");
    let proxy = status.as_array()?.iter().find(|proxy| proxy["profile"] == "grpc")?;
    Some(proxy["refused"].clone())
}

#[test]
fn a_client_without_a_proxy_follows_every_change_and_no_call_fails() {
    let Some(python) = Python::with("grpc") else {
        println!("SKIPPED: gRPC clients without a proxy (FILAMESH_PEERS_PYTHON, grpcio)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut plane = Plane::start(&[("other.yaml", service("other"))]);
    let mut peer = Peer::start(python, &plane);
    let port = peer.ask(&format!("serve {SERVERS} v1 v2"));
    // The rules first: the service is never there without them.
    plane.put("rules.yaml", &shares(100, 0));
    plane.put("web.yaml", &web(&port));
    for target in [TARGET, "xds:///web:80", "xds:///web.default:80", "xds:///web.default.svc:80"] {
        assert_eq!(peer.ask(&format!("dial {target}")), json!({"answer": "v1"}), "{target}");
    }

    peer.ask(&format!("call {TARGET}"));
    peer.is_answered_by("v1");
    plane.put("rules.yaml", &shares(0, 100));
    peer.is_answered_by("v2");
    plane.put("rules.yaml", &shares(50, 50));
    peer.until("answers of both", |answers| answers.len() == 2);
    // The clusters it uses go with the change that brings others.
    for (name, version) in [("one", "v1"), ("two", "v2"), ("three", "v1"), ("four", "v2")] {
        plane.put("rules.yaml", &rules(PLAIN, &[(name, version, 100)], ""));
        peer.is_answered_by(version);
    }
    for (policy, version) in POLICIES.iter().zip(["v1", "v2"].iter().cycle()) {
        let more = "    corsPolicy: {allowOrigins: [{exact: a.b}]}\n    mirror: {host: web}\n    retries: {attempts: 2}\n";
        plane.put("rules.yaml", &rules(policy, &[("of-policy", version, 100)], more));
        peer.is_answered_by(version);
        assert_eq!(refused(&plane), Some(json!([])), "{policy}");
    }

    plane.put("rules.yaml", &shares(0, 100));
    peer.is_answered_by("v2");

    // Without the control plane it keeps what it has; the one that comes back is followed, with what changed meanwhile.
    plane.stop();
    peer.is_answered_by("v2");
    plane.restart();
    peer.is_answered_by("v2");
    plane.put("rules.yaml", &shares(100, 0));
    peer.is_answered_by("v1");
    plane.stop();
    plane.put("rules.yaml", &shares(0, 100));
    plane.restart();
    peer.is_answered_by("v2");

    // With no rule it goes to all of the service, with a fault to nobody.
    plane.remove("rules.yaml");
    peer.until("answers of both", |answers| answers.len() == 2);
    let fault = "    fault: {abort: {grpcStatus: DATA_LOSS, percentage: {value: 100}}}\n";
    plane.put("rules.yaml", &rules(PLAIN, &[("v1", "v1", 100)], fault));
    let mut aborted = || peer.ask("dial xds:///web:80")["status"] == "DATA_LOSS";
    until("the fault", || aborted().then_some(()));
    assert_eq!(refused(&plane), Some(json!([])));
}
