//! The order in which rivals count: oldest first, then by name.

use std::sync::Arc;

use api::{Object, ObjectId};

use super::Age;

/// Where an object stands among those of its kind: the oldest first, equally old ones by `name.namespace` as one text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    age: Age,
    name: String,
    id: Arc<ObjectId>,
}

impl Order {
    /// Of Istio's own kinds: what says no time is the youngest.
    pub(super) fn of_istio(object: &Object) -> Self {
        let (name, namespace) = (object.name(), object.namespace());
        Self { age: Age::of_istio(object), name: text(name, namespace), id: object.identity().clone() }
    }
}

pub(super) fn text(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}")
}
