//! A table whose places are used again and whose keys are not: a key carries the generation of its place, so that a key
//! kept for too long finds nothing instead of somebody else's entry.

use slab::Slab;

/// The key of one entry, good for as long as the entry is there and for nothing afterwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    index: u32,
    /// Counts up with every entry of a table; never 0.
    generation: u32,
}

impl Key {
    /// The key of no entry.
    pub const NOBODY: Key = Key { index: u32::MAX, generation: 0 };

    /// The place of the entry: for tables that stand beside one of these.
    pub fn index(self) -> usize {
        self.index as usize
    }

    pub fn generation(self) -> u32 {
        self.generation
    }

    /// Both in one word, as event queues and HTTP/2 streams carry it; at least `1 << 32`, so that smaller ones are free
    /// for others.
    pub fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// `None` for a word that is no key's.
    pub fn of_word(word: u64) -> Option<Key> {
        let generation = u32::try_from(word >> 32).ok().filter(|generation| *generation != 0)?;
        let index = u32::try_from(word & u64::from(u32::MAX)).ok()?;
        Some(Key { index, generation })
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::NOBODY
    }
}

/// Entries by [`Key`].
pub struct Table<T> {
    places: Slab<(u32, T)>,
    generation: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { places: Slab::new(), generation: 0 }
    }
}

impl<T> Table<T> {
    /// The key the next entry will have.
    pub fn next_key(&self) -> Key {
        let generation = self.generation.wrapping_add(1).max(1);
        // A worker's entries are bounded by descriptors and streams, far below 2^32.
        let index = u32::try_from(self.places.vacant_key()).unwrap_or(u32::MAX);
        Key { index, generation }
    }

    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        self.generation = key.generation;
        self.places.insert((key.generation, value));
        key
    }

    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The key of whatever is at a place now.
    pub fn key_at(&self, index: usize) -> Option<Key> {
        let (generation, _) = self.places.get(index)?;
        Some(Key { index: u32::try_from(index).ok()?, generation: *generation })
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.places.try_remove(key.index as usize).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().filter_map(|(index, (generation, value))| {
            Some((Key { index: u32::try_from(index).ok()?, generation: *generation }, value))
        })
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entry_never_finds_the_next_at_its_place() {
        let mut table = Table::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
        assert_eq!(table.get(Key::NOBODY), None);
    }

    #[test]
    fn a_word_gives_its_key_back_and_small_words_are_no_keys() {
        let mut table = Table::default();
        let key = table.insert(());
        assert_eq!(Key::of_word(key.word()), Some(key));
        for word in [0, 1, u64::from(u32::MAX)] {
            assert_eq!(Key::of_word(word), None, "{word}");
        }
    }
}
