//! VirtualServices with their short names completed and their delegates merged in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::hosts::resolve_shortname;
use api::networking::RouteDestination;
use api::{Object, Spec, networking};

use super::delegate;
use super::virtual_service::{HttpRule, VirtualService};
use super::{Note, Visibility, Visible};

/// The gateway name that means every sidecar.
pub const MESH: &str = "mesh";

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
