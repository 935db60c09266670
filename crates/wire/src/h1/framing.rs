use crate::{
    HeaderId,
    reject::{Reject, Side, details},
    text::parse_decimal,
};

use super::head::HeadStorage;

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none; a length of zero counts as none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    Chunked,
    /// Until the upstream closes; responses only.
    UntilClose,
    /// No longer HTTP: after CONNECT was granted or protocols were switched.
    Tunnel,
}

/// What the Content-Length and Transfer-Encoding fields declare, before method and status have their say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads the two framing fields, refusing everything two parsers could read differently: both fields, either one
/// twice (even if equal), any length not in plain decimal, any coding but exactly `chunked`.
pub(super) fn declared(storage: &HeadStorage, head: &[u8], side: Side) -> Result<Declared, Reject> {
    let length = storage.known(HeaderId::ContentLength);
    let coding = storage.known(HeaderId::TransferEncoding);
    match (length, coding) {
        (None, None) => Ok(Declared::Nothing),
        (Some(_), Some(_)) => Err(Reject::malformed(side, details::CONTENT_LENGTH_AND_CHUNKED)),
        (Some(slot), None) => {
            if storage.repeats(HeaderId::ContentLength) {
                return Err(Reject::malformed(side, details::CODEC_ERROR));
            }
            parse_decimal(storage.value(slot, head))
                .map(Declared::Length)
                .ok_or(Reject::malformed(side, details::CODEC_ERROR))
        }
        (None, Some(slot)) => {
            if storage.repeats(HeaderId::TransferEncoding) {
                return Err(Reject::malformed(side, details::INVALID_TRANSFER_ENCODING));
            }
            if !storage.value(slot, head).eq_ignore_ascii_case(b"chunked") {
                return Err(Reject::with_status(side, 501, details::INVALID_TRANSFER_ENCODING));
            }
            Ok(Declared::Chunked)
        }
    }
}
