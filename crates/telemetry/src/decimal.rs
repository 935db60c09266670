//! Decimal digits appended to a byte buffer. Own code because it runs a dozen times per request and
//! `write!` costs about three times as much through its formatting machinery.

pub(crate) fn push_u64(out: &mut Vec<u8>, mut value: u64) {
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

/// One part of a dotted IPv4 address. The commonest number in a log line, so in one-byte arithmetic
/// and copied by lengths known at compile time.
pub(crate) fn push_octet(out: &mut Vec<u8>, value: u8) {
    let (hundreds, tens, ones) = (b'0' + value / 100, b'0' + value / 10 % 10, b'0' + value % 10);
    match value {
        0..=9 => out.push(ones),
        10..=99 => out.extend_from_slice(&[tens, ones]),
        100.. => out.extend_from_slice(&[hundreds, tens, ones]),
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
        for value in 0..=u8::MAX {
            let mut out = Vec::new();
            push_octet(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
