//! The configuration as a worker holds it.

use std::sync::Arc;

/// The configuration in use. Counted within the worker alone, so that no request touches a counter other threads write.
pub struct Current(pub(crate) Arc<model::Snapshot>);

impl std::ops::Deref for Current {
    type Target = model::Snapshot;

    fn deref(&self) -> &model::Snapshot {
        &self.0
    }
}
