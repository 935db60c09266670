//! What is remembered of a change of the applied objects.

use api::ObjectId;
use serde::{Deserialize, Serialize};

/// One change: the objects of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1, without gaps.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    #[serde(flatten)]
    pub who: Who,
    /// Why, if the command said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Bytes of manifests written by it.
    pub bytes: u64,
}

/// Who asked for a change, as the kernel tells of the other end of the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// `None`: the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `unknown` if the machine knows no name for the uid.
    pub user: String,
}

/// What became of an object, in kubectl's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Created,
    Configured,
    /// Applied already with this content: no revision tells of it.
    Unchanged,
    Deleted,
}

/// One object of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: ObjectId,
    pub verb: Verb,
    /// Its manifest; `None` for one that was deleted.
    pub text: Option<String>,
}

/// A revision with what it did, in the order of identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub revision: Revision,
    pub changes: Vec<(ObjectId, Verb)>,
}

/// An object as it was after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub id: ObjectId,
    pub revision: u64,
    pub text: Option<String>,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Created, Self::Configured, Self::Unchanged, Self::Deleted]
            .into_iter()
            .find(|verb| verb.as_str() == word)
    }
}
