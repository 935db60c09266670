//! DestinationRules by host, those of one host merged.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::hosts::{is_wildcard, resolve_shortname};
use api::networking::{PolicySelector, Subset, TrafficPolicy};
use api::{MeshConfig, Object, ObjectId, Spec};

use super::order::Order;
use super::policy_parts::{Connections, Hashing};
use super::reads::{Changes, Topic};
use super::{HostIndex, Visibility};

/// What all rules of one namespace, host and selector say together.
#[derive(Debug, Clone)]
pub struct DestinationRule {
    /// The rules it was made of, oldest first.
    pub objects: Vec<Arc<Object>>,
    pub namespace: String,
    pub visibility: Visibility,
    pub selector: Option<PolicySelector>,
    pub traffic_policy: Option<TrafficPolicy>,
    /// Which of `objects` wrote it.
    pub policy_object: usize,
    pub subsets: Vec<Subset>,
    /// Index into `objects` for every subset.
    pub subset_objects: Vec<usize>,
    pub(super) hashing: Hashing,
    pub(super) connections: Connections,
}

#[derive(Debug, Default)]
pub(super) struct DestinationRules {
    /// As written: by namespace and host, oldest first.
    written: HashMap<(String, String), BTreeMap<Order, Arc<Object>>>,
    /// Where each object stands in it.
    places: HashMap<Arc<ObjectId>, ((String, String), Order)>,
    /// What the namespace itself uses.
    local: HashMap<String, Rules>,
    /// What others may use, by the namespace it is in.
    exported: HashMap<String, Rules>,
    /// What only the root namespace may use.
    root_private: Rules,
}

type Rules = HostIndex<Vec<DestinationRule>>;

impl DestinationRules {
    /// Takes what an object says in the place of what the object of this name said, and merges the rules of its host anew.
    pub fn write(
        &mut self,
        id: &Arc<ObjectId>,
        object: Option<&Arc<Object>>,
        mesh: &MeshConfig,
        domain: &str,
        changes: &mut Changes,
    ) {
        let before = self.places.remove(id);
        let now = object.and_then(|object| match &object.spec {
            Spec::DestinationRule(rule) => {
                let host = resolve_shortname(&rule.host, object.namespace(), domain).to_lowercase();
                Some(((object.namespace().to_owned(), host), Order::of_istio(object), object.clone()))
            }
            _ => None,
        });
        if let Some((place, order)) = &before
            && let Some(of_host) = self.written.get_mut(place)
        {
            of_host.remove(order);
        }
        if let Some((place, order, object)) = &now {
            self.written.entry(place.clone()).or_default().insert(order.clone(), object.clone());
            self.places.insert(id.clone(), (place.clone(), order.clone()));
        }
        let mut places: Vec<(String, String)> = before.map(|(place, _)| place).into_iter().collect();
        places.extend(now.map(|(place, ..)| place));
        places.dedup();
        for place in places {
            self.merge(&place, mesh, changes);
        }
    }

    fn merge(&mut self, place: &(String, String), mesh: &MeshConfig, changes: &mut Changes) {
        let (namespace, host) = place;
        let (mut local, mut exported, mut private) = (Vec::new(), Vec::new(), Vec::new());
        for object in self.written.get(place).into_iter().flat_map(BTreeMap::values) {
            let Spec::DestinationRule(rule) = &object.spec else { continue };
            let made = DestinationRule {
                objects: vec![object.clone()],
                namespace: namespace.clone(),
                selector: rule.workload_selector.clone(),
                traffic_policy: rule.traffic_policy.clone(),
                policy_object: 0,
                subset_objects: vec![0; rule.subsets.len()],
                subsets: rule.subsets.clone(),
                visibility: Visibility::new(
                    &rule.export_to,
                    &mesh.default_destination_rule_export_to,
                    namespace,
                ),
                hashing: Hashing::default(),
                connections: Connections::default(),
            };
            if made.visibility.reaches(namespace) {
                merge(&mut local, made.clone());
            }
            if !made.visibility.is_private_to(namespace) {
                merge(&mut exported, made);
            } else if *namespace == mesh.root_namespace {
                merge(&mut private, made);
            }
        }
        if self.written.get(place).is_some_and(BTreeMap::is_empty) {
            self.written.remove(place);
        }
        let is_root = *namespace == mesh.root_namespace;
        let mut parts = Parts::default();
        for (made, rules) in [
            (local, Some(self.local.entry(namespace.clone()).or_default())),
            (exported, Some(self.exported.entry(namespace.clone()).or_default())),
            (private, is_root.then_some(&mut self.root_private)),
        ] {
            let mut made = made;
            for rule in &mut made {
                rule.hashing = Hashing::of(rule);
                rule.connections = Connections::of(rule);
            }
            if let Some(rules) = rules {
                parts.compare(rules.exactly(host), &made);
                rules.set(host, (!made.is_empty()).then_some(made));
            }
        }
        parts.tell(host, changes);
    }

    /// The rules for a service: the client's namespace, the service's, the root's; the first with any for the host
    /// decides, by its most specific host (`istio-behaviour` rule 29).
    pub fn for_service<'r>(
        &'r self,
        root: &str,
        client: &str,
        host: &str,
        namespace: &str,
    ) -> Vec<&'r DestinationRule> {
        let local = if client == root { Some(&self.root_private) } else { self.local.get(client) };
        if let Some(rules) = local.and_then(|rules| rules.most_specific(host)) {
            return rules.iter().collect();
        }
        for owner in [namespace, root] {
            let Some(rules) = self.exported.get(owner).and_then(|rules| rules.most_specific(host)) else {
                continue;
            };
            let seen: Vec<_> = rules.iter().filter(|rule| rule.visibility.reaches(client)).collect();
            if !seen.is_empty() {
                return seen;
            }
        }
        Vec::new()
    }
}

/// Which parts of the rules of a host differ.
#[derive(Default)]
struct Parts {
    hashing: bool,
    connections: bool,
}

impl Parts {
    fn compare(&mut self, before: Option<&Vec<DestinationRule>>, now: &[DestinationRule]) {
        let before = before.map(Vec::as_slice).unwrap_or_default();
        // Who is chosen may differ, too, by what a rule says of whom it is for.
        let same = |one: &DestinationRule, other: &DestinationRule| {
            one.visibility == other.visibility
                && one.selector.as_ref().map(|s| &s.match_labels)
                    == other.selector.as_ref().map(|s| &s.match_labels)
        };
        let of_all = |equal: &dyn Fn(&DestinationRule, &DestinationRule) -> bool| {
            before.len() == now.len() && before.iter().zip(now).all(|(a, b)| same(a, b) && equal(a, b))
        };
        self.hashing |= !of_all(&|a, b| a.hashing == b.hashing);
        self.connections |= !of_all(&|a, b| a.connections == b.connections);
    }

    fn tell(&self, host: &str, changes: &mut Changes) {
        if is_wildcard(host) {
            changes.of(Topic::WildcardPolicies, &[]);
            return;
        }
        changes.of(Topic::Policy, &[host]);
        if self.hashing {
            changes.of(Topic::Hashing, &[host]);
        }
        if self.connections {
            changes.of(Topic::Connections, &[host]);
        }
    }
}

/// Subsets add up, the oldest top-level policy wins (rule 30).
fn merge(known: &mut Vec<DestinationRule>, incoming: DestinationRule) {
    let same = |rule: &DestinationRule| match (&rule.selector, &incoming.selector) {
        (None, None) => true,
        (Some(left), Some(right)) => left.match_labels == right.match_labels,
        _ => false,
    };
    let Some(existing) = known.iter_mut().find(|rule| same(rule) && rule.visibility == incoming.visibility)
    else {
        known.push(incoming);
        return;
    };
    let at = existing.objects.len();
    existing.objects.extend(incoming.objects);
    for subset in incoming.subsets {
        if existing.subsets.iter().all(|known| known.name != subset.name) {
            existing.subsets.push(subset);
            existing.subset_objects.push(at);
        }
    }
    if existing.traffic_policy.is_none() {
        existing.traffic_policy = incoming.traffic_policy;
        existing.policy_object = at;
    }
}
