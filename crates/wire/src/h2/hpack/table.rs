//! The dynamic table of a decoder (RFC 7541 §2.3.2, §4).

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use super::name::Name;

/// What an entry costs besides its text (RFC 7541 §4.1).
pub const ENTRY_OVERHEAD: usize = 32;
/// `: ` and CRLF, which a line holds and the protocol does not count.
pub const LINE_OVERHEAD: usize = 4;

/// Entries in the order they came, their lines one after the other. Owns nothing until the first one.
#[derive(Clone, Debug, Default)]
pub struct Table {
    lines: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// Serials are given out under this number; 0: none was yet.
    id: u64,
    last_serial: u32,
    /// Changes so far.
    version: u64,
}

/// Numbers for tables. 2^64 are never used up.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is wrong with a field by itself (RFC 9113 §8.2.1). Kept in the table, so that it is looked for once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Not a token in lower case.
    pub name: bool,
    /// A control byte, or white space at an end.
    pub value: bool,
}

/// A field as it was first decoded.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: Name,
    pub flaws: Flaws,
    pub name_length: u32,
    /// Which entry of this table it is, from 1.
    pub serial: u32,
    start: u32,
    length: u32,
}

impl Table {
    pub fn new(limit: usize) -> Table {
        Table { limit, ..Table::default() }
    }

    /// The entry at an index counted from 0, the newest; and its line.
    #[inline]
    pub fn entry(&self, index: usize) -> Option<(Entry, &[u8])> {
        let at = self.entries.len().checked_sub(1)?.checked_sub(index)?;
        let entry = *self.entries.get(at)?;
        let start = entry.start as usize;
        Some((entry, self.lines.get(start..start + entry.length as usize)?))
    }

    /// Adds a line as the newest entry, evicting from the oldest. One larger than the table empties it.
    pub fn insert(&mut self, line: &[u8], name_length: usize, name: Name, flaws: Flaws) {
        let size = line.len() - LINE_OVERHEAD.min(line.len()) + ENTRY_OVERHEAD;
        self.evict_to(self.limit.saturating_sub(size));
        self.version += 1;
        if size > self.limit {
            return;
        }
        if self.lines.len() + line.len() > 2 * self.limit {
            self.compact();
        }
        if self.last_serial == u32::MAX || self.id == 0 {
            // What is left under the old number will be long gone when its serials come again.
            (self.id, self.last_serial) = (NEXT_ID.fetch_add(1, Ordering::Relaxed), 0);
        }
        self.last_serial += 1;
        // The table's limit keeps all of these far below 4 GiB.
        self.entries.push_back(Entry {
            name,
            flaws,
            name_length: name_length as u32,
            serial: self.last_serial,
            start: self.lines.len() as u32,
            length: line.len() as u32,
        });
        self.lines.extend_from_slice(line);
        self.size += size;
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.version += 1;
        self.evict_to(limit);
        if self.entries.is_empty() {
            let Table { id, last_serial, version, .. } = *self;
            *self = Table { id, last_serial, version, ..Table::new(limit) };
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Another one after each change: as long as it is the same, so is what indices stand for.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// As the protocol counts it.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes owned.
    pub fn memory(&self) -> usize {
        self.lines.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    fn evict_to(&mut self, room: usize) {
        while self.size > room {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.length as usize - LINE_OVERHEAD + ENTRY_OVERHEAD;
        }
        if self.entries.is_empty() {
            self.lines.clear();
        }
    }

    fn compact(&mut self) {
        let Some(dead) = self.entries.front().map(|entry| entry.start) else { return self.lines.clear() };
        self.lines.drain(..dead as usize);
        self.entries.iter_mut().for_each(|entry| entry.start -= dead);
    }
}
