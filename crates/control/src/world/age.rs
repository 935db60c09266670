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
