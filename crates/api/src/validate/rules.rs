//! A walk over a typed value and its tree side by side, so that a broken rule is reported where it was written.

use crate::decode::{Context, is_written};
use crate::yaml::{Node, Position};

pub(super) struct Rules<'d, 'c> {
    document: &'d Node,
    /// From the document down to where the walk is.
    steps: Vec<Step>,
    context: &'c mut Context,
}

enum Step {
    Field(String),
    Item(usize),
}

impl<'d, 'c> Rules<'d, 'c> {
    pub(super) fn new(document: &'d Node, context: &'c mut Context) -> Self {
        Self { document, steps: Vec::new(), context }
    }

    /// Goes into a field for the time of `inner`.
    pub(super) fn field<T>(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.step(Step::Field(name.to_owned()), inner)
    }

    /// Goes into a field if it is there.
    pub(super) fn optional<V>(&mut self, name: &str, value: Option<&V>, inner: impl FnOnce(&mut Self, &V)) {
        if let Some(value) = value {
            self.field(name, |rules| inner(rules, value));
        }
    }

    /// Goes into each item of the list `name`.
    pub(super) fn items<'v, V>(
        &mut self,
        name: &str,
        values: &'v [V],
        mut inner: impl FnMut(&mut Self, &'v V),
    ) {
        self.field(name, |rules| {
            for (index, value) in values.iter().enumerate() {
                rules.step(Step::Item(index), |rules| inner(rules, value));
            }
        });
    }

    pub(super) fn item<T>(&mut self, index: usize, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.step(Step::Item(index), inner)
    }

    /// Goes into each entry of the map `name`.
    pub(super) fn entries<'v, K: ToString + 'v, V: 'v>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = (&'v K, &'v V)>,
        mut inner: impl FnMut(&mut Self, &K, &V),
    ) {
        self.field(name, |rules| {
            for (key, value) in values {
                rules.step(Step::Field(key.to_string()), |rules| inner(rules, key, value));
            }
        });
    }

    /// Whether a field was written, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut node = Some(self.document);
        for step in &self.steps {
            node = node.and_then(|node| step.from(node)).map(|(_, node)| node);
        }
        node.and_then(|node| Step::Field(name.to_owned()).from(node))
            .is_some_and(|(_, value)| !value.is_null())
    }

    pub(super) fn error(&mut self, message: impl Into<String>) {
        let (at, message) = (self.place(), message.into());
        self.within(&mut |context| context.error(at, message.clone()));
    }

    pub(super) fn warning(&mut self, message: impl Into<String>) {
        let (at, message) = (self.place(), message.into());
        self.within(&mut |context| context.warning(at, message.clone()));
    }

    /// Reports a failed check of the value where the walk is.
    pub(super) fn require(&mut self, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.error(message);
        }
    }

    /// Reports a failed check of the field `name`.
    pub(super) fn require_field(&mut self, name: &str, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.field(name, |rules| rules.error(message));
        }
    }

    pub(super) fn field_error(&mut self, name: &str, message: impl Into<String>) {
        self.field(name, |rules| rules.error(message));
    }

    fn step<T>(&mut self, step: Step, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.steps.push(step);
        let result = inner(self);
        self.steps.pop();
        result
    }

    /// A word is pointed at itself, a block at its key, what was not written at its nearest parent.
    fn place(&self) -> Position {
        let (mut at, mut node) = (self.document.at, self.document);
        for step in &self.steps {
            let Some((key, value)) = step.from(node) else {
                break;
            };
            node = value;
            at = match (key, value.entries().is_some() || value.items().is_some()) {
                (Some(key), true) => key,
                _ => value.at,
            };
        }
        at
    }

    fn within(&mut self, report: &mut dyn FnMut(&mut Context)) {
        fn descend(steps: &[Step], context: &mut Context, report: &mut dyn FnMut(&mut Context)) {
            match steps.split_first() {
                None => report(context),
                Some((Step::Field(name), rest)) => {
                    context.in_field(name, |context| descend(rest, context, report))
                }
                Some((Step::Item(index), rest)) => {
                    context.in_item(*index, |context| descend(rest, context, report))
                }
            }
        }
        descend(&self.steps, self.context, report);
    }
}

impl Step {
    /// Where a field's key stands, and the value.
    fn from<'n>(&self, node: &'n Node) -> Option<(Option<Position>, &'n Node)> {
        match self {
            Self::Field(name) => node
                .entries()?
                .iter()
                .find(|(key, _)| key.name == *name || is_written(name, &key.name))
                .map(|(key, value)| (Some(key.at), value)),
            Self::Item(index) => node.items()?.get(*index).map(|item| (None, item)),
        }
    }
}
