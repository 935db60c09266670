//! An in-memory source for tests: it says what it is told to.

use std::sync::Arc;
use std::time::Instant;

use super::{Extent, Loaded, Origin, Slot, SourceId, Standing, Update, Upsert};

/// A source of any kind.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) id: SourceId,
}

impl Memory {
    /// The objects of a text, as if it were a file of this name.
    pub(crate) fn put(&self, file: &str, text: &str) -> Update {
        let parsed = api::parse_documents(file, text, &api::Options::default());
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let mut update = Update::part(self.id, Instant::now());
        update.upserts = parsed.objects.into_iter().map(|object| self.upsert(file, object)).collect();
        update
    }

    pub(crate) fn delete(&self, file: &str, text: &str) -> Update {
        let mut update = self.put(file, text);
        let upserts = std::mem::take(&mut update.upserts);
        update.deletes = upserts.into_iter().map(|u| (u.loaded.object.identity().clone(), u.slot)).collect();
        update
    }

    /// The same as all there is.
    pub(crate) fn all(&self, file: &str, text: &str) -> Update {
        Update { extent: Extent::All, standing: Some(Standing::Synced), ..self.put(file, text) }
    }

    fn upsert(&self, file: &str, object: Arc<api::Object>) -> Upsert {
        let origin = match self.id {
            SourceId::MeshFile | SourceId::Directory(_) => Origin::File,
            SourceId::Applied => Origin::Applied { revision: 7 },
            SourceId::Kubernetes(_) => {
                Origin::Kubernetes { uid: "1-2".into(), resource_version: "42".into() }
            }
            SourceId::ConfigSource(_) => {
                Origin::ConfigSource { address: "xds://other:15010".into(), version: "42".into() }
            }
            SourceId::Registry(_) => Origin::Registry { name: "consul".into() },
        };
        let slot = match origin {
            Origin::File => Slot::File { path: file.into(), copy: 0 },
            _ => Slot::Only,
        };
        Upsert { slot, loaded: Loaded { object, stale: false, origin } }
    }
}
