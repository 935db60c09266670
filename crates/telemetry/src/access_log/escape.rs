//! Untrusted bytes into a line that stays one line (see the module's head for the rules).

use crate::decimal::{push_short, push_v4};

/// Whether every byte goes into a line as it is: printable ASCII but `"` and `\`. Eight bytes at a
/// time, because this looks at every byte of every value logged.
fn all_plain(value: &[u8]) -> bool {
    let Some(last) = value.last_chunk::<8>() else {
        return value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'));
    };
    // The last eight bytes may overlap the block before them.
    let blocks = value.as_chunks::<8>().0;
    blocks.iter().chain([last]).fold(0, |odd, block| odd | odd_bytes(*block)) == 0
}

/// Not zero when a byte of the block is not plain. The usual tests of all bytes of a word at once; a
/// borrow or carry into the next byte comes only out of a byte that is odd itself.
fn odd_bytes(block: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let word = u64::from_le_bytes(block);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\') | word | word.wrapping_add(ONES)) & HIGH
}

/// Appends `value` to a text line.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    if all_plain(value) {
        return push_short(out, value);
    }
    each(value, |piece| match piece {
        Ok('"') => out.extend_from_slice(b"\\\""),
        Ok('\\') => out.extend_from_slice(b"\\\\"),
        Ok('\n') => out.extend_from_slice(b"\\n"),
        Ok('\r') => out.extend_from_slice(b"\\r"),
        Ok('\t') => out.extend_from_slice(b"\\t"),
        Ok(other) if breaks_lines(other) => {
            for byte in other.encode_utf8(&mut [0; 4]).bytes() {
                push_hex(out, byte);
            }
        }
        Ok(other) => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        Err(byte) => push_hex(out, byte),
    });
}

/// Appends `value` to the inside of a JSON string.
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    if all_plain(value) {
        return push_short(out, value);
    }
    each(value, |piece| match piece {
        Ok('"') => out.extend_from_slice(b"\\\""),
        Ok('\\') => out.extend_from_slice(b"\\\\"),
        Ok('\n') => out.extend_from_slice(b"\\n"),
        Ok('\r') => out.extend_from_slice(b"\\r"),
        Ok('\t') => out.extend_from_slice(b"\\t"),
        Ok(other) if breaks_lines(other) => {
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                out.push(hex_digit((u32::from(other) >> shift & 0xf) as u8));
            }
        }
        Ok(other) => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        Err(_) => out.extend_from_slice("\u{fffd}".as_bytes()),
    });
}

/// The longest prefix of at most `max` bytes that cuts no UTF-8 character.
pub(super) fn cut(value: &[u8], max: Option<usize>) -> &[u8] {
    let Some(max) = max.filter(|max| *max < value.len()) else { return value };
    let mut end = max;
    // At most three continuation bytes belong to one character; more is no UTF-8 and cut anywhere.
    while end > 0 && max - end < 3 && value.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    let end = if value.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) { max } else { end };
    value.get(..end).unwrap_or_default()
}

/// Characters some reader takes for the end of a line or for a command to its terminal: C0, DEL, C1
/// and Unicode's line and paragraph separators.
fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Characters where the bytes are UTF-8, single bytes where they are not.
fn each(value: &[u8], mut piece: impl FnMut(Result<char, u8>)) {
    for chunk in value.utf8_chunks() {
        chunk.valid().chars().for_each(|character| piece(Ok(character)));
        chunk.invalid().iter().for_each(|byte| piece(Err(*byte)));
    }
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\x");
    out.push(hex_digit(byte >> 4));
    out.push(hex_digit(byte & 0xf));
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble & 0xf) - 10,
    }
}

/// An IP address in its usual notation. IPv4 by hand because it is most of them.
pub(super) fn ip(out: &mut Vec<u8>, address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(v4) => push_v4(out, v4, None),
        std::net::IpAddr::V6(v6) => {
            use std::io::Write;
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{v6}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_judged_alone() {
        for length in [1, 7, 8, 9, 16, 21] {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'~'; length];
                    value[place] = byte;
                    let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(all_plain(&value), plain, "{byte:#x} at {place} of {length}");
                }
            }
        }
        assert!(all_plain(b""));
    }
}
