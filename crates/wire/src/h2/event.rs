//! What a peer did.

use crate::{
    Reject,
    h1::{HeadStorage, RequestHead, ResponseHead},
};

use super::{error::ErrorCode, streams::Stream, trailers::Trailers};

/// What [`super::Connection::next`] found. Borrows the bytes that were fed and the worker's [`Scratch`], not the
/// connection, which may be answered through while the event is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Server: a request began. `end`: it has no body and no trailers. Its token is 0 until
    /// [`super::Connection::set_token`].
    Request { stream: Stream, head: RequestHead<'a>, end: bool },
    /// Server: a request that was refused and answered (or reset) already, for the owner to count and log.
    Refused { id: u32, reject: Reject },
    /// Client: a response's head; interim ones (1xx) too, before the final one.
    Response { stream: Stream, token: u64, head: ResponseHead<'a>, end: bool },
    /// A run of body, to be given back by [`super::Connection::consume`]; empty only with `end`.
    Data { stream: Stream, token: u64, bytes: &'a [u8], end: bool },
    /// The end of a message that has trailers.
    Trailers { stream: Stream, token: u64, trailers: Trailers<'a> },
    /// The stream is gone.
    Reset { stream: Stream, token: u64, code: ErrorCode, by: By },
    /// What the stream had queued has left, and there is room for more.
    Writable { stream: Stream, token: u64 },
    /// The peer's settings have come or changed.
    Settings,
    /// The peer will take no more streams; those above `last` it will not process.
    GoAway { last: u32, code: ErrorCode },
    /// The answer to [`super::Connection::ping`].
    Pong,
}

/// Who ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The peer, with RST_STREAM. REFUSED_STREAM: it was not processed and may be tried again elsewhere.
    Peer,
    /// The peer, by a GOAWAY that leaves it out: not processed either.
    GoAway,
    /// This side, for what the peer did.
    Here(&'static str),
}

/// Where heads are decoded to. One per worker; keeps its memory.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) text: Vec<u8>,
    pub(super) storage: HeadStorage,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// The last request's head again, as its event had it.
    pub fn request(&self) -> RequestHead<'_> {
        self.storage.request(&self.text)
    }

    /// The last response's head again.
    pub fn response(&self) -> ResponseHead<'_> {
        self.storage.response(&self.text)
    }

    /// Hands over the last head, for an owner that keeps it past its event: the text as HTTP/1 would have it, and
    /// the indices into it. What is given in exchange is used for the next head.
    pub fn take_head(&mut self, text: &mut Vec<u8>, storage: &mut HeadStorage) {
        std::mem::swap(&mut self.text, text);
        std::mem::swap(&mut self.storage, storage);
    }
}
