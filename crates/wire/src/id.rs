//! Request ids: version 4 UUIDs from a small fast generator.

/// xoshiro256++: fast and well distributed, **not** secret. One per worker, seeded from the system.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The same seed gives the same sequence.
    pub fn from_seed(seed: u64) -> Random {
        // splitmix64 spreads any seed, zero included, over the whole state.
        let mut spread = seed;
        let state = std::array::from_fn(|_| {
            spread = spread.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = spread;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        });
        Random { state }
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound` (0 for a bound of 0), each as likely as the next to within 2^-32 for small bounds.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A version 4 UUID (RFC 9562 §5.4) as text: what Envoy puts into `x-request-id`.
    pub fn uuid(&mut self) -> [u8; 36] {
        let high = self.next_u64() & !0xf000 | 0x4000;
        let low = self.next_u64() & !(0b11 << 62) | 0b10 << 62;
        let [a, b, c, d] = [high >> 32, high & 0xffff_ffff, low >> 32, low & 0xffff_ffff].map(hex_digits);
        let mut text = [b'-'; 36];
        text[..8].copy_from_slice(&a);
        text[9..13].copy_from_slice(&b[..4]);
        text[14..18].copy_from_slice(&b[4..]);
        text[19..23].copy_from_slice(&c[..4]);
        text[24..28].copy_from_slice(&c[4..]);
        text[28..].copy_from_slice(&d);
        text
    }
}

/// The eight hexadecimal digits of a 32-bit number, in lower case: all at once, each in a byte of one word.
#[inline]
fn hex_digits(number: u64) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 0xff;
    // Each step pulls the halves of every part apart, until each four bits have a byte.
    let halves = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & (ONES * 0x0f);
    // Above nine is what carries into bit 4 when six is added: from '0' + 10 to 'a' are 39 more.
    let letters = (nibbles + ONES * 6) >> 4 & ONES;
    (nibbles + ONES * u64::from(b'0') + letters * 39).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_the_shape_of_version_4_and_differ() {
        let mut random = Random::from_seed(0);
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| random.uuid()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            for (at, byte) in id.iter().enumerate() {
                match at {
                    8 | 13 | 18 | 23 => assert_eq!(*byte, b'-'),
                    14 => assert_eq!(*byte, b'4'),
                    19 => assert!(b"89ab".contains(byte)),
                    _ => assert!(byte.is_ascii_digit() || (b'a'..=b'f').contains(byte)),
                }
            }
        }
    }

    #[test]
    fn digits_agree_with_formatting() {
        let mut random = Random::from_seed(3);
        for number in
            [0, 9, 10, 0x9abc_def0, 0xffff_ffff].into_iter().chain((0..1000).map(|_| random.below(1 << 32)))
        {
            assert_eq!(hex_digits(number & 0xffff_ffff), *format!("{:08x}", number & 0xffff_ffff).as_bytes());
        }
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::from_seed(7);
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.below(10) < 10));
    }
}
