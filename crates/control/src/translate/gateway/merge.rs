//! All Gateways that select one proxy, as one (`istio-behaviour` rules 10, 11).
//!
//! Servers come oldest Gateway first. On one port plain HTTP servers share routes; TLS servers are told apart by SNI, so a
//! host can be only one's; HTTP and anything else cannot share a port, and the earlier keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::networking::{Server as Written, ServerTlsMode};
use api::protocol::Protocol;
use api::{Object, Spec};

use crate::translate::context::Context;
use crate::world::{Conflict, Note, Reason, Target};

/// A Service with this label keeps Gateway ports as they are.
const NO_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// Names the Services a Gateway is reached by, instead of a selector.
const SERVICE: &str = "internal.istio.io/gateway-service";

#[derive(Default)]
pub struct Merged {
    pub servers: Vec<Server>,
    pub ports: Vec<Port>,
    /// Servers by the name of their routes.
    pub by_route: BTreeMap<String, Vec<usize>>,
}

/// One `servers` entry on the port it listens on.
pub struct Server {
    pub object: Arc<Object>,
    /// `spec.servers[1]`.
    pub path: String,
    /// `namespace/name` of the Gateway.
    pub gateway: String,
    pub spec: Written,
    /// The port written, which rules see; it may listen on another.
    pub port: u32,
    pub protocol: Protocol,
    /// Hosts with their namespace, `./` resolved and `*/` dropped.
    pub hosts: Vec<String>,
    /// Hosts without namespace, in order.
    pub sni: Vec<String>,
    /// Empty for what is not HTTP.
    pub route_name: String,
}

/// A port that is listened on.
pub struct Port {
    pub number: u32,
    pub protocol: Protocol,
    pub bind: String,
    pub servers: Vec<usize>,
    /// For plain HTTP.
    pub route_name: String,
}

impl Server {
    pub fn is_passthrough(&self) -> bool {
        let mode = self.spec.tls.as_ref().map(|tls| tls.mode);
        matches!(mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    pub fn has_tls(&self) -> bool {
        self.spec.tls.is_some()
    }

    pub fn redirects_to_https(&self) -> bool {
        self.spec.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// HTTPS that ends here.
    pub fn terminates_https(&self) -> bool {
        self.has_tls() && self.protocol == Protocol::Https && !self.is_passthrough()
    }

    pub fn is_http(&self) -> bool {
        self.protocol.is_http() || self.terminates_https()
    }

    /// TLS that is not HTTP at this level.
    fn is_tls(&self) -> bool {
        self.has_tls() && !self.protocol.is_http()
    }
}

impl Merged {
    pub fn of(context: &Context<'_>) -> Self {
        let targets = context.facts.targets();
        let mut merging = Merging::default();
        for object in context.view.gateways() {
            let Spec::Gateway(gateway) = &object.spec else { continue };
            // A Gateway selects proxies of every namespace.
            let by_service =
                object.meta.annotations.get(SERVICE).map(|hosts| of_services(hosts, object, &targets));
            match &by_service {
                None if !context.facts.has_labels(&gateway.selector) => continue,
                Some(own) if own.is_empty() => continue,
                _ => {}
            }
            for (at, server) in gateway.servers.iter().enumerate() {
                let Some(port) = server.port.as_ref().map(|port| port.number) else { continue };
                let listens = match &by_service {
                    None => BTreeSet::from([listens_on(port, &targets)]),
                    // Named Services have the port, or nobody listens.
                    Some(own) => own
                        .iter()
                        .filter(|target| target.port.number == port)
                        .map(|target| target.target_port)
                        .collect(),
                };
                for listens in listens {
                    if let Some(server) = read(object, server, at, listens) {
                        merging.add(context, server, listens);
                    }
                }
            }
        }
        merging.merged
    }

    pub fn has_auto_passthrough(&self) -> bool {
        self.servers.iter().any(|server| {
            server.spec.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough)
        })
    }
}

/// The targets that are Services of these names in the Gateway's namespace.
fn of_services<'t>(hosts: &str, gateway: &Object, targets: &'t [Target]) -> Vec<&'t Target> {
    let named = |target: &&Target| {
        target.service.namespace == gateway.namespace()
            && hosts.split(',').any(|host| host.trim() == target.service.host)
    };
    targets.iter().filter(named).collect()
}

fn read(object: &Arc<Object>, written: &Written, at: usize, listens: u32) -> Option<Server> {
    let port = written.port.as_ref()?;
    let protocol = Protocol::parse(&port.protocol);
    let hosts = hosts(&written.hosts, object.namespace());
    let sni: BTreeSet<String> = hosts
        .iter()
        .map(|host| host.split_once('/').map_or(host.as_str(), |(_, host)| host).to_owned())
        .collect();
    let mut server = Server {
        object: object.clone(),
        path: format!("spec.servers[{at}]"),
        gateway: format!("{}/{}", object.namespace(), object.name()),
        spec: written.clone(),
        port: port.number,
        protocol,
        hosts,
        sni: sni.into_iter().collect(),
        route_name: String::new(),
    };
    let bind = if written.bind.is_empty() { String::new() } else { format!(".{}", written.bind) };
    if protocol.is_http() {
        server.route_name = format!("http.{listens}{bind}");
    } else if protocol == Protocol::Https && !server.is_passthrough() {
        let (name, namespace) = (object.name(), object.namespace());
        server.route_name = format!("https.{}.{}.{name}.{namespace}{bind}", port.number, port.name);
    }
    Some(server)
}

/// The target port of the first Service of the gateway that has the port, else the port itself.
fn listens_on(port: u32, targets: &[Target]) -> u32 {
    targets
        .iter()
        .filter(|target| !target.service.labels.contains_key(NO_TRANSLATION))
        .find(|target| target.port.number == port)
        .map_or(port, |target| target.target_port)
}

fn hosts(written: &[String], namespace: &str) -> Vec<String> {
    let mut hosts = Vec::with_capacity(written.len());
    for host in written {
        match host.split_once('/') {
            Some((".", rest)) => hosts.push(format!("{namespace}/{rest}")),
            Some(("*", "*")) => return vec!["*".to_owned()],
            Some(("*", rest)) => hosts.push(rest.to_owned()),
            _ => hosts.push(host.clone()),
        }
    }
    hosts
}

#[derive(Default)]
struct Merging {
    merged: Merged,
    known: BTreeSet<u32>,
    /// The first plain server of each port.
    plain: HashMap<u32, (Protocol, String)>,
    /// Addresses of plain servers on ports that TLS servers had first.
    binds: HashMap<u32, BTreeSet<String>>,
    /// Which bind has a host, by port.
    tls_hosts: HashMap<u32, HashMap<String, String>>,
}

impl Merging {
    fn add(&mut self, context: &Context<'_>, server: Server, listens: u32) {
        let reject = |server: &Server, conflict: Conflict| {
            context.note(Note::on(&server.object, server.path.clone(), Reason::Conflict(conflict)));
        };
        let bind = server.spec.bind.clone();
        if server.has_tls() {
            let hosts = self.tls_hosts.entry(listens).or_default();
            let taken: Vec<&str> = server
                .hosts
                .iter()
                .filter(|host| hosts.get(*host) == Some(&bind))
                .map(String::as_str)
                .collect();
            if !taken.is_empty() {
                let hosts = taken.into_iter().map(str::to_owned).collect();
                return reject(&server, Conflict::Hosts { port: listens, hosts });
            }
            hosts.extend(server.hosts.iter().map(|host| (host.clone(), bind.clone())));
        }
        if !self.known.insert(listens) {
            return match self.plain.get(&listens).cloned() {
                Some(first) => self.add_to_plain(server, listens, first, reject),
                None => self.add_to_tls(server, listens, reject),
            };
        }
        if !server.is_tls() {
            self.plain.insert(listens, (server.protocol, bind));
        }
        if server.is_http() {
            self.merged.by_route.insert(server.route_name.clone(), vec![self.merged.servers.len()]);
        }
        self.open(server, listens);
    }

    fn add_to_plain(
        &mut self,
        server: Server,
        listens: u32,
        (protocol, first_bind): (Protocol, String),
        reject: impl Fn(&Server, Conflict),
    ) {
        let mergeable = (server.protocol.is_http() || server.protocol == protocol) && protocol.is_http();
        let same_bind = server.spec.bind == first_bind;
        if same_bind && (!mergeable || server.route_name.is_empty()) {
            let (own, first) = (server.protocol.as_str().to_owned(), protocol.as_str().to_owned());
            return reject(&server, Conflict::Protocol { port: listens, own, first });
        }
        let at = self.merged.servers.len();
        self.merged.by_route.entry(server.route_name.clone()).or_default().push(at);
        if !same_bind {
            self.open(server, listens);
            return;
        }
        let port = self
            .merged
            .ports
            .iter_mut()
            .find(|port| port.number == listens && port.protocol == protocol && port.bind == first_bind);
        if let Some(port) = port {
            port.servers.push(at);
        }
        self.merged.servers.push(server);
    }

    fn add_to_tls(&mut self, server: Server, listens: u32, reject: impl Fn(&Server, Conflict)) {
        if server.is_http() {
            if self.merged.by_route.contains_key(&server.route_name) {
                return reject(&server, Conflict::PortName { port: listens });
            }
            self.merged.by_route.insert(server.route_name.clone(), vec![self.merged.servers.len()]);
        }
        // One plain server per address may share a port with TLS servers: its connections have no SNI.
        let is_plain = !server.has_tls();
        if is_plain && !self.binds.entry(listens).or_default().insert(server.spec.bind.clone()) {
            self.merged.by_route.remove(&server.route_name);
            return reject(&server, Conflict::WithoutTls { port: listens });
        }
        self.open(server, listens);
    }

    /// Adds the server to its port, which is made if need be.
    fn open(&mut self, server: Server, listens: u32) {
        let at = self.merged.servers.len();
        let (protocol, bind) = (server.protocol, server.spec.bind.clone());
        let existing = self
            .merged
            .ports
            .iter_mut()
            .find(|port| port.number == listens && port.protocol == protocol && port.bind == bind);
        match existing {
            Some(port) => port.servers.push(at),
            None => self.merged.ports.push(Port {
                number: listens,
                protocol,
                bind,
                servers: vec![at],
                route_name: server.route_name.clone(),
            }),
        }
        self.merged.servers.push(server);
    }
}
