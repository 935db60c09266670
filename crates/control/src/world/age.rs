//! Who was first: the oldest of two rivals wins everywhere in Istio.

use api::Object;

/// Order of creation. Istio's own objects without a time count as the youngest, Kubernetes' as the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    First,
    At(jiff::Timestamp),
    Last,
}

impl Age {
    pub fn of_istio(object: &Object) -> Self {
        object.meta.creation_timestamp.map_or(Self::Last, Self::At)
    }

    pub fn of_kubernetes(object: &Object) -> Self {
        object.meta.creation_timestamp.map_or(Self::First, Self::At)
    }
}

/// Sorts Istio's objects oldest first, equally old ones by `name.namespace`.
pub(super) fn sort_istio(objects: &mut [std::sync::Arc<Object>]) {
    objects.sort_by_cached_key(|object| {
        (Age::of_istio(object), format!("{}.{}", object.name(), object.namespace()))
    });
}
