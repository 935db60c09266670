//! Walking over a body: how many bytes belong to it, and whether it is complete.

use crate::reject::{Reject, Side, details};

use super::{
    BodyFraming, Limits,
    chunked::{Chunked, Step},
};

/// One body being read. The events do not depend on how the bytes are split.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    side: Side,
    payload: u64,
}

#[derive(Clone, Debug)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
    /// Refused once, refused for ever.
    Refused(Reject),
}

/// What [`BodyReader::advance`] made of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Bytes that belong to this body; what follows them does not.
    pub consumed: usize,
    /// The leading bytes of those that pass through untouched: all of them, but for trailers.
    pub forward: usize,
    /// The body is complete.
    pub done: bool,
    /// Complete with trailers: after the forwarded bytes, send [`BodyReader::tail`].
    pub tail: bool,
}

/// What [`BodyReader::decode`] made of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes read, framing included.
    pub consumed: usize,
    /// Payload among them; empty when all was framing.
    pub payload: &'a [u8],
    /// The body is complete.
    pub done: bool,
}

impl BodyReader {
    /// For a request's body. A tunnel has no end of its own and is read as [`BodyFraming::UntilClose`].
    pub fn request(framing: BodyFraming, limits: &Limits) -> BodyReader {
        BodyReader::new(framing, limits, Side::Request)
    }

    /// For a response's body.
    pub fn response(framing: BodyFraming, limits: &Limits) -> BodyReader {
        BodyReader::new(framing, limits, Side::Response)
    }

    fn new(framing: BodyFraming, limits: &Limits, side: Side) -> BodyReader {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Chunked(Chunked::new(limits)),
            BodyFraming::UntilClose | BodyFraming::Tunnel => State::UntilClose,
        };
        BodyReader { state, side, payload: 0 }
    }

    /// Walks over `bytes`, which pass through with their framing. Call again with what comes next until `done`.
    #[inline]
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Advance, Reject> {
        let (consumed, forward, done) = match &mut self.state {
            State::Length(left) => {
                let run = (*left).min(bytes.len() as u64);
                *left -= run;
                self.payload += run;
                (run as usize, run as usize, *left == 0)
            }
            State::UntilClose => {
                self.payload += bytes.len() as u64;
                (bytes.len(), bytes.len(), false)
            }
            State::Done => (0, 0, true),
            State::Refused(reject) => return Err(*reject),
            State::Chunked(chunked) => match chunked.advance(bytes, false, self.side) {
                Ok(step) => {
                    self.payload += step.payload as u64;
                    let tail = step.done && !chunked.tail().is_empty();
                    let Step { consumed, forward, done, .. } = step;
                    // The reader stays in its state for the sake of its tail.
                    return Ok(Advance { consumed, forward, done, tail });
                }
                Err(reject) => {
                    self.state = State::Refused(reject);
                    return Err(reject);
                }
            },
        };
        if done {
            self.state = State::Done;
        }
        Ok(Advance { consumed, forward, done, tail: false })
    }

    /// Walks over `bytes` up to the end of the first run of payload, without its framing: for a peer that frames
    /// otherwise (HTTP/2, or HTTP/1.0). Call again with the rest until nothing is consumed.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Decoded<'a>, Reject> {
        if let State::Chunked(chunked) = &mut self.state {
            return match chunked.advance(bytes, true, self.side) {
                Ok(step) => {
                    self.payload += step.payload as u64;
                    let payload = bytes.get(step.consumed - step.payload..step.consumed).unwrap_or_default();
                    Ok(Decoded { consumed: step.consumed, payload, done: step.done })
                }
                Err(reject) => {
                    self.state = State::Refused(reject);
                    Err(reject)
                }
            };
        }
        let Advance { consumed, done, .. } = self.advance(bytes)?;
        Ok(Decoded { consumed, payload: bytes.get(..consumed).unwrap_or_default(), done })
    }

    /// The peer closed its sending side: fine for a body that ends so, else the message is cut short (`DC` from a
    /// client, `UC` from an upstream) and must not be passed on as complete.
    pub fn finish(&mut self) -> Result<(), Reject> {
        if let State::UntilClose = self.state {
            self.state = State::Done;
        }
        if self.is_done() {
            return Ok(());
        }
        let (status, flag) = match self.side {
            Side::Request => (400, "DC"),
            Side::Response => (502, "UC"),
        };
        Err(Reject { status, details: details::PREMATURE_END, close: true, flag })
    }

    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Chunked(chunked) => chunked.is_done(),
            _ => false,
        }
    }

    /// Payload bytes so far, without framing: what access logs count.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// The trailer section to send after the last chunk, its empty line included; empty unless trailers came.
    /// Fields a trailer may not set are gone from it.
    pub fn tail(&self) -> &[u8] {
        match &self.state {
            State::Chunked(chunked) if chunked.is_done() => chunked.tail(),
            _ => &[],
        }
    }
}
