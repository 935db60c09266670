//! One thing that is made of the world for a class, and what it was made from.

use super::dependents::{Dependent, Dependents, KeptReads};
use crate::proxy::Facts;
use crate::translate::{Context, Options};
use crate::world::{Changes, Note, Reads, World};

/// A value, with whatever was read of the world to make it.
#[derive(Debug)]
pub(super) struct Part<T> {
    pub value: T,
    pub notes: Vec<Note>,
    reads: KeptReads,
}

impl<T> Part<T> {
    /// Whether it has to be made again.
    pub fn is_stale(&self, changes: &Changes) -> bool {
        changes.concern(&self.reads)
    }

    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Part<U> {
        Part { value: with(self.value), notes: self.notes, reads: self.reads }
    }
}

/// What parts are made from: the world, one proxy of the class, and how resources are to be made.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub world: &'a World,
    pub facts: &'a Facts<'a>,
    pub options: &'a Options,
    /// Where it is noted what depends on what was read.
    pub keeping: (&'a Dependents, Dependent),
}

impl Maker<'_> {
    pub fn part<T>(&self, make: impl FnOnce(&Context<'_>) -> T) -> Part<T> {
        let reads = Reads::default();
        let context = Context::new(self.world.view(&reads), self.facts, self.options);
        let value = make(&context);
        let notes = context.take_notes();
        let (dependents, of) = self.keeping;
        Part { value, notes, reads: dependents.keep(of, reads.into_sorted()) }
    }
}
