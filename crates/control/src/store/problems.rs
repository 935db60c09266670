//! What is wrong with objects, and what is not acted on.

use std::sync::Arc;

use api::{Object, ObjectId, Problem, Severity, Spec};

use super::{Candidate, Change, Loser, ObjectStore};

impl ObjectStore {
    /// All of them: what the sources say in the order of precedence and files, then conflicts, then what is not acted on.
    /// Costs by the number of problems.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.sources.values().flat_map(|source| source.problems.values().flatten()).cloned().collect();
        problems.extend(self.conflicts().map(|loser| loser.problem()));
        problems.extend(self.mesh.iter().filter_map(|id| self.misplaced_mesh(id)));
        let kinds = self.unsupported.values();
        problems.extend(kinds.filter_map(|ids| self.ignored_kind(ids.first()?, ids.len())));
        problems
    }

    /// The losers of an identity that did not lose before, or to another.
    pub(super) fn tell_losers(&self, id: &Arc<ObjectId>, before: &[Candidate], told: &mut Vec<Problem>) {
        if !self.contested.contains(id) {
            return;
        }
        let problems = |candidates: &[Candidate]| -> Vec<Problem> {
            losers(candidates).map(|loser| loser.problem()).collect()
        };
        let known = problems(before);
        let now = self.objects.get(id).map(|entry| problems(&entry.candidates)).unwrap_or_default();
        told.extend(now.into_iter().filter(|problem| !known.contains(problem)));
    }

    /// The first object of a kind nothing acts on, and a mesh configuration that is not in the root namespace.
    pub(super) fn tell_not_acted_on(&self, change: &Change, told: &mut Vec<Problem>) {
        let Some(after) = &change.after else { return };
        let is_new = change.before.as_ref().is_none_or(|before| before.spec != after.spec);
        match after.spec {
            Spec::Unsupported => {
                let kind = (after.meta.api_version.clone(), after.meta.kind.clone());
                let alone = self.unsupported.get(&kind).is_some_and(|ids| ids.len() == 1);
                told.extend((is_new && alone).then(|| self.ignored_kind(&change.id, 1)).flatten());
            }
            Spec::MeshConfig(_) if is_new => told.extend(self.misplaced_mesh(&change.id)),
            _ => {}
        }
    }

    /// One warning for each kind nothing here acts on, at one such object.
    fn ignored_kind(&self, first: &Arc<ObjectId>, count: usize) -> Option<Problem> {
        let object = &self.get(first)?.loaded.object;
        let (kind, api_version) = (&object.meta.kind, &object.meta.api_version);
        let message = match count {
            1 => format!("{kind} ({api_version}) is not acted on yet"),
            _ => format!("{kind} ({api_version}) is not acted on yet: {count} objects"),
        };
        Some(warning(object, message))
    }

    fn misplaced_mesh(&self, id: &Arc<ObjectId>) -> Option<Problem> {
        let object = &self.get(id)?.loaded.object;
        if self.mesh_object().is_some_and(|acting| acting.object.identity() == id) {
            return None;
        }
        let root = self.root_namespace();
        let message = format!(
            "is not acted on: the mesh configuration is the ConfigMap {} of the root namespace, {root}",
            api::kinds::MESH_CONFIG_MAP
        );
        Some(warning(object, message))
    }
}

impl Loser<'_> {
    /// The conflict, told at the loser's place.
    pub fn problem(&self) -> Problem {
        let message =
            format!("is in conflict with {}, which has precedence and is used", self.winner.place());
        warning(&self.loaded.object, message)
    }
}

/// All candidates but the first.
pub(super) fn losers(candidates: &[Candidate]) -> impl Iterator<Item = Loser<'_>> {
    let winner = candidates.first();
    candidates.iter().skip(1).filter_map(move |candidate| {
        let winner = winner?;
        Some(Loser { source: candidate.source, loaded: &candidate.loaded, winner: &winner.loaded })
    })
}

fn warning(object: &Object, message: String) -> Problem {
    Problem {
        severity: Severity::Warning,
        file: object.source.file.clone(),
        line: object.source.line,
        column: object.source.column,
        object: Some(object.id()),
        path: String::new(),
        message,
    }
}
