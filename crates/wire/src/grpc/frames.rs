//! Length-prefixed messages.

/// Bytes before each message: a flag and a length.
pub const PREFIX: usize = 5;

/// Counts the messages of a stream as they pass, holding none of them, however long they say they are
/// (bad-inputs G-03).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounter {
    messages: u64,
    prefix: [u8; PREFIX],
    had: u8,
    left: u32,
    compressed: bool,
}

impl FrameCounter {
    /// Walks over a run of body. Any split gives the same.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                // The smaller of the two, so it fits.
                let run = (self.left as usize).min(bytes.len());
                self.left -= run as u32;
                bytes = bytes.get(run..).unwrap_or_default();
                continue;
            }
            let had = usize::from(self.had);
            let length = (PREFIX - had).min(bytes.len());
            let (part, rest) = bytes.split_at(length);
            if let Some(place) = self.prefix.get_mut(had..had + length) {
                place.copy_from_slice(part);
            }
            self.had += length as u8;
            bytes = rest;
            if usize::from(self.had) == PREFIX {
                let [flags, l0, l1, l2, l3] = self.prefix;
                self.had = 0;
                self.messages += 1;
                self.left = u32::from_be_bytes([l0, l1, l2, l3]);
                self.compressed |= flags & 1 == 1;
            }
        }
    }

    /// Messages begun so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether one of them was compressed.
    pub fn compressed(&self) -> bool {
        self.compressed
    }

    /// Whether the last message is complete, so that the stream may end here.
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.had == 0
    }
}

/// Appends what stands before an uncompressed message.
pub fn push_prefix(out: &mut Vec<u8>, length: u32) {
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_under_any_split() {
        let mut stream = vec![];
        for (flag, length) in [(0u8, 3u32), (0, 0), (1, 300)] {
            stream.push(flag);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![9; length as usize]);
        }
        for split in 1..stream.len() {
            let mut counter = FrameCounter::default();
            stream.chunks(split).for_each(|part| counter.advance(part));
            assert_eq!((counter.messages(), counter.compressed(), counter.is_whole()), (3, true, true));
        }
        let mut huge = FrameCounter::default();
        huge.advance(&[0, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!((huge.messages(), huge.is_whole()), (1, false));
    }
}
