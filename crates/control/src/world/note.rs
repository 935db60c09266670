//! What configuration asks for and does not get, by name.

use std::fmt;

use api::{Object, ObjectId};
use serde::Serialize;

/// One thing that is not done as written. There is at most one per object and feature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Note {
    /// `kind/namespace/name`, or `MeshConfig`.
    pub object: String,
    /// `spec.http[1].fault`; empty if the whole object is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    pub message: String,
}

impl Note {
    pub fn on(object: &Object, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { object: object.id(), path: path.into(), message: message.into() }
    }

    pub fn about(object: &ObjectId, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { object: object.to_string(), path: path.into(), message: message.into() }
    }

    pub fn on_mesh(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { object: "MeshConfig".into(), path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(out, "{}: {}", self.object, self.message)
        } else {
            write!(out, "{} {}: {}", self.object, self.path, self.message)
        }
    }
}
