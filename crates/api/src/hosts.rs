//! Host names as rules write them: short names, wildcards, `namespace/host`.

use std::cmp::Ordering;

/// The name a rule's host means: without a dot it is a service of the rule's own namespace. Addresses, wildcards and
/// names with a dot stay as they are (Istio's `ResolveShortnameToFQDN`).
pub fn resolve_shortname(host: &str, namespace: &str, domain: &str) -> String {
    if host.is_empty() || host.contains('*') || host.contains('.') || host.parse::<std::net::IpAddr>().is_ok()
    {
        return host.to_owned();
    }
    if namespace.is_empty() {
        return format!("{host}.svc.{domain}");
    }
    format!("{host}.{namespace}.svc.{domain}")
}

/// Whether the sets of names that two hosts stand for overlap (Istio's `Name.Matches`): `*.com` and `*.foo.com` do.
pub fn matches(left: &str, right: &str) -> bool {
    match (wildcard(left), wildcard(right)) {
        (Some(left), Some(right)) => left.ends_with(right) || right.ends_with(left),
        (Some(left), None) => right.ends_with(left),
        (None, Some(right)) => left.ends_with(right),
        (None, None) => left == right,
    }
}

/// Whether every name `inner` stands for is one of `outer`'s (Istio's `Name.SubsetOf`).
pub fn is_subset(inner: &str, outer: &str) -> bool {
    match (wildcard(inner), wildcard(outer)) {
        (Some(inner), Some(outer)) => inner.len() >= outer.len() && inner.ends_with(outer),
        (None, Some(outer)) => inner.ends_with(outer),
        (Some(_), None) => false,
        (None, None) => inner == outer,
    }
}

pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// The order in which hosts are tried: exact names before wildcards, longer wildcards first, `*` last; else by text.
pub fn more_specific(left: &str, right: &str) -> Ordering {
    match (wildcard(left), wildcard(right)) {
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => left.cmp(right),
        (Some(_), Some(_)) => right.len().cmp(&left.len()).then_with(|| left.cmp(right)),
    }
}

/// The candidate that fits `host` best: itself, else the longest wildcard that holds all of it.
pub fn most_specific<'h>(host: &str, candidates: impl IntoIterator<Item = &'h str>) -> Option<&'h str> {
    candidates
        .into_iter()
        .filter(|candidate| is_subset(host, candidate))
        .min_by(|left, right| more_specific(left, right))
}

/// Splits `namespace/host`; without a slash there is no namespace.
pub fn split_namespace(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, text),
    }
}

/// What follows the star.
fn wildcard(host: &str) -> Option<&str> {
    host.strip_prefix('*')
}
