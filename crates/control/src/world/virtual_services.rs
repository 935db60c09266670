//! VirtualServices with their short names completed and their delegates merged in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::hosts::resolve_shortname;
use api::networking::RouteDestination;
use api::{Object, ObjectId, Spec, networking};

use super::delegate;
use super::order::Order;
use super::reads::{Changes, Topic};
use super::virtual_service::{HttpRule, VirtualService};
use super::{Note, Visibility, Visible};

/// The gateway name that means every sidecar.
pub const MESH: &str = "mesh";

/// VirtualServices by the gateway they are bound to and who sees them.
#[derive(Debug, Default)]
pub(super) struct VirtualServices {
    /// As written, with names completed.
    written: BTreeMap<Order, Arc<VirtualService>>,
    orders: HashMap<Arc<ObjectId>, Order>,
    /// With delegates merged in, by their objects.
    merged: HashMap<Arc<ObjectId>, Arc<VirtualService>>,
    by_gateway: HashMap<String, Visible<Arc<VirtualService>>>,
    stale: bool,
    notes: Vec<Note>,
}

impl VirtualServices {
    /// Takes what an object says in the place of what the object of this name said.
    pub fn write(
        &mut self,
        id: &Arc<ObjectId>,
        object: Option<&Arc<Object>>,
        domain: &str,
        export_to: &[String],
    ) {
        self.stale = true;
        if let Some(before) = self.orders.remove(id) {
            self.written.remove(&before);
        }
        let made = object.and_then(|object| Some((object, resolve(object, domain, export_to)?)));
        if let Some((object, made)) = made {
            let order = Order::of_istio(object);
            self.orders.insert(id.clone(), order.clone());
            self.written.insert(order, Arc::new(made));
        }
    }

    /// Merges delegates and indexes anew; says what differs.
    pub fn settle(&mut self, changes: &mut Changes) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.notes.clear();
        self.by_gateway.clear();
        let mut older = std::mem::take(&mut self.merged);
        for made in delegate::merge(self.written.values(), &mut self.notes) {
            let id = made.object.identity().clone();
            let virtual_service = match older.remove(&id) {
                Some(known)
                    if Arc::ptr_eq(&known, &made) || (known == made && same_places(&known, &made)) =>
                {
                    known
                }
                before => {
                    before.iter().for_each(|before| differs(before, changes));
                    differs(&made, changes);
                    made
                }
            };
            for gateway in &virtual_service.gateways {
                self.by_gateway.entry(gateway.clone()).or_default().push(
                    virtual_service.namespace(),
                    &virtual_service.visibility,
                    virtual_service.clone(),
                );
            }
            self.merged.insert(id, virtual_service);
        }
        older.values().for_each(|gone| differs(gone, changes));
    }

    /// All of them with hosts, delegates merged in.
    pub fn merged(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.merged.values()
    }

    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Those bound to `gateway` (or [`MESH`]), by who sees them.
    pub fn bound(&self, gateway: &str) -> Option<&Visible<Arc<VirtualService>>> {
        self.by_gateway.get(gateway)
    }
}

/// Whether both are made of the same versions of their objects, so that what is said about them is said of the right place.
fn same_places(known: &VirtualService, made: &VirtualService) -> bool {
    Arc::ptr_eq(&known.object, &made.object)
}

fn differs(virtual_service: &VirtualService, changes: &mut Changes) {
    for gateway in &virtual_service.gateways {
        changes.of(Topic::Rules, &[gateway]);
        changes.of(Topic::RulesOf, &[gateway, virtual_service.namespace()]);
    }
}

/// A VirtualService as meant; `None` if the object is none. `default` is the mesh's default of `exportTo`.
pub fn resolve(object: &Arc<Object>, domain: &str, default: &[String]) -> Option<VirtualService> {
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
