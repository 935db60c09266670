//! The virtual hosts of a gateway's HTTP servers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::hosts::is_subset;
use xds::route::virtual_host::TlsRequirementType;
use xds::route::{Route, RouteConfiguration, VirtualHost};

use super::merge::{Merged, Server};
use crate::scope::Scope;
use crate::translate::context::Context;
use crate::translate::route::{self, Circumstances};
use crate::translate::sidecar::virtual_hosts::{configuration, host_port};
use crate::world::service::Service;
use crate::world::{Owners, VirtualService};

pub fn build(context: &Context<'_>, scope: &Scope, merged: &Merged) -> Vec<RouteConfiguration> {
    let named = merged.by_route.iter().filter(|(name, _)| !name.is_empty());
    named
        .map(|(name, servers)| {
            let servers = servers.iter().filter_map(|at| merged.servers.get(*at)).collect();
            configuration(name, virtual_hosts(context, scope, servers))
        })
        .collect()
}

/// A host while rules join it.
struct Host {
    name: String,
    domains: Vec<String>,
    /// Which rules its routes come from: hosts with the same ones become one virtual host.
    rules: Vec<(String, String)>,
    redirects_to_https: bool,
}

fn virtual_hosts(context: &Context<'_>, scope: &Scope, servers: Vec<&Server>) -> Vec<VirtualHost> {
    let mut routes: HashMap<(String, String), Vec<Route>> = HashMap::new();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for server in &servers {
        let bound = context.view.rules(&server.gateway, context.facts.namespace(), Owners::All);
        for rule in bound {
            let shared = intersection(&server_hosts(server, rule.namespace()), &rule.hosts);
            if shared.is_empty() {
                continue;
            }
            let key = (server.gateway.clone(), format!("{}/{}", rule.namespace(), rule.name()));
            let made = routes.entry(key.clone()).or_insert_with(|| rule_routes(context, scope, rule, server));
            if made.is_empty() {
                continue;
            }
            for host in shared {
                let host = host.to_lowercase();
                let known = hosts.entry(host.clone()).or_insert_with(|| Host::new(&host, server.port));
                known.rules.push(key.clone());
                known.redirects_to_https |= server.redirects_to_https();
            }
        }
        // Even hosts no rule is bound to are redirected (`istio-behaviour` rule 10). As in Istio, one written with a
        // namespace stands for itself here, which no request can name: it only lends its name to others.
        if server.redirects_to_https() {
            for host in &server.hosts {
                let host = host.to_lowercase();
                let known = hosts.entry(host.clone()).or_insert_with(|| Host::new(&host, server.port));
                known.redirects_to_https = true;
            }
        }
    }
    if hosts.is_empty() {
        // Nobody is served here: 404 for everybody.
        let port = servers.first().map_or(0, |server| server.port);
        return vec![VirtualHost {
            name: host_port("blackhole", port),
            domains: vec!["*".into()],
            ..Default::default()
        }];
    }
    let mut collapsed = collapse(hosts);
    for host in &mut collapsed {
        host.domains.retain(|domain| !domain.contains('/'));
    }
    collapsed.retain(|host| !host.domains.is_empty());
    let mut made: Vec<VirtualHost> = collapsed.into_iter().map(|host| host.finish(&routes)).collect();
    made.sort_by(|left, right| left.name.cmp(&right.name));
    made
}

impl Host {
    fn new(host: &str, port: u32) -> Self {
        Self {
            name: host_port(host, port),
            domains: vec![host.to_owned()],
            rules: Vec::new(),
            redirects_to_https: false,
        }
    }

    /// Routes of several rules follow each other, catch-alls last (rule 9).
    fn finish(self, routes: &HashMap<(String, String), Vec<Route>>) -> VirtualHost {
        let own = self.rules.iter().filter_map(|rule| routes.get(rule));
        let mut own: Vec<Route> = own.flatten().cloned().collect();
        route::sort_catch_all_last(&mut own);
        let require_tls =
            if self.redirects_to_https { TlsRequirementType::All } else { TlsRequirementType::None };
        VirtualHost {
            name: self.name,
            domains: self.domains,
            routes: own,
            include_request_attempt_count: true,
            require_tls: require_tls as i32,
            ..Default::default()
        }
    }
}

/// Hosts with the same routes become one virtual host, named after the most specific of them: a rule with a hundred hosts
/// is sent once.
fn collapse(hosts: BTreeMap<String, Host>) -> Vec<Host> {
    let mut sorted: Vec<(String, Host)> = hosts.into_iter().collect();
    sorted.sort_by(|(left, _), (right, _)| {
        let key = |host: &str| (host.starts_with('*'), std::cmp::Reverse(host.len()), host.to_owned());
        key(left).cmp(&key(right))
    });
    let mut made: Vec<Host> = Vec::new();
    let mut known: HashMap<(Vec<(String, String)>, bool), usize> = HashMap::new();
    for (_, host) in sorted {
        let key = (host.rules.clone(), host.redirects_to_https);
        match known.get(&key).and_then(|at| made.get_mut(*at)) {
            Some(first) => first.domains.extend(host.domains),
            None => {
                known.insert(key, made.len());
                made.push(host);
            }
        }
    }
    made
}

/// The server's hosts for rules of this namespace.
fn server_hosts(server: &Server, namespace: &str) -> Vec<String> {
    let own = server.hosts.iter().filter_map(|host| match host.split_once('/') {
        Some((owner, host)) if owner == namespace => Some(host.to_owned()),
        Some(_) => None,
        None => Some(host.clone()),
    });
    own.collect()
}

/// Of every two that overlap the narrower one.
fn intersection(server: &[String], rule: &[String]) -> Vec<String> {
    let mut shared: Vec<String> = Vec::new();
    for own in server {
        for wanted in rule {
            let narrower = if is_subset(own, wanted) {
                own
            } else if is_subset(wanted, own) {
                wanted
            } else {
                continue;
            };
            if !shared.contains(narrower) {
                shared.push(narrower.clone());
            }
        }
    }
    shared
}

fn rule_routes(context: &Context<'_>, scope: &Scope, rule: &VirtualService, server: &Server) -> Vec<Route> {
    let lookup = |host: &str| -> Option<Arc<Service>> {
        // A rule means the service of its own namespace, if the gateway may see it.
        let own = context
            .view
            .services_of_host(host)
            .and_then(|candidates| candidates.get(rule.namespace()))
            .filter(|service| service.visibility.reaches(&scope.namespace));
        own.or_else(|| scope.service(host)).cloned()
    };
    let at = Circumstances {
        context,
        scope,
        gateway: &server.gateway,
        port: server.port,
        is_tls: server.has_tls(),
        lookup: &lookup,
    };
    route::routes(rule, &at)
}
