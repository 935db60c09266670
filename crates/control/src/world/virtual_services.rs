//! VirtualServices with their short names completed and their delegates merged in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::hosts::resolve_shortname;
use api::networking::{Destination, HttpRoute, RouteDestination, TcpRoute, TlsRoute};
use api::{Object, Spec, networking};

use super::delegate;
use super::{Note, Visibility, Visible};

/// The gateway name that means every sidecar.
pub const MESH: &str = "mesh";

/// A VirtualService as meant: hosts and destinations fully qualified, gateways as `namespace/name`.
#[derive(Debug)]
pub struct VirtualService {
    pub object: Arc<Object>,
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub http: Vec<HttpRule>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    pub visibility: Visibility,
}

/// One entry of `http`, and where it was written.
#[derive(Debug, Clone)]
pub struct HttpRule {
    pub route: HttpRoute,
    /// `spec.http[2]` of the VirtualService.
    pub path: String,
    /// The match each of `route.matches` was made from: `spec.http[2].match[0]`.
    pub match_paths: Vec<String>,
    /// If a delegate holds the rule: `namespace/name` and the path there.
    pub delegate: Option<(String, String)>,
}

impl VirtualService {
    pub fn name(&self) -> &str {
        self.object.name()
    }

    pub fn namespace(&self) -> &str {
        self.object.namespace()
    }

    /// Every host traffic may be sent to, with the ports written; an empty set means all ports.
    pub fn destinations(&self, client_namespace: &str) -> Vec<(&str, BTreeSet<u32>)> {
        let mut all: Vec<&Destination> = Vec::new();
        for rule in &self.http {
            let route = &rule.route;
            let elsewhere = !route.matches.is_empty()
                && route.matches.iter().all(|matched| {
                    !matched.source_namespace.is_empty() && matched.source_namespace != client_namespace
                });
            if elsewhere {
                continue;
            }
            all.extend(route.route.iter().map(|destination| &destination.destination));
            all.extend(&route.mirror);
            all.extend(route.mirrors.iter().map(|mirror| &mirror.destination));
        }
        let tls = self.tls.iter().flat_map(|rule| &rule.route);
        let tcp = self.tcp.iter().flat_map(|rule| &rule.route);
        all.extend(tls.chain(tcp).map(|destination| &destination.destination));

        let mut found: Vec<(&str, BTreeSet<u32>)> = Vec::new();
        for destination in all {
            let port = destination.port.as_ref().map_or(0, |port| port.number);
            match found.iter_mut().find(|(host, _)| *host == destination.host) {
                Some((_, ports)) => {
                    ports.insert(port);
                }
                None => found.push((&destination.host, BTreeSet::from([port]))),
            }
        }
        // 0 stands for "no port written": every port may be meant.
        for (_, ports) in &mut found {
            if ports.contains(&0) {
                ports.clear();
            }
        }
        found
    }
}

/// VirtualServices by the gateway they are bound to and who sees them.
#[derive(Debug, Default)]
pub struct VirtualServices {
    by_gateway: HashMap<String, Visible<Arc<VirtualService>>>,
}

impl VirtualServices {
    /// `objects` must be oldest first.
    pub(super) fn new(
        domain: &str,
        default: &[String],
        objects: &[Arc<Object>],
        notes: &mut Vec<Note>,
    ) -> Self {
        let resolved: Vec<VirtualService> =
            objects.iter().filter_map(|object| resolve(object, domain, default)).collect();
        let mut all = Self::default();
        for virtual_service in delegate::merge(resolved, notes) {
            let virtual_service = Arc::new(virtual_service);
            for gateway in &virtual_service.gateways {
                all.by_gateway.entry(gateway.clone()).or_default().push(
                    virtual_service.namespace(),
                    &virtual_service.visibility,
                    virtual_service.clone(),
                );
            }
        }
        all
    }

    /// Those bound to `gateway` (or [`MESH`]) that a proxy of the namespace sees, in the order that decides.
    pub fn bound<'v>(
        &'v self,
        gateway: &str,
        namespace: &'v str,
    ) -> impl Iterator<Item = &'v Arc<VirtualService>> {
        self.by_gateway.get(gateway).into_iter().flat_map(|visible| visible.seen_from(namespace))
    }
}

fn resolve(object: &Arc<Object>, domain: &str, default: &[String]) -> Option<VirtualService> {
    let Spec::VirtualService(spec) = &object.spec else { return None };
    let namespace = object.namespace();
    let full = |host: &mut String| *host = resolve_shortname(host, namespace, domain);
    let gateway = |name: &String| resolve_gateway(name, namespace);
    let networking::VirtualService { hosts, gateways, http, tls, tcp, export_to } = (**spec).clone();

    let mut hosts = hosts;
    hosts.iter_mut().for_each(full);
    let mut gateways: Vec<String> = gateways.iter().map(gateway).collect();
    if gateways.is_empty() {
        gateways.push(MESH.to_owned());
    }
    let mut seen = BTreeSet::new();
    gateways.retain(|name| seen.insert(name.clone()));

    let mut rules = Vec::with_capacity(http.len());
    for (at, mut route) in http.into_iter().enumerate() {
        for matched in &mut route.matches {
            matched.gateways = matched.gateways.iter().map(gateway).collect();
        }
        route.route.iter_mut().for_each(|destination| full(&mut destination.destination.host));
        route.mirror.iter_mut().for_each(|mirror| full(&mut mirror.host));
        route.mirrors.iter_mut().for_each(|mirror| full(&mut mirror.destination.host));
        let path = format!("spec.http[{at}]");
        let match_paths = (0..route.matches.len()).map(|matched| format!("{path}.match[{matched}]"));
        rules.push(HttpRule { match_paths: match_paths.collect(), route, path, delegate: None });
    }
    let full_route = |route: &mut Vec<RouteDestination>| {
        route.iter_mut().for_each(|destination| full(&mut destination.destination.host));
    };
    let mut tls = tls;
    for rule in &mut tls {
        full_route(&mut rule.route);
        for matched in &mut rule.matches {
            matched.gateways = matched.gateways.iter().map(gateway).collect();
        }
    }
    let mut tcp = tcp;
    for rule in &mut tcp {
        full_route(&mut rule.route);
        for matched in &mut rule.matches {
            matched.gateways = matched.gateways.iter().map(gateway).collect();
        }
    }
    Some(VirtualService {
        object: object.clone(),
        hosts,
        gateways,
        http: rules,
        tls,
        tcp,
        visibility: Visibility::new(&export_to, default, namespace),
    })
}

/// `name` is in the rule's namespace, `./name` too, `name.namespace.svc...` is the old way of `namespace/name`.
fn resolve_gateway(name: &str, namespace: &str) -> String {
    if name == MESH {
        return name.to_owned();
    }
    if let Some((owner, rest)) = name.split_once('/') {
        return if owner == "." { format!("{namespace}/{rest}") } else { name.to_owned() };
    }
    match name.split_once('.') {
        None => format!("{namespace}/{name}"),
        Some((short, rest)) => {
            let owner = rest.split('.').next().unwrap_or_default();
            format!("{owner}/{short}")
        }
    }
}
