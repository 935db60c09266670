//! Which ports of workloads take the multiplexed hop: those where an HTTP/2 connection meets a chain that speaks HTTP.
//!
//! A port that is declared HTTP has one such chain, whichever HTTP is declared; a port that is sniffed has one for what
//! begins like HTTP/2. A port that is declared anything else has none. The oldest service of a port decides what is
//! declared (`istio-behaviour` rule 39); where services disagree nobody relies on it here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::protocol::Protocol;

use super::service::{Endpoint, Service};

/// Takes the mark from endpoints of other ports.
pub(super) fn keep_to_http(services: &mut [Service]) {
    let taking: HashSet<&str> =
        endpoints(services).filter(|(_, e)| e.hop).map(|(_, e)| e.address.as_str()).collect();
    if taking.is_empty() {
        return;
    }
    let mut speaks: HashMap<(&str, u32), bool> = HashMap::new();
    for (protocol, endpoint) in endpoints(services).filter(|(_, e)| taking.contains(e.address.as_str())) {
        *speaks.entry((&endpoint.address, endpoint.port)).or_insert(true) &=
            protocol.is_http() || protocol.is_unknown();
    }
    let not: HashSet<(String, u32)> = speaks
        .into_iter()
        .filter(|(_, http)| !http)
        .map(|((address, port), _)| (address.to_owned(), port))
        .collect();
    if !not.is_empty() {
        clear(services, &not);
    }
}

fn clear(services: &mut [Service], not: &HashSet<(String, u32)>) {
    for service in services {
        let wrong = |e: &Endpoint| e.hop && not.contains(&(e.address.clone(), e.port));
        if service.endpoints.iter().any(wrong) {
            for endpoint in Arc::make_mut(&mut service.endpoints).iter_mut().filter(|e| wrong(e)) {
                endpoint.hop = false;
            }
        }
    }
}

fn endpoints(services: &[Service]) -> impl Iterator<Item = (Protocol, &Endpoint)> {
    services.iter().flat_map(|service| {
        let protocol =
            |e: &Endpoint| service.port(e.service_port).map_or(Protocol::Tcp, |port| port.protocol);
        service.endpoints.iter().map(move |e| (protocol(e), e))
    })
}
