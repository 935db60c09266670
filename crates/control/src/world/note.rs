//! What configuration asks for and does not get, by name.

use std::fmt;
use std::sync::Arc;

use api::{Object, ObjectId};

use super::reason::Reason;

/// One thing that is not done as written. There is at most one per object and feature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note {
    /// The object; `None`: the mesh configuration.
    pub object: Option<Arc<ObjectId>>,
    /// `spec.http[1].fault`; empty if the whole object is meant.
    pub path: String,
    pub reason: Reason,
}

impl Note {
    pub fn on(object: &Object, path: impl Into<String>, reason: Reason) -> Self {
        Self::about(object.identity(), path, reason)
    }

    pub fn about(object: &Arc<ObjectId>, path: impl Into<String>, reason: Reason) -> Self {
        Self { object: Some(object.clone()), path: path.into(), reason }
    }

    pub fn on_mesh(path: impl Into<String>, reason: Reason) -> Self {
        Self { object: None, path: path.into(), reason }
    }

    /// `kind/namespace/name`, or `MeshConfig`.
    pub fn subject(&self) -> String {
        self.object.as_ref().map_or_else(|| "MeshConfig".into(), ToString::to_string)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.subject())?;
        if !self.path.is_empty() {
            write!(out, " {}", self.path)?;
        }
        write!(out, ": {}", self.reason)
    }
}
