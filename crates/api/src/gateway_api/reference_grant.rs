//! ReferenceGrant: who may refer to objects of its namespace.

use crate::decode::partial;

partial! {
    pub struct ReferenceGrant {
        from @required: Vec<GrantFrom>,
        to @required: Vec<GrantTo>,
    }
}

partial! {
    pub struct GrantFrom {
        group: String,
        kind @required: String,
        namespace @required: String,
    }
}

partial! {
    pub struct GrantTo {
        group: String,
        kind @required: String,
        /// Every object of the kind if absent.
        name: Option<String>,
    }
}
