//! Who asks for resources: a proxy as its node message says, and what was asked of it.

mod facts;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use facts::{Answer, Answers, Facts, Question};

/// A proxy as the control plane sees it. Reads the `proxy` object of a simulation case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Proxy {
    #[serde(rename = "type")]
    pub kind: ProxyKind,
    #[serde(default)]
    pub ip: String,
    /// All its addresses; `ip` alone if empty.
    #[serde(default)]
    pub ips: Vec<String>,
    #[serde(default)]
    pub namespace: String,
    /// `POD.NAMESPACE`; empty if it runs in no Pod.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Further node metadata under Istio's names.
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// `region/zone/subzone`.
    #[serde(default)]
    pub locality: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    Sidecar,
    #[serde(alias = "router")]
    Gateway,
}

/// What the receiving side understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Any Envoy: no filter that only Istio's build has.
    Vanilla,
    /// Istio's Envoy.
    Istio,
    /// A proxyless gRPC client.
    Grpc,
    /// filamesh's own proxy.
    #[default]
    Mesh,
}

impl Proxy {
    /// Its first address, or an empty text.
    pub fn address(&self) -> &str {
        if self.ip.is_empty() { self.ips.first().map(String::as_str).unwrap_or_default() } else { &self.ip }
    }

    /// All of its addresses, the first one first.
    pub fn addresses(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.ips.iter().map(String::as_str).collect();
        if !self.ip.is_empty() && !all.contains(&self.ip.as_str()) {
            all.insert(0, &self.ip);
        }
        all
    }

    /// Whether it has addresses, all of IPv6.
    pub fn is_ipv6(&self) -> bool {
        let addresses = std::iter::once(self.address()).chain(self.ips.iter().map(String::as_str));
        let mut addresses = addresses.filter(|address| !address.is_empty()).peekable();
        addresses.peek().is_some() && addresses.all(|address| address.contains(':'))
    }
}

/// A boolean as Istio's metadata writes it: `true` or `"true"`.
pub fn flag(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Bool(value) => *value,
        serde_json::Value::String(text) => matches!(text.as_str(), "true" | "1"),
        _ => false,
    }
}
