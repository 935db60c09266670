//! Parsing a response head, and every rule that refuses one.

use std::mem::MaybeUninit;

use crate::{
    HeaderId,
    reject::{Reject, Side, details},
};

use super::{
    BodyFraming, Limits, connection,
    framing::{Declared, declared},
    head::{HeadStorage, Span},
    head_view::Version,
    limits::MAX_HEADERS,
    request::{collect, syntax},
};

const SIDE: Side = Side::Response;

/// What of the request decides how its response is read (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseTo {
    /// HEAD: there is never a body.
    pub head: bool,
    /// CONNECT: a 2xx turns the connection into a tunnel.
    pub connect: bool,
    /// An upgrade was asked for and forwarded: a 101 is welcome.
    pub upgrade: bool,
}

impl ResponseTo {
    pub fn request(head: &super::RequestHead<'_>) -> ResponseTo {
        ResponseTo {
            head: head.method() == b"HEAD",
            connect: head.is_connect(),
            upgrade: head.upgrade().is_some(),
        }
    }
}

/// Parses the response head at the beginning of `buffer` into `storage`; see [`super::parse_request`] for the
/// answers. A refusal means: answer the client 502, close the upstream connection (bad-inputs U-07, U-08, L-13).
pub fn parse_response(
    buffer: &[u8],
    storage: &mut HeadStorage,
    limits: &Limits,
    to: ResponseTo,
) -> Result<Option<usize>, Reject> {
    let max_head = limits.max_head.min(u32::MAX as usize - 1);
    let window = buffer.get(..max_head + 1).unwrap_or(buffer);
    // Empty lines before a response are the rest of something else.
    if matches!(window.first(), Some(b'\r' | b'\n')) {
        return Err(Reject::malformed(SIDE, details::CODEC_ERROR));
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let fields = &mut fields[..limits.max_headers.min(MAX_HEADERS)];
    let mut parsed = httparse::Response::new(&mut []);
    let status =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, window, fields);
    let length = match status {
        Ok(httparse::Status::Complete(length)) if length <= max_head => length,
        Ok(_) if window.len() > max_head => return Err(Reject::malformed(SIDE, details::HEADERS_TOO_LARGE)),
        Ok(_) => return Ok(None),
        Err(error) => return Err(syntax(error, SIDE)),
    };
    let head = window.get(..length).unwrap_or_default();

    storage.reset();
    let (Some(status @ 100..=999), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Reject::malformed(SIDE, details::CODEC_ERROR));
    };
    let line = &mut storage.line;
    line.end = length as u32;
    line.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    line.status = status;
    collect(storage, head, parsed.headers, limits, SIDE)?;
    storage.line.reason = reason_span(storage.line.fields);
    connection::apply(storage, head, SIDE)?;
    read_framing(storage, head, to)?;
    Ok(Some(length))
}

/// Taken from the bytes, because httparse gives an empty phrase for one with bytes above ASCII.
fn reason_span(head_fields: u32) -> Span {
    const BEFORE: u32 = "HTTP/1.1 200 ".len() as u32;
    match head_fields.saturating_sub(2).checked_sub(BEFORE) {
        Some(length) if length > 0 => Span { start: BEFORE, length },
        _ => Span::default(),
    }
}

fn read_framing(storage: &mut HeadStorage, head: &[u8], to: ResponseTo) -> Result<(), Reject> {
    let declared = declared(storage, head, SIDE)?;
    let status = storage.line.status;
    if declared == Declared::Chunked && storage.line.version == Version::Http10 {
        return Err(Reject::malformed(SIDE, details::TRANSFER_ENCODING_NOT_ALLOWED));
    }
    if status != 101 && storage.line.upgrade.take().is_some() {
        // A 426 may advertise protocols; they are not for the client.
        storage.cut(HeaderId::Upgrade);
    }
    if status == 101 && !(to.upgrade && storage.line.upgrade.is_some()) {
        return Err(Reject::malformed(SIDE, details::UNEXPECTED_UPGRADE));
    }
    let tunnel = status == 101 || to.connect && (200..300).contains(&status);
    if tunnel || status < 200 || status == 204 {
        // RFC 9110 §8.6, RFC 9112 §6.1: neither field belongs here. Envoy forgives a length of zero.
        match declared {
            Declared::Chunked => return Err(Reject::malformed(SIDE, details::TRANSFER_ENCODING_NOT_ALLOWED)),
            Declared::Length(1..) => {
                return Err(Reject::malformed(SIDE, details::CONTENT_LENGTH_NOT_ALLOWED));
            }
            Declared::Length(0) | Declared::Nothing => {}
        }
        storage.cut(HeaderId::ContentLength);
        if tunnel {
            storage.line.framing = BodyFraming::Tunnel;
            storage.line.keep_alive = false;
        }
        return Ok(());
    }
    storage.line.framing = match declared {
        _ if to.head || status == 304 => BodyFraming::None,
        Declared::Chunked => BodyFraming::Chunked,
        Declared::Length(0) => BodyFraming::None,
        Declared::Length(length) => BodyFraming::Length(length),
        Declared::Nothing => {
            storage.line.keep_alive = false;
            BodyFraming::UntilClose
        }
    };
    Ok(())
}
