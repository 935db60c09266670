//! What is asked and answered when objects are applied or deleted: JSON over the Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `POST apply`, [`ApplyRequest`] | [`Changed`]; 422 with [`Refusal`] for input that is not valid |
//! | `POST delete`, [`DeleteRequest`] | [`Changed`]; 409 with [`Refusal`] for what is not `delete`'s to delete |
//! | `POST rollback`, [`RollbackRequest`] | [`Changed`]; 404 for a revision that is not kept; 409 with [`Refusal`] |
//! | `GET history?kind=K&namespace=N&name=X&limit=L` (each optional) | `[`[`RevisionStatus`]`]`, the newest, oldest first |
//! | `GET manifests?revision=R` and the same | `[`[`ChangedObject`]`]`: what was applied after that revision, with texts |
//!
//! One request is one change: all of it or nothing, one revision, one generation. 507: it could not be written.

use api::{ObjectId, SourceRef};
use serde::{Deserialize, Serialize};

use crate::shapes::Place;
use crate::source::applied::revision::{Revision, Verb};

/// A file of the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// As findings name it.
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplyRequest {
    pub documents: Vec<Input>,
    /// Of objects that name none.
    pub namespace: Option<String>,
    /// Say what would be done.
    pub dry_run: bool,
    /// Remembered with the revision.
    pub comment: Option<String>,
    /// Answer with the manifests.
    pub show: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRequest {
    pub documents: Vec<Input>,
    /// Of objects in documents that name none.
    pub namespace: Option<String>,
    pub targets: Vec<NamedTarget>,
    pub dry_run: bool,
    pub comment: Option<String>,
}

/// Makes what is applied what it was after a revision.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollbackRequest {
    pub revision: u64,
    pub dry_run: bool,
    pub comment: Option<String>,
}

/// Objects as people name them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedTarget {
    /// `virtualservice`, `vs`, `gateway.networking.istio.io`.
    pub kind: String,
    pub namespace: String,
    /// `None`: all applied ones.
    pub name: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// `None`: nothing had to be changed, or it was a dry run.
    pub revision: Option<u64>,
    /// When this generation is live, so is the change.
    pub generation: u64,
    pub objects: Vec<ChangedObject>,
    /// Warnings about them, a line each.
    pub problems: Vec<String>,
    /// Targets of `delete` that there were not.
    pub missing: Vec<String>,
    /// Objects of a kind of which all were to be deleted that stand in watched files: a sentence each.
    pub left: Vec<String>,
}

/// An object of a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedObject {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub verb: Verb,
    /// The version of it in a watched file: the applied one counts instead, or it counts again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_file: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub error: String,
    /// What is wrong, a line each.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A revision with what it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    #[serde(flatten)]
    pub revision: Revision,
    pub objects: Vec<ChangedObject>,
}

impl ChangedObject {
    pub(super) fn new(id: &ObjectId, verb: Verb) -> Self {
        let ObjectId { group, kind, namespace, name } = id.clone();
        Self { group, kind, namespace, name, verb, in_file: None, text: None }
    }

    pub fn id(&self) -> ObjectId {
        let Self { group, kind, namespace, name, .. } = self.clone();
        ObjectId { group, kind, namespace, name }
    }
}

impl From<SourceRef> for Place {
    fn from(source: SourceRef) -> Self {
        Self { file: source.file.to_string(), line: source.line, column: source.column }
    }
}
