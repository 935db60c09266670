//! The filter chains of one TCP or TLS port of one service: its rules, else the service itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::hosts::{is_wildcard, matches};

use crate::scope::{EgressListener, Scope};
use crate::translate::chain::{Body, Chain};
use crate::translate::connection_manager::Class;
use crate::translate::context::Context;
use crate::translate::{names, network, values};
use crate::world::VirtualService;
use crate::world::service::Service;
use crate::world::virtual_services::MESH;

/// Rules about connections, by host, of one egress listener; rules about HTTP alone are none.
pub struct ConnectionRules {
    exact: HashMap<String, Vec<usize>>,
    wildcard: Vec<(String, usize)>,
    rules: Vec<Arc<VirtualService>>,
}

impl ConnectionRules {
    pub fn new(listener: &EgressListener) -> Self {
        let about_connections = |rule: &&Arc<VirtualService>| !rule.tls.is_empty() || !rule.tcp.is_empty();
        let rules: Vec<_> = listener.virtual_services.iter().filter(about_connections).cloned().collect();
        let mut made = Self { exact: HashMap::new(), wildcard: Vec::new(), rules: Vec::new() };
        for (at, rule) in rules.iter().enumerate() {
            for host in &rule.hosts {
                if is_wildcard(host) {
                    made.wildcard.push((host.clone(), at));
                } else {
                    made.exact.entry(host.clone()).or_default().push(at);
                }
            }
        }
        made.rules = rules;
        made
    }

    /// In the order that decides.
    fn of_host(&self, host: &str) -> Vec<&Arc<VirtualService>> {
        let mut found: Vec<usize> = if is_wildcard(host) {
            let exact = self.exact.iter().filter(|(own, _)| matches(own, host));
            exact.flat_map(|(_, rules)| rules.iter().copied()).collect()
        } else {
            self.exact.get(host).cloned().unwrap_or_default()
        };
        let wildcard = self.wildcard.iter().filter(|(own, _)| matches(own, host));
        found.extend(wildcard.map(|(_, rule)| *rule));
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| self.rules.get(at)).collect()
    }
}

/// What a chain is made for.
pub struct Listened<'a> {
    pub service: &'a Service,
    /// The listener's port; 0 for a Unix socket.
    pub port: u32,
    pub is_tls: bool,
    pub bind: &'a str,
    /// Networks the service has instead of an address.
    pub cidrs: Vec<String>,
}

pub fn chains(context: &Context<'_>, scope: &Scope, rules: &ConnectionRules, at: Listened<'_>) -> Vec<Chain> {
    let rules = rules.of_host(&at.service.host);
    if at.is_tls { tls_chains(context, scope, &rules, at) } else { tcp_chains(context, scope, &rules, at) }
}

/// Whether a rule is for this proxy and port at all.
fn applies(
    context: &Context<'_>,
    port: (Option<u32>, u32),
    labels: &std::collections::BTreeMap<String, String>,
    namespace: &str,
    gateways: &[String],
) -> bool {
    let (written, own) = port;
    (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH))
        && context.facts.has_labels(labels)
        && written.is_none_or(|port| port == 0 || port == own)
        && (namespace.is_empty() || namespace == context.facts.namespace())
}

fn tls_chains(
    context: &Context<'_>,
    scope: &Scope,
    rules: &[&Arc<VirtualService>],
    at: Listened<'_>,
) -> Vec<Chain> {
    let mut chains = Vec::new();
    let mut handled = HashSet::new();
    let mut cidrs = at.cidrs.clone();
    for rule in rules {
        for (index, tls) in rule.tls.iter().enumerate() {
            for matched in &tls.matches {
                if !applies(
                    context,
                    (matched.port, at.port),
                    &matched.source_labels,
                    &matched.source_namespace,
                    &matched.gateways,
                ) {
                    continue;
                }
                if !matched.destination_subnets.is_empty() && at.port > 0 {
                    cidrs.clone_from(&matched.destination_subnets);
                }
                // Two rules that match the same connections: the first wins (`istio-behaviour` rule 24).
                if !handled.insert((matched.sni_hosts.clone(), matched.destination_subnets.clone())) {
                    continue;
                }
                chains.push(Chain {
                    sni: matched.sni_hosts.clone(),
                    cidrs: cidrs.clone(),
                    metadata: Some(values::provenance(&rule.object, &format!("spec.tls[{index}]"))),
                    body: Body::Network(network::to_destinations(
                        context,
                        scope,
                        Class::Outbound,
                        rule,
                        &tls.route,
                        at.port,
                    )),
                    ..Default::default()
                });
            }
        }
    }
    if !chains.is_empty() {
        return chains;
    }
    let address = context.address_of(at.service);
    let address = if address.contains('/') { "" } else { address };
    // Without an address of its own only the name tells it from others on the port.
    let wildcard = context.wildcard();
    let by_name =
        !at.cidrs.is_empty() || address.is_empty() || (is_unspecified(address) && at.bind == wildcard);
    let mut sni = Vec::new();
    if by_name {
        sni.push(at.service.host.clone());
        for alias in &at.service.aliases {
            sni.push(alias.clone());
            sni.extend(super::domains::short_names(alias, &context.dns_domain()));
        }
    }
    vec![Chain { sni, body: service_body(context, scope, &at), cidrs: at.cidrs, ..Default::default() }]
}

fn is_unspecified(address: &str) -> bool {
    matches!(address, "0.0.0.0" | "::")
}

fn tcp_chains(
    context: &Context<'_>,
    scope: &Scope,
    rules: &[&Arc<VirtualService>],
    at: Listened<'_>,
) -> Vec<Chain> {
    let mut chains = Vec::new();
    let mut covered = false;
    for rule in rules {
        for (index, tcp) in rule.tcp.iter().enumerate() {
            let to = || {
                let class = Class::Outbound;
                network::to_destinations(context, scope, class, rule, &tcp.route, at.port)
            };
            let metadata = || Some(values::provenance(&rule.object, &format!("spec.tcp[{index}]")));
            let applying: Vec<_> = tcp
                .matches
                .iter()
                .filter(|matched| {
                    applies(
                        context,
                        (matched.port, at.port),
                        &matched.source_labels,
                        &matched.source_namespace,
                        &matched.gateways,
                    )
                })
                .collect();
            let unconditional = tcp.matches.is_empty()
                || applying.iter().any(|matched| matched.destination_subnets.is_empty() || at.port == 0);
            // The first one for every destination ends the list.
            if unconditional {
                chains.push(Chain {
                    cidrs: at.cidrs.clone(),
                    metadata: metadata(),
                    body: Body::Network(to()),
                    ..Default::default()
                });
                return chains;
            }
            let mut subnets: Vec<String> =
                applying.iter().flat_map(|matched| matched.destination_subnets.iter().cloned()).collect();
            if subnets.is_empty() {
                continue;
            }
            chains.push(Chain {
                cidrs: subnets.clone(),
                metadata: metadata(),
                body: Body::Network(to()),
                ..Default::default()
            });
            subnets.sort();
            let mut own = at.cidrs.clone();
            own.sort();
            // Envoy refuses two chains with the same match.
            covered |= subnets == own;
        }
    }
    if !covered {
        let body = service_body(context, scope, &at);
        chains.push(Chain { body, cidrs: at.cidrs, ..Default::default() });
    }
    chains
}

/// On to the service: its only port, whatever the listener's is, else the listener's.
fn service_body(context: &Context<'_>, scope: &Scope, at: &Listened<'_>) -> Body {
    let port = match at.service.ports.as_slice() {
        [only] => only.number,
        _ => at.port,
    };
    let cluster = names::outbound(port, "", &at.service.host);
    Body::Network(network::to_service(context, scope, Class::Outbound, &at.service.host, &cluster, ""))
}
