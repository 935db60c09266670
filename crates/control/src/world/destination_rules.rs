//! DestinationRules by host, those of one host merged.

use std::collections::HashMap;
use std::sync::Arc;

use api::hosts::resolve_shortname;
use api::networking::{PolicySelector, Subset, TrafficPolicy};
use api::{Object, Spec};

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
}

#[derive(Debug, Default)]
pub struct DestinationRules {
    root: String,
    /// What the namespace itself uses.
    local: HashMap<String, Rules>,
    /// What others may use, by the namespace it is in.
    exported: HashMap<String, Rules>,
    /// What only the root namespace may use.
    root_private: Rules,
}

type Rules = HostIndex<Vec<DestinationRule>>;

impl DestinationRules {
    /// `objects` must be oldest first.
    pub(super) fn new(root: &str, domain: &str, default: &[String], objects: &[Arc<Object>]) -> Self {
        let mut all = Self { root: root.to_owned(), ..Self::default() };
        for object in objects {
            let Spec::DestinationRule(rule) = &object.spec else { continue };
            let namespace = object.namespace();
            let host = resolve_shortname(&rule.host, namespace, domain).to_lowercase();
            let visibility = Visibility::new(&rule.export_to, default, namespace);
            let made = DestinationRule {
                objects: vec![object.clone()],
                namespace: namespace.to_owned(),
                selector: rule.workload_selector.clone(),
                traffic_policy: rule.traffic_policy.clone(),
                policy_object: 0,
                subset_objects: vec![0; rule.subsets.len()],
                subsets: rule.subsets.clone(),
                visibility,
            };
            if made.visibility.reaches(namespace) {
                merge(all.local.entry(namespace.to_owned()).or_default(), &host, made.clone());
            }
            if !made.visibility.is_private_to(namespace) {
                merge(all.exported.entry(namespace.to_owned()).or_default(), &host, made);
            } else if namespace == root {
                merge(&mut all.root_private, &host, made);
            }
        }
        all
    }

    /// The rules for a service: the client's namespace, the service's, the root's; the first with any for the host
    /// decides, by its most specific host (`istio-behaviour` rule 29).
    pub fn for_service<'r>(&'r self, client: &str, host: &str, namespace: &str) -> Vec<&'r DestinationRule> {
        let local = if client == self.root { Some(&self.root_private) } else { self.local.get(client) };
        if let Some(rules) = local.and_then(|rules| rules.most_specific(host)) {
            return rules.iter().collect();
        }
        for owner in [namespace, self.root.as_str()] {
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

/// Subsets add up, the oldest top-level policy wins (rule 30).
fn merge(rules: &mut Rules, host: &str, incoming: DestinationRule) {
    let known = rules.entry_or(host, Vec::new);
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
