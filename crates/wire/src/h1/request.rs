//! Parsing a request head, and every rule that refuses one.

use std::mem::MaybeUninit;

use crate::{
    HeaderId,
    authority::Authority,
    reject::{Reject, Side, details},
};

use super::{
    BodyFraming, Limits, connection,
    framing::{Declared, declared},
    head::{HeadStorage, Span},
    head_view::Version,
    limits::{MAX_HEADERS, Underscores},
    method::METHODS,
    target::{Target, TargetForm},
};

const SIDE: Side = Side::Request;
/// Longer than any registered method, shorter than an attack.
pub(super) const MAX_METHOD: usize = 64;

/// Parses the head at the beginning of `buffer` into `storage`.
///
/// `Ok(Some(length))`: a head of so many bytes; see it through [`HeadStorage::request`]. `Ok(None)`: more bytes are
/// needed; a caller that gets a head in parts asks by [`super::PartialHead`].
/// `Err`: answer with the status, close. The verdict on a head does not depend on how it was split.
pub fn parse_request(
    buffer: &[u8],
    storage: &mut HeadStorage,
    limits: &Limits,
) -> Result<Option<usize>, Reject> {
    // One byte more than allowed tells a head too long from one not yet complete.
    let max_head = limits.max_head.min(u32::MAX as usize - 1);
    let window = buffer.get(..max_head + 1).unwrap_or(buffer);
    let base = window.as_ptr() as usize;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let fields = &mut fields[..limits.max_headers.min(MAX_HEADERS)];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(window, fields) {
        Ok(httparse::Status::Complete(length)) if length <= max_head => length,
        Ok(_) if window.len() > max_head => return Err(too_large(window)),
        Ok(_) => return Ok(None),
        Err(error) => return Err(syntax(error, SIDE)),
    };
    let head = window.get(..length).unwrap_or_default();

    storage.reset();
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Reject::malformed(SIDE, details::CODEC_ERROR));
    };
    let line = &mut storage.line;
    line.method = Span::within(base, method.as_bytes());
    line.target = Span::within(base, target.as_bytes());
    line.start = line.method.start;
    line.end = length as u32;
    line.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    // A client may send empty lines first (RFC 9112 §2.2), but whole ones.
    let before = head.get(..line.start as usize).unwrap_or_default();
    if before.chunks(2).any(|pair| pair != b"\r\n") {
        return Err(Reject::malformed(SIDE, details::CODEC_ERROR));
    }
    collect(storage, head, parsed.headers, limits, SIDE)?;

    let method = method.as_bytes();
    let served = METHODS.contains(&method) || limits.allow_custom_methods && method.len() <= MAX_METHOD;
    if !served {
        return Err(Reject::malformed(SIDE, details::CODEC_ERROR));
    }
    if minor == 0 && !limits.allow_http10 {
        return Err(Reject::unserved(426, details::LOW_VERSION));
    }
    let target = Target::parse(method, target.as_bytes(), limits.secure)?;
    (storage.line.form, storage.line.scheme) = (target.form, target.scheme);
    storage.line.path = target.path_span(base);
    read_framing(storage, head)?;
    read_authority(storage, head, &target, base)?;
    connection::apply(storage, head, SIDE)?;
    read_expect(storage, head)?;
    Ok(Some(length))
}

/// Envoy answers 431 for a head too large; a target that alone is too large is 414 (RFC 9112 §3).
#[cold]
fn too_large(window: &[u8]) -> Reject {
    let blank = window.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let complete_line = memchr::memchr(b'\n', window.get(blank..).unwrap_or_default()).is_some();
    Reject::with_status(SIDE, if complete_line { 431 } else { 414 }, details::HEADERS_TOO_LARGE)
}

/// What httparse found wrong, in Envoy's words.
#[cold]
pub(super) fn syntax(error: httparse::Error, side: Side) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::with_status(side, 431, details::TOO_MANY_HEADERS),
        httparse::Error::HeaderValue => Reject::malformed(side, details::INVALID_CHARACTERS),
        _ => Reject::malformed(side, details::CODEC_ERROR),
    }
}

/// Takes the fields over into the storage, refusing line ends other than CRLF, which httparse lets pass.
#[inline]
pub(super) fn collect(
    storage: &mut HeadStorage,
    head: &[u8],
    fields: &[httparse::Header<'_>],
    limits: &Limits,
    side: Side,
) -> Result<(), Reject> {
    let base = head.as_ptr() as usize;
    let last = head.len().saturating_sub(2);
    let place = |field: &httparse::Header<'_>| (field.name.as_ptr() as usize).wrapping_sub(base);
    let mut start = fields.first().map_or(last, place);
    storage.line.fields = start as u32;
    let mut strict = ends_line(head, start) && ends_line(head, head.len());
    for (at, field) in fields.iter().enumerate() {
        let end = fields.get(at + 1).map_or(last, place);
        strict &= ends_line(head, end);
        let name = Span { start: start as u32, length: field.name.len() as u32 };
        let hidden = limits.underscores != Underscores::Allow && field.name.contains('_');
        if hidden && limits.underscores == Underscores::Reject {
            return Err(Reject::malformed(side, details::UNEXPECTED_UNDERSCORE));
        }
        let value = match field.value {
            [] => Span { start: name.start + name.length, length: 0 },
            value => Span::within(base, value),
        };
        let id = HeaderId::of(field.name.as_bytes());
        storage.push(super::head::Slot { name, value, end: end as u32, id, hidden, serial: 0 });
        start = end;
    }
    if strict { Ok(()) } else { Err(Reject::malformed(side, details::CODEC_ERROR)) }
}

/// Whether a line that ends just before `end` ends in CRLF.
#[inline]
fn ends_line(head: &[u8], end: usize) -> bool {
    end >= 2 && head.get(end - 2..end) == Some(b"\r\n")
}

fn read_framing(storage: &mut HeadStorage, head: &[u8]) -> Result<(), Reject> {
    let declared = declared(storage, head, SIDE)?;
    let connect = storage.line.form == TargetForm::Authority;
    storage.line.framing = match declared {
        // A body before the tunnel is granted is how requests get smuggled past it (Envoy CVE-2025-64763).
        Declared::Chunked if connect => {
            return Err(Reject::with_status(SIDE, 501, details::TRANSFER_ENCODING_NOT_ALLOWED));
        }
        Declared::Length(length) if connect && length > 0 => {
            return Err(Reject::malformed(SIDE, details::CONTENT_LENGTH_NOT_ALLOWED));
        }
        _ if connect => {
            storage.cut(HeaderId::ContentLength);
            BodyFraming::Tunnel
        }
        // RFC 9112 §6.1: a 1.0 peer can not have meant it.
        Declared::Chunked if storage.line.version == Version::Http10 => {
            return Err(Reject::malformed(SIDE, details::TRANSFER_ENCODING_NOT_ALLOWED));
        }
        Declared::Chunked => BodyFraming::Chunked,
        Declared::Length(0) | Declared::Nothing => BodyFraming::None,
        Declared::Length(length) => BodyFraming::Length(length),
    };
    Ok(())
}

fn read_authority(
    storage: &mut HeadStorage,
    head: &[u8],
    target: &Target<'_>,
    base: usize,
) -> Result<(), Reject> {
    if storage.repeats(HeaderId::Host) {
        return Err(Reject::malformed(SIDE, details::INVALID_AUTHORITY));
    }
    let host = storage.known(HeaderId::Host).map(|slot| storage.value(slot, head));
    let text = match (target.authority, host) {
        // RFC 9112 §3.2.2: the target's own authority wins.
        (Some(authority), _) => authority,
        (None, None | Some([])) => return Err(Reject::unserved(400, details::MISSING_HOST)),
        (None, Some(host)) => host,
    };
    let Some(authority) = Authority::parse(text) else {
        return Err(Reject::malformed(SIDE, details::INVALID_AUTHORITY));
    };
    storage.line.authority = Span::within(base, text);
    storage.line.host_length = authority.host.len() as u32;
    storage.line.port = authority.port;
    Ok(())
}

fn read_expect(storage: &mut HeadStorage, head: &[u8]) -> Result<(), Reject> {
    let Some(slot) = storage.known(HeaderId::Expect) else { return Ok(()) };
    if storage.repeats(HeaderId::Expect) || !storage.value(slot, head).eq_ignore_ascii_case(b"100-continue") {
        return Err(Reject::unserved(417, details::EXPECTATION_FAILED));
    }
    // RFC 9110 §10.1.1: without a body, or from a 1.0 client, there is nothing to wait for.
    let body = matches!(storage.line.framing, BodyFraming::Length(_) | BodyFraming::Chunked);
    storage.line.expect_continue = body && storage.line.version == Version::Http11;
    Ok(())
}
