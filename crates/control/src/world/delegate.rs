//! Delegation: the rules of a VirtualService without hosts, put in the place of the rule that names it.
//!
//! `istio-behaviour` rule 12: each of the delegate's matches must fit within one of the root's, or its rule vanishes;
//! what the delegate's rule leaves open it takes from the root's; one level only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::networking::{HttpMatchRequest, StringMatch};

use super::virtual_service::{HttpRule, VirtualService};
use super::{Missing, Note, Reason};

/// Takes the delegates out and puts their rules into the roots. Roots come after all others, as in Istio.
pub(super) fn merge<'v>(
    all: impl Iterator<Item = &'v Arc<VirtualService>>,
    notes: &mut Vec<Note>,
) -> Vec<Arc<VirtualService>> {
    let (delegates, rest): (Vec<_>, Vec<_>) = all.partition(|one| one.hosts.is_empty());
    let delegates: Delegates<'_> =
        delegates.into_iter().map(|one| ((one.namespace(), one.name()), &**one)).collect();
    let (roots, others): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|one| one.http.iter().any(|rule| rule.route.delegate.is_some()));
    let mut merged: Vec<Arc<VirtualService>> = others.into_iter().cloned().collect();
    for written in roots {
        let mut root = VirtualService { http: Vec::new(), ..(**written).clone() };
        for rule in &written.http {
            match resolve(written, rule, &delegates, notes) {
                Some(delegate) => root.http.extend(merge_rules(rule, delegate)),
                None if rule.route.delegate.is_some() => {}
                None => root.http.push(rule.clone()),
            }
        }
        merged.push(Arc::new(root));
    }
    merged
}

/// VirtualServices without hosts, by namespace and name.
type Delegates<'d> = HashMap<(&'d str, &'d str), &'d VirtualService>;

fn resolve<'d>(
    root: &VirtualService,
    rule: &HttpRule,
    delegates: &Delegates<'d>,
    notes: &mut Vec<Note>,
) -> Option<&'d VirtualService> {
    let named = rule.route.delegate.as_ref()?;
    let namespace = if named.namespace.is_empty() { root.namespace() } else { named.namespace.as_str() };
    let mut note = |missing: Missing| {
        let path = format!("{}.delegate", rule.path);
        notes.push(Note::on(&root.object, path, Reason::Missing(missing)));
    };
    let full_name = || format!("{namespace}/{}", named.name);
    let Some(delegate) = delegates.get(&(namespace, named.name.as_str())) else {
        note(Missing::Delegate(full_name()));
        return None;
    };
    if !delegate.visibility.reaches(root.namespace()) {
        let to = root.namespace().to_owned();
        note(Missing::DelegateNotExported { delegate: full_name(), to });
        return None;
    }
    Some(delegate)
}

fn merge_rules(root: &HttpRule, delegate: &VirtualService) -> Vec<HttpRule> {
    delegate.http.iter().filter_map(|rule| merge_rule(root, rule, delegate)).collect()
}

fn merge_rule(root: &HttpRule, rule: &HttpRule, delegate: &VirtualService) -> Option<HttpRule> {
    let (matches, match_paths) = merge_matches(root, rule)?;
    let mut route = rule.route.clone();
    let outer = &root.route;
    route.matches = matches;
    route.name = join(&outer.name, &route.name);
    route.rewrite = route.rewrite.or_else(|| outer.rewrite.clone());
    route.timeout = route.timeout.or(outer.timeout);
    route.retries = route.retries.or_else(|| outer.retries.clone());
    route.fault = route.fault.or_else(|| outer.fault.clone());
    route.mirror = route.mirror.or_else(|| outer.mirror.clone());
    route.mirror_percent = route.mirror_percent.or(outer.mirror_percent);
    route.mirror_percentage = route.mirror_percentage.or_else(|| outer.mirror_percentage.clone());
    route.cors_policy = route.cors_policy.or_else(|| outer.cors_policy.clone());
    route.headers = route.headers.or_else(|| outer.headers.clone());
    let name = format!("{}/{}", delegate.namespace(), delegate.name());
    Some(HttpRule { route, path: root.path.clone(), match_paths, delegate: Some((name, rule.path.clone())) })
}

/// The cross product of the matches that fit; `None` if one of the delegate's fits nowhere.
fn merge_matches(root: &HttpRule, rule: &HttpRule) -> Option<(Vec<HttpMatchRequest>, Vec<String>)> {
    let outer = &root.route.matches;
    if outer.is_empty() {
        return Some((rule.route.matches.clone(), rule.match_paths.clone()));
    }
    if rule.route.matches.is_empty() {
        return Some((outer.clone(), root.match_paths.clone()));
    }
    let mut matches = Vec::new();
    let mut paths = Vec::new();
    for (inner, path) in rule.route.matches.iter().zip(&rule.match_paths) {
        let fitting = outer.iter().filter(|outer| !conflict(outer, inner));
        let before = matches.len();
        for outer in fitting {
            matches.push(merge_match(outer, inner));
            paths.push(path.clone());
        }
        if matches.len() == before {
            return None;
        }
    }
    Some((matches, paths))
}

fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    fn over<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
        let mut merged = root.clone();
        merged.extend(leaf.iter().map(|(key, value)| (key.clone(), value.clone())));
        merged
    }
    HttpMatchRequest {
        name: join(&root.name, &leaf.name),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: over(&root.headers, &leaf.headers),
        without_headers: over(&root.without_headers, &leaf.without_headers),
        query_params: over(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        port: leaf.port.filter(|port| *port > 0).or(root.port),
        source_labels: over(&root.source_labels, &leaf.source_labels),
        source_namespace: pick(&leaf.source_namespace, &root.source_namespace),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        stat_prefix: leaf.stat_prefix.clone(),
    }
}

fn conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let single = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let port = |matched: &HttpMatchRequest| matched.port.filter(|port| *port > 0);
    single.iter().any(|(root, leaf)| texts_conflict(root.as_ref(), leaf.as_ref()))
        || maps
            .iter()
            .any(|(root, leaf)| leaf.iter().any(|(key, value)| texts_conflict(root.get(key), Some(value))))
        || root.ignore_uri_case != leaf.ignore_uri_case
        || matches!((port(root), port(leaf)), (Some(root), Some(leaf)) if root != leaf)
        || (!root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace)
        || leaf
            .source_labels
            .iter()
            .any(|(key, value)| root.source_labels.get(key).is_some_and(|root| root != value))
        || (!root.gateways.is_empty()
            && !leaf.gateways.is_empty()
            && (root.gateways.len() < leaf.gateways.len()
                || leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway))))
}

/// Whether the leaf may match something the root does not. A presence test fits only what leaves the matter open.
fn texts_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix};
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    match (root, leaf) {
        (Exact(root), Exact(leaf)) if !root.is_empty() => root != leaf,
        (Prefix(root), Exact(leaf) | Prefix(leaf)) if !root.is_empty() && !leaf.is_empty() => {
            !leaf.starts_with(root.as_str())
        }
        _ => true,
    }
}

fn join(root: &str, leaf: &str) -> String {
    match (root.is_empty(), leaf.is_empty()) {
        (_, true) => root.to_owned(),
        (true, false) => leaf.to_owned(),
        (false, false) => format!("{root}-{leaf}"),
    }
}

fn pick(first: &str, second: &str) -> String {
    if first.is_empty() { second.to_owned() } else { first.to_owned() }
}
