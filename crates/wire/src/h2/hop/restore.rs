//! A head that came over the hop, made what it was before.

use crate::{
    HeaderId,
    h1::{HeadStorage, ResponseTo, Version, head::Span},
};

use super::{anew::restore_anew, is_present};

/// Makes a request's head, just decoded from HTTP/2 ([`crate::h2::Scratch::take_head`]), what it was when it came by
/// HTTP/1 to the near proxy, and takes the field away. `false`: it had none, or one that does not fit; then the head
/// is as any other that came by HTTP/2. Edits recorded before do not fit the head afterwards.
pub fn restore_request(text: &mut Vec<u8>, storage: &mut HeadStorage) -> bool {
    restore(text, storage, None)
}

/// The same for a response. `to`: what it answers.
pub fn restore_response(text: &mut Vec<u8>, storage: &mut HeadStorage, to: ResponseTo) -> bool {
    restore(text, storage, Some(to))
}

#[inline]
fn restore(text: &mut Vec<u8>, storage: &mut HeadStorage, to: Option<ResponseTo>) -> bool {
    if !is_present(storage) {
        return false;
    }
    let restored = restore_in_place(text, storage) || {
        // Some names may have been spelled with capitals before one did not fit: they go back to lower case, as they
        // were decoded.
        lower_names(text, storage);
        match restore_anew(text, storage, to) {
            Some(()) => true,
            None => {
                storage.forget(HeaderId::XFilameshHop);
                false
            }
        }
    };
    if restored {
        let line = &mut storage.line;
        // RFC 9110 §10.1.1: a 1.0 client waits for nothing.
        line.expect_continue &= line.version != Version::Http10;
    }
    restored
}

/// The usual case: nothing but the case of names. The head is whole in any case, but names may have capitals.
#[inline]
fn restore_in_place(text: &mut Vec<u8>, storage: &mut HeadStorage) -> bool {
    let Some((hop, slots)) = storage.slots.split_last() else { return false };
    // A Cookie or Upgrade that was added after it has to be moved.
    if hop.id != HeaderId::XFilameshHop || storage.repeats(HeaderId::XFilameshHop) {
        return false;
    }
    let (start, value) = (hop.name.start as usize, hop.value);
    let Some((names, field)) = text.split_at_mut_checked(start) else { return false };
    let value = Span { start: value.start.saturating_sub(hop.name.start), ..value }.of(field);
    let (version, mut rest) = match value {
        [b'0', rest @ ..] => (Version::Http10, rest),
        [b'1', rest @ ..] => (Version::Http11, rest),
        _ => return false,
    };
    for slot in slots {
        if rest.is_empty() {
            break;
        }
        let (at, length) = (slot.name.start as usize, slot.name.length as usize);
        let (Some(name), Some(spelled)) = (names.get_mut(at..at + length), rest.get(..length)) else {
            return false;
        };
        if !adopt(name, spelled) {
            return false;
        }
        rest = match rest.get(length..) {
            Some([b',', after @ ..]) if !after.is_empty() => after,
            Some([]) => &[],
            _ => return false,
        };
    }
    if !rest.is_empty() {
        return false;
    }
    text.truncate(start);
    text.extend_from_slice(b"\r\n");
    storage.pop();
    let line = &mut storage.line;
    line.end = text.len() as u32;
    line.version = version;
    true
}

/// Spells a lower-case name as given, if that is the same name.
#[inline]
fn adopt(name: &mut [u8], spelled: &[u8]) -> bool {
    const WORD: usize = 8;
    match (name.first_chunk::<4>(), name.last_chunk::<4>(), spelled.first_chunk(), spelled.last_chunk()) {
        (Some(first), Some(last), Some(new_first), Some(new_last)) if name.len() <= WORD => {
            // Two halves that overlap, in one word.
            let word = |first: &[u8; 4], last: &[u8; 4]| {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            };
            if !is_spelling(word(first, last), word(new_first, new_last)) {
                return false;
            }
        }
        (Some(_), ..) => {
            // The last word overlaps the one before it.
            let (words, _) = name.as_chunks::<WORD>();
            let (new, _) = spelled.as_chunks::<WORD>();
            let last = name.last_chunk::<WORD>().zip(spelled.last_chunk::<WORD>());
            let mut pairs = words.iter().zip(new).chain(last);
            if !pairs.all(|(word, new)| is_spelling(u64::from_le_bytes(*word), u64::from_le_bytes(*new))) {
                return false;
            }
        }
        _ if name.eq_ignore_ascii_case(spelled) => {}
        _ => return false,
    }
    name.copy_from_slice(spelled);
    true
}

/// Whether eight bytes differ from eight of a lower-case name in nothing but the case of letters. Of bytes above ASCII,
/// which no name has, it says no.
#[inline]
fn is_spelling(lower: u64, new: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // Below 0x80 no sum carries into the next byte.
    let from_a = (lower & !HIGH).wrapping_add((0x80 - b'a' as u64) * ONES);
    let above_z = (lower & !HIGH).wrapping_add((0x80 - b'z' as u64 - 1) * ONES);
    let letters = (from_a & !above_z & HIGH) >> 2;
    (lower ^ new) & !letters == 0 && lower & HIGH == 0
}

fn lower_names(text: &mut [u8], storage: &HeadStorage) {
    for slot in &storage.slots {
        let start = slot.name.start as usize;
        if let Some(name) = text.get_mut(start..start + slot.name.length as usize) {
            name.make_ascii_lowercase();
        }
    }
}
