//! `exportTo`: from which namespaces something can be seen.

use std::collections::{BTreeSet, HashMap};

/// An `exportTo` list with the namespace it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    pub public: bool,
    /// Sorted, without duplicates; its own namespace is among them if it was meant.
    pub namespaces: Vec<String>,
}

impl Visibility {
    /// `.` is the own namespace, `*` every one, `~` none; an empty list is the mesh's default.
    pub fn new(export_to: &[String], default: &[String], namespace: &str) -> Self {
        let written = if export_to.is_empty() { default } else { export_to };
        let public = written.is_empty() || written.iter().any(|entry| entry == "*");
        let mut namespaces: Vec<String> = written
            .iter()
            .filter(|entry| !matches!(entry.as_str(), "*" | "~"))
            .map(|entry| if entry == "." { namespace.to_owned() } else { entry.clone() })
            .collect();
        namespaces.sort();
        namespaces.dedup();
        Self { public, namespaces }
    }

    pub fn reaches(&self, namespace: &str) -> bool {
        self.public || self.namespaces.iter().any(|entry| entry == namespace)
    }

    /// Whether nobody outside `namespace` sees it.
    pub fn is_private_to(&self, namespace: &str) -> bool {
        !self.public && self.namespaces.iter().all(|entry| entry == namespace)
    }
}

/// Things by who sees them, and by the namespace that owns them. What a namespace sees comes in Istio's order: its own,
/// then what is exported to it by name, then what is public, each in the order added.
#[derive(Debug)]
pub struct Visible<T> {
    own: HashMap<String, Vec<Owned<T>>>,
    exported: HashMap<String, Vec<Owned<T>>>,
    public: Vec<Owned<T>>,
    /// Places in `public` by owner.
    public_of: HashMap<String, Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Owned<T> {
    owner: String,
    value: T,
}

impl<T> Default for Visible<T> {
    fn default() -> Self {
        Self { own: HashMap::new(), exported: HashMap::new(), public: Vec::new(), public_of: HashMap::new() }
    }
}

impl<T: Clone> Visible<T> {
    pub fn push(&mut self, namespace: &str, visibility: &Visibility, value: T) {
        let owned = Owned { owner: namespace.to_owned(), value };
        if visibility.public {
            self.public_of.entry(namespace.to_owned()).or_default().push(self.public.len());
            self.public.push(owned);
            return;
        }
        for entry in &visibility.namespaces {
            let list = if entry == namespace { &mut self.own } else { &mut self.exported };
            list.entry(entry.clone()).or_default().push(owned.clone());
        }
    }

    pub fn seen_from(&self, namespace: &str) -> impl Iterator<Item = &T> {
        self.private_to(namespace).chain(&self.public).map(|owned| &owned.value)
    }

    /// The same of what these namespaces own.
    pub fn seen_from_of<'t>(&'t self, namespace: &str, owners: &BTreeSet<String>) -> Vec<&'t T> {
        let private = self.private_to(namespace).filter(|owned| owners.contains(&owned.owner));
        let mut public: Vec<usize> =
            owners.iter().filter_map(|owner| self.public_of.get(owner)).flatten().copied().collect();
        public.sort_unstable();
        let public = public.into_iter().filter_map(|at| self.public.get(at));
        private.chain(public).map(|owned| &owned.value).collect()
    }

    fn private_to(&self, namespace: &str) -> impl Iterator<Item = &Owned<T>> {
        let own = self.own.get(namespace).into_iter().flatten();
        own.chain(self.exported.get(namespace).into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    /// Istio's documentation of `exportTo`; `istio-behaviour` rule 26.
    #[test]
    fn export_to() {
        for (entries, from, seen) in [
            (&[][..], "b", true),
            (&["*"], "b", true),
            (&["."], "a", true),
            (&["."], "b", false),
            (&["b"], "b", true),
            (&["b"], "a", false),
            (&["~"], "a", false),
            (&[".", "c"], "c", true),
        ] {
            let visibility = Visibility::new(&list(entries), &list(&["*"]), "a");
            assert_eq!(visibility.reaches(from), seen, "{entries:?} from {from}");
        }
        assert!(Visibility::new(&list(&["."]), &[], "a").is_private_to("a"));
        assert!(!Visibility::new(&list(&[".", "b"]), &[], "a").is_private_to("a"));
    }

    #[test]
    fn own_before_exported_before_public() {
        let mut visible = Visible::default();
        visible.push("a", &Visibility::new(&list(&["*"]), &[], "a"), "public");
        visible.push("b", &Visibility::new(&list(&["a"]), &[], "b"), "exported");
        visible.push("a", &Visibility::new(&list(&["."]), &[], "a"), "own");
        let seen: Vec<_> = visible.seen_from("a").copied().collect();
        assert_eq!(seen, ["own", "exported", "public"]);
        for (owners, seen) in [
            (&["a"][..], &["own", "public"][..]),
            (&["b"], &["exported"]),
            (&["a", "b"], &["own", "exported", "public"]),
            (&["c"], &[]),
        ] {
            let owners = owners.iter().map(ToString::to_string).collect();
            let of: Vec<_> = visible.seen_from_of("a", &owners).into_iter().copied().collect();
            assert_eq!(of, seen, "{owners:?}");
        }
    }
}
