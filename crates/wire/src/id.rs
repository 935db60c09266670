//! Request ids: version 4 UUIDs from a small fast generator.

use crate::text::hex_digit;

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
        let mut bytes = [0u8; 16];
        let (high, low) = bytes.split_at_mut(8);
        high.copy_from_slice(&self.next_u64().to_be_bytes());
        low.copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in bytes.iter().enumerate() {
            at += usize::from(matches!(index, 4 | 6 | 8 | 10));
            text[at] = hex_digit(byte >> 4);
            text[at + 1] = hex_digit(byte & 15);
            at += 2;
        }
        text
    }
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
    fn below_stays_below() {
        let mut random = Random::from_seed(7);
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.below(10) < 10));
    }
}
