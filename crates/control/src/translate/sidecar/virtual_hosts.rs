//! The routes a sidecar has for one port: a virtual host for every service there, rules first.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::hosts::{is_wildcard, matches};
use xds::route::route::Action;
use xds::route::route_action::ClusterSpecifier;
use xds::route::{DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost};

use super::domains;
use crate::scope::{EgressListener, Scope, Unmatched};
use crate::translate::context::Context;
use crate::translate::route::{self, Circumstances};
use crate::translate::{names, values};
use crate::world::VirtualService;
use crate::world::service::{Port, Resolution, Service};
use crate::world::virtual_services::MESH;

/// Bytes a direct response may have: what Istio's validation allows.
const DIRECT_RESPONSE_LIMIT: u32 = 1024 * 1024;

/// The virtual hosts of one port, without the catch-all.
pub struct PortHosts {
    hosts: Vec<VirtualHost>,
    /// Which has a domain: made when the first service that is sniffed asks.
    by_domain: OnceCell<HashMap<String, usize>>,
    all_ports: bool,
}

/// A service as one port knows it.
struct Known {
    service: Arc<Service>,
    ports: Vec<Port>,
}

/// Services and hosts that share routes on a port.
struct Group {
    port: u32,
    services: Vec<Arc<Service>>,
    hosts: Vec<String>,
    routes: Vec<Route>,
}

impl PortHosts {
    /// `port` 0 means all ports: an HTTP proxy or a Unix socket.
    pub fn new(context: &Context<'_>, scope: &Scope, listener: &EgressListener, port: u32) -> Self {
        let port = if listener.is_http_proxy() { 0 } else { port };
        let groups = groups(context, scope, listener, port);
        let hosts = virtual_hosts(context, groups, port);
        Self { hosts, by_domain: OnceCell::new(), all_ports: port == 0 }
    }

    /// Shared by everything on the port.
    pub fn configuration(&self, scope: &Scope, name: &str) -> RouteConfiguration {
        let hosts = self.hosts.clone();
        Self { hosts, by_domain: OnceCell::new(), all_ports: self.all_ports }.into_configuration(scope, name)
    }

    /// The same by whoever asks last: large meshes have megabytes of virtual hosts.
    pub fn into_configuration(self, scope: &Scope, name: &str) -> RouteConfiguration {
        let mut hosts = self.hosts;
        hosts.sort_by(|left, right| left.name.cmp(&right.name));
        hosts.push(catch_all(scope));
        // Of all ports at once, the port of the Host header is what tells them apart.
        RouteConfiguration { ignore_port_in_host_matching: !self.all_ports, ..configuration(name, hosts) }
    }

    /// For a sniffed service: its own virtual host, whatever the Host header says (`istio-behaviour` rule 8).
    pub fn sniffed(&self, name: &str) -> RouteConfiguration {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        self.first_of(name, &[name, host])
    }

    /// The same, for a client that dials the host itself.
    pub fn only(&self, name: &str, host: &str) -> RouteConfiguration {
        self.first_of(name, &[host])
    }

    fn first_of(&self, name: &str, domains: &[&str]) -> RouteConfiguration {
        let by_domain = self.by_domain.get_or_init(|| {
            let mut by_domain = HashMap::new();
            for (at, host) in self.hosts.iter().enumerate() {
                for domain in &host.domains {
                    by_domain.entry(domain.clone()).or_insert(at);
                }
            }
            by_domain
        });
        let found = domains.iter().find_map(|domain| by_domain.get(*domain));
        let found = found.and_then(|at| self.hosts.get(*at)).cloned().map(|mut host| {
            host.domains = vec!["*".into()];
            host
        });
        configuration(name, found.into_iter().collect())
    }
}

pub fn configuration(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: Some(false),
        max_direct_response_body_size_bytes: Some(DIRECT_RESPONSE_LIMIT),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

fn groups(context: &Context<'_>, scope: &Scope, listener: &EgressListener, port: u32) -> Vec<Group> {
    let mut order: Vec<String> = Vec::new();
    let mut known: HashMap<String, Known> = HashMap::new();
    for service in &listener.services {
        let ports: Vec<Port> = match port {
            0 => service.ports.clone(),
            port => service.port(port).cloned().into_iter().collect(),
        };
        if ports.is_empty() {
            continue;
        }
        match known.get_mut(&service.host) {
            // One service for each of a ServiceEntry's addresses: all of them are its names.
            Some(existing) => {
                let mut merged = (*existing.service).clone();
                if service.address != merged.address {
                    merged.more_addresses.push(service.address.clone());
                }
                let new = ports.into_iter().filter(|port| !existing.ports.contains(port));
                existing.ports.extend(new.collect::<Vec<_>>());
                existing.service = Arc::new(merged);
            }
            None => {
                order.push(service.host.clone());
                known.insert(service.host.clone(), Known { service: service.clone(), ports });
            }
        }
    }
    let lookup = |host: &str| {
        let known = known.get(host)?;
        Some(Arc::new(known.service.with_ports(known.ports.clone())))
    };
    let at = Circumstances { context, scope, gateway: MESH, port, is_tls: false, lookup: &lookup };

    let mut groups = Vec::new();
    let mut covered: HashSet<String> = HashSet::new();
    for rule in &listener.virtual_services {
        // Hosts no registry knows are served on port 80 only (rule 25).
        if port == 80 || selects_any(rule, &known) {
            groups.extend(rule_groups(rule, &known, &order, listener, &at, &mut covered));
        }
    }
    for host in order.iter().filter(|host| !covered.contains(*host)) {
        let Some(Known { service, ports }) = known.get(host) else { continue };
        if service.resolution == Resolution::Alias {
            continue;
        }
        for port in ports.iter().filter(|port| takes_http(port)) {
            groups.push(default_group(service, port, &at));
        }
    }
    groups
}

fn takes_http(port: &Port) -> bool {
    port.protocol.is_http() || port.protocol.is_unknown()
}

fn selects_any(rule: &VirtualService, known: &HashMap<String, Known>) -> bool {
    let has_wildcards = || known.keys().filter(|host| is_wildcard(host));
    rule.hosts.iter().any(|host| {
        known.contains_key(host.as_str())
            || if is_wildcard(host) {
                known.keys().any(|service| matches(host, service))
            } else {
                has_wildcards().any(|service| matches(host, service))
            }
    })
}

fn rule_groups(
    rule: &VirtualService,
    known: &HashMap<String, Known>,
    order: &[String],
    listener: &EgressListener,
    at: &Circumstances<'_>,
    covered: &mut HashSet<String>,
) -> Vec<Group> {
    let routes = route::routes(rule, at);
    if routes.is_empty() {
        return Vec::new();
    }
    let mut hosts = Vec::new();
    let mut services: Vec<&Known> = Vec::new();
    for host in rule.hosts.iter().filter(|host| !is_wildcard(host)) {
        match known.get(host.to_lowercase().as_str()) {
            Some(known) => services.push(known),
            None => hosts.push(host.clone()),
        }
    }
    for host in rule.hosts.iter().filter(|host| is_wildcard(host)) {
        let host = host.to_lowercase();
        let matching: Vec<&String> = order.iter().filter(|service| matches(service, &host)).collect();
        if matching.is_empty() {
            hosts.push(host);
            continue;
        }
        let best = matching.into_iter().filter(|service| listener.is_best(rule, service));
        services.extend(best.filter_map(|service| known.get(service.as_str())));
    }
    let mut by_port: BTreeMap<u32, Vec<Arc<Service>>> = BTreeMap::new();
    for known in services {
        for port in known.ports.iter().filter(|port| takes_http(port)) {
            by_port.entry(port.number).or_default().push(known.service.clone());
        }
    }
    if by_port.is_empty() && at.port == 80 {
        by_port.insert(80, Vec::new());
    }
    by_port
        .into_iter()
        .map(|(port, services)| {
            covered.extend(services.iter().map(|service| service.host.clone()));
            Group { port, services, hosts: hosts.clone(), routes: routes.clone() }
        })
        .collect()
}

fn default_group(service: &Arc<Service>, port: &Port, at: &Circumstances<'_>) -> Group {
    let cluster = names::outbound(port.number, "", &service.host);
    let operation = format!("{}:{}/*", service.host, port.number);
    let mut route = route::default_outbound(cluster, operation, at);
    if let Some(Action::Route(action)) = &mut route.action {
        action.hash_policy.extend(route::hash_of_port(at, &service.host, port.number));
    }
    Group { port: port.number, services: vec![service.clone()], hosts: Vec::new(), routes: vec![route] }
}

fn virtual_hosts(context: &Context<'_>, groups: Vec<Group>, port: u32) -> Vec<VirtualHost> {
    let mut known_names = HashSet::new();
    for group in &groups {
        for service in &group.services {
            known_names.insert(service.host.clone());
            known_names.insert(host_port(&service.host, group.port));
        }
    }
    let mut taken_names = HashSet::new();
    let mut taken_domains = HashSet::new();
    let mut made = Vec::new();
    for mut group in groups {
        let mut left = group.hosts.len() + group.services.len();
        let mut add = |host: &str, domains: Vec<String>, abbreviations: &[String]| {
            left -= 1;
            let name = host_port(host, group.port);
            if !taken_names.insert(name.clone()) {
                return;
            }
            let domains = domains::deduplicate(domains, &mut taken_domains, abbreviations, &known_names);
            let domains = match port {
                // Behind an HTTP proxy a name without port means port 80.
                0 if group.port != 80 => domains.into_iter().filter(|one| one.contains(':')).collect(),
                _ => domains,
            };
            if !domains.is_empty() {
                made.push(VirtualHost {
                    name,
                    domains,
                    // Most groups are of one service: nothing is copied for the last one.
                    routes: if left == 0 { std::mem::take(&mut group.routes) } else { group.routes.clone() },
                    include_request_attempt_count: true,
                    ..Default::default()
                });
            }
        };
        for host in &group.hosts {
            let host = host.to_lowercase();
            add(&host, vec![domains::bracketed(&host)], &[]);
        }
        for service in &group.services {
            let suffix = if port == 0 { group.port } else { 0 };
            let (names, abbreviations) = domains::of_service(context, service, suffix);
            add(&service.host, names, &abbreviations);
        }
    }
    made
}

pub fn host_port(host: &str, port: u32) -> String {
    format!("{}:{port}", domains::bracketed(host))
}

/// For hosts nobody knows (`istio-behaviour` rule 37).
fn catch_all(scope: &Scope) -> VirtualHost {
    let (name, cluster) = match &scope.unmatched {
        Unmatched::Allow => ("allow_any", Some(names::PASSTHROUGH.to_owned())),
        Unmatched::AllowByHost => ("allow_any_dynamic_dns", Some(names::DYNAMIC_DNS.to_owned())),
        Unmatched::Refuse => ("block_all", None),
        Unmatched::Proxy(destination) => {
            let cluster = crate::translate::context::destination_cluster(destination, None, 0);
            ("allow_any", Some(cluster))
        }
    };
    everything(name, cluster)
}

/// A virtual host for every request: on to a cluster, or 502.
pub fn everything(name: &str, cluster: Option<String>) -> VirtualHost {
    let action = match cluster {
        Some(cluster) => Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            timeout: Some(values::seconds(0)),
            max_grpc_timeout: Some(values::seconds(0)),
            ..Default::default()
        }),
        None => Action::DirectResponse(DirectResponseAction { status: 502, body: None }),
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".into()],
        routes: vec![Route {
            name: name.to_owned(),
            r#match: Some(route::any_path()),
            action: Some(action),
            ..Default::default()
        }],
        include_request_attempt_count: true,
        ..Default::default()
    }
}
