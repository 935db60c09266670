//! Listeners for traffic from the workload.
//!
//! HTTP services share a wildcard listener per port and are told apart by Host; TCP and sniffed ones listen on their own
//! address; what nobody is known for falls through (`control-plane` §1.3). Where several services want the same address
//! and port, their chains are merged as in Istio: mixing HTTP and TCP turns sniffing on, of two TCP chains that match the
//! same the first one stays (`istio-behaviour` rule 36).

use std::collections::{BTreeMap, HashMap, HashSet};

use api::MeshConfig;
use api::mesh_config::InterceptionMode;
use api::networking::CaptureMode;
use api::protocol::Protocol;
use xds::core::TrafficDirection;
use xds::listener::{FilterChain, FilterChainMatch, Listener};
use xds::node::Feature;
use xds::route::RouteConfiguration;

use super::tcp_routes::{self, ConnectionRules, Listened};
use super::virtual_hosts::{self, PortHosts};
use crate::scope::{EgressListener, Scope, Unmatched};
use crate::translate::chain::{self, Body, Chain, PLAIN_HTTP, RAW};
use crate::translate::connection_manager::{self, Class, Http, Routes};
use crate::translate::context::Context;
use crate::translate::values::{address, duration, listener_filter, seconds};
use crate::translate::{access_log, names, network};
use crate::world::service::{Registry, Resolution, Service, UNSPECIFIED};
use crate::world::{Conflict, NotDone, Note, Reason};

const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";
/// The routes of the HTTP proxy port.
const HTTP_PROXY: &str = "http_proxy";

/// What is listened on, and for whom.
pub struct Entries {
    by_address: BTreeMap<(String, u32), Entry>,
    proxy_port: Option<u32>,
}

/// A route configuration that a listener asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    port: u32,
    bind: String,
}

impl Entries {
    pub fn of(context: &Context<'_>, scope: &Scope) -> Self {
        let mut builder = Builder { context, scope, entries: BTreeMap::new() };
        for listener in &scope.egress {
            builder.add_egress(listener);
        }
        Self { by_address: builder.entries, proxy_port: proxy_port(context) }
    }

    /// In the order of their address and port, the special ones last.
    pub fn listeners(&self, context: &Context<'_>, scope: &Scope) -> Vec<Listener> {
        let mut listeners: Vec<Listener> =
            self.by_address.values().map(|entry| finish(context, scope, entry)).collect();
        listeners.extend(self.proxy_port.map(|port| http_proxy(context, scope, port)));
        if context.interception() != InterceptionMode::None {
            listeners.push(virtual_outbound(context, scope));
        }
        listeners
    }

    /// Each name once.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut names = HashSet::new();
        let mut wanted = Vec::new();
        for entry in self.by_address.values() {
            for chain in &entry.chains {
                if let Body::Http { routes, .. } = &chain.body
                    && names.insert(routes.clone())
                {
                    let (port, bind) = (entry.port.number, entry.bind.clone());
                    wanted.push(Wanted { name: routes.clone(), port, bind });
                }
            }
        }
        let proxy = self.proxy_port.map(|_| HTTP_PROXY.to_owned());
        wanted.extend(proxy.map(|name| Wanted { name, port: 0, bind: String::new() }));
        wanted
    }
}

/// The route configurations, by name. The virtual hosts of a port are made once, however many listeners share them.
pub fn routes(context: &Context<'_>, scope: &Scope, wanted: &[Wanted]) -> Vec<RouteConfiguration> {
    fn key(wanted: &Wanted) -> (u32, &str) {
        (wanted.port, if wanted.port == 0 { &wanted.bind } else { "" })
    }
    let mut left: HashMap<(u32, &str), usize> = HashMap::new();
    wanted.iter().for_each(|wanted| *left.entry(key(wanted)).or_default() += 1);
    let mut ports: HashMap<(u32, &str), PortHosts> = HashMap::new();
    let mut made = Vec::with_capacity(wanted.len());
    for one in wanted {
        let (Wanted { name, port, bind }, key) = (one, key(one));
        let hosts = ports.remove(&key).or_else(|| {
            let listener = match name == HTTP_PROXY {
                true => scope.egress.iter().find(|listener| listener.port.is_none()),
                false => scope.egress_for(*port, bind),
            };
            listener.map(|listener| PortHosts::new(context, scope, listener, *port))
        });
        let Some(hosts) = hosts else { continue };
        let left = left.entry(key).and_modify(|left| *left -= 1).or_default();
        let is_sniffed = *port != 0 && name.contains(':');
        match (is_sniffed, *left) {
            (false, 0) => {
                made.push(hosts.into_configuration(scope, name));
                continue;
            }
            (false, _) => made.push(hosts.configuration(scope, name)),
            (true, _) => made.push(hosts.sniffed(name)),
        }
        ports.insert(key, hosts);
    }
    made.sort_by(|left, right| left.name.cmp(&right.name));
    made
}

struct Builder<'a> {
    context: &'a Context<'a>,
    scope: &'a Scope,
    entries: BTreeMap<(String, u32), Entry>,
}

/// One listener while services join it.
struct Entry {
    port: ListenPort,
    bind: String,
    bind_to_port: bool,
    chains: Vec<Chain>,
    /// What it has become; `Unknown` once it sniffs.
    protocol: Protocol,
    is_http_proxy: bool,
    /// A Sidecar's own listener takes no further services.
    locked: bool,
}

#[derive(Debug, Clone, Copy)]
struct ListenPort {
    number: u32,
    protocol: Protocol,
    is_http_proxy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Sniffed,
}

impl ListenPort {
    /// `None` for what is not captured: UDP.
    fn kind(self) -> Option<Kind> {
        match self.protocol {
            _ if self.is_http_proxy => Some(Kind::Http),
            protocol if protocol.is_http() => Some(Kind::Http),
            protocol if protocol.is_tcp() => Some(Kind::Tcp),
            Protocol::Unknown => Some(Kind::Sniffed),
            _ => None,
        }
    }
}

/// What a service asks a listener to be.
struct Joining<'s> {
    port: ListenPort,
    bind: Option<String>,
    bind_to_port: bool,
    service: &'s Service,
}

impl Builder<'_> {
    fn add_egress(&mut self, listener: &EgressListener) {
        let rules = ConnectionRules::new(listener);
        let bind_to_port = self.context.interception() == InterceptionMode::None
            || listener.capture_mode == CaptureMode::None
            || listener.bind.starts_with("unix://");
        let bind = match listener.bind.as_str() {
            "" if bind_to_port => Some(self.context.loopback().to_owned()),
            "" => None,
            bind => Some(bind.to_owned()),
        };
        if let Some(port) = &listener.port {
            let port = ListenPort {
                number: port.number,
                protocol: Protocol::parse(&port.protocol),
                is_http_proxy: listener.is_http_proxy(),
            };
            for service in &listener.services {
                self.add(&rules, Joining { port, bind: bind.clone(), bind_to_port, service });
            }
            return;
        }
        // What the listeners before have claimed is theirs alone.
        for entry in self.entries.values_mut() {
            entry.locked = true;
        }
        for service in &listener.services {
            for port in &service.ports {
                let port = ListenPort { number: port.number, protocol: port.protocol, is_http_proxy: false };
                if bind.is_none() && self.is_reserved(port) {
                    continue;
                }
                let wanted = Joining { port, bind: bind.clone(), bind_to_port, service };
                if bind.is_none() && self.listens_per_endpoint(service, port) {
                    self.add_per_endpoint(&rules, &wanted);
                } else {
                    self.add(&rules, wanted);
                }
            }
        }
    }

    /// A wildcard listener on the proxy's own ports would take its traffic.
    fn is_reserved(&self, port: ListenPort) -> bool {
        let mesh = self.context.mesh();
        port.kind() == Some(Kind::Http)
            && (port.number == mesh.proxy_listen_port || port.number == mesh.proxy_inbound_listen_port)
    }

    /// Headless and without an address: TCP can only be told apart by the endpoint called (rule 41).
    fn listens_per_endpoint(&self, service: &Service, port: ListenPort) -> bool {
        service.resolution == Resolution::Passthrough
            && self.context.address_of(service) == UNSPECIFIED
            && matches!(port.kind(), Some(Kind::Tcp | Kind::Sniffed))
    }

    fn add_per_endpoint(&mut self, rules: &ConnectionRules, wanted: &Joining<'_>) {
        let service = wanted.service;
        let itself = self.context.facts.headless_address();
        let mut endpoints = self.context.view.endpoints_of(service, wanted.port.number).peekable();
        // A ServiceEntry that names no endpoints means whatever is called; a Kubernetes Service without any means none.
        if endpoints.peek().is_none()
            && service.registry == Registry::ServiceEntry
            && service.selector.is_empty()
        {
            let bind = wanted.bind.clone();
            let (port, bind_to_port) = (wanted.port, wanted.bind_to_port);
            self.add(rules, Joining { port, bind, bind_to_port, service });
            return;
        }
        for endpoint in endpoints {
            // Traffic to itself does not pass here.
            let is_itself = itself.as_ref() == Some(&endpoint.address);
            if is_itself || endpoint.address.parse::<std::net::IpAddr>().is_err() {
                continue;
            }
            let bind = Some(endpoint.address.clone());
            let (port, bind_to_port) = (wanted.port, wanted.bind_to_port);
            self.add(rules, Joining { port, bind, bind_to_port, service });
        }
    }

    fn add(&mut self, rules: &ConnectionRules, wanted: Joining<'_>) {
        let Joining { port, bind, bind_to_port, service } = wanted;
        if service.resolution == Resolution::Alias {
            return;
        }
        let Some(kind) = port.kind() else { return };
        let wildcard = self.context.wildcard();
        let mut cidrs = Vec::new();
        let bind = match (bind, kind) {
            (Some(bind), _) => bind,
            (None, Kind::Http) => wildcard.to_owned(),
            (None, Kind::Tcp | Kind::Sniffed) => match self.context.address_of(service) {
                // A network cannot be bound; its chains match on it.
                network if network.contains('/') => {
                    cidrs.push(network.to_owned());
                    wildcard.to_owned()
                }
                UNSPECIFIED => wildcard.to_owned(),
                address => address.to_owned(),
            },
        };
        let key = (bind.clone(), port.number);
        let current = self.entries.get(&key);
        if current.is_some_and(|entry| entry.locked) {
            return;
        }
        let current = current.map(|entry| (entry.kind(), entry.protocol));
        let tcp = || {
            tcp_routes::chains(
                self.context,
                self.scope,
                rules,
                Listened {
                    service,
                    port: port.number,
                    is_tls: port.protocol.is_tls(),
                    bind: &bind,
                    cidrs: cidrs.clone(),
                },
            )
        };
        let mut protocol = port.protocol;
        let chains = match (kind, current.map(|(kind, _)| kind)) {
            (Kind::Http, Some(Kind::Http | Kind::Sniffed)) => return,
            (Kind::Http, _) => {
                let mut chain = http_chain(port, &bind, None);
                // On the wildcard other traffic must get past it.
                if bind == wildcard && !port.is_http_proxy {
                    sniff(&mut chain);
                    protocol = Protocol::Unknown;
                }
                vec![chain]
            }
            (Kind::Tcp, _) => tcp(),
            (Kind::Sniffed, Some(Kind::Sniffed)) => return,
            (Kind::Sniffed, _) => {
                let mut chains = tcp();
                let own = (bind != wildcard).then_some(service);
                let mut http = http_chain(port, &bind, own);
                sniff(&mut http);
                chains.push(http);
                chains
            }
        };
        if current.is_some_and(|(_, existing)| speaks_first_differs(port.protocol, existing)) {
            self.note_conflict(service, port.number);
            return;
        }
        match (kind, current.map(|(kind, _)| kind)) {
            (_, None) | (Kind::Sniffed, Some(Kind::Http)) => {
                let entry = Entry {
                    port,
                    bind,
                    bind_to_port,
                    chains,
                    protocol,
                    is_http_proxy: port.is_http_proxy,
                    locked: false,
                };
                self.entries.insert(key, entry);
            }
            (kind, Some(existing)) => {
                let dropped = self.entries.get_mut(&key).is_some_and(|entry| {
                    if kind != existing && existing != Kind::Sniffed {
                        entry.protocol = Protocol::Unknown;
                        entry.is_http_proxy = false;
                    }
                    entry.merge(chains)
                });
                if dropped {
                    self.note_conflict(service, port.number);
                }
            }
        }
    }

    fn note_conflict(&self, service: &Service, port: u32) {
        if let Some(object) = &service.object {
            self.context.note(Note::about(
                object,
                "spec.ports",
                Reason::Conflict(Conflict::Service { port }),
            ));
        }
    }
}

impl Entry {
    fn kind(&self) -> Kind {
        match self.protocol {
            _ if self.is_http_proxy => Kind::Http,
            protocol if protocol.is_http() => Kind::Http,
            protocol if protocol.is_tcp() => Kind::Tcp,
            _ => Kind::Sniffed,
        }
    }

    /// Whether a chain was left out because an earlier one matches the same.
    fn merge(&mut self, incoming: Vec<Chain>) -> bool {
        let mut dropped = false;
        for chain in incoming {
            if self.chains.iter().any(|existing| existing.conflicts_with(&chain)) {
                dropped = true;
            } else {
                self.chains.push(chain);
            }
        }
        dropped
    }
}

/// Sniffing breaks protocols in which the server speaks first: these mix with nothing.
fn speaks_first_differs(incoming: Protocol, existing: Protocol) -> bool {
    let special = |protocol| matches!(protocol, Protocol::Mongo | Protocol::Mysql);
    (special(incoming) || special(existing)) && incoming != existing
}

fn http_chain(port: ListenPort, bind: &str, sniffed: Option<&Service>) -> Chain {
    let routes = match (port.number, sniffed) {
        (0, _) => bind.to_owned(),
        (number, Some(service)) => format!("{}:{number}", service.host),
        (number, None) => number.to_string(),
    };
    Chain { body: Body::Http { routes, absolute: false }, ..Default::default() }
}

fn sniff(chain: &mut Chain) {
    chain.alpn = chain::alpn(PLAIN_HTTP);
    chain.transport = RAW;
}

fn finish(context: &Context<'_>, scope: &Scope, entry: &Entry) -> Listener {
    let name = format!("{}_{}", entry.bind, entry.port.number);
    let needs_http = entry.chains.iter().any(|chain| !chain.alpn.is_empty());
    let needs_tls = needs_http || entry.chains.iter().any(|chain| !chain.sni.is_empty());
    let mut listener = Listener {
        address: Some(address(&entry.bind, entry.port.number)),
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        bind_to_port: (!entry.bind_to_port).then_some(false),
        listener_filters_timeout: Some(seconds(0)),
        ..Default::default()
    };
    if needs_tls {
        listener.listener_filters.push(tls_inspector());
    }
    if needs_http {
        listener.listener_filters.push(http_inspector());
        listener.listener_filters_timeout = detection_timeout(context.mesh());
    }
    for chain in &entry.chains {
        let filters = match &chain.body {
            Body::Network(filters) => filters.clone(),
            Body::Http { routes, absolute } => vec![connection_manager::filter(
                context,
                Http {
                    class: Class::Outbound,
                    routes: Routes::Fetched(routes.clone()),
                    stat_prefix: format!("outbound_{name}"),
                    absolute_url: *absolute || entry.port.is_http_proxy,
                    http2: false,
                    grpc_web: entry.port.protocol == Protocol::GrpcWeb,
                },
            )],
        };
        let made = chain::filter_chain(chain, chain.matcher(), filters);
        if chain.is_match_all() {
            listener.default_filter_chain = Some(made);
        } else {
            listener.filter_chains.push(made);
        }
    }
    // A chain for everything is the fallback; without one, traffic for nobody here goes on as if there were no listener.
    match listener.default_filter_chain.take() {
        Some(only) if listener.filter_chains.is_empty() => listener.filter_chains.push(only),
        Some(fallback) => listener.default_filter_chain = Some(fallback),
        None => {
            let cluster = context.unmatched_cluster(&scope.unmatched);
            listener.default_filter_chain = Some(FilterChain {
                name: PASSTHROUGH_CHAIN.into(),
                filter_chain_match: Some(FilterChainMatch::default()),
                filters: network::to_cluster(context, Class::Outbound, &cluster),
                ..Default::default()
            });
        }
    }
    listener.name = name;
    listener
}

pub fn tls_inspector() -> xds::listener::ListenerFilter {
    listener_filter(
        "envoy.filters.listener.tls_inspector",
        &xds::listener_filters::tls_inspector::v3::TlsInspector::default(),
    )
}

pub fn http_inspector() -> xds::listener::ListenerFilter {
    listener_filter(
        "envoy.filters.listener.http_inspector",
        &xds::listener_filters::http_inspector::v3::HttpInspector::default(),
    )
}

/// How long to wait for the client's first bytes; 0, the default, for ever (`istio-behaviour` rule 35).
pub fn detection_timeout(mesh: &MeshConfig) -> Option<xds::Duration> {
    mesh.protocol_detection_timeout.map(duration)
}

fn virtual_outbound(context: &Context<'_>, scope: &Scope) -> Listener {
    let port = context.mesh().proxy_listen_port;
    let cluster = context.unmatched_cluster(&scope.unmatched);
    let mut chains = vec![FilterChain {
        name: "virtualOutbound-blackhole".into(),
        // Who calls the listener itself would be sent round in circles.
        filter_chain_match: Some(FilterChainMatch { destination_port: Some(port), ..Default::default() }),
        filters: network::black_hole(context, Class::Outbound),
        ..Default::default()
    }];
    let tcp = FilterChain {
        name: "virtualOutbound-catchall-tcp".into(),
        filters: network::to_cluster(context, Class::Outbound, &cluster),
        ..Default::default()
    };
    let mut inspectors = Vec::new();
    let mut default = None;
    if scope.unmatched == Unmatched::AllowByHost {
        // HTTP goes by its Host, everything else by its address.
        inspectors = vec![tls_inspector(), http_inspector()];
        chains.push(dynamic_http(context));
        default = Some(tcp);
    } else {
        chains.push(tcp);
    }
    Listener {
        name: VIRTUAL_OUTBOUND.into(),
        address: Some(address(context.wildcard(), port)),
        filter_chains: chains,
        default_filter_chain: default,
        listener_filters: inspectors,
        use_original_dst: Some(true),
        transparent: (context.interception() == InterceptionMode::Tproxy).then_some(true),
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: access_log::listener_logs(context),
        ..Default::default()
    }
}

fn dynamic_http(context: &Context<'_>) -> FilterChain {
    if !context.does(Feature::DynamicDns) {
        context.note(Note::on_mesh("outboundTrafficPolicy.mode", Reason::NotDone(NotDone::DynamicDnsOfMesh)));
    }
    let host = virtual_hosts::everything("allow_any_dynamic_dns", Some(names::DYNAMIC_DNS.to_owned()));
    let http = Http {
        class: Class::Outbound,
        routes: Routes::Inline(Box::new(virtual_hosts::configuration("", vec![host]))),
        stat_prefix: "outbound_virtualOutbound-catchall-tcp-http".into(),
        absolute_url: false,
        http2: false,
        grpc_web: false,
    };
    FilterChain {
        name: "virtualOutbound-catchall-tcp-http".into(),
        filter_chain_match: Some(FilterChainMatch {
            application_protocols: chain::alpn(PLAIN_HTTP),
            transport_protocol: RAW.into(),
            ..Default::default()
        }),
        filters: vec![connection_manager::filter(context, http)],
        ..Default::default()
    }
}

/// The port on which applications may use the sidecar as an HTTP proxy, if one is set.
fn proxy_port(context: &Context<'_>) -> Option<u32> {
    let own = context.facts.metadata("HTTP_PROXY_PORT").and_then(|port| port.parse().ok());
    Some(own.unwrap_or(context.mesh().proxy_http_port)).filter(|port| *port != 0)
}

fn http_proxy(context: &Context<'_>, scope: &Scope, port: u32) -> Listener {
    let chain =
        Chain { body: Body::Http { routes: HTTP_PROXY.into(), absolute: true }, ..Default::default() };
    let entry = Entry {
        port: ListenPort { number: port, protocol: Protocol::Http, is_http_proxy: true },
        bind: context.loopback().to_owned(),
        bind_to_port: true,
        chains: vec![chain],
        protocol: Protocol::Http,
        is_http_proxy: true,
        locked: true,
    };
    finish(context, scope, &entry)
}
