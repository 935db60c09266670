//! What a source says: a delta of its objects, with who says it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use api::{Object, ObjectId, Problem};

/// Which source. The order of the variants is the precedence between sources: of two objects of one identity, the one
/// of the lesser source wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceId {
    /// The file of the mesh configuration: it holds one object, the ConfigMap `istio` of the root namespace.
    MeshFile,
    /// What was applied.
    Applied,
    /// A watched directory, by the position of its flag from 0.
    Directory(usize),
    /// A Kubernetes API server, by the position of its flag from 0.
    Kubernetes(usize),
    /// One of MeshConfig's `configSources`, by its position from 0.
    ConfigSource(usize),
    /// A service registry, by the position of its flag from 0.
    Registry(usize),
}

/// Where within a source an object stands. A directory may hold one identity several times; the least slot wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The source knows each identity once.
    Only,
    /// In this file, by the path's bytes; `copy` counts the objects of one identity in the file from 0, in the order
    /// written.
    File { path: Arc<str>, copy: u32 },
}

/// How an object came to be known, for the eyes of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Written in a file: [`Object::source`] holds path, line and column.
    File,
    Applied {
        revision: u64,
    },
    Kubernetes {
        uid: Arc<str>,
        resource_version: Arc<str>,
    },
    ConfigSource {
        address: Arc<str>,
        /// The one its server gave this object; empty: none.
        version: Arc<str>,
    },
    Registry {
        name: Arc<str>,
    },
}

/// An object, how it came to be known, and whether it is what its source says now.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub object: Arc<Object>,
    /// What the source says now is refused or cannot be read; this is the last good version.
    pub stale: bool,
    pub origin: Origin,
}

impl Loaded {
    /// For an operator: `a.yaml:3:1`, `applied, revision 7`.
    pub fn place(&self) -> impl fmt::Display + '_ {
        Place(self)
    }
}

struct Place<'l>(&'l Loaded);

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.origin {
            Origin::File => self.0.object.source.fmt(out),
            Origin::Applied { revision } => write!(out, "applied, revision {revision}"),
            Origin::Kubernetes { resource_version, .. } => {
                write!(out, "Kubernetes, resource version {resource_version}")
            }
            Origin::ConfigSource { address, version } if version.is_empty() => {
                write!(out, "config source {address}")
            }
            Origin::ConfigSource { address, version } => {
                write!(out, "config source {address}, version {version}")
            }
            Origin::Registry { name } => write!(out, "registry {name}"),
        }
    }
}

/// What else there is of a source than its update tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the update does not name stays as it is.
    Part,
    /// The update's objects and problems are all there are: whatever else was known of the source is gone.
    All,
}

/// How far the objects of a source can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has never been read. What it holds is unknown, and nothing says that it held anything.
    Unread,
    /// It had objects before the restart and cannot be read now, or reads empty: the mesh must not be served without
    /// them. The problem that comes with it says what is waited for.
    Waiting,
    /// All of it is known.
    Synced,
    /// It was lost after it had been read: its last good objects stay.
    Frozen,
}

/// One object at one slot.
#[derive(Debug, Clone)]
pub struct Upsert {
    pub slot: Slot,
    pub loaded: Loaded,
}

/// A delta of one source, applied as a whole. Within it deletions come first.
#[derive(Debug, Clone)]
pub struct Update {
    pub source: SourceId,
    pub extent: Extent,
    /// New or changed objects; also those that say the same at another line.
    pub upserts: Vec<Upsert>,
    pub deletes: Vec<(Arc<ObjectId>, Slot)>,
    /// Files (or other parts of the source) whose problems are these now; none: nothing is wrong with it any more.
    pub problems: Vec<(Arc<str>, Vec<Problem>)>,
    /// `None`: as before.
    pub standing: Option<Standing>,
    /// When the first event that led to it was noticed.
    pub since: Instant,
}

impl Update {
    /// An update that says nothing yet.
    pub fn part(source: SourceId, since: Instant) -> Self {
        Self {
            source,
            extent: Extent::Part,
            upserts: Vec::new(),
            deletes: Vec::new(),
            problems: Vec::new(),
            standing: None,
            since,
        }
    }

    /// An update that is all of its source.
    pub fn all(source: SourceId, since: Instant) -> Self {
        Self { extent: Extent::All, standing: Some(Standing::Synced), ..Self::part(source, since) }
    }

    /// Whether applying it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.extent == Extent::Part
            && self.upserts.is_empty()
            && self.deletes.is_empty()
            && self.problems.is_empty()
            && self.standing.is_none()
    }
}
