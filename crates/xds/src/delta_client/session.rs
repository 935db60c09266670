//! The protocol without I/O: a response in, what to apply and what to send out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3Default;

use super::cache::Changes;
use super::types::{Asking, TYPES};
use super::{Cache, Consumer, Refusal, Resource, TypeStatus, Update};
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::{core, rpc, type_url};

/// gRPC's code of a NACK, as Envoy sends it.
const INVALID_ARGUMENT: i32 = 3;

/// What is held, over all streams.
#[derive(Debug)]
pub struct Session {
    node: core::Node,
    types: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    type_url: &'static str,
    asking: Asking,
    /// Whether this stream has asked for the type.
    open: bool,
    versions: BTreeMap<String, String>,
    subscribed: BTreeSet<String>,
    /// What was refused, by name, until the name is accepted or removed.
    refused: BTreeMap<String, String>,
    last_update: Option<SystemTime>,
}

impl Session {
    pub fn new(node: core::Node) -> Self {
        let held = |&(type_url, asking): &(&'static str, Asking)| Held {
            type_url,
            asking,
            open: false,
            versions: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            refused: BTreeMap::new(),
            last_update: None,
        };
        Self { node, types: TYPES.iter().map(held).collect() }
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
    pub fn open(&mut self, consumer: &impl Consumer) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for held in &mut self.types {
            held.open = false;
            held.subscribed.clear();
            requests.extend(held.ask(consumer));
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Applies a response. Returns the ACK or NACK, and the subscriptions that follow from what was applied.
    pub fn response(
        &mut self,
        response: DeltaDiscoveryResponse,
        consumer: &mut impl Consumer,
        changes: &mut Changes,
    ) -> Vec<DeltaDiscoveryRequest> {
        // Endpoints may come before they are asked for, right behind their clusters.
        let Some(held) = self.types.iter_mut().find(|t| t.type_url == response.type_url) else {
            let reason = "this type was not asked for".to_owned();
            return vec![nack(response.type_url, response.nonce, reason)];
        };
        let mut requests = vec![held.apply(response, consumer, changes)];
        requests.extend(self.subscriptions(consumer, changes));
        requests
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

impl Held {
    /// The first request of this type on this stream. `None`: there is nothing to ask for yet.
    fn ask(&mut self, consumer: &impl Consumer) -> Option<DeltaDiscoveryRequest> {
        if self.asking == Asking::ByName {
            self.subscribed = consumer.wanted(self.type_url).into_iter().collect();
            if self.subscribed.is_empty() {
                return None;
            }
            self.versions.retain(|name, _| self.subscribed.contains(name));
        }
        self.open = true;
        Some(DeltaDiscoveryRequest {
            type_url: self.type_url.to_owned(),
            // Nothing named in the first request of a stream means everything.
            resource_names_subscribe: self.subscribed.iter().cloned().collect(),
            initial_resource_versions: self.versions.clone(),
            ..Default::default()
        })
    }

    fn resubscribe(
        &mut self,
        consumer: &impl Consumer,
        changes: &mut Changes,
    ) -> Option<DeltaDiscoveryRequest> {
        let wanted: BTreeSet<String> = consumer.wanted(self.type_url).into_iter().collect();
        if wanted == self.subscribed {
            return None;
        }
        let subscribe: Vec<String> = wanted.difference(&self.subscribed).cloned().collect();
        let unsubscribe: Vec<String> = self.subscribed.difference(&wanted).cloned().collect();
        for name in &unsubscribe {
            self.versions.remove(name);
            self.refused.remove(name);
            changes.removed(self.type_url, name);
        }
        self.subscribed = wanted;
        Some(DeltaDiscoveryRequest {
            type_url: self.type_url.to_owned(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..Default::default()
        })
    }

    fn apply(
        &mut self,
        response: DeltaDiscoveryResponse,
        consumer: &mut impl Consumer,
        changes: &mut Changes,
    ) -> DeltaDiscoveryRequest {
        let (resources, mut refusals) = unwrap(self.type_url, response.resources);
        let update = Update { type_url: self.type_url, resources, removed: response.removed_resources };
        refusals.extend(consumer.apply(&update));
        let unwanted = self.unwanted(&update.resources, consumer);
        for name in &update.removed {
            self.versions.remove(name);
            self.refused.remove(name);
            changes.removed(self.type_url, name);
        }
        let refused: HashSet<&str> = refusals.iter().map(|r| r.name.as_str()).collect();
        for resource in update.resources {
            if refused.contains(resource.name.as_str()) || unwanted.contains(&resource.name) {
                continue;
            }
            self.refused.remove(&resource.name);
            changes.set(self.type_url, &resource.name, &resource.version, resource.body.value);
            self.versions.insert(resource.name, resource.version);
        }
        self.last_update = Some(SystemTime::now());
        if refusals.is_empty() {
            return ack(self.type_url.to_owned(), response.nonce);
        }
        let reason = refusal_text(&refusals);
        self.refused.extend(refusals.into_iter().map(|r| (r.name, r.reason)));
        nack(self.type_url.to_owned(), response.nonce, reason)
    }

    /// What came for a name that was given up meanwhile. The consumer need not keep it, so the next stream must not
    /// offer it. Endpoints that came before they were asked for are wanted.
    fn unwanted(&self, resources: &[Resource], consumer: &impl Consumer) -> HashSet<String> {
        let unasked = |r: &&Resource| !self.subscribed.contains(&r.name);
        if self.asking == Asking::Everything || !resources.iter().any(|r| unasked(&r)) {
            return HashSet::new();
        }
        let wanted: HashSet<String> = consumer.wanted(self.type_url).into_iter().collect();
        let names = resources.iter().filter(unasked).map(|r| r.name.clone());
        names.filter(|name| !wanted.contains(name)).collect()
    }

    fn status(&self) -> TypeStatus {
        let mut hash = Xxh3Default::new();
        for (name, version) in &self.versions {
            for part in [name, version] {
                hash.update(part.as_bytes());
                hash.update(&[0]);
            }
        }
        let refusals: Vec<Refusal> =
            self.refused.iter().map(|(n, r)| Refusal { name: n.clone(), reason: r.clone() }).collect();
        TypeStatus {
            type_url: self.type_url,
            resources: self.versions.len(),
            version: format!("{:016x}", hash.digest()),
            last_update: self.last_update,
            last_refusal: (!refusals.is_empty()).then(|| refusal_text(&refusals)),
        }
    }
}

/// Takes resources out of their envelopes; one without a body or of another type is refused by name.
fn unwrap(
    type_url: &'static str,
    resources: Vec<crate::discovery::Resource>,
) -> (Vec<Resource>, Vec<Refusal>) {
    let mut accepted = Vec::with_capacity(resources.len());
    let mut refusals = Vec::new();
    for resource in resources {
        let (name, version) = (resource.name, resource.version);
        match resource.resource {
            Some(body) if body.type_url == type_url => accepted.push(Resource { name, version, body }),
            Some(body) => {
                let reason = format!("is a {}, expected a {type_url}", body.type_url);
                refusals.push(Refusal { name, reason });
            }
            None => refusals.push(Refusal { name, reason: "has no body".to_owned() }),
        }
    }
    (accepted, refusals)
}

/// `name: reason; name: reason`, as our control plane and people read it.
fn refusal_text(refusals: &[Refusal]) -> String {
    let parts: Vec<String> = refusals.iter().map(|r| format!("{}: {}", r.name, r.reason)).collect();
    parts.join("; ")
}

fn ack(type_url: String, response_nonce: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }
}

fn nack(type_url: String, response_nonce: String, message: String) -> DeltaDiscoveryRequest {
    let status = rpc::Status { code: INVALID_ARGUMENT, message, ..Default::default() };
    DeltaDiscoveryRequest { type_url, response_nonce, error_detail: Some(status), ..Default::default() }
}
