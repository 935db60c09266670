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
    let shared = left.0.len().min(right.0.len());
    // Nearly always the names differ somewhere, and that is that.
    left.0.as_bytes()[..shared].cmp(&right.0.as_bytes()[..shared]).then_with(|| text(left).cmp(text(right)))
}

/// Sorts Istio's objects oldest first.
pub(super) fn sort_istio(objects: &mut [std::sync::Arc<Object>]) {
    objects.sort_by(|left, right| {
        let ages = Age::of_istio(left).cmp(&Age::of_istio(right));
        ages.then_with(|| by_name((left.name(), left.namespace()), (right.name(), right.namespace())))
    });
}

#[cfg(test)]
mod tests {
    use super::by_name;

    #[test]
    fn names_are_compared_as_one_text_with_their_namespace() {
        let all = [("a", "b"), ("a", "c"), ("a-b", "a"), ("a.b", "a"), ("ab", "a"), ("b", "a"), ("", "z")];
        let text = |(name, namespace): (&str, &str)| format!("{name}.{namespace}");
        for left in all {
            for right in all {
                assert_eq!(by_name(left, right), text(left).cmp(&text(right)), "{left:?} and {right:?}");
            }
        }
    }
}
