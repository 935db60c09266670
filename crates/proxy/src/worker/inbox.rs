//! Bytes that came before their turn, taken from the front.

/// What was taken stays in front of the rest until it is the larger part: taking many small messages out of one large read
/// moves each byte once or twice, not once for each message.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    pub fn len(&self) -> usize {
        self.rest().len()
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.compact();
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// So many bytes of the front are done with. The memory of an empty inbox is given back.
    pub fn take(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.bytes.len());
        if self.taken == self.bytes.len() {
            *self = Inbox::default();
        } else {
            self.compact();
        }
    }

    fn compact(&mut self) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            self.bytes.shrink_to(self.bytes.len().saturating_mul(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_taken_in_order_whatever_the_pieces() {
        let (mut inbox, mut taken) = (Inbox::default(), vec![]);
        let all: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for (at, piece) in all.chunks(7).enumerate() {
            inbox.push(piece);
            let length = (at * 5 % 13).min(inbox.len());
            taken.extend_from_slice(&inbox.rest()[..length]);
            inbox.take(length);
            assert!(inbox.capacity() <= 4 * inbox.len().max(16), "{} for {}", inbox.capacity(), inbox.len());
        }
        taken.extend_from_slice(inbox.rest());
        inbox.take(inbox.len());
        assert_eq!(taken, all);
        assert_eq!((inbox.capacity(), inbox.is_empty()), (0, true));
    }
}
