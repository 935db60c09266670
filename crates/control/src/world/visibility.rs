//! `exportTo`: from which namespaces something can be seen.

use std::collections::HashMap;

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

/// Things by who sees them. What a namespace sees comes in Istio's order: its own, then what is exported to it by name,
/// then what is public, each in the order added.
#[derive(Debug)]
pub struct Visible<T> {
    own: HashMap<String, Vec<T>>,
    exported: HashMap<String, Vec<T>>,
    public: Vec<T>,
}

impl<T> Default for Visible<T> {
    fn default() -> Self {
        Self { own: HashMap::new(), exported: HashMap::new(), public: Vec::new() }
    }
}

impl<T: Clone> Visible<T> {
    pub fn push(&mut self, namespace: &str, visibility: &Visibility, value: T) {
        if visibility.public {
            self.public.push(value);
            return;
        }
        for entry in &visibility.namespaces {
            let list = if entry == namespace { &mut self.own } else { &mut self.exported };
            list.entry(entry.clone()).or_default().push(value.clone());
        }
    }

    /// Every list there is.
    pub fn lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        self.own.values_mut().chain(self.exported.values_mut()).chain([&mut self.public])
    }

    pub fn seen_from(&self, namespace: &str) -> impl Iterator<Item = &T> {
        let own = self.own.get(namespace).into_iter().flatten();
        own.chain(self.exported.get(namespace).into_iter().flatten()).chain(&self.public)
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
    }
}
