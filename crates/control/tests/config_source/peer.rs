//! The other control plane: `mcp-peer`, a program in Go over grpc-go and Istio's own messages (folder `peer`).

use std::process::Command;

use serde_json::{Value, json};

use crate::common::DEADLINE;
use crate::common::python::Python as Process;

pub const RULES: &str = "networking.istio.io/v1/VirtualService";

pub struct Peer {
    process: Process,
    /// `127.0.0.1:4711`
    pub address: String,
}

impl Peer {
    /// The program that `FILAMESH_MCP_PEER` names, listening. `None`: there is none.
    pub fn start(test: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("FILAMESH_MCP_PEER") else {
            eprintln!("SKIPPED: {test} (no mcp-peer)");
            return None;
        };
        let mut peer =
            Self { process: Process::start(&mut Command::new(program)), address: "127.0.0.1:0".into() };
        peer.listen();
        Some(peer)
    }

    /// At the same address as before, if there was one.
    pub fn listen(&mut self) {
        // Of the listener before, the port may be held for a moment.
        self.address = crate::common::until("the peer's port", || {
            self.say(&json!({"listen": self.address}));
            let answer = self.next("listening or failed", |line| line.get("request").is_none());
            answer["listening"].as_str().map(str::to_owned)
        });
    }

    pub fn say(&mut self, command: &Value) {
        self.process.say(&command.to_string());
    }

    /// Objects by their name and what their service's paths are rewritten to, in one push.
    pub fn push(&mut self, put: &[(&str, &str)], delete: &[&str]) {
        for (name, uri) in put {
            self.say(&json!({"put": rule(name, uri)}));
        }
        for name in delete {
            self.say(&json!({"delete": rule(name, "/")}));
        }
        self.say(&json!({"push": RULES}));
    }

    /// The next request that is looked for.
    pub fn hear(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let line = self.next(what, |line| line.get("request").is_some_and(&is));
        line["request"].clone()
    }

    fn next(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut passed = Vec::new();
        loop {
            match self.process.heard.recv_timeout(DEADLINE) {
                Ok(line) if is(&line) => return line,
                Ok(line) => passed.push(line),
                Err(_) => panic!("the peer was not told: {what}; it heard {passed:?}"),
            }
        }
    }
}

/// Everything for the service of this name goes to the path's rewrite. Its version is the rewrite.
pub fn rule(name: &str, uri: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": uri},
        "spec": {
            "hosts": [name],
            "http": [{"rewrite": {"uri": uri}, "timeout": "1m", "route": [{"destination": {"host": name}}]}],
        },
    })
}

/// The mesh configuration with these config sources, in order.
pub fn mesh(addresses: &[&str]) -> String {
    let sources: Vec<Value> = addresses.iter().map(|address| json!({"address": address})).collect();
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": json!({"configSources": sources}).to_string()},
    });
    map.to_string()
}
