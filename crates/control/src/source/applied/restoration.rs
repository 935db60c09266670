//! What `rollback` would change: decided from what was applied after a revision and what is applied now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{ObjectId, Problem};

use super::revision::{Change, Verb, Version};
use super::store::{Current, Write, file_name};
use crate::source::file::whole_file;
use crate::source::manifest::{Manifests, Purpose};

/// The changes that lead back to an earlier revision.
#[derive(Debug, Default)]
pub(crate) struct Restoration {
    pub(crate) changes: Vec<Write>,
    /// Why some object cannot be as it was: the rules about it have changed since. With one of these nothing is changed.
    pub(crate) problems: Vec<Problem>,
}

pub(super) fn plan_restoration(then: Vec<Version>, now: &BTreeMap<Arc<ObjectId>, Current>) -> Restoration {
    let Restoration { mut changes, mut problems } = Restoration::default();
    let mut kept = BTreeSet::new();
    for Version { id, revision, text } in then {
        let text = text.unwrap_or_default();
        let mut read = Manifests::default();
        read.read(&file_name(revision), &text, None, Purpose::Apply);
        let object = read.items.into_iter().map(|manifest| manifest.object).next();
        let current = now.get(&id);
        let same_content = |object: &Arc<api::Object>| {
            let current = current.and_then(|current| current.object.as_ref());
            current.is_some_and(|current| current.content_hash() == object.content_hash())
        };
        match object.filter(|object| **object.identity() == id) {
            Some(object) if same_content(&object) => {}
            Some(object) => {
                let verb = if current.is_some() { Verb::Configured } else { Verb::Created };
                changes.push((Change { id: id.clone(), verb, text: Some(text) }, Some(object)));
            }
            None => {
                let before = problems.len();
                problems.extend(read.problems.into_iter().filter(Problem::is_error));
                if problems.len() == before {
                    let message = format!("is read as something else than {id} by this version of filamesh");
                    problems.push(whole_file(&file_name(revision), message));
                }
            }
        }
        kept.insert(id);
    }
    for id in now.keys().filter(|id| !kept.contains(&***id)) {
        changes.push((Change { id: (**id).clone(), verb: Verb::Deleted, text: None }, None));
    }
    Restoration { changes, problems }
}
