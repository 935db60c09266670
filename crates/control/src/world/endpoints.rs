//! Where services are served: endpoints by their key, and who is served at an address.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::protocol::Protocol;

use super::reads::{Changes, Topic};
use super::service::{Endpoint, EndpointsKey};

/// What is declared of the ports behind some endpoints, and how they are called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// Whether they are called by their own addresses.
    pub headless: bool,
    /// Ports of the service that speak something other than HTTP, told or not.
    pub not_http: BTreeSet<u32>,
}

impl Declared {
    pub fn of(headless: bool, ports: impl Iterator<Item = (u32, Protocol)>) -> Self {
        let other = |(_, protocol): &(u32, Protocol)| !(protocol.is_http() || protocol.is_unknown());
        Self { headless, not_http: ports.filter(other).map(|(port, _)| port).collect() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    all: HashMap<EndpointsKey, (Arc<Vec<Endpoint>>, Declared)>,
    /// Keys by the addresses of their endpoints.
    at: HashMap<String, BTreeSet<EndpointsKey>>,
    /// How many headless services have an endpoint at an address.
    headless: HashMap<String, usize>,
    /// How many services declare something other than HTTP at an address and port.
    not_http: HashMap<(String, u32), usize>,
}

impl Endpoints {
    pub fn of(&self, key: &str) -> &[Endpoint] {
        self.all.get(key).map(|(endpoints, _)| endpoints.as_slice()).unwrap_or_default()
    }

    /// The keys with an endpoint at this address, in order.
    pub fn at(&self, address: &str) -> impl Iterator<Item = &EndpointsKey> {
        self.at.get(address).into_iter().flatten()
    }

    pub fn is_headless(&self, address: &str) -> bool {
        self.headless.contains_key(address)
    }

    pub fn is_not_http(&self, address: &str, port: u32) -> bool {
        // Hardly anybody asks; the text is made for those who do.
        self.not_http.contains_key(&(address.to_owned(), port))
    }

    /// Puts these in the place of what the key had; says what differs.
    pub fn set(
        &mut self,
        key: &EndpointsKey,
        endpoints: Vec<Endpoint>,
        declared: Declared,
        changes: &mut Changes,
    ) {
        let before = self.all.get(key);
        if before.is_some_and(|(known, of)| **known == endpoints && *of == declared)
            || (before.is_none() && endpoints.is_empty())
        {
            return;
        }
        let (before, was) = self.all.remove(key).unwrap_or_default();
        if *before != endpoints {
            changes.of(Topic::Endpoints, &[key]);
        }
        let touched: BTreeSet<&str> = differing(&before, &endpoints, was != declared);
        for address in touched {
            changes.of(Topic::At, &[address]);
        }
        for endpoint in before.iter() {
            self.forget(key, endpoint, &was, changes);
        }
        for endpoint in &endpoints {
            self.know(key, endpoint, &declared, changes);
        }
        if !endpoints.is_empty() {
            self.all.insert(key.clone(), (Arc::new(endpoints), declared));
        }
    }

    fn know(&mut self, key: &EndpointsKey, endpoint: &Endpoint, declared: &Declared, changes: &mut Changes) {
        let address = endpoint.address.as_str();
        self.at.entry(address.to_owned()).or_default().insert(key.clone());
        if declared.headless {
            changes.of(Topic::Headless, &[address]);
            *self.headless.entry(address.to_owned()).or_default() += 1;
        }
        if declared.not_http.contains(&endpoint.service_port) {
            changes.of(Topic::NotHttp, &[address]);
            *self.not_http.entry((address.to_owned(), endpoint.port)).or_default() += 1;
        }
    }

    fn forget(
        &mut self,
        key: &EndpointsKey,
        endpoint: &Endpoint,
        declared: &Declared,
        changes: &mut Changes,
    ) {
        let address = endpoint.address.as_str();
        if let Some(keys) = self.at.get_mut(address) {
            keys.remove(key);
            if keys.is_empty() {
                self.at.remove(address);
            }
        }
        if declared.headless {
            changes.of(Topic::Headless, &[address]);
            count_down(&mut self.headless, &address.to_owned());
        }
        if declared.not_http.contains(&endpoint.service_port) {
            changes.of(Topic::NotHttp, &[address]);
            count_down(&mut self.not_http, &(address.to_owned(), endpoint.port));
        }
    }
}

/// Addresses of endpoints that only one of both has, or of all where what is declared of them differs.
fn differing<'e>(before: &'e [Endpoint], now: &'e [Endpoint], all: bool) -> BTreeSet<&'e str> {
    let known = |of: &'e [Endpoint]| -> HashMap<(&'e str, u32, u32), &'e Endpoint> {
        of.iter().map(|one| ((one.address.as_str(), one.port, one.service_port), one)).collect()
    };
    let (of_before, of_now) = (known(before), known(now));
    let only = |one: &HashMap<(&'e str, u32, u32), &'e Endpoint>,
                other: &HashMap<(&'e str, u32, u32), &'e Endpoint>| {
        let differs = |(key, endpoint): &(&(&'e str, u32, u32), &&'e Endpoint)| {
            all || other.get(*key) != Some(*endpoint)
        };
        one.iter().filter(differs).map(|(key, _)| key.0).collect::<BTreeSet<&'e str>>()
    };
    let mut touched = only(&of_before, &of_now);
    touched.extend(only(&of_now, &of_before));
    touched
}

fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
