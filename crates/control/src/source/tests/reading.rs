//! Everything the sources say at one moment, for tests of what is together the case.

use std::sync::Arc;
use std::time::Instant;

use api::{Problem, Spec};

use crate::source::{Files, Loaded, Standing, Watch};
use crate::store::ObjectStore;

/// Everything the sources say at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Each identity once: the winner.
    pub objects: Vec<Loaded>,
    /// Errors and warnings, in the order of the files.
    pub problems: Vec<Problem>,
    /// A source that had objects before the restart is not there: nothing must be served.
    pub waiting: bool,
    /// When the first change since the last reading was noticed.
    pub since: Instant,
}

impl Reading {
    pub(crate) fn of(store: &ObjectStore, since: Instant) -> Self {
        let mut objects: Vec<Loaded> = store.iter().map(|held| acted_on(store, held.loaded)).collect();
        objects.sort_by(|a, b| {
            let place = |loaded: &Loaded| (loaded.object.source.file.clone(), loaded.object.source.line);
            place(a).cmp(&place(b))
        });
        let waiting = store.standings().any(|(_, standing)| standing == Standing::Waiting);
        Self { objects, problems: store.problems(), waiting, since }
    }

    /// Whether both say the same, wherever it is written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.objects.len() == other.objects.len()
            && self.objects.iter().zip(&other.objects).all(|(a, b)| {
                a.object.identity() == b.object.identity()
                    && a.object.content_hash() == b.object.content_hash()
            })
    }
}

/// A ConfigMap `istio` outside the root namespace is no mesh configuration.
fn acted_on(store: &ObjectStore, loaded: &Loaded) -> Loaded {
    let is_mesh = matches!(loaded.object.spec, Spec::MeshConfig(_));
    if !is_mesh || store.mesh_object().is_some_and(|acting| Arc::ptr_eq(&acting.object, &loaded.object)) {
        return loaded.clone();
    }
    let mut object = (*loaded.object).clone();
    object.spec = Spec::Unsupported;
    Loaded { object: Arc::new(object), ..loaded.clone() }
}

impl Watch {
    /// Reads everything once, then calls `changed` from a thread of its own whenever something may say something
    /// else. Returns the first reading.
    pub fn start(
        files: Files,
        log: fn(&str),
        mut changed: impl FnMut(Reading) + Send + 'static,
    ) -> std::io::Result<(Self, Reading)> {
        let since = Instant::now();
        let mut store = ObjectStore::default();
        let (begun, first) = Watch::begin(files, log);
        store.apply_all(first, 0);
        let reading = Reading::of(&store, since);
        let watch = begun.spawn(move |updates| {
            if let Some(delta) = store.apply_all(updates, 0) {
                changed(Reading::of(&store, delta.since));
            }
        })?;
        Ok((watch, reading))
    }
}
