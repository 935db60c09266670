//! Decimal digits appended to a byte buffer. Own code because it runs a dozen times per request and
//! `write!` costs about three times as much through its formatting machinery.

pub(crate) fn push_u64(out: &mut Vec<u8>, value: u64) {
    match value {
        0..10 => out.push(b'0' + value as u8),
        10..10_000 => push_four(out, value as u32),
        10_000..100_000_000 => {
            push_u64(out, value / 10_000);
            out.extend_from_slice(&four((value % 10_000) as u32).to_le_bytes());
        }
        100_000_000.. => push_long(out, value),
    }
}

/// The four last digits of a number as text, one in each byte, the first in the lowest.
#[inline]
fn four(value: u32) -> u32 {
    let (high, low) = (value / 100 % 100, value % 100);
    ((high / 10) | ((high % 10) << 8) | ((low / 10) << 16) | ((low % 10) << 24)) + 0x3030_3030
}

/// A number of up to four digits: all four are copied at once, the zeros before it shifted out.
#[inline]
fn push_four(out: &mut Vec<u8>, value: u32) {
    let zeros = u32::from(value < 1000) + u32::from(value < 100) + u32::from(value < 10);
    let end = out.len() + 4 - zeros as usize;
    out.extend_from_slice(&(four(value) >> (8 * zeros)).to_le_bytes());
    out.truncate(end);
}

#[cold]
fn push_long(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

pub(crate) fn push_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_u64(out, value.unsigned_abs());
}

/// `value` with leading zeros up to `width` digits (the last `width` digits if it has more, at most 20).
pub(crate) fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    for slot in digits.iter_mut().rev().take(width) {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(width)..).unwrap_or_default());
}

/// A dotted IPv4 address, the commonest value of a log line, and a port if there is one. Put together in place and
/// appended at once.
pub(crate) fn push_v4(out: &mut Vec<u8>, address: std::net::Ipv4Addr, port: Option<u16>) {
    let mut text = [0; 24];
    let mut at = 0;
    for octet in address.octets() {
        put_four(&mut text, at, OCTETS[usize::from(octet)]);
        at += 2 + usize::from(octet >= 10) + usize::from(octet >= 100);
    }
    at -= 1;
    if let Some(port) = port {
        let port = u32::from(port);
        let zeros = u32::from(port < 1000) + u32::from(port < 100) + u32::from(port < 10);
        put_four(&mut text, at, u32::from(b':') | (u32::from(b'0') + port / 10_000) << 8);
        if port < 10_000 {
            put_four(&mut text, at + 1, four(port) >> (8 * zeros));
            at += 5 - zeros as usize;
        } else {
            put_four(&mut text, at + 2, four(port % 10_000));
            at += 6;
        }
    }
    let end = out.len() + at;
    out.extend_from_slice(&text);
    out.truncate(end);
}

/// Each part of an address with the dot behind it, the first digit in the lowest byte.
static OCTETS: [u32; 256] = octets();

const fn octets() -> [u32; 256] {
    let mut all = [0; 256];
    let mut value = 0;
    while value < all.len() {
        let zeros = (value < 100) as u32 + (value < 10) as u32;
        let octet = value as u32;
        let digits = (octet / 100) | ((octet / 10 % 10) << 8) | ((octet % 10) << 16);
        all[value] = (digits + u32::from_le_bytes(*b"000.")) >> (8 * zeros);
        value += 1;
    }
    all
}

/// Four bytes of a text, the first in the lowest.
#[inline]
fn put_four(text: &mut [u8; 24], at: usize, four: u32) {
    if let Some(place) = text.get_mut(at..at + 4) {
        place.copy_from_slice(&four.to_le_bytes());
    }
}

/// Appends bytes of which there are few: up to 32 are copied by two moves that overlap, of a length known when this is
/// compiled, which costs half of a call into the C library.
#[inline]
pub(crate) fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    #[inline]
    fn overlapping<const HALF: usize>(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let (Some(first), Some(last)) = (bytes.first_chunk::<HALF>(), bytes.last_chunk::<HALF>()) else {
            return false;
        };
        let start = out.len();
        out.extend_from_slice(first);
        out.truncate(start + bytes.len() - HALF);
        out.extend_from_slice(last);
        true
    }
    match bytes.len() {
        0..4 => bytes.iter().for_each(|byte| out.push(*byte)),
        4..8 if overlapping::<4>(out, bytes) => {}
        8..16 if overlapping::<8>(out, bytes) => {}
        16..=32 if overlapping::<16>(out, bytes) => {}
        _ => out.extend_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_agree_with_display() {
        for value in [0, 1, 9, 10, 99, 100, 12345, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push_u64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
        for value in [i64::MIN, -1, 0, i64::MAX] {
            let mut out = Vec::new();
            push_i64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
        let mut out = Vec::new();
        push_padded(&mut out, 7, 3);
        push_padded(&mut out, 1234, 2);
        assert_eq!(out, b"00734");
        for value in (0..=99_999).chain([100_000_100, 10_000_000, 99_999_999, 100_000_000]) {
            let mut out = b"x".to_vec();
            push_u64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{value}"));
        }
        for value in 0..=u8::MAX {
            let mut out = b"x".to_vec();
            let address = std::net::Ipv4Addr::from([value, 0, 10, 255 - value]);
            push_v4(&mut out, address, None);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{address}"));
        }
        for port in 0..=u16::MAX {
            let mut out = vec![];
            push_v4(&mut out, [255, 255, 255, 255].into(), Some(port));
            assert_eq!(String::from_utf8(out).unwrap(), format!("255.255.255.255:{port}"));
        }
    }

    #[test]
    fn pieces_of_every_length_are_appended_as_they_are() {
        let piece: Vec<u8> = (0..100).collect();
        for length in 0..piece.len() {
            let mut out = b"before".to_vec();
            push_short(&mut out, &piece[..length]);
            assert_eq!(out, [b"before", &piece[..length]].concat());
        }
    }
}
