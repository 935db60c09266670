//! Which upgrades of a request are taken, and what becomes of them.
use std::sync::Arc;

use serde::Serialize;

use crate::http_connection::HttpConnection;
use crate::refusal::{At, Compiled};
use crate::route::Forward;

/// What becomes of a request that asks for another protocol: HTTP/1's `Upgrade`, HTTP/2's extended CONNECT (which is
/// the same, RFC 8441), or a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// 403, `upgrade_failed`, and the connection takes no further request: what follows may be the other protocol's
    /// bytes, made to look like one (Envoy does the same).
    Refused,
    /// The request goes upstream with what it asks for; after a 101 (200 for a CONNECT) bytes go both ways as they are.
    Forward,
    /// For a CONNECT: it ends here. A host of the cluster is connected to, 200 is answered once that has succeeded,
    /// and the bytes go to it without any HTTP.
    Terminate,
}

/// An upgrade a route switches on or off for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteUpgrade {
    /// Lower case; `connect` for CONNECT.
    pub protocol: Arc<str>,
    pub enabled: bool,
    /// With `connect_config`.
    pub terminate: bool,
}

impl HttpConnection {
    /// `protocol`: what the request asks for, in any case; `CONNECT` for one that is no extended CONNECT. `route`: of
    /// requests that are forwarded; the others have the connection manager's word alone.
    pub fn upgrade(&self, route: Option<&Forward>, protocol: &[u8]) -> Upgrade {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(protocol);
        match route.and_then(|route| route.upgrades.iter().find(|u| is(&u.protocol))) {
            Some(own) if !own.enabled => Upgrade::Refused,
            Some(own) if own.terminate => Upgrade::Terminate,
            Some(_) => Upgrade::Forward,
            None if self.upgrades.iter().any(|u| is(u)) => Upgrade::Forward,
            None => Upgrade::Refused,
        }
    }
}

/// Those of a connection manager that are enabled, lower case.
pub(crate) fn of_connection(
    messages: &[xds::hcm::http_connection_manager::UpgradeConfig],
) -> Compiled<Vec<Arc<str>>> {
    let named = unique(messages.iter().map(|m| m.upgrade_type.as_str()))?;
    let enabled = named.into_iter().zip(messages).filter(|(_, m)| m.enabled.unwrap_or(true));
    Ok(enabled.map(|(name, _)| name).collect())
}

pub(crate) fn of_route(messages: &[xds::route::route_action::UpgradeConfig]) -> Compiled<Vec<RouteUpgrade>> {
    let named = unique(messages.iter().map(|m| m.upgrade_type.as_str()))?;
    named
        .into_iter()
        .zip(messages)
        .enumerate()
        .map(|(i, (protocol, message))| {
            if message.connect_config.is_some() && &*protocol != "connect" {
                return refuse!("only for CONNECT, not for {protocol}")
                    .at("connect_config")
                    .at_index("upgrade_configs", i);
            }
            Ok(RouteUpgrade {
                enabled: message.enabled.unwrap_or(true),
                terminate: message.connect_config.is_some(),
                protocol,
            })
        })
        .collect()
}

/// Envoy refuses a protocol that is named twice, whatever the case.
fn unique<'m>(names: impl Iterator<Item = &'m str>) -> Compiled<Vec<Arc<str>>> {
    let mut seen: Vec<Arc<str>> = Vec::new();
    for (i, name) in names.enumerate() {
        let lower = Arc::from(name.to_ascii_lowercase());
        if seen.contains(&lower) {
            return refuse!("{name:?} is there twice").at_index("upgrade_configs", i);
        }
        seen.push(lower);
    }
    Ok(seen)
}
