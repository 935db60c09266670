//! What makes two objects the same one.

use std::fmt;

/// Group, kind, namespace and name. Versions of a kind are one kind: `networking.istio.io/v1` and `v1beta1` write the same
/// object. Ordered by these four, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Empty for Kubernetes' core kinds.
    pub group: String,
    pub kind: String,
    /// Empty for kinds that are in none.
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    /// `kind.group/name`, as kubectl's `-o name` has it.
    pub fn resource_name(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        match self.group.as_str() {
            "" => format!("{kind}/{}", self.name),
            group => format!("{kind}.{group}/{}", self.name),
        }
    }
}

/// `kind/namespace/name`, or `kind/name` for a kind that is in no namespace, as findings name objects.
impl fmt::Display for ObjectId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(out, "{}/{}", self.kind, self.name)
        } else {
            write!(out, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}
