//! A gateway's listeners: one for each port and address that has anything to serve.

use std::collections::BTreeMap;

use api::protocol::Protocol;
use xds::core::TrafficDirection;
use xds::listener::Listener;

use super::connections::{self, TakenNames};
use super::merge::{Merged, Port, Server};
use crate::scope::Scope;
use crate::translate::access_log;
use crate::translate::chain::{self, Body, Chain};
use crate::translate::connection_manager::{self, Class, Http, Routes};
use crate::translate::context::Context;
use crate::translate::sidecar::outbound::tls_inspector;
use crate::translate::tls;
use crate::translate::values::address;
use crate::world::{NotDone, Note, Reason};

pub fn build(context: &Context<'_>, scope: &Scope, merged: &Merged) -> Vec<Listener> {
    let mut taken = TakenNames::new();
    let mut chains: BTreeMap<(String, u32), Vec<(Chain, Protocol)>> = BTreeMap::new();
    for port in &merged.ports {
        let bind = if port.bind.is_empty() { context.wildcard() } else { &port.bind };
        let made = port_chains(context, scope, merged, port, &mut taken);
        chains.entry((bind.to_owned(), port.number)).or_default().extend(made);
    }
    chains
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|((bind, port), chains)| listener(context, &bind, port, &chains))
        .collect()
}

fn port_chains(
    context: &Context<'_>,
    scope: &Scope,
    merged: &Merged,
    port: &Port,
    taken: &mut TakenNames,
) -> Vec<(Chain, Protocol)> {
    if port.protocol.is_http() {
        let body = Body::Http { routes: port.route_name.clone(), absolute: false };
        return vec![(Chain { body, ..Default::default() }, port.protocol)];
    }
    let mut chains = Vec::new();
    for server in port.servers.iter().filter_map(|at| merged.servers.get(*at)) {
        if server.has_tls() && !server.is_passthrough() && !context.options.identity {
            context.note(Note::on(
                &server.object,
                format!("{}.tls", server.path),
                Reason::NotDone(NotDone::ServerTls),
            ));
            continue;
        }
        let made = if server.terminates_https() {
            vec![https_chain(context, server)]
        } else if server.is_passthrough() {
            connections::passthrough(context, scope, server, port.number, taken)
        } else {
            tcp_chain(context, scope, server).into_iter().collect()
        };
        chains.extend(made.into_iter().map(|chain| (chain, server.protocol)));
    }
    chains
}

fn https_chain(context: &Context<'_>, server: &Server) -> Chain {
    Chain {
        sni: server.sni.clone(),
        tls: server.spec.tls.as_ref().map(|settings| tls::server(context, settings, true)),
        body: Body::Http { routes: server.route_name.clone(), absolute: false },
        ..Default::default()
    }
}

/// Plain TCP, or TLS that ends here; nothing without a rule for it.
fn tcp_chain(context: &Context<'_>, scope: &Scope, server: &Server) -> Option<Chain> {
    let filters = connections::tcp(context, scope, server)?;
    let settings = server.spec.tls.as_ref();
    Some(Chain {
        sni: settings.map(|_| server.sni.clone()).unwrap_or_default(),
        tls: settings.map(|settings| tls::server(context, settings, false)),
        body: Body::Network(filters),
        ..Default::default()
    })
}

fn listener(context: &Context<'_>, bind: &str, port: u32, chains: &[(Chain, Protocol)]) -> Listener {
    let name = format!("{bind}_{port}");
    let needs_tls = chains.iter().any(|(chain, _)| !chain.sni.is_empty() || chain.tls.is_some());
    let filter_chains = chains.iter().map(|(chain, protocol)| {
        let filters = match &chain.body {
            Body::Network(filters) => filters.clone(),
            Body::Http { routes, .. } => vec![connection_manager::filter(
                context,
                Http {
                    class: Class::Gateway,
                    routes: Routes::Fetched(routes.clone()),
                    stat_prefix: format!("outbound_{name}"),
                    absolute_url: false,
                    http2: false,
                    grpc_web: *protocol == Protocol::GrpcWeb,
                },
            )],
        };
        let mut made = chain::filter_chain(chain, chain.matcher(), filters);
        // A client that never finishes its handshake must not hold the connection.
        made.transport_socket_connect_timeout = Some(tls::handshake_timeout());
        made
    });
    Listener {
        filter_chains: filter_chains.collect(),
        address: Some(address(bind, port)),
        traffic_direction: TrafficDirection::Outbound as i32,
        listener_filters: if needs_tls { vec![tls_inspector()] } else { Vec::new() },
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: access_log::listener_logs(context),
        name,
        ..Default::default()
    }
}
