//! What `apply` and `delete` would change: decided from what is known, without touching anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Object, ObjectId, SourceRef};

use super::revision::Verb;
use crate::source::manifest::Manifest;

/// The objects that a batch is compared with.
pub(crate) trait Known {
    /// The object of this identity that is applied: its content, `None` if it can no longer be read.
    fn applied(&self, id: &ObjectId) -> Option<Option<&Arc<Object>>>;
    /// The object of this identity in a watched file.
    fn in_file(&self, id: &ObjectId) -> Option<&Arc<Object>>;
    /// Every identity there is, applied ones and those in files.
    fn ids(&self) -> BTreeSet<Arc<ObjectId>>;
}

/// One object of a batch of `apply`.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) manifest: Manifest,
    pub(crate) verb: Verb,
    /// The version in a watched file that stops counting.
    pub(crate) over: Option<SourceRef>,
}

/// Which objects `delete` is to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Exactly(ObjectId),
    /// As people write kinds, and a name; `None` for all applied ones of the kind.
    Named {
        kind: String,
        namespace: String,
        name: Option<String>,
    },
}

/// What a batch of `delete` would do.
#[derive(Debug, Default)]
pub(crate) struct Deletion {
    /// Applied ones, with the version in a watched file that counts when they are gone.
    pub(crate) deleted: Vec<(Arc<ObjectId>, Option<SourceRef>)>,
    /// Those that stand in watched files only.
    pub(crate) in_files: Vec<(Arc<ObjectId>, SourceRef)>,
    /// Targets that fit nothing, in words.
    pub(crate) missing: Vec<String>,
    /// Targets that fit several, in words.
    pub(crate) ambiguous: Vec<String>,
}

/// Decides what applying these manifests would do. Of two manifests of one object the later counts, as with one `kubectl apply` after the other.
pub(crate) fn plan(manifests: Vec<Manifest>, known: &impl Known) -> Vec<Planned> {
    let mut before: BTreeMap<Arc<ObjectId>, u64> = BTreeMap::new();
    let mut planned = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let id = manifest.object.identity().clone();
        let hash = manifest.object.content_hash();
        let in_file = known.in_file(&id);
        let verb = match (before.get(&id), known.applied(&id)) {
            (Some(earlier), _) if *earlier == hash => Verb::Unchanged,
            (Some(_), _) => Verb::Configured,
            (None, Some(Some(object))) if object.content_hash() == hash => Verb::Unchanged,
            (None, Some(_)) => Verb::Configured,
            (None, None) if in_file.is_some() => Verb::Configured,
            (None, None) => Verb::Created,
        };
        before.insert(id, hash);
        planned.push(Planned { manifest, verb, over: in_file.map(|object| object.source.clone()) });
    }
    planned
}

/// Decides what deleting these targets would do.
pub(crate) fn plan_deletion(targets: &[Target], known: &impl Known) -> Deletion {
    let mut deletion = Deletion::default();
    let all = known.ids();
    let mut done = BTreeSet::new();
    for target in targets {
        let found: Vec<&Arc<ObjectId>> = match target {
            Target::Exactly(id) => all.get(id).into_iter().collect(),
            Target::Named { .. } => all.iter().filter(|id| target.fits(id)).collect(),
        };
        match (target, found.as_slice()) {
            (Target::Named { name: None, .. }, _) => {}
            (_, []) => deletion.missing.push(target.to_string()),
            (_, [_]) => {}
            (_, several) => {
                let ids: Vec<String> = several.iter().map(|id| id.resource_name()).collect();
                deletion.ambiguous.push(format!("{target} is {}", ids.join(" and ")));
                continue;
            }
        }
        for id in found {
            if !done.insert(id.clone()) {
                continue;
            }
            let in_file = known.in_file(id).map(|object| object.source.clone());
            match (known.applied(id), in_file) {
                (Some(_), over) => deletion.deleted.push((id.clone(), over)),
                (None, Some(place)) => deletion.in_files.push((id.clone(), place)),
                (None, None) => {}
            }
        }
    }
    deletion
}

impl Target {
    fn fits(&self, id: &ObjectId) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == id,
            Self::Named { kind, namespace, name } => {
                api::kinds::is_named(&id.group, &id.kind, kind)
                    && (id.namespace.is_empty() || id.namespace == *namespace)
                    && name.as_ref().is_none_or(|name| *name == id.name)
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(id) if id.namespace.is_empty() => out.write_str(&id.resource_name()),
            Self::Exactly(id) => write!(out, "{} in namespace {}", id.resource_name(), id.namespace),
            Self::Named { kind, namespace, name } => {
                let name = name.as_deref().unwrap_or("(all)");
                write!(out, "{} {name} in namespace {namespace}", kind.to_lowercase())
            }
        }
    }
}
