//! Where a gateway's TCP and TLS connections go.

use std::collections::HashMap;

use api::hosts::{is_subset, matches};
use api::networking::ServerTlsMode;
use xds::listener::Filter;

use super::merge::Server;
use crate::scope::Scope;
use crate::translate::chain::{self, Body, Chain, MESH_ANY};
use crate::translate::connection_manager::Class;
use crate::translate::context::Context;
use crate::translate::values::provenance;
use crate::translate::{names, network};
use crate::world::{Conflict, Note, Owners, Reason, VirtualService};
use api::protocol::Protocol;

/// Which rules have taken an SNI on a port, so that no chain is matched twice.
pub type TakenNames = HashMap<u32, HashMap<String, String>>;

/// The filters of the first rule bound to the server; `None` if there is none.
pub fn tcp(context: &Context<'_>, scope: &Scope, server: &Server) -> Option<Vec<Filter>> {
    for rule in bound(context, server) {
        let found = rule.tcp.iter().find(|tcp| {
            let mut matches = tcp.matches.iter();
            tcp.matches.is_empty() || matches.any(|matched| applies(server, matched.port, &matched.gateways))
        });
        if let Some(tcp) = found {
            let class = Class::Gateway;
            return Some(network::to_destinations(context, scope, class, rule, &tcp.route, server.port));
        }
    }
    None
}

/// TLS that goes through unread, by SNI.
pub fn passthrough(
    context: &Context<'_>,
    scope: &Scope,
    server: &Server,
    listens: u32,
    taken: &mut TakenNames,
) -> Vec<Chain> {
    if server.spec.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough) {
        return auto_passthrough(context, scope, server);
    }
    let mut chains = Vec::new();
    for rule in bound(context, server) {
        for (at, tls) in rule.tls.iter().enumerate() {
            for matched in &tls.matches {
                if !applies(server, matched.port, &matched.gateways) {
                    continue;
                }
                let known = taken.entry(listens).or_default();
                if !take(known, &matched.sni_hosts, &server.spec.bind) {
                    context.note(Note::on(
                        &rule.object,
                        format!("spec.tls[{at}]"),
                        Reason::Conflict(Conflict::SniHosts {
                            port: listens,
                            gateway: server.gateway.clone(),
                        }),
                    ));
                    continue;
                }
                let class = Class::Gateway;
                let filters = network::to_destinations(context, scope, class, rule, &tls.route, server.port);
                chains.push(Chain {
                    sni: matched.sni_hosts.clone(),
                    metadata: Some(provenance(&rule.object, &format!("spec.tls[{at}]"))),
                    body: Body::Network(filters),
                    ..Default::default()
                });
            }
        }
    }
    chains
}

/// Every service of the mesh under its name in SNI, for clients that are sidecars themselves.
fn auto_passthrough(context: &Context<'_>, scope: &Scope, server: &Server) -> Vec<Chain> {
    let mut chains = Vec::new();
    for service in scope.services.iter().filter(|service| !service.mesh_external) {
        if !server.sni.iter().any(|host| is_subset(&service.host, host)) {
            continue;
        }
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            let rule = context.destination_rule(scope, &service.host);
            let subsets = rule.map(|rule| rule.subsets.as_slice()).unwrap_or_default();
            let subsets = subsets.iter().map(|subset| subset.name.as_str());
            for subset in std::iter::once("").chain(subsets) {
                let cluster = names::outbound_sni(port.number, subset, &service.host);
                let filters = network::to_cluster(context, Class::Gateway, &cluster);
                chains.push(Chain {
                    sni: vec![cluster],
                    alpn: chain::alpn(MESH_ANY),
                    body: Body::Network(filters),
                    ..Default::default()
                });
            }
        }
    }
    chains
}

/// The rules bound to the server's Gateway whose hosts it serves.
fn bound<'c>(
    context: &'c Context<'_>,
    server: &'c Server,
) -> impl Iterator<Item = &'c std::sync::Arc<VirtualService>> {
    let rules = context.view.rules(&server.gateway, context.facts.namespace(), Owners::All);
    rules.into_iter().filter(|rule| {
        server.hosts.iter().any(|host| {
            let own = match host.split_once('/') {
                Some((namespace, host)) if namespace == rule.namespace() => Some(host),
                Some(_) => None,
                None => Some(host.as_str()),
            };
            own.is_some_and(|own| rule.hosts.iter().any(|wanted| matches(own, wanted)))
        })
    })
}

fn applies(server: &Server, port: Option<u32>, gateways: &[String]) -> bool {
    port.is_none_or(|port| port == 0 || port == server.port)
        && (gateways.is_empty() || gateways.contains(&server.gateway))
}

/// Takes all of the names, or none if one is taken.
fn take(known: &mut HashMap<String, String>, hosts: &[String], bind: &str) -> bool {
    if hosts.iter().any(|host| known.get(host).is_some_and(|own| own == bind)) {
        return false;
    }
    known.extend(hosts.iter().map(|host| (host.clone(), bind.to_owned())));
    true
}
