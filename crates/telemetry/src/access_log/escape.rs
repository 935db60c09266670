//! Untrusted bytes into a line that stays one line (see the module's head for the rules).

use crate::decimal::push_octet;

/// Whether every byte goes into a line as it is. Without branches over each block, so that the
/// compiler does sixteen at a time: this looks at every byte of every value logged.
fn all_plain(value: &[u8]) -> bool {
    let odd = |byte: u8| (byte.wrapping_sub(0x20) >= 0x5f) | (byte == b'"') | (byte == b'\\');
    let any_odd = |block: &[u8]| block.iter().fold(false, |any, byte| any | odd(*byte));
    let (blocks, rest) = value.as_chunks::<16>();
    !blocks.iter().any(|block| any_odd(block)) && !any_odd(rest)
}

/// Appends `value` to a text line.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    if all_plain(value) {
        out.extend_from_slice(value);
        return;
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
        out.extend_from_slice(value);
        return;
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
        std::net::IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_octet(out, octet);
            }
        }
        std::net::IpAddr::V6(v6) => {
            use std::io::Write;
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{v6}");
        }
    }
}
