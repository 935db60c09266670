//! What is held of one type, over all streams, and what the present stream was told of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant, SystemTime};

use xxhash_rust::xxh3::Xxh3Default;

use super::cache::Changes;
use super::types::Asking;
use super::{Consumer, Refusal, Resource, TypeStatus, Update};
use crate::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::{rpc, type_url};

/// gRPC's code of a NACK, as Envoy sends it.
const INVALID_ARGUMENT: i32 = 3;

/// What is held of one type.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) type_url: &'static str,
    pub(super) asking: Asking,
    /// Whether this stream has asked for the type.
    pub(super) open: bool,
    pub(super) versions: BTreeMap<String, String>,
    subscribed: BTreeSet<String>,
    /// Those of `subscribed` of which nothing is held, and nothing was heard on this stream.
    pub(super) unanswered: BTreeSet<String>,
    /// What was refused, by name, until the name is accepted or removed.
    refused: BTreeMap<String, String>,
    /// When what was given a time to live ends.
    ends: BTreeMap<String, Instant>,
    pub(super) last_update: Option<SystemTime>,
}

impl Held {
    pub(super) fn new(type_url: &'static str, asking: Asking) -> Self {
        Self {
            type_url,
            asking,
            open: false,
            versions: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            refused: BTreeMap::new(),
            ends: BTreeMap::new(),
            last_update: None,
        }
    }

    /// The stream is gone.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.subscribed.clear();
        self.unanswered.clear();
    }

    /// Whether a response of this type is taken. Our own control plane sends endpoints right behind their clusters, also
    /// where the client then refuses the cluster and never asks.
    pub(super) fn takes(&self, type_url: &str) -> bool {
        self.type_url == type_url && (self.open || type_url == type_url::ENDPOINT)
    }

    /// The first request of this type on this stream. `None`: there is nothing to ask for yet.
    pub(super) fn ask(&mut self, consumer: &impl Consumer) -> Option<DeltaDiscoveryRequest> {
        if self.asking == Asking::ByName {
            self.subscribed = consumer.wanted(self.type_url).into_iter().collect();
            if self.subscribed.is_empty() {
                return None;
            }
            self.versions.retain(|name, _| self.subscribed.contains(name));
            self.ends.retain(|name, _| self.subscribed.contains(name));
            let versions = &self.versions;
            self.unanswered =
                self.subscribed.iter().filter(|name| !versions.contains_key(*name)).cloned().collect();
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

    pub(super) fn resubscribe(
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
            self.forget(name);
            self.unanswered.remove(name);
            changes.removed(self.type_url, name);
        }
        self.unanswered.extend(subscribe.iter().cloned());
        self.subscribed = wanted;
        Some(DeltaDiscoveryRequest {
            type_url: self.type_url.to_owned(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..Default::default()
        })
    }

    pub(super) fn apply(
        &mut self,
        response: DeltaDiscoveryResponse,
        consumer: &mut impl Consumer,
        changes: &mut Changes,
        now: Instant,
    ) -> DeltaDiscoveryRequest {
        let wanted = self.wanted(consumer);
        let is_for_nobody = |name: &String| wanted.as_ref().is_some_and(|wanted| !wanted.contains(name));
        let mut refusals = Vec::new();
        let mut update = Update { type_url: self.type_url, resources: Vec::new(), removed: Vec::new() };
        let both = both(&response);
        let mut ends = BTreeMap::new();
        update.removed.extend(response.removed_resources.into_iter().filter(|name| !both.contains(name)));
        for resource in response.resources {
            self.unanswered.remove(&resource.name);
            // Endpoints may come before they are asked for, right behind their clusters.
            if is_for_nobody(&resource.name) && self.type_url != type_url::ENDPOINT {
                continue;
            }
            let end = end(&resource, now);
            if self.is_heartbeat(&resource) {
                self.live_until(resource.name, end);
                continue;
            }
            ends.extend(end.map(|end| (resource.name.clone(), end)));
            match unwrap(self.type_url, resource) {
                Ok(resource) if both.contains(&resource.name) => {
                    let reason = "is added and removed in one response".to_owned();
                    refusals.push(Refusal { name: resource.name, reason });
                }
                Ok(resource) => update.resources.push(resource),
                Err(refusal) => refusals.push(refusal),
            }
        }
        refusals.extend(consumer.apply(&update));
        for name in &update.removed {
            self.unanswered.remove(name);
            self.forget(name);
            // What is still referred to is still in use: the last good version stays, on disk too.
            if wanted.is_none() || is_for_nobody(name) {
                changes.removed(self.type_url, name);
            }
        }
        let refused: HashSet<&str> = refusals.iter().map(|r| r.name.as_str()).collect();
        for resource in update.resources {
            // What is for nobody the consumer need not keep, so that the next stream must not offer it.
            if refused.contains(resource.name.as_str()) || is_for_nobody(&resource.name) {
                continue;
            }
            self.refused.remove(&resource.name);
            let end = ends.remove(&resource.name);
            match end {
                // What is to end must not come back from disk; endpoints and routes in use do not end.
                Some(_) if self.asking == Asking::Everything => {
                    changes.removed(self.type_url, &resource.name);
                }
                _ => changes.set(self.type_url, &resource.name, &resource.version, resource.body.value),
            }
            self.live_until(resource.name.clone(), end);
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

    /// The names that something refers to. `None`: everything is wanted. What comes for another name, be it that it was
    /// given up meanwhile, is for nobody.
    fn wanted(&self, consumer: &impl Consumer) -> Option<HashSet<String>> {
        match self.asking {
            Asking::Everything => None,
            Asking::ByName => Some(consumer.wanted(self.type_url).into_iter().collect()),
        }
    }

    /// A resource without a body that repeats the version that is held: it only lives on (xDS TTL).
    fn is_heartbeat(&self, resource: &discovery::Resource) -> bool {
        resource.resource.is_none() && self.versions.get(&resource.name) == Some(&resource.version)
    }

    /// `None`: for ever.
    fn live_until(&mut self, name: String, end: Option<Instant>) {
        match end {
            Some(end) => self.ends.insert(name, end),
            None => self.ends.remove(&name),
        };
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.values().min().copied()
    }

    /// Removes what has ended. What is in use stays in use, as when a control plane removes it.
    pub(super) fn end_due(&mut self, consumer: &mut impl Consumer, now: Instant) {
        let removed: Vec<String> =
            self.ends.iter().filter(|(_, end)| **end <= now).map(|(name, _)| name.clone()).collect();
        if removed.is_empty() {
            return;
        }
        let update = Update { type_url: self.type_url, resources: Vec::new(), removed };
        // Nothing is refused where nothing is added.
        consumer.apply(&update);
        for name in &update.removed {
            self.forget(name);
        }
        self.last_update = Some(SystemTime::now());
    }

    fn forget(&mut self, name: &str) {
        self.versions.remove(name);
        self.refused.remove(name);
        self.ends.remove(name);
    }

    pub(super) fn status(&self) -> TypeStatus {
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

/// Names that are added and removed at once: which of the two is meant nobody knows, so that what there was stays.
fn both(response: &DeltaDiscoveryResponse) -> HashSet<String> {
    let removed: HashSet<&str> = response.removed_resources.iter().map(String::as_str).collect();
    let added = response.resources.iter().map(|resource| &resource.name);
    added.filter(|name| removed.contains(name.as_str())).cloned().collect()
}

/// When a resource ends. `None`: never.
fn end(resource: &discovery::Resource, now: Instant) -> Option<Instant> {
    let ttl = resource.ttl.as_ref()?;
    // Less than nothing is over at once.
    now.checked_add(Duration::try_from(*ttl).unwrap_or_default())
}

/// Takes a resource out of its envelope; one without a body or of another type is refused.
fn unwrap(type_url: &'static str, resource: discovery::Resource) -> Result<Resource, Refusal> {
    let (name, version) = (resource.name, resource.version);
    match resource.resource {
        Some(body) if body.type_url == type_url => Ok(Resource { name, version, body }),
        Some(body) => Err(Refusal { name, reason: format!("is a {}, expected a {type_url}", body.type_url) }),
        None => Err(Refusal { name, reason: "has no body".to_owned() }),
    }
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
