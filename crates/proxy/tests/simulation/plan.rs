//! What each exchange shall be: drawn before the history begins, known to the client that asks, the host that answers,
//! and those who compare what came with what was sent.

use std::sync::LazyLock;

use crate::random::Dice;

/// The number of an exchange, carried by its head (`x-sim`) and its bytes.
pub type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framing {
    Length,
    Chunked,
    /// The end of the connection is the end of the body (HTTP/1 responses).
    Close,
}

/// What a host does to one exchange beside answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostFault {
    None,
    /// Resets before it answers.
    ResetFirst,
    /// Ends its direction before it answers.
    CloseFirst,
    /// Resets in the middle of its answer.
    ResetWithin,
    CloseWithin,
    /// Sends a few bytes too many behind its answer.
    TooMuch,
    /// Answers what is no HTTP.
    Garbage,
    /// Never answers, and reads no more.
    Dead,
    /// Answers before it has read the request's body.
    Early,
    /// Answers 503, which may be tried again.
    Unavailable,
}

/// What a client does to its own exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientFault {
    None,
    ResetInHead,
    ResetInBody,
    ResetWhileWaiting,
    ResetInResponse,
    /// Ends its direction once all is asked.
    HalfClose,
    /// Stops in the middle of its request and says no more.
    StallInHead,
    StallInBody,
    /// Reads nothing of the answer, ever.
    NeverReads,
}

/// Whether a request is gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Web {
    No,
    Binary,
    /// In base64.
    Text,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub id: Id,
    pub path: String,
    pub post: bool,
    /// Bytes of body, if it has one.
    pub request: u64,
    pub request_framing: Framing,
    pub expect: bool,
    pub response: u64,
    pub response_framing: Framing,
    pub trailers: bool,
    pub web: Web,
    /// The host waits so long before it answers.
    pub thinks: u64,
    pub host: HostFault,
    pub client: ClientFault,
}

/// What became of one.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// The client has sent at least its head.
    pub asked: bool,
    /// Hosts that have seen its head.
    pub seen: u32,
    /// The status the client saw, 0 for none.
    pub status: u16,
    /// It came from a host: its bytes were compared.
    pub from_host: bool,
    /// All of the answer came.
    pub whole: bool,
    /// The client knows that nothing more will come.
    pub ended: bool,
    /// The status and the flags of the last log line about it.
    pub logged: u16,
    pub flags: String,
    /// The same of the farther proxy.
    pub far_flags: String,
    /// Log lines about it.
    pub lines: u32,
    /// An answer whose end told the client that it is not whole, after a host's answer had begun.
    pub cut: bool,
    /// Times the client asked again, on another connection.
    pub anew: u32,
    /// The client keeps back the window it would come through, or has ended its direction.
    pub withheld: u32,
}

/// What bodies are cut from, each from another place on, round and round. A prime, so that what is lost or doubled by any
/// buffer is no whole round.
const ROUND: usize = 65_521;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dice = Dice::new(77);
    (0..ROUND).map(|_| dice.next() as u8).collect()
});

/// The pieces of the pattern that these bytes of a body are.
fn pieces(id: Id, response: bool, from: u64, to: u64) -> impl Iterator<Item = &'static [u8]> {
    let pattern: &'static [u8] = &PATTERN;
    let begin = (id as u64).wrapping_mul(7_919) + if response { 31_337 } else { 0 };
    let mut at = from;
    std::iter::from_fn(move || {
        let place = ((begin + at) % ROUND as u64) as usize;
        let length = (to.saturating_sub(at) as usize).min(ROUND - place);
        at += length as u64;
        (length > 0).then(|| &pattern[place..place + length])
    })
}

pub fn body(id: Id, response: bool, from: u64, to: u64, out: &mut Vec<u8>) {
    out.reserve((to - from) as usize);
    pieces(id, response, from, to).for_each(|piece| out.extend_from_slice(piece));
}

/// Where bytes differ from what was sent; `None` if they do not.
pub fn differs(id: Id, response: bool, from: u64, bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes;
    for piece in pieces(id, response, from, from + bytes.len() as u64) {
        let (got, more) = rest.split_at(piece.len());
        if got != piece {
            let same = got.iter().zip(piece).take_while(|(got, meant)| got == meant).count();
            return Some(from + (bytes.len() - rest.len() + same) as u64);
        }
        rest = more;
    }
    None
}

impl Plan {
    /// Nobody does anything to it: it must be answered whole.
    pub fn is_clean(&self) -> bool {
        self.host == HostFault::None && self.client == ClientFault::None
    }

    /// A body that lasts until the host closes ends well wherever the host closes.
    pub fn may_be_short(&self) -> bool {
        self.response_framing == Framing::Close && self.host == HostFault::CloseWithin
    }
}
