//! The other end: a model of Envoy, or the session of our own proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use xds::delta_client::cache::Changes;
use xds::delta_client::session::Session;
use xds::delta_client::{Consumer, Refusal, Update};
use xds::delta_server::Kind;
use xds::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::config::{Body, Fault, Key};
use crate::envoy::Envoy;
use crate::random::Random;

/// What a client holds and uses.
#[derive(Debug, Default, Clone)]
pub struct Held {
    pub resources: BTreeMap<Key, (u64, Body)>,
    /// What must not have happened.
    pub wrong: Vec<String>,
    /// Clusters of which a version was refused on this stream, or that gave up warming: others may lead to nothing.
    pub excused: BTreeSet<String>,
    /// New clusters that have no endpoints yet: a request that is routed there fails.
    pub cold: BTreeSet<String>,
}

impl Held {
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &String> {
        self.resources.keys().filter(move |k| k.0 == kind).map(|k| &k.1)
    }

    pub fn apply(&mut self, kind: Kind, name: &str, version: u64, body: Body) {
        if kind == Kind::Route {
            for cluster in &body.refers {
                let there = self.has(Kind::Cluster, cluster) && !self.cold.contains(cluster);
                if !there && !self.excused.contains(cluster) {
                    self.wrong.push(format!("route {name} leads to {cluster} before that is there"));
                }
            }
        }
        self.resources.insert((kind, name.to_owned()), (version, body));
    }

    pub fn has(&self, kind: Kind, name: &str) -> bool {
        self.resources.contains_key(&(kind, name.to_owned()))
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        if self.resources.remove(&(kind, name.to_owned())).is_none() {
            return;
        }
        self.cold.retain(|cluster| kind != Kind::Cluster || cluster != name);
        for ((of, user), (_, body)) in &self.resources {
            let above = matches!((kind, of), (Kind::Cluster, Kind::Route) | (Kind::Route, Kind::Listener));
            if above && body.refers.iter().any(|n| n == name) {
                self.wrong.push(format!("{kind:?} {name} is taken away, {of:?} {user} uses it"));
            }
        }
    }

    /// Names of clusters for endpoints, of listeners' tables for routes.
    pub fn wanted(&self, kind: Kind) -> BTreeSet<String> {
        match kind {
            Kind::Endpoint => self.names(Kind::Cluster).cloned().collect(),
            _ => {
                let listeners = self.resources.iter().filter(|(k, _)| k.0 == Kind::Listener);
                listeners.flat_map(|(_, (_, body))| body.refers.iter().cloned()).collect()
            }
        }
    }
}

/// Which end is simulated.
pub enum Client {
    Envoy(Box<Envoy>),
    Ours { session: Box<Session>, proxy: Proxy },
}

impl Client {
    pub fn held(&mut self) -> &mut Held {
        match self {
            Self::Envoy(envoy) => &mut envoy.held,
            Self::Ours { proxy, .. } => &mut proxy.0,
        }
    }

    pub fn open(&mut self, now: Instant) -> Vec<DeltaDiscoveryRequest> {
        // The server is offered clusters that still warm.
        self.held().excused = self.held().cold.clone();
        match self {
            Self::Envoy(envoy) => envoy.open(),
            Self::Ours { session, proxy } => session.open(proxy, now),
        }
    }

    pub fn response(
        &mut self,
        response: DeltaDiscoveryResponse,
        random: &mut Random,
        now: Instant,
    ) -> Vec<DeltaDiscoveryRequest> {
        match self {
            Self::Envoy(envoy) => envoy.response(response, random),
            Self::Ours { session, proxy } => session.response(response, proxy, &mut Changes::new(false), now),
        }
    }

    /// Clusters that wait for endpoints.
    pub fn warming(&self) -> Vec<String> {
        match self {
            Self::Envoy(envoy) => envoy.warming().cloned().collect(),
            Self::Ours { .. } => Vec::new(),
        }
    }

    /// The server does not wait for a warm cluster for ever.
    pub fn time_passes(&mut self) {
        let held = self.held();
        held.excused.extend(held.cold.iter().cloned());
    }

    /// After `initial_fetch_timeout`.
    pub fn give_up_warming(&mut self) -> Vec<DeltaDiscoveryRequest> {
        match self {
            Self::Envoy(envoy) => envoy.give_up_warming(),
            Self::Ours { session, proxy } if session.warm_by().is_some() => session.give_up_warming(proxy),
            Self::Ours { .. } => Vec::new(),
        }
    }
}

/// Behind our session: applies what is good, refuses what is bad.
#[derive(Default)]
pub struct Proxy(pub Held);

impl Consumer for Proxy {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        let kind = Kind::of(update.type_url).unwrap();
        let mut refusals = Vec::new();
        for resource in &update.resources {
            let body = Body::decode(&resource.body.value);
            let name = resource.name.clone();
            if body.fault == Fault::None {
                let version = u64::from_str_radix(&resource.version, 16).unwrap();
                self.0.apply(kind, &name, version, body);
            } else {
                if kind == Kind::Cluster {
                    self.0.excused.insert(name.clone());
                }
                let reason = format!("is bad, as outbound|80||c{} is", body.revision % 9);
                refusals.push(Refusal { name, reason });
            }
        }
        for name in &update.removed {
            self.0.remove(kind, name);
        }
        // Endpoints go with their cluster, as in the proxy.
        let wanted = self.0.wanted(Kind::Endpoint);
        if kind == Kind::Cluster {
            for name in update.removed.iter().filter(|n| !wanted.contains(*n)) {
                self.0.remove(Kind::Endpoint, name);
            }
        }
        // A table that no listener names any more is dropped, as the proxy does.
        let wanted = self.0.wanted(Kind::Route);
        let unwanted: Vec<String> =
            self.0.names(Kind::Route).filter(|n| !wanted.contains(*n)).cloned().collect();
        for name in unwanted {
            self.0.remove(Kind::Route, &name);
        }
        refusals
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        self.0.wanted(Kind::of(type_url).unwrap()).into_iter().collect()
    }
}
