//! The beginning of a block, if it is that of the block before: a peer that sends the same fields again and again sends
//! the same references to the same table. What they were decoded to is kept, and copied as a whole.

use crate::{
    h1::HeadStorage,
    h2::hpack::{Decoder, HpackError},
};

use super::{Gather, Kind, State};

/// Fewer references than these are as soon decoded.
const LEAST: usize = 3;

/// What the references at the beginning of a head's block stand for.
#[derive(Debug, Default)]
pub(in crate::h2) struct Memo {
    references: Vec<u8>,
    /// Of the decoder's table, which then was as it is now.
    version: u64,
    /// What they stand for was kept, which it is when they come a second time.
    kept: bool,
    text: Vec<u8>,
    storage: HeadStorage,
    state: State,
}

/// Decodes a block, for a gather that has had nothing yet.
#[inline]
pub(in crate::h2) fn decode(
    memo: &mut Option<Box<Memo>>,
    decoder: &mut Decoder,
    block: &[u8],
    text: &mut Vec<u8>,
    gather: &mut Gather<'_>,
) -> Result<(), HpackError> {
    let beginning = match gather.kind {
        Kind::Request { .. } | Kind::Response if !decoder.must_shrink() => {
            Memo::meet(memo, block, decoder.table().version())
        }
        _ => Beginning::Other,
    };
    let done = match (beginning, memo) {
        (Beginning::Known(length), Some(memo)) => {
            memo.recall(gather, text);
            length
        }
        (Beginning::Again(length), Some(memo)) => {
            decoder.decode(block.get(..length).unwrap_or_default(), text, gather)?;
            memo.keep(gather, text);
            length
        }
        _ => 0,
    };
    decoder.decode_part(block.get(done..).unwrap_or_default(), done > 0, text, gather)?;
    // Not before: the first entry gives the table its number.
    gather.came_by(decoder.id());
    Ok(())
}

/// How a block begins.
#[derive(Clone, Copy)]
enum Beginning {
    /// In no way that is known.
    Other,
    /// With so many bytes of references that came before.
    Again(usize),
    /// What they stand for is kept.
    Known(usize),
}

impl Memo {
    /// Looks at the beginning of a block, and notes it if it is new.
    #[inline]
    fn meet(memo: &mut Option<Box<Memo>>, block: &[u8], version: u64) -> Beginning {
        // References of one byte: an index below 127.
        let length = block.iter().position(|byte| !(0x80..0xff).contains(byte)).unwrap_or(block.len());
        if length < LEAST {
            return Beginning::Other;
        }
        let memo = memo.get_or_insert_default();
        let references = block.get(..length).unwrap_or_default();
        if memo.version == version && memo.references == references {
            return if memo.kept { Beginning::Known(length) } else { Beginning::Again(length) };
        }
        memo.references.clear();
        memo.references.extend_from_slice(references);
        (memo.version, memo.kept) = (version, false);
        Beginning::Other
    }

    fn keep(&mut self, gather: &Gather<'_>, text: &[u8]) {
        if gather.state.fault.is_none() {
            self.text.clear();
            self.text.extend_from_slice(text);
            self.storage.copy_fields(gather.storage);
            self.state = gather.state;
            self.kept = true;
        }
    }

    /// As if the references had been decoded.
    #[inline]
    fn recall(&self, gather: &mut Gather<'_>, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(&self.text);
        gather.storage.copy_fields(&self.storage);
        gather.state = self.state;
    }

    /// Bytes owned, its own included.
    pub fn memory(&self) -> usize {
        size_of::<Memo>() + self.references.capacity() + self.text.capacity() + self.storage.memory()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::HeadLimits, *};
    use crate::h1::Underscores;

    /// A part of a block; few of each kind, so that they meet again.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            // References to the tables, some of them to nothing.
            8 => prop::sample::select(vec![0x82u8, 0x83, 0x84, 0x86, 0x87, 0x88, 0x8d, 0x90, 0xbe, 0xbf, 0xc0, 0xc1, 0xc6])
                .prop_map(|byte| vec![byte]),
            // What is entered: an authority, a field, a cookie, what is malformed.
            1 => Just(b"\x41\x01a".to_vec()),
            1 => Just(b"\x41\x01b".to_vec()),
            2 => (0..3u8).prop_map(|value| vec![0x40, 1, b'x', 1, b'0' + value]),
            1 => Just(b"\x60\x01c".to_vec()),
            1 => Just(b"\x40\x01X\x01y".to_vec()),
            // What is not, and the table's size.
            1 => Just(b"\0\x01y\x01z".to_vec()),
            1 => Just(b"\x5c\x013".to_vec()),
            1 => prop::sample::select(vec![vec![0x20], vec![0x3f, 0x45], vec![0x3f, 0xe1, 0x1f]]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// With the memo or without it, the same comes of the same blocks.
        #[test]
        fn a_block_decodes_to_the_same_with_the_memo_and_without(
            blocks in prop::collection::vec(prop::collection::vec(part(), 1..9), 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
            response: bool,
            max_size in prop::sample::select(vec![30usize, 1000]),
        ) {
            let kind = if response { Kind::Response } else { Kind::Request { extended: true } };
            let limits = HeadLimits {
                max_size,
                max_fields: 7,
                max_referred: 100,
                underscores: Underscores::Allow,
            };
            let (mut with, mut without, mut memo) = (Decoder::new(4096), Decoder::new(4096), None);
            let (mut text, mut storage) = (vec![], HeadStorage::new());
            for at in order {
                let block = at.get(&blocks).concat();
                let (mut plain_text, mut plain_storage) = (vec![], HeadStorage::new());
                let mut plain = Gather::new(kind, limits, &mut plain_text, &mut plain_storage);
                let expected = without.decode(&block, &mut plain_text, &mut plain);
                // The serials are the same, the tables' numbers are not.
                let mut gather = Gather::new(kind, limits, &mut text, &mut storage);
                let found = decode(&mut memo, &mut with, &block, &mut text, &mut gather);
                prop_assert_eq!(found, expected);
                if found.is_err() {
                    break;
                }
                prop_assert_eq!(format!("{:?}", gather.state), format!("{:?}", plain.state));
                gather.storage.decoder = 0;
                prop_assert_eq!(format!("{:?}", gather.storage), format!("{:?}", plain.storage));
                prop_assert_eq!(&text, &plain_text);
            }
        }
    }

    #[test]
    fn references_are_known_the_third_time() {
        let kind = Kind::Request { extended: false };
        let limits = HeadLimits {
            max_size: 1000,
            max_fields: 100,
            max_referred: 1000,
            underscores: Underscores::Allow,
        };
        let (mut decoder, mut memo) = (Decoder::new(4096), None);
        let mut kept = vec![];
        for block in [
            &[0x82u8, 0x84, 0x86][..],
            &[0x82, 0x84, 0x86],
            &[0x82, 0x84, 0x86, 0x41, 1, b'a'],
            &[0x82, 0x84, 0x86],
        ] {
            let (mut text, mut storage) = (vec![], HeadStorage::new());
            let mut gather = Gather::new(kind, limits, &mut text, &mut storage);
            decode(&mut memo, &mut decoder, block, &mut text, &mut gather).unwrap();
            kept.push(memo.as_ref().unwrap().kept);
        }
        // The last block came by another table.
        assert_eq!(kept, [false, true, true, false]);
    }
}
