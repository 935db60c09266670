//! The number of a request under way: what a host's queue and an HTTP/2 stream know a request by.

use crate::table::Key;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeId(pub(crate) Key);

impl ExchangeId {
    /// As HTTP/2 streams carry it; 0 is nobody's.
    pub fn token(self) -> u64 {
        self.0.word()
    }

    pub fn of_token(token: u64) -> Option<ExchangeId> {
        Key::of_word(token).map(ExchangeId)
    }
}
