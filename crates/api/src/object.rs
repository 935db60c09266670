//! One object as users wrote it: what it says, where it stands.

mod identity;
mod positions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::kubernetes::{Deployment, EndpointSlice, Namespace, Pod, Service};
use crate::mesh_config::MeshConfig;
use crate::networking::{
    DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry, WorkloadGroup,
};
use crate::security::PeerAuthentication;
use crate::yaml::{Key, Node, Position, Value};

pub use identity::ObjectId;
pub(crate) use positions::{Positions, push_field, push_index};

/// An accepted object. Cloned by its `Arc`; two are equal when they say the same, wherever they were written.
#[derive(Debug, Clone)]
pub struct Object {
    pub meta: Meta,
    pub spec: Spec,
    pub source: SourceRef,
    pub(crate) identity: Arc<ObjectId>,
    pub(crate) positions: Positions,
    pub(crate) content_hash: u64,
}

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// `None` if not written: see [`Object::namespace`].
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `None` counts as created after everything that says when.
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub uid: String,
    pub generation: i64,
}

/// The file an object was read from and where it starts in it; line 0 if it was not written in lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRef {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

/// What an object says, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    VirtualService(Box<VirtualService>),
    DestinationRule(Box<DestinationRule>),
    ServiceEntry(Box<ServiceEntry>),
    Gateway(Box<Gateway>),
    Sidecar(Box<Sidecar>),
    WorkloadEntry(Box<WorkloadEntry>),
    WorkloadGroup(Box<WorkloadGroup>),
    PeerAuthentication(Box<PeerAuthentication>),
    Service(Box<Service>),
    Namespace(Box<Namespace>),
    Pod(Box<Pod>),
    EndpointSlice(Box<EndpointSlice>),
    /// Also StatefulSets, DaemonSets and ReplicaSets: `meta.kind` tells.
    Deployment(Box<Deployment>),
    /// From the ConfigMap `istio`, field `mesh`: Istio's defaults with what it says.
    MeshConfig(Box<MeshConfig>),
    /// A kind that is known but not acted on; only `meta` is read.
    Unsupported,
}

impl Meta {
    /// Who an object with this head is. Without a namespace it is in `default`, unless its kind is in none.
    pub fn identity(&self) -> ObjectId {
        let namespace = match self.namespace.as_deref() {
            _ if crate::kinds::is_cluster_scoped(&self.api_version, &self.kind) => "",
            None | Some("") => "default",
            Some(namespace) => namespace,
        };
        ObjectId {
            group: crate::kinds::split(&self.api_version).0.to_owned(),
            kind: self.kind.clone(),
            namespace: namespace.to_owned(),
            name: self.name.clone(),
        }
    }
}

impl Object {
    /// Who it is.
    pub fn identity(&self) -> &Arc<ObjectId> {
        &self.identity
    }

    /// The namespace it is in: the one written, else `default`; empty for kinds that are in none.
    pub fn namespace(&self) -> &str {
        &self.identity.namespace
    }

    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// Where a field such as `spec.http[1].match[0]` was written; where its nearest parent was if it was not written.
    pub fn position(&self, path: &str) -> Position {
        self.positions.nearest(path)
    }

    /// The same for the same content, whatever the formatting, order of fields, file and program run.
    pub fn content_hash(&self) -> u64 {
        self.content_hash
    }

    /// `kind/namespace/name`, as findings name it.
    pub fn id(&self) -> String {
        self.identity.to_string()
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.content_hash == other.content_hash && self.meta == other.meta && self.spec == other.spec
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => out.write_str(&self.file),
            line => write!(out, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Of everything a user says in an object: what servers fill in (status, managed fields, resource versions) is left out.
pub(crate) fn content_hash(document: &Node) -> u64 {
    const FILLED_IN: &[&str] = &["managedFields", "resourceVersion", "selfLink"];
    let mut hash = Fnv::default();
    let Some(fields) = document.entries() else {
        return hash.value(document).0;
    };
    hash = hash.sorted(
        fields,
        |name| name != "status" || is_read_status(document),
        |hash, name, value| match (name, value.entries()) {
            ("metadata", Some(fields)) => {
                hash.sorted(fields, |name| !FILLED_IN.contains(&name), |hash, _, value| hash.value(value))
            }
            _ => hash.value(value),
        },
    );
    hash.0
}

/// A pod's status is where its address is.
fn is_read_status(document: &Node) -> bool {
    document.field("kind").and_then(Node::text) == Some("Pod")
}

/// FNV-1a of 64 bits: the same on every machine and in every version.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(self, bytes: &[u8]) -> Self {
        let hash =
            bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash)
    }

    fn text(self, tag: u8, text: &str) -> Self {
        self.bytes(&[tag]).bytes(&text.len().to_le_bytes()).bytes(text.as_bytes())
    }

    fn value(self, node: &Node) -> Self {
        match &node.value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(value) => self.bytes(&[b'b', u8::from(*value)]),
            Value::Int(value) => self.bytes(b"i").bytes(&value.to_le_bytes()),
            Value::Float(value) => self.bytes(b"f").bytes(&value.to_bits().to_le_bytes()),
            Value::String(value) => self.text(b's', value),
            Value::Sequence(items) => items
                .iter()
                .fold(self.bytes(b"[").bytes(&items.len().to_le_bytes()), |hash, item| hash.value(item)),
            Value::Mapping(fields) => self.sorted(fields, |_| true, |hash, _, value| hash.value(value)),
        }
    }

    /// A mapping, whose order means nothing; null is the same as absent.
    fn sorted(
        self,
        fields: &[(Key, Node)],
        keep: impl Fn(&str) -> bool,
        add: impl Fn(Self, &str, &Node) -> Self,
    ) -> Self {
        let mut kept: Vec<_> =
            fields.iter().filter(|(key, value)| !value.is_null() && keep(&key.name)).collect();
        kept.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
        let start = self.bytes(b"{").bytes(&kept.len().to_le_bytes());
        kept.into_iter().fold(start, |hash, (key, value)| add(hash.text(b'k', &key.name), &key.name, value))
    }
}
