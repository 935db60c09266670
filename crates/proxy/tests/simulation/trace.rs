//! Everything that happens, as one number: two runs of one seed must agree in it.

#[derive(Clone)]
pub struct Trace {
    hash: u64,
    /// Print each.
    pub printed: bool,
    pub now: u64,
}

impl Trace {
    pub fn new(printed: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, printed, now: 0 }
    }

    pub fn note(&mut self, what: &str, a: u64, b: u64) {
        let mut name = [0; 8];
        let length = what.len().min(8);
        name[..length].copy_from_slice(&what.as_bytes()[..length]);
        self.word(u64::from_le_bytes(name) ^ (what.len() as u64).rotate_left(56));
        self.word(a);
        self.word(b);
        if self.printed {
            eprintln!("{:>14} {what} {a} {b}", self.now / 1000);
        }
    }

    /// What only a reader of a trace wants to see.
    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.printed {
            eprintln!("{:>14} {}", self.now / 1000, text());
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
