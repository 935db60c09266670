//! A whole call decided without a socket: listener, chain, routes, cluster, or why there is no answer.
//!
//! The same compiled tables and the same deciding code as in the proxy; only the bytes are missing.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A call to try. Field names are those of `filamesh simulate`'s input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    #[serde(default)]
    pub name: String,
    pub mode: Mode,
    /// Original destination.
    pub address: String,
    pub port: u16,
    pub protocol: Protocol,
    pub tls: Tls,
    #[serde(default)]
    pub alpn: String,
    #[serde(default)]
    pub sni: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// Name of the certificate resource under which a chain counts as mutual; absent = `default`.
    #[serde(default, rename = "mtlsSecret", skip_serializing_if = "Option::is_none")]
    pub mtls_secret: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Outbound,
    Inbound,
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Http2,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    Plaintext,
    Tls,
    Mtls,
}

/// What the call meets. A field is "" where nothing of its kind was met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallResult {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_chain: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_config: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub virtual_host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The messages of one proxy, compiled for calls.
pub struct Simulation {
    snapshot: crate::Snapshot,
}

impl Simulation {
    /// A message that cannot be compiled is left out and told. Two chains that match alike are kept: a call
    /// that meets them is answered with `multiple_filter_chains`.
    pub fn new(
        listeners: &[xds::listener::Listener],
        routes: &[xds::route::RouteConfiguration],
    ) -> (Simulation, Vec<crate::Rejection>) {
        let mut names = crate::config::Names::default();
        let mut rejections = Vec::new();
        let mut compiled = Vec::new();
        for message in listeners {
            match crate::Listener::compile(message, &mut names) {
                Ok(listener) => compiled.push(std::sync::Arc::new(listener)),
                Err(refusal) => rejections.push(refusal.reject(message.name.clone())),
            }
        }
        let mut tables = Vec::new();
        for message in routes {
            let (_, id) = names.route_table(&message.name);
            match crate::RouteTable::compile_message(message, &mut names) {
                Ok(table) => tables.push((id, std::sync::Arc::new(table))),
                Err(refusal) => rejections.push(refusal.reject(message.name.clone())),
            }
        }
        (Simulation { snapshot: crate::Snapshot::of_parts(compiled, tables) }, rejections)
    }

    pub fn snapshot(&self) -> &crate::Snapshot {
        &self.snapshot
    }
}
