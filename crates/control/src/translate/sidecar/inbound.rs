//! The listener for traffic to the workload: what is passed through, then every port it serves.

use std::collections::BTreeMap;

use api::mesh_config::InterceptionMode;
use api::networking::{CaptureMode, IstioIngressListener, ServerTlsMode, ServerTlsSettings};
use api::protocol::Protocol;
use api::security::MutualTlsMode;
use xds::core::TrafficDirection;
use xds::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use xds::node::Feature;
use xds::route::{RouteConfiguration, VirtualHost};

use super::{inspection, outbound};
use crate::scope;
use crate::translate::chain::{self, MESH_ANY, MESH_HTTP, MESH_TCP, PLAIN_HTTP, RAW, TLS};
use crate::translate::connection_manager::{self, Class, Http, Routes};
use crate::translate::context::Context;
use crate::translate::values::{address, network_filter, provenance};
use crate::translate::{access_log, names, network, route, tls};
use crate::world::{MutualTls, NotDone, Note, Reason};

const VIRTUAL_INBOUND: &str = "virtualInbound";

/// What a proxy serves and under which conditions.
pub struct Inbound {
    pub ports: Vec<ServedPort>,
    pub mutual_tls: MutualTls,
}

/// One port of the workload.
pub struct ServedPort {
    /// The service's; 0 for what is passed through.
    pub port: u32,
    pub target_port: u32,
    pub protocol: Protocol,
    pub bind: String,
    bind_to_port: bool,
    host: String,
    tls: Option<ServerTlsSettings>,
    metadata: Option<xds::core::Metadata>,
    /// Where the application is, if a Sidecar says so.
    pub default_endpoint: Option<String>,
}

/// How one chain of a port recognises its connections.
struct Recognised {
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates: bool,
}

const fn chain_for(
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates: bool,
) -> Recognised {
    Recognised { alpn, transport, http, terminates }
}

// The chain matrix (`istio-behaviour` rule 43; `control-plane` §1.3).
const PERMISSIVE_SNIFFED: &[Recognised] = &[
    chain_for(MESH_HTTP, TLS, true, true),
    chain_for(PLAIN_HTTP, RAW, true, false),
    chain_for(MESH_TCP, TLS, false, true),
    chain_for(&[], RAW, false, false),
    // Somebody else's TLS: on to the application as it is.
    chain_for(&[], TLS, false, false),
];
const PERMISSIVE_HTTP: &[Recognised] =
    &[chain_for(MESH_ANY, TLS, true, true), chain_for(&[], RAW, true, false)];
const PERMISSIVE_TCP: &[Recognised] = &[
    chain_for(MESH_ANY, TLS, false, true),
    chain_for(&[], RAW, false, false),
    chain_for(&[], TLS, false, false),
];
const STRICT_SNIFFED: &[Recognised] =
    &[chain_for(MESH_HTTP, TLS, true, true), chain_for(&[], TLS, false, true)];
const STRICT_HTTP: &[Recognised] = &[chain_for(&[], TLS, true, true)];
const STRICT_TCP: &[Recognised] = &[chain_for(&[], TLS, false, true)];
const PLAIN_SNIFFED: &[Recognised] =
    &[chain_for(PLAIN_HTTP, RAW, true, false), chain_for(&[], RAW, false, false)];
const PLAIN_HTTP_PORT: &[Recognised] = &[chain_for(&[], RAW, true, false)];
const PLAIN_TCP: &[Recognised] = &[chain_for(&[], RAW, false, false)];

fn matrix(mode: MutualTlsMode, protocol: Protocol) -> &'static [Recognised] {
    match mode {
        MutualTlsMode::Strict if protocol.is_http() => STRICT_HTTP,
        MutualTlsMode::Strict if protocol.is_unknown() => STRICT_SNIFFED,
        MutualTlsMode::Strict => STRICT_TCP,
        MutualTlsMode::Permissive if protocol.is_http() => PERMISSIVE_HTTP,
        MutualTlsMode::Permissive if protocol.is_unknown() => PERMISSIVE_SNIFFED,
        MutualTlsMode::Permissive => PERMISSIVE_TCP,
        MutualTlsMode::Disable | MutualTlsMode::Unset if protocol.is_http() => PLAIN_HTTP_PORT,
        MutualTlsMode::Disable | MutualTlsMode::Unset if protocol.is_unknown() => PLAIN_SNIFFED,
        MutualTlsMode::Disable | MutualTlsMode::Unset => PLAIN_TCP,
    }
}

impl Inbound {
    pub fn of(context: &Context<'_>) -> Self {
        let facts = context.facts;
        let mut mutual_tls = context.view.mutual_tls(facts.namespace(), |labels| facts.has_labels(labels));
        if !context.options.identity {
            note_strict(context, &mutual_tls);
            mutual_tls.mode = MutualTlsMode::Disable;
            mutual_tls.ports.values_mut().for_each(|mode| *mode = MutualTlsMode::Disable);
        }
        let sidecar = context.sidecar();
        let ingress = sidecar.as_ref().and_then(scope::spec_of).map(|spec| spec.ingress.as_slice());
        let ports = match (sidecar.as_ref(), ingress) {
            (Some(object), Some(ingress)) if !ingress.is_empty() => {
                let ports = ingress.iter().enumerate();
                let mut served: BTreeMap<u32, ServedPort> = BTreeMap::new();
                for (at, listener) in ports {
                    if let Some(port) = ingress_port(context, object, listener, at) {
                        served.entry(port.target_port).or_insert(port);
                    }
                }
                served.into_values().collect()
            }
            // Without redirection the workload itself listens on its ports.
            _ if context.interception() == InterceptionMode::None => Vec::new(),
            _ => service_ports(context),
        };
        Self { ports, mutual_tls }
    }

    pub fn listeners(&self, context: &Context<'_>) -> Vec<Listener> {
        let mut custom = Vec::new();
        let mut chains = self.passthrough(context);
        for port in &self.ports {
            let made = self.chains_of(context, port);
            if port.bind_to_port {
                custom.push(custom_listener(context, port, made));
            } else {
                chains.extend(made);
            }
        }
        let mut listeners = Vec::new();
        if context.interception() != InterceptionMode::None {
            let port = context.mesh().proxy_inbound_listen_port;
            let mut listener = inbound_listener(context, chains, true);
            listener.name = VIRTUAL_INBOUND.into();
            listener.address = Some(address(context.wildcard(), port));
            listener.transparent = (context.interception() == InterceptionMode::Tproxy).then_some(true);
            listeners.push(listener);
        }
        listeners.extend(custom);
        listeners
    }

    fn chains_of(&self, context: &Context<'_>, port: &ServedPort) -> Vec<FilterChain> {
        let mode = self.mutual_tls.of_port(port.target_port);
        let cluster = names::inbound(port.target_port);
        let name = format!("{}_{}", port.bind, port.target_port);
        let name_of = |_: bool| name.clone();
        // A Sidecar's own TLS counts only where the mesh's is off.
        if let Some(settings) = port.tls.as_ref().filter(|_| mode == MutualTlsMode::Disable) {
            let protocol = after_termination(port.protocol);
            let recognised = [chain_for(&[], TLS, protocol.is_http(), true)];
            let socket = tls::server(context, settings, protocol.is_http());
            return chains(context, port, &cluster, &recognised, Some(&socket), name_of);
        }
        let protocol = if port.tls.is_some() { after_termination(port.protocol) } else { port.protocol };
        chains(context, port, &cluster, matrix(mode, protocol), None, name_of)
    }

    /// What no service port is, and ports that only a policy names.
    fn passthrough(&self, context: &Context<'_>) -> Vec<FilterChain> {
        let listen = context.mesh().proxy_inbound_listen_port;
        let mut made = vec![FilterChain {
            name: "virtualInbound-blackhole".into(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(listen),
                ..Default::default()
            }),
            filters: with_metadata_exchange(context, network::black_hole(context, Class::Inbound)),
            ..Default::default()
        }];
        let served = |port: &u32| self.ports.iter().any(|own| own.target_port == *port);
        let only_in_policy = self.mutual_tls.ports.keys().copied().filter(|port| !served(port));
        for target_port in std::iter::once(0).chain(only_in_policy) {
            let mode = match target_port {
                0 => self.mutual_tls.mode,
                port => self.mutual_tls.of_port(port),
            };
            let port = ServedPort {
                port: 0,
                target_port,
                protocol: Protocol::Unknown,
                bind: String::new(),
                bind_to_port: false,
                host: String::new(),
                tls: None,
                metadata: None,
                default_endpoint: None,
            };
            let recognised = matrix(mode, Protocol::Unknown);
            let name_of = |http| {
                let name = if http { "virtualInbound-catchall-http" } else { VIRTUAL_INBOUND };
                name.to_owned()
            };
            made.extend(chains(context, &port, names::INBOUND_PASSTHROUGH, recognised, None, name_of));
        }
        made
    }
}

fn note_strict(context: &Context<'_>, mutual_tls: &MutualTls) {
    let strict = mutual_tls.mode == MutualTlsMode::Strict
        || mutual_tls.ports.values().any(|mode| *mode == MutualTlsMode::Strict);
    if let Some(policy) = mutual_tls.policies.last().filter(|_| strict) {
        context.note(Note::on(policy, "spec.mtls.mode", Reason::NotDone(NotDone::StrictMutualTls)));
    }
}

fn service_ports(context: &Context<'_>) -> Vec<ServedPort> {
    let mut served: BTreeMap<u32, ServedPort> = BTreeMap::new();
    for target in context.facts.targets().iter() {
        let mesh = context.mesh();
        if [mesh.proxy_listen_port, mesh.proxy_inbound_listen_port].contains(&target.target_port) {
            continue;
        }
        // The oldest service of a port decides its protocol (`istio-behaviour` rule 39).
        served.entry(target.target_port).or_insert_with(|| ServedPort {
            port: target.port.number,
            target_port: target.target_port,
            protocol: target.port.protocol,
            bind: context.wildcard().to_owned(),
            bind_to_port: false,
            host: target.service.host.clone(),
            tls: None,
            metadata: None,
            default_endpoint: None,
        });
    }
    served.retain(|_, port| port.protocol != Protocol::Udp);
    served.into_values().collect()
}

fn ingress_port(
    context: &Context<'_>,
    sidecar: &std::sync::Arc<api::Object>,
    listener: &IstioIngressListener,
    at: usize,
) -> Option<ServedPort> {
    let port = listener.port.as_ref()?;
    let bind_to_port = match listener.capture_mode {
        CaptureMode::Default => context.interception() == InterceptionMode::None,
        CaptureMode::None => true,
        CaptureMode::Iptables => false,
    };
    let bind = if listener.bind.is_empty() { context.facts.address() } else { listener.bind.clone() };
    let path = format!("spec.ingress[{at}]");
    let enabled = context.options.flag("ENABLE_TLS_ON_SIDECAR_INGRESS") && context.options.identity;
    if listener.tls.is_some() && !context.does(Feature::IngressTls) {
        context.note(Note::on(sidecar, format!("{path}.tls"), Reason::NotDone(NotDone::SidecarTls)));
    }
    Some(ServedPort {
        port: port.number,
        target_port: port.number,
        protocol: Protocol::parse(&port.protocol),
        bind,
        bind_to_port,
        host: format!("{}.{}", sidecar.name(), context.facts.namespace()),
        tls: listener.tls.clone().filter(|tls| enabled && tls.mode != ServerTlsMode::Passthrough),
        metadata: Some(provenance(sidecar, &path)),
        default_endpoint: Some(listener.default_endpoint.clone()),
    })
}

/// HTTPS carries HTTP, TLS anything.
fn after_termination(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Https => Protocol::Http,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    }
}

fn chains(
    context: &Context<'_>,
    port: &ServedPort,
    cluster: &str,
    recognised: &[Recognised],
    own: Option<&xds::tls::DownstreamTlsContext>,
    name: impl Fn(bool) -> String,
) -> Vec<FilterChain> {
    recognised
        .iter()
        .map(|one| {
            let socket = one.terminates.then(|| match own {
                Some(own) => chain::downstream_tls(own),
                None => chain::downstream_tls(&tls::mesh_server(context, one.http)),
            });
            FilterChain {
                name: name(one.http),
                filter_chain_match: Some(FilterChainMatch {
                    destination_port: (port.target_port > 0).then_some(port.target_port),
                    transport_protocol: one.transport.to_owned(),
                    application_protocols: chain::alpn(one.alpn),
                    ..Default::default()
                }),
                filters: filters(context, port, cluster, one.http),
                transport_socket: socket,
                metadata: port.metadata.clone(),
                ..Default::default()
            }
        })
        .collect()
}

fn filters(context: &Context<'_>, port: &ServedPort, cluster: &str, http: bool) -> Vec<Filter> {
    let terminal = if http {
        let stat_prefix = match port.bind.as_str() {
            "" => cluster.to_owned(),
            bind => format!("inbound_{bind}_{}", port.target_port),
        };
        vec![connection_manager::filter(
            context,
            Http {
                class: Class::Inbound,
                routes: Routes::Inline(Box::new(inline_routes(port, cluster))),
                stat_prefix,
                absolute_url: false,
                http2: port.protocol.is_http2(),
                grpc_web: port.protocol == Protocol::GrpcWeb,
            },
        )]
    } else {
        network::to_cluster(context, Class::Inbound, cluster)
    };
    with_metadata_exchange(context, terminal)
}

fn with_metadata_exchange(context: &Context<'_>, mut rest: Vec<Filter>) -> Vec<Filter> {
    if context.has_istio_filters() {
        let exchange = xds::tcp_metadata_exchange::MetadataExchange {
            protocol: "istio-peer-exchange".into(),
            ..Default::default()
        };
        rest.insert(0, network_filter("istio.metadata_exchange", &exchange));
    }
    rest
}

fn inline_routes(port: &ServedPort, cluster: &str) -> RouteConfiguration {
    let operation = format!("{}:{}/*", port.host, port.port);
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{}", port.port),
            domains: vec!["*".into()],
            routes: vec![route::inbound(cluster.to_owned(), operation, port.protocol)],
            ..Default::default()
        }],
        validate_clusters: Some(false),
        ..Default::default()
    }
}

fn custom_listener(context: &Context<'_>, port: &ServedPort, chains: Vec<FilterChain>) -> Listener {
    let mut listener = inbound_listener(context, chains, false);
    listener.name = format!("{}_{}", port.bind, port.target_port);
    listener.address = Some(address(&port.bind, port.target_port));
    listener
}

fn inbound_listener(context: &Context<'_>, chains: Vec<FilterChain>, captured: bool) -> Listener {
    Listener {
        listener_filters: inspection::listener_filters(&chains, captured),
        filter_chains: chains,
        traffic_direction: TrafficDirection::Inbound as i32,
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: outbound::detection_timeout(context.mesh()),
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: access_log::listener_logs(context),
        ..Default::default()
    }
}
