//! A head that comes in parts: parsed when it is whole, and refused as soon as no continuation could make it valid.
//!
//! The parser proper ([`parse_request`], [`parse_response`]) sees a head once it may be whole. Until then this state
//! machine reads each byte once, however the head is cut: a peer that sends byte by byte costs no more than one that
//! does not, and a peer that does not speak HTTP at all is not waited for until a timeout. A head that comes whole, as
//! nearly all do, never gets here.

use crate::{
    HeaderId,
    authority::Authority,
    reject::{Reject, Side, details},
    text::{is_token_byte, parse_decimal, trim},
};

use super::{
    HeadStorage, Limits, ResponseTo,
    limits::{MAX_HEADERS, Underscores},
    method::METHODS,
    request::{MAX_METHOD, parse_request},
    response::parse_response,
    target::Target,
};

/// What has been read of a head that is not whole yet. The owner keeps it beside the bytes, which it keeps too, and
/// asks again with all of them. Starts anew by itself after each verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartialHead {
    /// How many bytes were read.
    read: u32,
    phase: Phase,
    /// Where the method, target, name or value begins that is being read.
    start: u32,
    fields: u16,
    name: Option<HeaderId>,
    /// What the head said so far.
    said: Said,
}

/// What decides about later lines.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// These are trailers, which are dropped where they may not be.
    trailers: bool,
    version_10: bool,
    /// The target has an authority of its own, which wins over Host.
    authority: bool,
    host: bool,
    length: bool,
    coding: bool,
}

/// What the next byte belongs to: first the phases of a line up to its version, then those of a status line, then those
/// of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing was read.
    #[default]
    Begin,
    EmptyLf,
    Method,
    Target,
    /// So many bytes of `HTTP/1.` have come.
    Version(u8),
    Minor,
    StatusSpace,
    /// So many digits have come.
    Status(u8),
    StatusEnd,
    Reason,
    LineCr,
    LineLf,
    FieldStart,
    Name,
    /// White space before a value.
    Blank,
    Value,
    ValueLf,
    EndLf,
    Whole,
}

const VERSION: &[u8] = b"HTTP/1.";

impl PartialHead {
    /// Parses a request's head as [`parse_request`] does, when it may be whole.
    pub fn request(
        &mut self,
        buffer: &[u8],
        storage: &mut HeadStorage,
        limits: &Limits,
    ) -> Result<Option<usize>, Reject> {
        self.head(buffer, limits, Side::Request, |buffer| parse_request(buffer, storage, limits))
    }

    /// Parses a response's head as [`parse_response`] does, when it may be whole.
    pub fn response(
        &mut self,
        buffer: &[u8],
        storage: &mut HeadStorage,
        limits: &Limits,
        to: ResponseTo,
    ) -> Result<Option<usize>, Reject> {
        self.head(buffer, limits, Side::Response, |buffer| parse_response(buffer, storage, limits, to))
    }

    #[inline]
    fn head(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        side: Side,
        parse: impl FnOnce(&[u8]) -> Result<Option<usize>, Reject>,
    ) -> Result<Option<usize>, Reject> {
        let verdict = if self.may_be_whole(buffer, limits) { parse(buffer) } else { Ok(None) };
        let verdict = match verdict {
            Ok(None) => self.read_on(buffer, limits, side).map(|()| None),
            verdict => verdict,
        };
        if verdict != Ok(None) {
            *self = PartialHead::default();
        }
        verdict
    }

    /// Whether parsing may say more than that the head is not whole: a blank line has come, or too much, or nothing was
    /// tried. Costs one search of the new bytes.
    #[inline]
    fn may_be_whole(&self, buffer: &[u8], limits: &Limits) -> bool {
        // The blank line that ends a head may have begun in the bytes read before.
        let fresh = buffer.get((self.read as usize).saturating_sub(3)..).unwrap_or_default();
        self.read == 0
            || buffer.len() > limits.max_head
            || memchr::memchr_iter(b'\n', fresh)
                .any(|at| matches!(fresh.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
    }

    /// For a trailer section: fields, and none of them rules the message.
    pub(super) fn trailers(&mut self, section: &[u8], max_fields: usize, side: Side) -> Result<(), Reject> {
        if self.phase == Phase::Begin {
            (self.phase, self.said) = (Phase::FieldStart, Said { trailers: true, ..Said::default() });
        }
        let limits = Limits { max_headers: max_fields, ..Limits::default() };
        self.read_on(section, &limits, side)
    }

    /// Reads the bytes that are new.
    #[inline(never)]
    fn read_on(&mut self, head: &[u8], limits: &Limits, side: Side) -> Result<(), Reject> {
        let mut at = self.read as usize;
        while let Some(&byte) = head.get(at) {
            if self.phase >= Phase::LineCr {
                self.field_byte(head, at, byte, limits, side)?;
            } else if self.phase >= Phase::StatusSpace {
                self.status_byte(byte)?;
            } else {
                self.line_byte(head, at, byte, limits, side)?;
            }
            at += 1;
        }
        self.read = u32::try_from(at).unwrap_or(u32::MAX);
        Ok(())
    }

    /// A byte of a request line, or of a status line up to its version.
    fn line_byte(
        &mut self,
        head: &[u8],
        at: usize,
        byte: u8,
        limits: &Limits,
        side: Side,
    ) -> Result<(), Reject> {
        let malformed = Err(Reject::malformed(side, details::CODEC_ERROR));
        let request = side == Side::Request;
        let so_far = |start: u32| head.get(start as usize..at).unwrap_or_default();
        self.phase = match self.phase {
            Phase::Begin if !request && byte == b'H' => Phase::Version(1),
            // A client may send empty lines first (RFC 9112 §2.2).
            Phase::Begin if request && byte == b'\r' => Phase::EmptyLf,
            Phase::Begin if request && is_token_byte(byte) && may_begin_method(&[byte], limits) => {
                self.start = at as u32;
                Phase::Method
            }
            Phase::EmptyLf if byte == b'\n' => Phase::Begin,
            Phase::Method if byte == b' ' => {
                if !limits.allow_custom_methods && !METHODS.contains(&so_far(self.start)) {
                    return malformed;
                }
                self.start = at as u32 + 1;
                Phase::Target
            }
            Phase::Method if is_token_byte(byte) => {
                if !may_begin_method(head.get(self.start as usize..=at).unwrap_or_default(), limits) {
                    return malformed;
                }
                Phase::Method
            }
            Phase::Target if byte == b' ' && self.start as usize == at => return malformed,
            Phase::Target if byte == b' ' => {
                let line = head.get(..self.start as usize - 1).unwrap_or_default();
                let method = line.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                let target = Target::parse(method, so_far(self.start), limits.secure)?;
                self.said.authority = target.authority.is_some();
                Phase::Version(0)
            }
            Phase::Target if (0x21..=0x7e).contains(&byte) => Phase::Target,
            Phase::Target if byte >= 0x80 => return Err(Reject::malformed(side, details::INVALID_URL)),
            Phase::Version(had) if VERSION.get(usize::from(had)) == Some(&byte) => {
                if usize::from(had) + 1 == VERSION.len() { Phase::Minor } else { Phase::Version(had + 1) }
            }
            Phase::Minor if matches!(byte, b'0' | b'1') => {
                self.said.version_10 = byte == b'0';
                if request && byte == b'0' && !limits.allow_http10 {
                    return Err(Reject::unserved(426, details::LOW_VERSION));
                }
                if request { Phase::LineCr } else { Phase::StatusSpace }
            }
            _ => return malformed,
        };
        Ok(())
    }

    /// A byte of a status line after its version.
    fn status_byte(&mut self, byte: u8) -> Result<(), Reject> {
        self.phase = match self.phase {
            Phase::StatusSpace if byte == b' ' => Phase::Status(0),
            Phase::Status(0) if matches!(byte, b'1'..=b'9') => Phase::Status(1),
            Phase::Status(1) if byte.is_ascii_digit() => Phase::Status(2),
            Phase::Status(2) if byte.is_ascii_digit() => Phase::StatusEnd,
            Phase::StatusEnd if byte == b' ' => Phase::Reason,
            Phase::StatusEnd | Phase::Reason if byte == b'\r' => Phase::LineLf,
            Phase::Reason if is_value_byte(byte) => Phase::Reason,
            _ => return Err(Reject::malformed(Side::Response, details::CODEC_ERROR)),
        };
        Ok(())
    }

    /// A byte after the start line.
    fn field_byte(
        &mut self,
        head: &[u8],
        at: usize,
        byte: u8,
        limits: &Limits,
        side: Side,
    ) -> Result<(), Reject> {
        self.phase = match self.phase {
            Phase::Value if is_value_byte(byte) => Phase::Value,
            Phase::Name if is_token_byte(byte) => Phase::Name,
            Phase::LineCr if byte == b'\r' => Phase::LineLf,
            Phase::LineLf | Phase::ValueLf if byte == b'\n' => Phase::FieldStart,
            Phase::FieldStart if byte == b'\r' => Phase::EndLf,
            Phase::FieldStart if is_token_byte(byte) => {
                if usize::from(self.fields) >= limits.max_headers.min(MAX_HEADERS) {
                    return Err(Reject::with_status(side, 431, details::TOO_MANY_HEADERS));
                }
                self.fields += 1;
                self.start = at as u32;
                Phase::Name
            }
            Phase::Name if byte == b':' => {
                let name = head.get(self.start as usize..at).unwrap_or_default();
                let underscore = limits.underscores != Underscores::Allow && name.contains(&b'_');
                if underscore && limits.underscores == Underscores::Reject {
                    return Err(Reject::malformed(side, details::UNEXPECTED_UNDERSCORE));
                }
                // What is dropped for its underscore rules nothing.
                self.name = Some(HeaderId::of(name)).filter(|_| !underscore);
                Phase::Blank
            }
            Phase::Blank if matches!(byte, b' ' | b'\t') => Phase::Blank,
            Phase::Blank if is_value_byte(byte) => {
                self.start = at as u32;
                Phase::Value
            }
            Phase::Blank if byte == b'\r' => {
                self.field(b"", side)?;
                Phase::ValueLf
            }
            Phase::Value if byte == b'\r' => {
                self.field(trim(head.get(self.start as usize..at).unwrap_or_default()), side)?;
                Phase::ValueLf
            }
            Phase::EndLf if byte == b'\n' => Phase::Whole,
            Phase::ValueLf => return Err(Reject::malformed(side, details::INVALID_CHARACTERS)),
            // What follows is the parser's.
            Phase::Whole => Phase::Whole,
            Phase::Blank | Phase::Value if byte != b'\n' => {
                return Err(Reject::malformed(side, details::INVALID_CHARACTERS));
            }
            _ => return Err(Reject::malformed(side, details::CODEC_ERROR)),
        };
        Ok(())
    }

    /// A whole field: what no later one can mend.
    fn field(&mut self, value: &[u8], side: Side) -> Result<(), Reject> {
        let malformed = |details| Err(Reject::malformed(side, details));
        let said = &mut self.said;
        match self.name.take() {
            _ if said.trailers => {}
            Some(HeaderId::Host) if side == Side::Request => {
                if std::mem::replace(&mut said.host, true) {
                    return malformed(details::INVALID_AUTHORITY);
                }
                if !said.authority && value.is_empty() {
                    return Err(Reject::unserved(400, details::MISSING_HOST));
                }
                if !said.authority && Authority::parse(value).is_none() {
                    return malformed(details::INVALID_AUTHORITY);
                }
            }
            Some(HeaderId::ContentLength) => {
                if said.coding {
                    return malformed(details::CONTENT_LENGTH_AND_CHUNKED);
                }
                if std::mem::replace(&mut said.length, true) || parse_decimal(value).is_none() {
                    return malformed(details::CODEC_ERROR);
                }
            }
            Some(HeaderId::TransferEncoding) => {
                if said.length {
                    return malformed(details::CONTENT_LENGTH_AND_CHUNKED);
                }
                if std::mem::replace(&mut said.coding, true) {
                    return malformed(details::INVALID_TRANSFER_ENCODING);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Reject::with_status(side, 501, details::INVALID_TRANSFER_ENCODING));
                }
                if said.version_10 {
                    return malformed(details::TRANSFER_ENCODING_NOT_ALLOWED);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the method of a request that is served may begin so.
fn may_begin_method(start: &[u8], limits: &Limits) -> bool {
    start.len() <= MAX_METHOD
        && (limits.allow_custom_methods || METHODS.iter().any(|method| method.starts_with(start)))
}

/// What may stand in a value: RFC 9110 §5.5.
#[inline]
fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests;
