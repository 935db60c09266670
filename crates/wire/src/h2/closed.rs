//! What a server knows of streams that are closed: whether a late frame on one is no error, or which error it is.
//!
//! A client needs none of this. It opened every stream itself, so an id below its next one that is not open is closed,
//! and what still comes for it was under way when it closed: the block is decoded for the table's sake, the body's
//! window is given back, and nothing else happens.

/// Streams of one peer, numbered by their odd ids. Owns nothing until the first reset.
#[derive(Clone, Debug, Default)]
pub(super) struct Closed {
    /// One bit for each of the newest ids: this side reset or refused the stream. A ring, so that each question is one
    /// look at one word however many streams were reset.
    reset: Option<Box<[u64; WORDS]>>,
    /// The last few that ended as they should, or were reset by the peer.
    ended: [u32; ENDED],
    ended_at: usize,
}

/// What was seen of a closed stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    /// Reset by this side: what the peer sent before it knew is not heard (RFC 9113 §5.1 "closed").
    Reset,
    /// So long ago that it may have been reset. Taken for [`Was::Reset`]: being wrong costs a decoded block, while an
    /// error would cost every other stream of the connection.
    LongAgo,
    /// Ended by the peer, who must not send more on it.
    Ended,
    /// Left out by the peer, whose ids have to rise (RFC 9113 §5.1.1).
    Skipped,
}

const WORDS: usize = 64;
const BITS: u32 = u64::BITS;
/// How many of the newest ids are known. More than may be open at once and reset together.
const KNOWN: u32 = WORDS as u32 * BITS;
const ENDED: usize = 8;

impl Closed {
    /// The peer opened `id`, having opened `last` before it: what the ring said of the ids it takes the place of is
    /// forgotten.
    #[inline]
    pub fn opened(&mut self, last: u32, id: u32) {
        if self.reset.is_some() {
            self.forget(last, id);
        }
    }

    #[cold]
    fn forget(&mut self, last: u32, id: u32) {
        let Some(ring) = &mut self.reset else { return };
        if (id - last) / 2 >= KNOWN {
            ring.fill(0);
            return;
        }
        for number in (last >> 1) + 1..=id >> 1 {
            let (word, bit) = place(number);
            ring[word] &= !bit;
        }
    }

    pub fn note_reset(&mut self, id: u32) {
        let (word, bit) = place(id >> 1);
        self.reset.get_or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
    }

    pub fn note_ended(&mut self, id: u32) {
        self.ended[self.ended_at] = id;
        self.ended_at = (self.ended_at + 1) % ENDED;
    }

    /// What became of stream `id`, which is not open and at most `last`, the newest.
    pub fn was(&self, id: u32, last: u32) -> Was {
        let (word, bit) = place(id >> 1);
        match &self.reset {
            Some(_) if (last >> 1) - (id >> 1) >= KNOWN => Was::LongAgo,
            Some(ring) if ring[word] & bit != 0 => Was::Reset,
            _ if self.ended.contains(&id) => Was::Ended,
            _ => Was::Skipped,
        }
    }

    /// Gives the memory back, of a connection without streams that has been quiet.
    pub fn release(&mut self) {
        self.reset = None;
    }

    /// Bytes owned.
    pub fn memory(&self) -> usize {
        self.reset.as_ref().map_or(0, |ring| size_of_val(ring.as_ref()))
    }
}

/// The word and the bit of the stream with this number.
#[inline]
fn place(number: u32) -> (usize, u64) {
    let at = number % KNOWN;
    ((at / BITS) as usize, 1 << (at % BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Against a map of everything that ever happened.
        #[test]
        fn the_ring_tells_what_a_map_tells(steps in prop::collection::vec((1..2000u32, any::<bool>()), 1..60)) {
            let (mut closed, mut last) = (Closed::default(), 0u32);
            let mut naive = HashMap::new();
            for (ahead, reset) in steps {
                let id = if last == 0 { 2 * ahead - 1 } else { last + 2 * ahead };
                closed.opened(last, id);
                last = id;
                if reset {
                    closed.note_reset(id);
                    naive.insert(id, Was::Reset);
                }
                for id in (1..=last).step_by(2) {
                    let expected = match naive.get(&id) {
                        _ if (last - id) / 2 >= KNOWN && !naive.is_empty() => Was::LongAgo,
                        Some(was) => *was,
                        None => Was::Skipped,
                    };
                    prop_assert_eq!(closed.was(id, last), expected, "{} of {}", id, last);
                }
            }
        }
    }
}
