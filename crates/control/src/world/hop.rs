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
    let not = not_http(endpoints(services.iter()), endpoints(services.iter()));
    if !not.is_empty() {
        clear(services, &not);
    }
}

/// The same of some services' new endpoints, by their places among all.
pub(super) fn keep_to_http_among(services: &[Arc<Service>], remade: &mut HashMap<usize, Vec<Endpoint>>) {
    let new = || {
        let with_service = remade.iter().filter_map(|(at, endpoints)| Some((services.get(*at)?, endpoints)));
        with_service.flat_map(|(service, endpoints)| {
            endpoints.iter().map(move |endpoint| (protocol(service, endpoint), endpoint))
        })
    };
    let others = services.iter().enumerate().filter(|(at, _)| !remade.contains_key(at));
    let others = endpoints(others.map(|(_, service)| &**service));
    let not = not_http(new(), others.chain(new()));
    for endpoint in remade.values_mut().flatten() {
        endpoint.hop &= not.is_empty() || !not.contains(&(endpoint.address.clone(), endpoint.port));
    }
}

/// Where marked endpoints are, and something else than HTTP is declared by any.
fn not_http<'e>(
    marked: impl Iterator<Item = (Protocol, &'e Endpoint)>,
    any: impl Iterator<Item = (Protocol, &'e Endpoint)>,
) -> HashSet<(String, u32)> {
    let taking: HashSet<&str> = marked.filter(|(_, e)| e.hop).map(|(_, e)| e.address.as_str()).collect();
    if taking.is_empty() {
        return HashSet::new();
    }
    any.filter(|(protocol, e)| {
        !(protocol.is_http() || protocol.is_unknown()) && taking.contains(e.address.as_str())
    })
    .map(|(_, e)| (e.address.clone(), e.port))
    .collect()
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

fn endpoints<'s>(
    services: impl Iterator<Item = &'s Service>,
) -> impl Iterator<Item = (Protocol, &'s Endpoint)> {
    services.flat_map(|service| service.endpoints.iter().map(move |e| (protocol(service, e), e)))
}

fn protocol(service: &Service, endpoint: &Endpoint) -> Protocol {
    service.port(endpoint.service_port).map_or(Protocol::Tcp, |port| port.protocol)
}
