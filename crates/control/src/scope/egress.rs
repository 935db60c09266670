//! One egress listener of a Sidecar: the services and rules it imports.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::hosts::{is_subset, is_wildcard, matches};
use api::networking::{CaptureMode, IstioEgressListener, SidecarPort};

use super::{limit, same};
use crate::world::service::{Registry, Service};
use crate::world::virtual_services::MESH;
use crate::world::{HostIndex, Owners, View, VirtualService};

#[derive(Debug)]
pub struct EgressListener {
    /// `spec.egress[2]`; empty if no Sidecar wrote it.
    pub path: String,
    pub port: Option<SidecarPort>,
    pub bind: String,
    pub capture_mode: CaptureMode,
    /// A host may be there several times: one service for each address, or for different ports.
    pub services: Vec<Arc<Service>>,
    /// In the order that decides.
    pub virtual_services: Vec<Arc<VirtualService>>,
    /// The most specific rule for each service with any: wildcard rules leave a service to a better one.
    best: HashMap<String, (String, String)>,
}

impl EgressListener {
    /// What a proxy without a Sidecar has.
    pub fn everything(view: View<'_>, namespace: &str) -> Self {
        let listener = IstioEgressListener { hosts: vec!["*/*".into()], ..Default::default() };
        Self { path: String::new(), ..Self::written(view, namespace, &listener, 0) }
    }

    pub fn written(view: View<'_>, namespace: &str, listener: &IstioEgressListener, at: usize) -> Self {
        let imports = Imports::new(&listener.hosts, namespace);
        let mut made = Self {
            path: format!("spec.egress[{at}]"),
            port: listener.port.clone(),
            bind: listener.bind.clone(),
            capture_mode: listener.capture_mode,
            services: Vec::new(),
            virtual_services: view
                .rules(MESH, namespace, imports.owners())
                .into_iter()
                .filter(|rule| imports.takes_rule(rule))
                .cloned()
                .collect(),
            best: HashMap::new(),
        };
        made.services = select_services(view, namespace, &imports, made.only_port());
        made.best = best_rules(&made.virtual_services, &made.services);
        made
    }

    /// The port its services must have; a proxy port takes all.
    pub fn only_port(&self) -> Option<u32> {
        let port = self.port.as_ref().filter(|_| !self.is_http_proxy())?;
        (port.number != 0).then_some(port.number)
    }

    /// Whether clients speak to it as to an HTTP proxy.
    pub fn is_http_proxy(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("HTTP_PROXY"))
    }

    /// Whether everything but the services is the same.
    pub fn is_otherwise(&self, other: &Self) -> bool {
        same(&self.virtual_services, &other.virtual_services)
            && (&self.path, &self.port, &self.bind) == (&other.path, &other.port, &other.bind)
            && self.capture_mode == other.capture_mode
    }

    /// Whether this rule is the most specific one for the service.
    pub fn is_best(&self, rule: &VirtualService, host: &str) -> bool {
        self.best
            .get(host)
            .is_some_and(|(namespace, name)| namespace == rule.namespace() && name == rule.name())
    }
}

/// A Sidecar's `hosts`: `namespace/host`, where `.` is its own namespace and `*` any. `~namespace/host` leaves out, whatever
/// else takes it in; `~/host` does so in every namespace, so that `~/*` imports nothing.
struct Imports {
    by_namespace: HashMap<String, Vec<String>>,
    excluded: HashMap<String, Vec<String>>,
    /// The namespaces something is imported from; `None`: all.
    owners: Option<BTreeSet<String>>,
}

impl Imports {
    fn new(hosts: &[String], namespace: &str) -> Self {
        let mut imports = Self { by_namespace: HashMap::new(), excluded: HashMap::new(), owners: None };
        for written in hosts {
            let Some((owner, host)) = written.split_once('/') else { continue };
            let (map, owner) = match owner.strip_prefix('~') {
                Some("") => (&mut imports.excluded, "*"),
                Some(owner) => (&mut imports.excluded, owner),
                None => (&mut imports.by_namespace, owner),
            };
            let owner = if owner == "." { namespace } else { owner };
            map.entry(owner.to_owned()).or_default().push(host.to_owned());
        }
        let some = !imports.by_namespace.contains_key("*");
        imports.owners = some.then(|| imports.by_namespace.keys().cloned().collect());
        imports
    }

    fn owners(&self) -> Owners<'_> {
        self.owners.as_ref().map_or(Owners::All, Owners::These)
    }

    fn hosts<'i>(
        map: &'i HashMap<String, Vec<String>>,
        namespace: &str,
    ) -> impl Iterator<Item = &'i String> + use<'i> {
        let own = map.get(namespace).into_iter().flatten();
        own.chain(map.get("*").into_iter().flatten())
    }

    fn takes_service(&self, service: &Service) -> bool {
        self.takes_host(&service.namespace, &service.host)
    }

    fn takes_host(&self, namespace: &str, host: &str) -> bool {
        Self::hosts(&self.by_namespace, namespace).any(|import| is_subset(host, import))
            && !Self::hosts(&self.excluded, namespace).any(|excluded| is_subset(host, excluded))
    }

    /// A rule is taken when any of its hosts and any imported one overlap, in either direction.
    fn takes_rule(&self, rule: &VirtualService) -> bool {
        let excluded = |host: &String| {
            Self::hosts(&self.excluded, rule.namespace()).any(|excluded| is_subset(host, excluded))
        };
        Self::hosts(&self.by_namespace, rule.namespace())
            .any(|import| rule.hosts.iter().any(|host| matches(host, import) && !excluded(host)))
    }
}

/// A host is imported from one namespace only: the proxy's own, else that of a Kubernetes service, else the first.
fn select_services(
    view: View<'_>,
    namespace: &str,
    imports: &Imports,
    port: Option<u32>,
) -> Vec<Arc<Service>> {
    let ports = port.map(|port| BTreeSet::from([port]));
    let mut imported: Vec<Arc<Service>> = Vec::new();
    for service in view.services_seen_from(namespace, imports.owners()) {
        if !imports.takes_service(service) {
            continue;
        }
        let limited = match &ports {
            Some(ports) => limit(service, ports),
            None => Some(service.clone()),
        };
        imported.extend(limited.map(|service| with_aliases(service, imports)));
    }
    let mut chosen: HashMap<&str, (&str, bool)> = HashMap::new();
    for service in &imported {
        let candidate = (service.namespace.as_str(), service.registry == Registry::Kubernetes);
        match chosen.get(service.host.as_str()).copied() {
            None => {
                chosen.insert(&service.host, candidate);
            }
            Some(_) if candidate.0 == namespace => {
                chosen.insert(&service.host, candidate);
            }
            Some((owner, false)) if candidate.1 && owner != namespace => {
                chosen.insert(&service.host, candidate);
            }
            Some(_) => {}
        }
    }
    let owner = |service: &Arc<Service>| chosen.get(service.host.as_str()).map(|(owner, _)| *owner);
    imported.iter().filter(|service| owner(service) == Some(&service.namespace)).cloned().collect()
}

/// An alias that is not imported is not known.
fn with_aliases(service: Arc<Service>, imports: &Imports) -> Arc<Service> {
    let takes = |alias: &String| imports.takes_host(&service.namespace, alias);
    if service.aliases.iter().all(takes) {
        return service;
    }
    let aliases = service.aliases.iter().filter(|alias| takes(alias)).cloned().collect();
    Arc::new(Service { aliases, ..(*service).clone() })
}

fn best_rules(rules: &[Arc<VirtualService>], services: &[Arc<Service>]) -> HashMap<String, (String, String)> {
    let mut index: HostIndex<&Arc<VirtualService>> = HostIndex::default();
    let mut any_wildcard = false;
    for rule in rules {
        for host in &rule.hosts {
            any_wildcard |= is_wildcard(host);
            index.entry_or(host, || rule);
        }
    }
    // Only wildcard rules ask.
    if !any_wildcard {
        return HashMap::new();
    }
    let best = |service: &Arc<Service>| {
        let rule = index.most_specific(&service.host)?;
        Some((service.host.clone(), (rule.namespace().to_owned(), rule.name().to_owned())))
    };
    services.iter().filter_map(best).collect()
}
