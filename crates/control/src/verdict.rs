//! What became of the objects: one value for each thing that is not live as it is written, which pages, metrics and commands
//! render.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use api::{ObjectId, Problem, Severity, Spec};

use crate::shapes::{ObjectState, Place, VerdictStatus};
use crate::store::ObjectStore;
use crate::world::{Note, Outcome, Reason};

/// One thing about one object that is not live as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: ObjectState,
    pub(crate) place: Place,
    /// `spec.http[1].fault`; empty if the whole object is meant.
    pub(crate) path: String,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// What is written is refused, in the words of validation.
    Invalid(String),
    /// Another object of the same identity has precedence.
    Precedence { winner: String },
    /// Nothing acts on the kind, or on a mesh configuration at that place.
    NotActedOn,
    /// Translation does not do what it says.
    Noted(Reason),
}

/// All of them by the object they are about, the gravest first.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Of objects that win their identity.
    of: BTreeMap<Arc<ObjectId>, Vec<Verdict>>,
    /// Of those that lose it, each with its winner.
    pub(crate) losers: Vec<(Arc<ObjectId>, Verdict)>,
    /// Objects nothing of which is live. What cannot be read has no group: by kind, namespace and name.
    pub(crate) refused: BTreeMap<String, Verdict>,
}

impl Verdicts {
    /// Costs by the number of things that are not as they are written.
    pub(crate) fn new<'a>(
        store: &ObjectStore,
        notes: impl IntoIterator<Item = &'a Note>,
        problems: &[Problem],
    ) -> Self {
        let mut all = Self::default();
        all.add_stale_and_refused(store, problems);
        for loser in store.conflicts() {
            let source = &loser.loaded.object.source;
            let verdict = Verdict {
                state: ObjectState::Conflicted,
                place: Place { file: source.file.to_string(), line: source.line, column: source.column },
                path: String::new(),
                why: Why::Precedence { winner: loser.winner.place().to_string() },
            };
            all.losers.push((loser.loaded.object.identity().clone(), verdict));
        }
        for object in store.not_acted_on() {
            let verdict = Verdict {
                state: ObjectState::Ignored,
                place: place_of(object, ""),
                path: String::new(),
                why: Why::NotActedOn,
            };
            all.of.entry(object.identity().clone()).or_default().push(verdict);
        }
        for note in notes {
            let Some(id) = &note.object else { continue };
            let Some(held) = store.get(id) else { continue };
            let object = &held.loaded.object;
            if matches!(object.spec, Spec::Unsupported) {
                continue;
            }
            let verdict = Verdict {
                state: state_of(note.reason.outcome()),
                place: place_of(object, &note.path),
                path: note.path.clone(),
                why: Why::Noted(note.reason.clone()),
            };
            all.of.entry(id.clone()).or_default().push(verdict);
        }
        all.of.values_mut().for_each(|verdicts| verdicts.sort_by_key(|verdict| verdict.state.gravity()));
        all
    }

    /// The first error about each object that has one: of last good versions, or of objects that have none.
    fn add_stale_and_refused(&mut self, store: &ObjectStore, problems: &[Problem]) {
        let mut errors: BTreeMap<&str, &Problem> = BTreeMap::new();
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            if let Some(object) = &problem.object {
                errors.entry(object.as_str()).or_insert(problem);
            }
        }
        for held in store.stale() {
            let object = &held.loaded.object;
            if let Some(problem) = errors.get(object.id().as_str()) {
                let verdicts = self.of.entry(object.identity().clone()).or_default();
                verdicts.push(invalid(problem, ObjectState::Stale));
            }
        }
        for (id, problem) in errors {
            let Some((kind, rest)) = id.split_once('/') else { continue };
            let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
            if store.named(kind, namespace, name).next().is_none() {
                self.refused.insert(id.to_owned(), invalid(problem, ObjectState::Refused));
            }
        }
    }

    /// What is not live as an object says, the gravest first.
    pub(crate) fn of(&self, id: &ObjectId) -> &[Verdict] {
        self.of.get(id).map_or(&[], Vec::as_slice)
    }

    /// How many objects are in each state but `Live`.
    pub(crate) fn count(&self, state: ObjectState) -> usize {
        match state {
            ObjectState::Refused => self.refused.len(),
            ObjectState::Conflicted => self.losers.len() + self.gravest(state),
            _ => self.gravest(state),
        }
    }

    /// How many objects have this as their gravest state.
    fn gravest(&self, state: ObjectState) -> usize {
        self.of.values().filter(|verdicts| verdicts.first().is_some_and(|first| first.state == state)).count()
    }
}

fn invalid(problem: &Problem, state: ObjectState) -> Verdict {
    let Problem { file, line, column, path, message, .. } = problem;
    Verdict {
        state,
        place: Place { file: file.to_string(), line: *line, column: *column },
        path: path.clone(),
        why: Why::Invalid(message.clone()),
    }
}

fn state_of(outcome: Outcome) -> ObjectState {
    match outcome {
        Outcome::NotActedOn => ObjectState::Partial,
        Outcome::Conflicted => ObjectState::Conflicted,
        Outcome::Waiting => ObjectState::Waiting,
    }
}

fn place_of(object: &api::Object, path: &str) -> Place {
    let at = object.position(path);
    Place { file: object.source.file.to_string(), line: at.line, column: at.column }
}

impl Verdict {
    /// As pages show it.
    pub(crate) fn status(&self) -> VerdictStatus {
        VerdictStatus { state: self.state, reason: self.to_string() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, column } = &self.place;
        match line {
            0 => write!(out, "{file}: ")?,
            _ => write!(out, "{file}:{line}:{column}: ")?,
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        match &self.why {
            Why::Invalid(message) => out.write_str(message),
            Why::Precedence { winner } => write!(out, "{winner} has precedence and is used"),
            Why::NotActedOn => out.write_str("is not acted on yet"),
            Why::Noted(reason) => reason.fmt(out),
        }
    }
}
