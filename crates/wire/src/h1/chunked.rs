//! The chunked coding (RFC 9112 §7.1), byte by byte and strictly: what one parser reads as framing no other may
//! read as payload.

use crate::{
    reject::{Reject, Side, details},
    text::{hex_value, push_hex},
};

use super::{Limits, trailers::Trailers};

/// Ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line before a chunk of `length` bytes, which must not be zero; CRLF follows the payload.
pub fn push_chunk_header(out: &mut Vec<u8>, length: u64) {
    push_hex(out, length);
    out.extend_from_slice(b"\r\n");
}

/// More digits than any `u64` needs.
const MAX_SIZE_DIGITS: u8 = 16;

#[derive(Clone, Debug)]
pub(super) struct Chunked {
    phase: Phase,
    /// The size being read, then the payload bytes left.
    left: u64,
    digits: u8,
    extensions_left: usize,
    max_trailers: usize,
    max_fields: usize,
    trailers: Option<Box<Trailers>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Size,
    /// White space after the size, which some servers pad with.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// After the last chunk: a trailer line, or the end.
    TrailerStart,
    Trailer,
    EndLf,
    Done,
}

/// What one call made of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub consumed: usize,
    /// The leading bytes of those that are not trailers.
    pub forward: usize,
    /// Payload bytes: the last so many of `consumed`, if the call was to stop there.
    pub payload: usize,
    pub done: bool,
}

impl Chunked {
    pub fn new(limits: &Limits) -> Chunked {
        Chunked {
            phase: Phase::Size,
            left: 0,
            digits: 0,
            extensions_left: limits.max_chunk_extensions,
            max_trailers: limits.max_trailers,
            max_fields: limits.max_headers,
            trailers: None,
        }
    }

    /// The trailer section to forward, its empty line included; empty unless trailers came.
    pub fn tail(&self) -> &[u8] {
        self.trailers.as_ref().map_or(&[], |trailers| trailers.section())
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Walks over `bytes`; with `stop`, only through the first run of payload.
    pub fn advance(&mut self, bytes: &[u8], stop: bool, side: Side) -> Result<Step, Reject> {
        let malformed = Err(Reject::malformed(side, details::CODEC_ERROR));
        let (mut at, mut payload) = (0, 0);
        let mut forward = None;
        while let Some(&byte) = bytes.get(at) {
            match self.phase {
                Phase::Size => match hex_value(byte) {
                    Some(digit) if self.digits < MAX_SIZE_DIGITS => {
                        self.left = self.left << 4 | u64::from(digit);
                        self.digits += 1;
                    }
                    Some(_) => return malformed,
                    None if self.digits == 0 => return malformed,
                    None => match byte {
                        b'\r' => self.phase = Phase::SizeLf,
                        b';' => self.phase = Phase::Extension,
                        b' ' | b'\t' => self.phase = Phase::Padding,
                        _ => return malformed,
                    },
                },
                Phase::Padding => match byte {
                    b'\r' => self.phase = Phase::SizeLf,
                    b';' => self.phase = Phase::Extension,
                    b' ' | b'\t' => self.spend_extension(side)?,
                    _ => return malformed,
                },
                Phase::Extension => match byte {
                    b'\r' => self.phase = Phase::SizeLf,
                    b'\t' | 0x20..=0x7e | 0x80.. => self.spend_extension(side)?,
                    _ => return malformed,
                },
                Phase::SizeLf if byte == b'\n' => {
                    self.phase = if self.left == 0 { Phase::TrailerStart } else { Phase::Data };
                    self.digits = 0;
                }
                Phase::Data => {
                    // The smaller of the two, so it fits.
                    let run = self.left.min((bytes.len() - at) as u64);
                    self.left -= run;
                    at += run as usize;
                    payload += run as usize;
                    if self.left == 0 {
                        self.phase = Phase::DataCr;
                    }
                    if stop {
                        return Ok(Step { consumed: at, forward: at, payload, done: false });
                    }
                    continue;
                }
                Phase::DataCr if byte == b'\r' => self.phase = Phase::DataLf,
                Phase::DataLf if byte == b'\n' => self.phase = Phase::Size,
                Phase::TrailerStart if byte == b'\r' => self.phase = Phase::EndLf,
                Phase::TrailerStart | Phase::Trailer => {
                    self.phase = Phase::Trailer;
                    forward.get_or_insert(at);
                    let trailers = self.trailers.get_or_insert_default();
                    let rest = bytes.get(at..).unwrap_or_default();
                    let (taken, complete) = trailers.take(rest, self.max_trailers, self.max_fields, side)?;
                    at += taken;
                    if complete {
                        self.phase = Phase::Done;
                        break;
                    }
                    continue;
                }
                Phase::EndLf if byte == b'\n' => {
                    self.phase = Phase::Done;
                    at += 1;
                    break;
                }
                Phase::Done => break,
                Phase::SizeLf | Phase::DataCr | Phase::DataLf | Phase::EndLf => return malformed,
            }
            at += 1;
        }
        let done = self.phase == Phase::Done;
        Ok(Step { consumed: at, forward: forward.unwrap_or(at), payload, done })
    }

    fn spend_extension(&mut self, side: Side) -> Result<(), Reject> {
        match self.extensions_left.checked_sub(1) {
            Some(left) => {
                self.extensions_left = left;
                Ok(())
            }
            None => Err(Reject::malformed(side, details::CODEC_ERROR)),
        }
    }
}
