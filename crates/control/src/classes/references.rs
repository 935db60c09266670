//! What VirtualServices name that is not there: they wait for it, and whoever wrote them should know.

use std::collections::HashMap;
use std::sync::Arc;

use api::ObjectId;
use api::networking::Destination;

use crate::world::virtual_services::MESH;
use crate::world::{Changes, Missing, Note, Read, Reads, Reason, View, VirtualService, World};

/// What is missing, by object; looked at again when it may have come, or gone.
#[derive(Debug, Default)]
pub(super) struct References {
    known: HashMap<Arc<ObjectId>, Looked>,
}

#[derive(Debug)]
struct Looked {
    rule: Arc<VirtualService>,
    missing: Vec<Note>,
    reads: Box<[Read]>,
}

impl References {
    pub fn update(&mut self, world: &World, changes: &Changes) {
        if changes.are_of_endpoints_only() {
            return;
        }
        let mut older = std::mem::take(&mut self.known);
        for rule in world.rules() {
            let id = rule.object.identity();
            let known = older
                .remove(id)
                .filter(|known| Arc::ptr_eq(&known.rule, rule) && !changes.concern(&known.reads));
            let looked = known.unwrap_or_else(|| Looked::at(rule, world));
            self.known.insert(id.clone(), looked);
        }
    }

    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.known.values().flat_map(|looked| &looked.missing)
    }
}

impl Looked {
    fn at(rule: &Arc<VirtualService>, world: &World) -> Self {
        let reads = Reads::default();
        let missing = missing(rule, world.view(&reads));
        Self { rule: rule.clone(), missing, reads: reads.into_sorted() }
    }
}

fn missing(rule: &VirtualService, view: View<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |path: String, missing| {
        notes.push(Note::on(&rule.object, path, Reason::Missing(missing)));
    };
    for (at, gateway) in rule.gateways.iter().enumerate().filter(|(_, gateway)| *gateway != MESH) {
        let is_it =
            |object: &Arc<api::Object>| gateway.split_once('/') == Some((object.namespace(), object.name()));
        if !view.gateways().any(is_it) {
            note(format!("spec.gateways[{at}]"), Missing::Gateway(gateway.clone()));
        }
    }
    for (path, destination) in destinations(rule) {
        if let Some(missing) = missing_of(destination, rule.namespace(), view) {
            note(path, missing);
        }
    }
    notes
}

/// Every destination of a rule, with its place; of what a delegate says, the place of the reference to it.
fn destinations(rule: &VirtualService) -> Vec<(String, &Destination)> {
    let mut all = Vec::new();
    for http in &rule.http {
        let place = |within: String| match &http.delegate {
            None => format!("{}.{within}", http.path),
            Some(_) => format!("{}.delegate", http.path),
        };
        let routes = http.route.route.iter().enumerate();
        all.extend(routes.map(|(at, to)| (place(format!("route[{at}].destination")), &to.destination)));
        all.extend(http.route.mirror.iter().map(|to| (place("mirror".into()), to)));
        let mirrors = http.route.mirrors.iter().enumerate();
        all.extend(mirrors.map(|(at, to)| (place(format!("mirrors[{at}].destination")), &to.destination)));
    }
    let tls = rule.tls.iter().enumerate().map(|(at, tls)| (format!("spec.tls[{at}]"), &tls.route));
    let tcp = rule.tcp.iter().enumerate().map(|(at, tcp)| (format!("spec.tcp[{at}]"), &tcp.route));
    for (path, routes) in tls.chain(tcp) {
        let routes = routes.iter().enumerate();
        all.extend(routes.map(|(at, to)| (format!("{path}.route[{at}].destination"), &to.destination)));
    }
    all
}

fn missing_of(destination: &Destination, namespace: &str, view: View<'_>) -> Option<Missing> {
    let host = &destination.host;
    let Some(services) = view.services_of_host(host) else {
        let covered = view.is_covered_by_wildcard(host);
        return (!covered && !host.is_empty()).then(|| Missing::Host(host.clone()));
    };
    if destination.subset.is_empty() {
        return None;
    }
    let defines = |service: &Arc<crate::world::service::Service>| {
        let policies = view.policies(namespace, service);
        policies.iter().any(|rule| rule.subsets.iter().any(|subset| subset.name == destination.subset))
    };
    let subset = destination.subset.clone();
    (!services.values().any(defines)).then(|| Missing::Subset { host: host.clone(), subset })
}
