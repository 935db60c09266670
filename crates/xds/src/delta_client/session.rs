//! The protocol without I/O: a response in, what to apply and what to send out.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use super::cache::Changes;
use super::held::Held;
use super::types::{Asking, TYPES};
use super::{Cache, Consumer, Refusal, TypeStatus};
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::{core, type_url};

/// What is held, over all streams.
#[derive(Debug)]
pub struct Session {
    node: core::Node,
    types: Vec<Held>,
    /// Listeners were asked for once. From then on a stream asks for all types as it opens.
    introduced: bool,
    /// Answers to clusters some of which wait for their endpoints.
    withheld: Vec<DeltaDiscoveryRequest>,
    /// Until when endpoints are waited for.
    warm_by: Option<Instant>,
}

/// How long endpoints are waited for: Envoy's `initial_fetch_timeout`.
const WARMING: Duration = Duration::from_secs(15);

impl Session {
    pub fn new(node: core::Node) -> Self {
        let types = TYPES.iter().map(|&(type_url, asking)| Held::new(type_url, asking)).collect();
        Self { node, types, introduced: false, withheld: Vec::new(), warm_by: None }
    }

    /// Applies what was kept on disk. Refusals are left out, as if they had never come.
    pub fn restore(&mut self, cache: Cache, consumer: &mut impl Consumer) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for update in cache.into_updates() {
            let refused = consumer.apply(&update);
            if let Some(held) = self.types.iter_mut().find(|t| t.type_url == update.type_url) {
                let names: HashSet<&str> = refused.iter().map(|r| r.name.as_str()).collect();
                for resource in update.resources {
                    if !names.contains(resource.name.as_str()) {
                        held.versions.insert(resource.name, resource.version);
                    }
                }
                held.last_update = Some(SystemTime::now());
                self.introduced |= held.type_url == type_url::LISTENER && !held.versions.is_empty();
            }
            refusals.extend(refused);
        }
        refusals
    }

    /// Forgets every version, so that the next stream brings everything again.
    pub fn forget_versions(&mut self) {
        for held in &mut self.types {
            held.versions.clear();
        }
    }

    /// The first requests of a new stream: everything held is named with its version.
    pub fn open(&mut self, consumer: &impl Consumer, now: Instant) -> Vec<DeltaDiscoveryRequest> {
        self.types.iter_mut().for_each(Held::close);
        self.withheld.clear();
        self.warm_by = None;
        let mut requests = self.ask(consumer);
        requests.extend(self.settle(consumer, now));
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Applies a response. Returns the ACK or NACK, and the subscriptions that follow from what was applied.
    ///
    /// A response of a type that was not asked for is dropped without an answer, as Envoy does: the first request of a
    /// type that names nothing asks for everything, an ACK is no exception.
    pub fn response(
        &mut self,
        response: DeltaDiscoveryResponse,
        consumer: &mut impl Consumer,
        changes: &mut Changes,
        now: Instant,
    ) -> Vec<DeltaDiscoveryRequest> {
        let Some(held) = self.types.iter_mut().find(|t| t.takes(&response.type_url)) else {
            return Vec::new();
        };
        let answer = held.apply(response, consumer, changes, now);
        let mut requests = Vec::new();
        if self.introduced && answer.type_url == type_url::CLUSTER {
            self.withheld.push(answer);
        } else {
            requests.push(answer);
        }
        requests.extend(self.subscriptions(consumer, changes));
        requests.extend(self.settle(consumer, now));
        requests
    }

    /// Whether a response of this type is taken.
    pub fn takes(&self, type_url: &str) -> bool {
        self.types.iter().any(|held| held.takes(type_url))
    }

    /// When the next resource ends that was given a time to live.
    pub fn next_end(&self) -> Option<Instant> {
        self.types.iter().filter_map(Held::next_end).min()
    }

    /// Removes what was given a time to live and was not heard of again within it, as Envoy does (xDS TTL). Returns the
    /// subscriptions that follow.
    pub fn end_due(
        &mut self,
        consumer: &mut impl Consumer,
        changes: &mut Changes,
        now: Instant,
    ) -> Vec<DeltaDiscoveryRequest> {
        for held in &mut self.types {
            held.end_due(consumer, now);
        }
        let mut requests = self.subscriptions(consumer, changes);
        requests.extend(self.settle(consumer, now));
        requests
    }

    /// Until when endpoints are waited for. `None`: none are.
    pub fn warm_by(&self) -> Option<Instant> {
        self.warm_by
    }

    /// Goes on as if all endpoints had come.
    pub fn give_up_warming(&mut self, consumer: &impl Consumer) -> Vec<DeltaDiscoveryRequest> {
        self.introduced = true;
        self.warm_by = None;
        for held in &mut self.types {
            held.unanswered.clear();
        }
        let mut requests = std::mem::take(&mut self.withheld);
        requests.extend(self.ask(consumer));
        requests
    }

    /// The first request of each type that is due and was not asked for on this stream.
    fn ask(&mut self, consumer: &impl Consumer) -> Vec<DeltaDiscoveryRequest> {
        let before_listeners = |held: &Held| [type_url::CLUSTER, type_url::ENDPOINT].contains(&held.type_url);
        let introduced = self.introduced;
        let due = self.types.iter_mut().filter(|held| !held.open && (introduced || before_listeners(held)));
        due.filter_map(|held| held.ask(consumer)).collect()
    }

    /// Goes on when every cluster that came has heard of its endpoints, as Envoy does: on first contact listeners are asked
    /// for, so that one that is open leads to hosts; later, clusters are acknowledged, so that a route that follows the
    /// ACK of its cluster leads to hosts.
    fn settle(&mut self, consumer: &impl Consumer, now: Instant) -> Vec<DeltaDiscoveryRequest> {
        if self.introduced && self.withheld.is_empty() {
            return Vec::new();
        }
        let of = |url| self.types.iter().find(|held| held.type_url == url);
        let have_clusters_come = of(type_url::CLUSTER).is_some_and(|held| held.last_update.is_some());
        let have_endpoints_come = of(type_url::ENDPOINT).is_some_and(|held| held.unanswered.is_empty());
        if have_clusters_come && have_endpoints_come {
            return self.give_up_warming(consumer);
        }
        self.warm_by.get_or_insert(now + WARMING);
        Vec::new()
    }

    /// What has to be asked for or given up by name, now that something was applied.
    pub fn subscriptions(
        &mut self,
        consumer: &impl Consumer,
        changes: &mut Changes,
    ) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for held in self.types.iter_mut().filter(|t| t.asking == Asking::ByName) {
            if held.open {
                requests.extend(held.resubscribe(consumer, changes));
            } else {
                requests.extend(held.ask(consumer));
            }
        }
        requests
    }

    /// Tells the control plane that this workload goes away for good.
    pub fn goodbye(&self) -> DeltaDiscoveryRequest {
        let mut node = self.node.clone();
        let metadata = node.metadata.get_or_insert_default();
        let leaving = crate::Value { kind: Some(crate::value::Kind::BoolValue(true)) };
        metadata.fields.insert(crate::node::LEAVING.to_owned(), leaving);
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url::CLUSTER.to_owned(),
            ..Default::default()
        }
    }

    pub fn status(&self) -> Vec<TypeStatus> {
        self.types.iter().map(Held::status).collect()
    }
}
