//! Who was made from which read: a change finds those it concerns without asking all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{ClassId, MemberId, Side};
use crate::lock::lock;
use crate::world::{Changes, Read};

/// What depends on reads: a class, or the class a member is of. One word, as there are many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dependent(u64);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Who {
    Class(ClassId),
    Member(MemberId, Side),
}

impl Dependent {
    pub fn class(id: ClassId) -> Self {
        Self(id << 2)
    }

    pub fn member(id: MemberId, side: Side) -> Self {
        Self((id << 2) | if side == Side::Outbound { 1 } else { 2 })
    }

    pub fn who(self) -> Who {
        let id = self.0 >> 2;
        match self.0 & 3 {
            0 => Who::Class(id),
            1 => Who::Member(id, Side::Outbound),
            _ => Who::Member(id, Side::Inbound),
        }
    }
}

/// By read, how many things of a dependent were made from it.
#[derive(Debug, Default, Clone)]
pub(super) struct Dependents(Arc<Mutex<BTreeMap<(Read, Dependent), u32>>>);

impl Dependents {
    /// Notes that something of a dependent was made from these, for as long as what is returned lives.
    pub fn keep(&self, of: Dependent, reads: Box<[Read]>) -> KeptReads {
        let mut all = lock(&self.0);
        for read in &reads {
            *all.entry((*read, of)).or_default() += 1;
        }
        KeptReads { of, reads, all: self.clone() }
    }

    /// Whatever was made from one of the reads that answer differently now.
    pub fn concerned(&self, changes: &Changes) -> BTreeSet<Dependent> {
        let all = lock(&self.0);
        let of = |read: Read| {
            let range = (read, Dependent(0))..=(read, Dependent(u64::MAX));
            all.range(range).map(|((_, dependent), _)| *dependent)
        };
        changes.reads().flat_map(of).collect()
    }
}

/// What one thing was made from.
#[derive(Debug)]
pub(super) struct KeptReads {
    of: Dependent,
    reads: Box<[Read]>,
    all: Dependents,
}

impl std::ops::Deref for KeptReads {
    type Target = [Read];

    fn deref(&self) -> &[Read] {
        &self.reads
    }
}

impl Drop for KeptReads {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        for read in &self.reads {
            let key = (*read, self.of);
            match all.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(all.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Topic;

    #[test]
    fn a_dependent_is_found_for_as_long_as_something_of_it_was_made_from_the_read() {
        let all = Dependents::default();
        let read = |host| Read::of(Topic::Host, &[host]);
        let changed = |host| {
            let mut changes = Changes::default();
            changes.of(Topic::Host, &[host]);
            all.concerned(&changes).into_iter().map(Dependent::who).collect::<Vec<_>>()
        };
        let one = all.keep(Dependent::class(7), [read("a"), read("b")].into());
        let other = all.keep(Dependent::class(7), [read("b")].into());
        let member = all.keep(Dependent::member(7, Side::Inbound), [read("b")].into());
        assert_eq!(changed("a"), [Who::Class(7)]);
        assert_eq!(changed("b"), [Who::Class(7), Who::Member(7, Side::Inbound)]);
        assert_eq!(changed("c"), []);
        drop(one);
        assert_eq!(changed("a"), []);
        assert_eq!(changed("b"), [Who::Class(7), Who::Member(7, Side::Inbound)]);
        drop(other);
        assert_eq!(changed("b"), [Who::Member(7, Side::Inbound)]);
        drop(member);
        assert!(lock(&all.0).is_empty(), "nothing is left behind");
    }
}
