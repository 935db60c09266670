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

/// The order of equally old ones: `name.namespace` as a text.
pub fn by_name(left: (&str, &str), right: (&str, &str)) -> std::cmp::Ordering {
    fn text<'t>((name, namespace): (&'t str, &'t str)) -> impl Iterator<Item = u8> + 't {
        name.bytes().chain(std::iter::once(b'.')).chain(namespace.bytes())
    }
    text(left).cmp(text(right))
}

/// Sorts Istio's objects oldest first.
pub(super) fn sort_istio(objects: &mut [std::sync::Arc<Object>]) {
    objects.sort_by(|left, right| {
        let ages = Age::of_istio(left).cmp(&Age::of_istio(right));
        ages.then_with(|| by_name((left.name(), left.namespace()), (right.name(), right.namespace())))
    });
}
