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

#[cfg(test)]
mod tests {
    use super::*;

    /// Istio's `ResolveShortnameToFQDN`.
    #[test]
    fn short_names_are_the_rules_own_namespace() {
        for (host, namespace, expected) in [
            ("reviews", "prod", "reviews.prod.svc.cluster.local"),
            ("reviews", "", "reviews.svc.cluster.local"),
            ("reviews.prod", "test", "reviews.prod"),
            ("reviews.prod.svc.cluster.local", "test", "reviews.prod.svc.cluster.local"),
            ("*", "prod", "*"),
            ("*.com", "prod", "*.com"),
            ("*reviews", "prod", "*reviews"),
            ("10.0.0.1", "prod", "10.0.0.1"),
            ("::1", "prod", "::1"),
            ("", "prod", ""),
        ] {
            assert_eq!(
                resolve_shortname(host, namespace, "cluster.local"),
                expected,
                "{host} in {namespace}"
            );
        }
    }

    /// Istio's `Name.Matches` and `Name.SubsetOf`.
    #[test]
    fn wildcards_overlap_and_contain() {
        for (left, right, overlap, within) in [
            ("foo.com", "foo.com", true, true),
            ("foo.com", "bar.com", false, false),
            ("foo.com", "*.com", true, true),
            ("foo.com", "*", true, true),
            ("foo.com", "*.foo.com", false, false),
            ("a.b.foo.com", "*.foo.com", true, true),
            ("*.foo.com", "*.com", true, true),
            ("*.com", "*.foo.com", true, false),
            ("*.com", "*.net", false, false),
            ("*.com", "foo.com", true, false),
            ("*", "*", true, true),
            ("*", "foo.com", true, false),
            ("", "*", true, true),
        ] {
            assert_eq!(matches(left, right), overlap, "{left} ~ {right}");
            assert_eq!(matches(right, left), overlap, "{right} ~ {left}");
            assert_eq!(is_subset(left, right), within, "{left} within {right}");
        }
    }

    #[test]
    fn the_longest_wildcard_wins_and_the_star_is_last() {
        let hosts = ["*", "*.com", "*.foo.com", "a.foo.com"];
        for (host, expected) in [
            ("a.foo.com", Some("a.foo.com")),
            ("b.foo.com", Some("*.foo.com")),
            ("x.y.foo.com", Some("*.foo.com")),
            ("foo.com", Some("*.com")),
            ("foo.org", Some("*")),
            ("*.foo.com", Some("*.foo.com")),
            ("*.org", Some("*")),
        ] {
            assert_eq!(most_specific(host, hosts), expected, "{host}");
        }
        assert_eq!(most_specific("x", ["y"]), None);
        let mut sorted = vec!["*", "b.com", "*.com", "*.a.com", "a.com"];
        sorted.sort_by(|left, right| more_specific(left, right));
        assert_eq!(sorted, ["a.com", "b.com", "*.a.com", "*.com", "*"]);
    }

    #[test]
    fn namespaces_come_before_the_slash() {
        assert_eq!(split_namespace("ns/*.foo.com"), (Some("ns"), "*.foo.com"));
        assert_eq!(split_namespace("./foo"), (Some("."), "foo"));
        assert_eq!(split_namespace("foo.com"), (None, "foo.com"));
    }
}
