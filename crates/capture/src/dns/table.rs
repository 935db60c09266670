//! The names of the mesh.

use std::collections::HashMap;
use std::net::IpAddr;

/// Host names and their addresses. Names are lower case without a trailing dot; `*.x` stands for
/// every name below `x` that has no entry of its own, the closest wildcard first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameTable {
    entries: HashMap<String, Vec<IpAddr>>,
    cluster_domain: String,
}

impl NameTable {
    /// From names as the control plane sends them, in any case, with or without a trailing dot.
    /// Short forms (`svc`, `svc.ns`, `svc.ns.svc`) are entries like any other. Several entries of one
    /// name add up. Under `cluster_domain` (normally `cluster.local`) the table is complete: a name
    /// that is not in it does not exist.
    pub fn new(cluster_domain: &str, entries: impl IntoIterator<Item = (String, Vec<IpAddr>)>) -> Self {
        let mut table = Self { entries: HashMap::new(), cluster_domain: normal(cluster_domain) };
        for (name, addresses) in entries {
            let known = table.entries.entry(normal(&name)).or_default();
            for address in addresses {
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        table
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The addresses of a normal-form name, of both families; `None` when it is not of the mesh.
    pub fn find(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(found) = self.entries.get(name) {
            return Some(found);
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.entries.get(&format!("*.{parent}")) {
                return Some(found);
            }
            rest = parent;
        }
        None
    }

    /// Whether a normal-form name could only be a mesh's.
    pub fn owns(&self, name: &str) -> bool {
        !self.cluster_domain.is_empty()
            && name
                .strip_suffix(&self.cluster_domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_before_the_closest_wildcard() {
        let ip = |n: u8| IpAddr::from([240, 240, 0, n]);
        let table = NameTable::new(
            "Cluster.Local.",
            [
                ("Reviews.".to_owned(), vec![ip(1), ip(1)]),
                ("*.example.com".to_owned(), vec![ip(2)]),
                ("*.api.example.com".to_owned(), vec![ip(3)]),
                ("www.example.com".to_owned(), vec![ip(4)]),
            ],
        );
        for (name, expected) in [
            ("reviews", Some(1)),
            ("ratings", None),
            ("a.example.com", Some(2)),
            ("a.b.example.com", Some(2)),
            ("v1.api.example.com", Some(3)),
            // A wildcard stands for names below it, not for itself.
            ("api.example.com", Some(2)),
            ("example.com", None),
            ("www.example.com", Some(4)),
            ("notexample.com", None),
            ("", None),
        ] {
            assert_eq!(table.find(name), expected.map(|n| vec![ip(n)]).as_deref(), "{name}");
        }
        assert!(table.owns("x.svc.cluster.local") && table.owns("cluster.local"));
        assert!(!table.owns("xcluster.local") && !table.owns("local"));
    }
}
