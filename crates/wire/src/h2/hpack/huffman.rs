//! The Huffman code of RFC 7541 §5.2 and appendix B. The code is canonical, so its 257 lengths say all of it.

/// Appends the text that `coded` stands for. `None`: padding longer than 7 bits or other than ones, or the EOS
/// symbol (RFC 7541 §5.2).
#[inline]
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The shortest code has five bits.
    out.reserve(coded.len() * 8 / 5 + 1);
    let mut rest = coded;
    // Bits not yet read, from the top; below them zeros.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        if have <= 32 {
            if let Some((word, after)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*word)) << (32 - have);
                have += 32;
                rest = after;
            } else {
                while let Some((byte, after)) = rest.split_first() {
                    bits |= u64::from(*byte) << (56 - have);
                    have += 8;
                    rest = after;
                }
            }
        }
        let short = SHORT[(bits >> (64 - SHORT_BITS)) as usize];
        let (symbol, length) = if short != 0 {
            ((short >> 8) as u8, u32::from(short & 0xff))
        } else {
            match long(bits) {
                Some(found) => found,
                // EOS, or the end of the text within a long code.
                None if have > 7 => return None,
                None => (0, u32::MAX),
            }
        };
        if length > have {
            // Only padding is left, all ones and less than a byte; but for that a code would have been found.
            return (rest.is_empty() && have <= 7 && bits == !(u64::MAX >> have)).then_some(());
        }
        out.push(symbol);
        bits <<= length;
        have -= length;
    }
}

/// Appends the code of `text`, padded with ones.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        bits = bits << length | u64::from(CODES[usize::from(*byte)]);
        have += length;
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | 0xff >> have);
    }
}

/// How many bytes [`encode`] would append.
pub fn encoded_length(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// A code longer than [`SHORT_BITS`] at the top of `bits`; `None` for EOS and for what is no code.
#[cold]
fn long(bits: u64) -> Option<(u8, u32)> {
    let mut length = SHORT_BITS + 1;
    while length <= LONGEST {
        let code = (bits >> (64 - length)) as u32;
        let within = code.wrapping_sub(CANONICAL.first[length as usize]);
        if within < CANONICAL.count[length as usize] {
            let symbol = CANONICAL.symbols[(CANONICAL.offset[length as usize] + within) as usize];
            return u8::try_from(symbol).ok().map(|symbol| (symbol, length));
        }
        length += 1;
    }
    None
}

const SYMBOLS: usize = 257;
const LONGEST: u32 = 30;
const SHORT_BITS: u32 = 10;

/// Bits of each symbol's code, EOS last.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// The symbols in the order of their codes, and for each length where its codes begin.
struct Canonical {
    symbols: [u16; SYMBOLS],
    first: [u32; LONGEST as usize + 1],
    count: [u32; LONGEST as usize + 1],
    offset: [u32; LONGEST as usize + 1],
}

static CANONICAL: Canonical = canonical();
static CODES: [u32; SYMBOLS] = codes();
/// By the first ten bits: the symbol in the upper byte, the length of its code in the lower; 0 for a longer code.
static SHORT: [u16; 1 << SHORT_BITS] = short();

const fn canonical() -> Canonical {
    let mut made = Canonical {
        symbols: [0; SYMBOLS],
        first: [0; LONGEST as usize + 1],
        count: [0; LONGEST as usize + 1],
        offset: [0; LONGEST as usize + 1],
    };
    let (mut code, mut placed, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST as usize {
        code <<= 1;
        made.first[length] = code;
        made.offset[length] = placed as u32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                made.symbols[placed] = symbol as u16;
                placed += 1;
                code += 1;
                made.count[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    made
}

const fn codes() -> [u32; SYMBOLS] {
    let canonical = canonical();
    let mut codes = [0; SYMBOLS];
    let mut length = 1;
    while length <= LONGEST as usize {
        let mut within = 0;
        while within < canonical.count[length] {
            let symbol = canonical.symbols[(canonical.offset[length] + within) as usize];
            codes[symbol as usize] = canonical.first[length] + within;
            within += 1;
        }
        length += 1;
    }
    codes
}

const fn short() -> [u16; 1 << SHORT_BITS] {
    let codes = codes();
    let mut table = [0; 1 << SHORT_BITS];
    let mut symbol = 0;
    while symbol < SYMBOLS - 1 {
        let length = LENGTHS[symbol] as u32;
        if length <= SHORT_BITS {
            let spare = SHORT_BITS - length;
            let mut at = 0;
            while at < 1 << spare {
                table[((codes[symbol] << spare) + at) as usize] = (symbol as u16) << 8 | length as u16;
                at += 1;
            }
        }
        symbol += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![];
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn every_pair_of_bytes_round_trips() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let text = [first, second, first, b'a'];
                let mut coded = vec![];
                encode(&text, &mut coded);
                assert_eq!(coded.len(), encoded_length(&text));
                assert_eq!(decoded(&coded).as_deref(), Some(&text[..]));
            }
        }
    }

    /// RFC 7541 appendix C.4.1 and C.6.1.
    #[test]
    fn published_examples() {
        for (text, coded) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("302", "6402"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        ] {
            let mut out = vec![];
            encode(text.as_bytes(), &mut out);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, coded);
            assert_eq!(decoded(&out).unwrap(), text.as_bytes());
        }
    }

    /// RFC 7541 §5.2: EOS, a byte or more of padding, padding with zeros, a code cut short.
    #[test]
    fn refused() {
        let bad: [&[u8]; 9] = [
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
            &[0x1f, 0xff],
            &[0x18],
            &[0x1e],
            &[0xff],
            &[0xff, 0xff],
            &[0xff, 0xff, 0xff],
            &[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff],
        ];
        for coded in bad {
            assert_eq!(decoded(coded), None, "{coded:02x?}");
        }
        assert_eq!(decoded(&[0x1f]).unwrap(), b"a");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }
}
