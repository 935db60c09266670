//! Encoding fields (RFC 7541 §6) with the static table and a dynamic table of what comes again and again.

use std::collections::VecDeque;

use crate::HeaderId;

use super::{huffman, integer, static_table, table::ENTRY_OVERHEAD};

/// How a field may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// As a literal: a value not expected again.
    Once,
    /// By reference, entered into the table the first time.
    Recurring,
    /// As a literal that no hop may put into a table (RFC 7541 §7.1.3).
    Never,
}

/// The sending half of a connection's compression state. Owns nothing until a recurring field is sent.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: Option<Box<Table>>,
    /// What both sides agreed to: the peer's SETTINGS_HEADER_TABLE_SIZE, at most our own bound.
    limit: usize,
    bound: usize,
    /// Sizes to announce at the beginning of the next block (RFC 7541 §4.2): the smallest since the last one, and
    /// the last.
    update: Option<(usize, usize)>,
    huffman: bool,
}

/// A field by the entry of the decoder's table that it came by ([`super::Decoder::id`]): where two are equal, so are
/// the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// 0: nobody's.
    pub decoder: u64,
    /// 0: it did not come by an entry.
    pub serial: u32,
}

/// Origins a table remembers.
const ORIGINS: usize = 128;

impl Origin {
    #[inline]
    fn is_known(self) -> bool {
        self.decoder != 0 && self.serial != 0
    }

    /// Connections opened one after the other have their first sixteen entries side by side.
    #[inline]
    fn place(self) -> usize {
        (self.serial as usize).wrapping_add((self.decoder as usize).wrapping_mul(16)) % ORIGINS
    }
}

/// The table both HTTP/2 peers begin with.
const INITIAL_TABLE_SIZE: usize = 4096;

impl Encoder {
    /// `bound`: bytes this side is willing to spend on its table. `huffman`: shorter strings for more CPU.
    pub fn new(bound: usize, huffman: bool) -> Encoder {
        let limit = INITIAL_TABLE_SIZE.min(bound);
        let update = (limit < INITIAL_TABLE_SIZE).then_some((limit, limit));
        Encoder { table: None, limit, bound, update, huffman }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_peer_limit(&mut self, limit: usize) {
        self.resize(limit.min(self.bound));
    }

    /// Gives the table's memory back; the next block tells the peer.
    pub fn release(&mut self) {
        if self.table.is_some() {
            let limit = self.limit;
            self.resize(0);
            self.resize(limit);
        }
    }

    fn resize(&mut self, limit: usize) {
        if limit == self.limit {
            return;
        }
        self.limit = limit;
        let smallest = self.update.map_or(limit, |(smallest, _)| smallest.min(limit));
        self.update = Some((smallest, limit));
        match &mut self.table {
            Some(_) if limit == 0 => self.table = None,
            Some(table) => table.evict_to(limit),
            None => {}
        }
    }

    /// To be called before the first field of each block.
    #[inline]
    pub fn begin_block(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.update.take() {
            if smallest < last {
                integer::write(out, 0x20, 5, smallest);
            }
            integer::write(out, 0x20, 5, last);
        }
    }

    /// A reference to an entry of the static table.
    #[inline]
    pub fn static_field(&self, index: u8, out: &mut Vec<u8>) {
        out.push(0x80 | index);
    }

    /// Appends a recurring field as [`Encoder::field`] does. Where it comes from saves looking for it the next time.
    #[inline]
    pub fn field_from(&mut self, origin: Origin, id: HeaderId, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if !self.same_as(origin, out) {
            self.field(id, name, value, Indexing::Recurring, out);
            self.remember(origin);
        }
    }

    /// As [`Encoder::field_from`], a pseudo-header field.
    #[inline]
    pub fn pseudo_from(&mut self, origin: Origin, index: u8, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if !self.same_as(origin, out) {
            self.pseudo(index, name, value, Indexing::Recurring, out);
            self.remember(origin);
        }
    }

    /// Appends what was sent for the same origin before, if that is in the table still.
    #[inline]
    fn same_as(&self, origin: Origin, out: &mut Vec<u8>) -> bool {
        let index = self.table.as_ref().and_then(|table| table.index_of(origin));
        if let Some(index) = index {
            integer::write(out, 0x80, 7, static_table::COUNT + 1 + index);
        }
        index.is_some()
    }

    /// Notes where the field sent last comes from.
    fn remember(&mut self, origin: Origin) {
        if let Some(table) = &mut self.table
            && table.touched != 0
            && origin.is_known()
        {
            table.origins[origin.place()] = (origin, table.touched);
        }
    }

    /// Appends a field. `name` in lower case; `id` its id.
    #[inline]
    pub fn field(&mut self, id: HeaderId, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        let key = if id == HeaderId::Other { UNKNOWN } else { KNOWN + id as u16 };
        self.named(static_table::index_of(id, name), key, name, value, indexing, out);
    }

    /// Appends a pseudo-header field; `index` of its name in the static table, 0 if it has none there.
    #[inline]
    pub fn pseudo(&mut self, index: u8, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        self.named(index, u16::from(index), name, value, indexing, out);
    }

    /// `index` of the name in the static table, or 0. `key` says what name it is without comparing text.
    fn named(
        &mut self,
        index: u8,
        key: u16,
        name: &[u8],
        value: &[u8],
        indexing: Indexing,
        out: &mut Vec<u8>,
    ) {
        let pattern = match indexing {
            Indexing::Once => 0x00,
            Indexing::Never => 0x10,
            // One large value would evict all others each time it comes.
            Indexing::Recurring if name.len() + value.len() + ENTRY_OVERHEAD > self.limit / 2 => {
                if let Some(table) = &mut self.table {
                    table.touched = 0;
                }
                0x00
            }
            Indexing::Recurring => {
                let table = self.table.get_or_insert_default();
                let hash = hash(key, name, value);
                if let Some(at) = table.find(hash, key, name, value) {
                    table.touched = table.number_of(at);
                    return integer::write(out, 0x80, 7, static_table::COUNT + 1 + at);
                }
                table.insert(hash, key, name, value, self.limit);
                table.touched = table.number_of(0);
                0x40
            }
        };
        let prefix = if pattern == 0x40 { 6 } else { 4 };
        const SHORT: usize = 0x7f;
        let short = |text: &[u8]| text.len() < SHORT && !self.huffman;
        match (index, u8::try_from(name.len()), u8::try_from(value.len())) {
            // What nearly every field is, put together at once.
            (1.., _, Ok(length)) if short(value) && u32::from(index) < (1 << prefix) - 1 => {
                out.extend_from_slice(&[pattern | index, length]);
                out.extend_from_slice(value);
            }
            (0, Ok(name_length), Ok(length)) if short(name) && short(value) => {
                out.extend_from_slice(&[pattern, name_length]);
                out.extend_from_slice(name);
                out.push(length);
                out.extend_from_slice(value);
            }
            _ => {
                integer::write(out, pattern, prefix, usize::from(index));
                if index == 0 {
                    self.string(name, out);
                }
                self.string(value, out);
            }
        }
    }

    #[inline]
    fn string(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.huffman {
            let length = huffman::encoded_length(text);
            if length < text.len() {
                integer::write(out, 0x80, 7, length);
                return huffman::encode(text, out);
            }
        }
        integer::write(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }

    /// Bytes owned.
    pub fn memory(&self) -> usize {
        self.table.as_ref().map_or(0, |table| {
            size_of::<Table>() + table.texts.capacity() + table.entries.capacity() * size_of::<Entry>()
        })
    }
}

/// Buckets of the index, and the entries each can name; a table of 4 KiB holds at most 128. Two fields that share a
/// slot would push one another out with each message, so that both go as literals for ever: with one slot for each hash
/// that befell every third connection of twenty recurring fields.
const BUCKETS: usize = 64;
const WAYS: usize = 4;

/// What the peer's decoder holds, and where to look for it.
#[derive(Clone, Debug)]
struct Table {
    texts: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    /// How many entries were ever evicted: the number of the oldest that is left.
    evicted: u32,
    /// By hash, the last entries with it: the hash and the number, from 1. What does not fit is forgotten, which costs
    /// a second entry and nothing else.
    slots: [[(u32, u32); WAYS]; BUCKETS],
    /// The transcoding cache: the number here of an entry of another connection's table.
    origins: [(Origin, u32); ORIGINS],
    /// The number of the entry used last; 0 for none.
    touched: u32,
}

/// The key of a name that is not known: its text tells.
const UNKNOWN: u16 = 0;
/// Below are the indices of pseudo-header fields in the static table, from here on the known names.
const KNOWN: u16 = 256;

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    key: u16,
    name_length: u32,
    length: u32,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            texts: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            evicted: 0,
            slots: [[(0, 0); WAYS]; BUCKETS],
            origins: [(Origin::default(), 0); ORIGINS],
            touched: 0,
        }
    }
}

impl Table {
    #[inline]
    fn index_of(&self, origin: Origin) -> Option<usize> {
        let (known, number) = self.origins[origin.place()];
        let at = number.wrapping_sub(1).wrapping_sub(self.evicted) as usize;
        let found = origin.is_known() && known == origin && at < self.entries.len();
        found.then(|| self.entries.len() - 1 - at)
    }

    #[inline]
    fn number_of(&self, index: usize) -> u32 {
        self.evicted.wrapping_add((self.entries.len() - index) as u32)
    }

    /// The index of an entry, the newest being 0.
    #[inline]
    fn find(&self, hash: u32, key: u16, name: &[u8], value: &[u8]) -> Option<usize> {
        let bucket = self.slots.get(hash as usize % BUCKETS)?;
        bucket.iter().filter(|(old, number)| *old == hash && *number != 0).find_map(|(_, number)| {
            let at = number.wrapping_sub(1).wrapping_sub(self.evicted) as usize;
            let entry = self.entries.get(at)?;
            let start = entry.start as usize;
            let text = self.texts.get(start..start + entry.length as usize)?;
            let (old_name, old_value) = text.split_at_checked(entry.name_length as usize)?;
            let same_name = entry.key == key && (key != UNKNOWN || old_name == name);
            (same_name && old_value == value).then(|| self.entries.len() - 1 - at)
        })
    }

    fn insert(&mut self, hash: u32, key: u16, name: &[u8], value: &[u8], limit: usize) {
        let length = name.len() + value.len();
        self.evict_to(limit.saturating_sub(length + ENTRY_OVERHEAD));
        if self.texts.len() + length > 2 * limit {
            let dead = self.entries.front().map_or(self.texts.len() as u32, |entry| entry.start);
            self.texts.drain(..dead as usize);
            self.entries.iter_mut().for_each(|entry| entry.start -= dead);
        }
        let start = self.texts.len() as u32;
        self.texts.extend_from_slice(name);
        self.texts.extend_from_slice(value);
        self.entries.push_back(Entry { start, key, name_length: name.len() as u32, length: length as u32 });
        self.size += length + ENTRY_OVERHEAD;
        if let Some(bucket) = self.slots.get_mut(hash as usize % BUCKETS) {
            // The oldest of them makes room.
            bucket.rotate_right(1);
            bucket[0] = (hash, self.evicted.wrapping_add(self.entries.len() as u32));
        }
    }

    fn evict_to(&mut self, room: usize) {
        while self.size > room {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.length as usize + ENTRY_OVERHEAD;
            self.evicted = self.evicted.wrapping_add(1);
            if self.evicted == 0 {
                // Numbers begin anew.
                self.origins = [(Origin::default(), 0); ORIGINS];
            }
        }
        if self.entries.is_empty() {
            self.texts.clear();
        }
    }
}

/// Eight bytes at a time; only speed depends on its quality.
#[inline]
fn hash(key: u16, name: &[u8], value: &[u8]) -> u32 {
    let lengths = (name.len() as u64) << 32 | value.len() as u64;
    let name = if key == UNKNOWN { last_word(name).1 } else { u64::from(key) };
    let (words, last) = last_word(value);
    let state = words.iter().fold(mix(lengths, name), |state, word| mix(state, u64::from_le_bytes(*word)));
    (mix(state, last) >> 40) as u32
}

#[inline]
fn mix(state: u64, word: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    (state.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER)
}

/// The words of a text but the last, and the last, which may overlap them. Of a text shorter than a word, its ends.
#[inline]
fn last_word(text: &[u8]) -> (&[[u8; 8]], u64) {
    if let Some(last) = text.last_chunk::<8>() {
        let (words, _) = text.get(..text.len() - 1).unwrap_or_default().as_chunks::<8>();
        return (words, u64::from_le_bytes(*last));
    }
    let ends = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first), u32::from_le_bytes(*last)),
        _ => match text {
            [] => (0, 0),
            [only] => (u32::from(*only), 0),
            [first, second] => (u32::from(*first), u32::from(*second)),
            [first, second, .., last] => (u32::from(*first) | u32::from(*second) << 8, u32::from(*last)),
        },
    };
    (&[], u64::from(ends.0) << 32 | u64::from(ends.1))
}
