//! Prefixed integers (RFC 7541 §5.1).

/// More than any length or index a peer may send; a larger number is an error, as is a longer spelling.
const MAX: u32 = 1 << 28;
/// Five groups of seven bits hold what `MAX` allows; a sender gains nothing by more.
const MAX_GROUPS: u32 = 5;

/// A number and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    Is(usize, usize),
    /// The block ends within it.
    Cut,
    TooLarge,
}

/// Reads the number that begins in the lowest `prefix` bits of `bytes[at]`.
#[inline]
pub fn read(bytes: &[u8], at: usize, prefix: u32) -> Integer {
    let Some(first) = bytes.get(at) else { return Integer::Cut };
    let mask = (1u32 << prefix) - 1;
    let value = u32::from(*first) & mask;
    if value < mask {
        return Integer::Is(value as usize, at + 1);
    }
    read_rest(bytes, at + 1, value)
}

fn read_rest(bytes: &[u8], mut at: usize, mut value: u32) -> Integer {
    for group in 0..MAX_GROUPS {
        let Some(byte) = bytes.get(at) else { return Integer::Cut };
        at += 1;
        // Four groups are at most 2^28 - 1, so the fifth adds at most 127 * 2^28 to them: in u64 nothing is lost.
        let sum = u64::from(value) + (u64::from(byte & 0x7f) << (7 * group));
        match u32::try_from(sum) {
            Ok(sum) if sum <= MAX => value = sum,
            _ => return Integer::TooLarge,
        }
        if byte & 0x80 == 0 {
            return Integer::Is(value as usize, at);
        }
    }
    Integer::TooLarge
}

/// Appends `value` with `pattern` in the bits above its prefix.
#[inline]
pub fn write(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendix C.1.
    #[test]
    fn published_examples() {
        for (value, prefix, coded) in
            [(10, 5, &[0b01010][..]), (1337, 5, &[0b11111, 0b10011010, 0b00001010]), (42, 8, &[42])]
        {
            let mut out = vec![];
            write(&mut out, 0, prefix, value);
            assert_eq!(out, coded);
            assert_eq!(read(&out, 0, prefix), Integer::Is(value, coded.len()));
        }
    }

    #[test]
    fn every_prefix_round_trips_and_every_cut_is_seen() {
        for prefix in 1..=8 {
            for value in (0..700).chain([16_383, 16_384, 65_535, 1 << 20, (1 << 28) - 1]) {
                let mut out = vec![];
                write(&mut out, 0, prefix, value);
                assert_eq!(read(&out, 0, prefix), Integer::Is(value, out.len()));
                for end in 0..out.len() {
                    assert_eq!(read(&out[..end], 0, prefix), Integer::Cut);
                }
            }
        }
    }

    /// RFC 7541 §5.1: too large a value, or too long a spelling, is an error.
    #[test]
    fn too_large() {
        for coded in [
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert_eq!(read(coded, 0, 7), Integer::TooLarge, "{coded:02x?}");
        }
    }
}
