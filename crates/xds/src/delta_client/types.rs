//! The types a client asks for.

use crate::type_url;

/// The types asked for, in the order they are asked for and applied: what is referred to before what refers.
pub(crate) const TYPES: [(&str, Asking); 5] = [
    (type_url::CLUSTER, Asking::Everything),
    (type_url::ENDPOINT, Asking::ByName),
    (type_url::LISTENER, Asking::Everything),
    (type_url::ROUTE, Asking::ByName),
    (type_url::NAME_TABLE, Asking::Everything),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    Everything,
    ByName,
}
