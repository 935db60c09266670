//! What the status pages show of the newest state.

use std::sync::Arc;

use api::{Object, Problem};

use crate::shapes::{ObjectState, ObjectStatus, Place, WorkloadStatus};
use crate::source::Loaded;
use crate::verdict::Verdicts;

/// One state of the configuration. Replaced as a whole.
#[derive(Debug, Default, Clone)]
pub(crate) struct Published {
    pub(crate) generation: u64,
    /// Nothing is served yet: a source that had objects before a restart is not there.
    pub(crate) waiting: bool,
    /// Counts what sources said, also what said the same.
    pub(crate) readings: u64,
    /// In the order of their identities.
    pub(crate) objects: Arc<Vec<Loaded>>,
    /// Of the source, and what translation does not honour.
    pub(crate) problems: Arc<Vec<Problem>>,
    pub(crate) verdicts: Arc<Verdicts>,
    /// In which generation each of them came to say what it says, in the same order.
    pub(crate) dates: Arc<Vec<u64>>,
    pub(crate) workloads: Vec<WorkloadStatus>,
}

impl Published {
    /// The object `KIND/NAMESPACE/NAME`; the kind in any case. Istio's wins over others of the kind.
    pub(crate) fn find(&self, id: &str) -> Option<&Loaded> {
        let mut found = self.objects.iter().filter(|l| same_id(&l.object, id));
        let first = found.next();
        found.find(|l| l.object.meta.api_version.contains("istio.io")).or(first)
    }

    pub(crate) fn status(&self, loaded: &Loaded) -> ObjectStatus {
        let object = &loaded.object;
        let meta = &object.meta;
        let verdicts = self.verdicts.of(object.identity());
        ObjectStatus {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            generation: self.generation_of(object),
            hash: format!("{:016x}", object.content_hash()),
            file: object.source.file.to_string(),
            line: object.source.line,
            column: object.source.column,
            state: verdicts.first().map_or(ObjectState::Live, |gravest| gravest.state),
            reason: verdicts.first().map(ToString::to_string),
            revision: None,
            manifest: None,
        }
    }

    pub(crate) fn generation_of(&self, object: &Object) -> u64 {
        let at = self.objects.binary_search_by(|loaded| loaded.object.identity().cmp(object.identity()));
        at.ok().and_then(|at| self.dates.get(at)).copied().unwrap_or_default()
    }

    /// Where a field of an object is written.
    pub(crate) fn place(&self, id: &str, path: &str) -> Option<Place> {
        let object = &self.find(id)?.object;
        let at = object.position(path);
        Some(Place { file: object.source.file.to_string(), line: at.line, column: at.column })
    }

    /// What is wrong with one object.
    pub(crate) fn problems_of(&self, id: &str) -> Vec<&Problem> {
        let about = |p: &&Problem| p.object.as_deref().is_some_and(|o| o.eq_ignore_ascii_case(id));
        self.problems.iter().filter(about).collect()
    }
}

fn same_id(object: &Object, id: &str) -> bool {
    let own = object.id();
    match (own.split_once('/'), id.split_once('/')) {
        (Some((own_kind, own_rest)), Some((kind, rest))) => {
            own_kind.eq_ignore_ascii_case(kind) && own_rest == rest
        }
        _ => false,
    }
}
