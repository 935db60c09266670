//! What the status pages show of the newest state, beside the objects themselves, which are the store's.

use std::sync::Arc;

use api::Problem;

use crate::shapes::{ObjectState, ObjectStatus, WorkloadStatus};
use crate::source::Loaded;
use crate::verdict::{Verdict, Verdicts};

/// One state of the configuration. Replaced as a whole.
#[derive(Debug, Default, Clone)]
pub(crate) struct Published {
    pub(crate) generation: u64,
    /// Nothing is served yet: a source that had objects before a restart is not there.
    pub(crate) waiting: bool,
    /// Counts what sources said, also what said the same.
    pub(crate) readings: u64,
    /// Of the source, and what translation does not honour.
    pub(crate) problems: Arc<Vec<Problem>>,
    pub(crate) verdicts: Arc<Verdicts>,
    pub(crate) workloads: Arc<Vec<WorkloadStatus>>,
}

impl Published {
    /// `since`: the generation since which it says what it says.
    pub(crate) fn status(&self, loaded: &Loaded, since: u64) -> ObjectStatus {
        let object = &loaded.object;
        let meta = &object.meta;
        let verdicts = self.verdicts.of(object.identity());
        ObjectStatus {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            generation: since,
            hash: format!("{:016x}", object.content_hash()),
            file: object.source.file.to_string(),
            line: object.source.line,
            column: object.source.column,
            state: verdicts.first().map_or(ObjectState::Live, |gravest| gravest.state),
            reason: verdicts.first().map(ToString::to_string),
            verdicts: verdicts.iter().map(Verdict::status).collect(),
            revision: None,
            manifest: None,
        }
    }

    /// What is wrong with one object.
    pub(crate) fn problems_of(&self, id: &str) -> Vec<&Problem> {
        let about = |p: &&Problem| p.object.as_deref().is_some_and(|o| o.eq_ignore_ascii_case(id));
        self.problems.iter().filter(about).collect()
    }
}
