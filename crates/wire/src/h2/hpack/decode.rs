//! Decoding a field block (RFC 7541 §3, §6) into field lines.

use crate::HeaderId;

use super::{
    huffman,
    integer::{self, Integer},
    name::Name,
    static_table,
    table::{Flaws, Table},
};

/// Why a block can not be decoded: the connection's compression state is lost (RFC 9113 §4.3, COMPRESSION_ERROR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HpackError(pub &'static str);

/// A field whose line (`name: value` and CRLF) was just appended to the text.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// Where the line begins; it goes on to the end of the text.
    pub start: usize,
    pub name_length: usize,
    pub name: Name,
    pub flaws: Flaws,
    /// The entry of the dynamic table by reference to which it came; 0 for none.
    pub serial: u32,
    /// Must never be put into a table (RFC 7541 §6.2.3).
    pub sensitive: bool,
}

/// Takes the fields of a block in order. Whatever it does to the text from `start` on is its own affair.
pub trait Sink {
    /// An error ends the decoding, and with it the connection.
    fn field(&mut self, text: &mut Vec<u8>, field: Decoded) -> Result<(), HpackError>;
}

/// The receiving half of a connection's compression state.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    /// What our SETTINGS_HEADER_TABLE_SIZE allows.
    allowed: usize,
    /// The peer has agreed to less than its table is: the next block must begin by making it smaller.
    shrink: bool,
}

/// RFC 9113 §4.3.1.
const NOT_SHRUNK: HpackError = HpackError("table not made smaller as agreed");
const CUT: HpackError = HpackError("field block ends within a field");

impl Decoder {
    /// `table_size`: what the peer may use, in bytes as RFC 7541 §4.1 counts them.
    pub fn new(table_size: usize) -> Decoder {
        Decoder { table: Table::new(table_size), allowed: table_size, shrink: false }
    }

    /// The peer has agreed to another size.
    pub fn allow(&mut self, table_size: usize) {
        self.allowed = table_size;
        self.shrink = self.table.limit() > table_size;
    }

    /// Together with the serial of an entry, the name of a field that nothing else will ever have.
    pub fn id(&self) -> u64 {
        self.table.id()
    }

    /// The next block must begin by making the table smaller.
    pub fn must_shrink(&self) -> bool {
        self.shrink
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Decodes a whole block, appending one line after the other to `text`.
    pub fn decode(
        &mut self,
        block: &[u8],
        text: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), HpackError> {
        self.decode_part(block, false, text, sink)
    }

    /// Decodes a part of a block that ends with a field, or the rest. `fields`: others came before it.
    pub fn decode_part(
        &mut self,
        block: &[u8],
        mut fields: bool,
        text: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), HpackError> {
        let mut at = 0;
        while let Some(&first) = block.get(at) {
            let resize = first & 0xe0 == 0x20;
            if self.shrink && !resize {
                return Err(NOT_SHRUNK);
            }
            if first & 0x80 != 0 {
                let (index, next) = number(block, at, 7)?;
                at = next;
                self.indexed(index, text, sink)?;
            } else if resize {
                // RFC 7541 §4.2: before the first field of a block only.
                if fields {
                    return Err(HpackError("table size update after a field"));
                }
                let (size, next) = number(block, at, 5)?;
                at = next;
                if size > self.allowed {
                    return Err(HpackError("table size update above the agreed size"));
                }
                self.table.set_limit(size);
                self.shrink = false;
                continue;
            } else {
                at = self.literal(block, at, first, text, sink)?;
            }
            fields = true;
        }
        Ok(())
    }

    #[inline]
    fn indexed(&self, index: usize, text: &mut Vec<u8>, sink: &mut impl Sink) -> Result<(), HpackError> {
        let start = text.len();
        let field = if let Some(entry) = static_table::entry(index) {
            text.extend_from_slice(entry.line);
            let (name_length, name) = (entry.name_length, entry.name);
            Decoded { start, name_length, name, flaws: Flaws::default(), serial: 0, sensitive: false }
        } else {
            let (entry, line) = self.dynamic(index)?;
            text.extend_from_slice(line);
            let (name_length, name, flaws) = (entry.name_length as usize, entry.name, entry.flaws);
            Decoded { start, name_length, name, flaws, serial: entry.serial, sensitive: false }
        };
        sink.field(text, field)
    }

    fn dynamic(&self, index: usize) -> Result<(super::table::Entry, &[u8]), HpackError> {
        index
            .checked_sub(static_table::COUNT + 1)
            .and_then(|index| self.table.entry(index))
            .ok_or(HpackError("no such table entry"))
    }

    /// A literal field; where it ends.
    fn literal(
        &mut self,
        block: &[u8],
        at: usize,
        first: u8,
        text: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<usize, HpackError> {
        let indexing = first & 0x40 != 0;
        let (index, mut at) = number(block, at, if indexing { 6 } else { 4 })?;
        let start = text.len();
        let (name, name_length, bad_name) = if index == 0 {
            at = string(block, at, text)?;
            let new = text.get(start..).unwrap_or_default();
            let name = Name::of(new);
            let bad = match name {
                Name::Pseudo(_) => false,
                Name::Field(HeaderId::Other) => !is_lower_token(new),
                // Found in any case.
                Name::Field(id) => new != id.name().as_bytes(),
            };
            (name, new.len(), bad)
        } else if let Some(entry) = static_table::entry(index) {
            text.extend_from_slice(entry.line.get(..entry.name_length).unwrap_or_default());
            (entry.name, entry.name_length, false)
        } else {
            let (entry, line) = self.dynamic(index)?;
            text.extend_from_slice(line.get(..entry.name_length as usize).unwrap_or_default());
            (entry.name, entry.name_length as usize, entry.flaws.name)
        };
        text.extend_from_slice(b": ");
        let value = text.len();
        at = string(block, at, text)?;
        let flaws = Flaws { name: bad_name, value: !is_value(text.get(value..).unwrap_or_default()) };
        text.extend_from_slice(b"\r\n");
        if indexing {
            self.table.insert(text.get(start..).unwrap_or_default(), name_length, name, flaws);
        }
        let sensitive = first & 0xf0 == 0x10;
        sink.field(text, Decoded { start, name_length, name, flaws, serial: 0, sensitive })?;
        Ok(at)
    }
}

#[inline]
fn number(block: &[u8], at: usize, prefix: u32) -> Result<(usize, usize), HpackError> {
    match integer::read(block, at, prefix) {
        Integer::Is(value, next) => Ok((value, next)),
        Integer::Cut => Err(CUT),
        Integer::TooLarge => Err(HpackError("integer too large")),
    }
}

/// Appends the string that begins at `at` to `text`; where it ends.
#[inline]
fn string(block: &[u8], at: usize, text: &mut Vec<u8>) -> Result<usize, HpackError> {
    let coded = block.get(at).is_some_and(|byte| byte & 0x80 != 0);
    let (length, at) = number(block, at, 7)?;
    let bytes = block.get(at..at + length).ok_or(CUT)?;
    if coded {
        huffman::decode(bytes, text).ok_or(HpackError("invalid Huffman code"))?;
    } else {
        text.extend_from_slice(bytes);
    }
    Ok(at + length)
}

/// Whether a name is a token without capitals (RFC 9113 §8.2.1).
#[inline]
fn is_lower_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().fold(true, |good, byte| good & LOWER_TOKEN[usize::from(*byte)])
}

static LOWER_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_lowercase() || (byte as u8).is_ascii_digit();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether a value has no control byte but the tab, and no white space at its ends: a CR or LF in it would end a
/// line in HTTP/1 (bad-inputs N-15, N-17).
#[inline]
fn is_value(value: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bad = match value.last_chunk::<WORD>() {
        // The last word overlaps the one before it.
        Some(last) => {
            value.as_chunks::<WORD>().0.iter().chain([last]).any(|word| is_suspect(*word)) && is_bad(value)
        }
        None => is_bad(value),
    };
    !bad && !edge(value.first()) && !edge(value.last())
}

const WORD: usize = 8;

fn is_bad(value: &[u8]) -> bool {
    value.iter().fold(false, |bad, byte| bad | (*byte < 0x20 && *byte != b'\t') | (*byte == 0x7f))
}

/// Whether one of eight bytes may be below 0x20 or be 0x7f; never wrongly no.
#[inline]
fn is_suspect(word: [u8; WORD]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(word);
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word;
    (below(word, 0x20) | below(word ^ (ONES * 0x7f), 1)) & (ONES * 0x80) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_of_a_value() {
        for length in 1..20 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    let edge = at == 0 || at + 1 == length;
                    let bad = byte < 0x20 && (byte != b'\t' || edge) || byte == 0x7f || byte == b' ' && edge;
                    assert_eq!(is_value(&value), !bad, "{byte:#x} at {at} of {length}");
                }
            }
        }
        assert!(is_value(b""));
    }
}
