//! Frames (RFC 9113 §4.1, §6): their headers read, and the small ones written.

use super::error::ErrorCode;

pub(super) const HEADER: usize = 9;
/// What every peer takes and, unless told otherwise, the most it sends (RFC 9113 §4.2).
pub const DEFAULT_MAX_FRAME: u32 = 16_384;
pub(super) const LARGEST_MAX_FRAME: u32 = (1 << 24) - 1;
/// The window every stream and connection begins with.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
pub(super) const LARGEST_WINDOW: u32 = 0x7fff_ffff;
/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Frame {
    #[inline]
    pub fn read(bytes: &[u8; HEADER]) -> Frame {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Frame {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            // The reserved bit is ignored (RFC 9113 §4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MASK,
        }
    }

    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]);
    }

    #[inline]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Stream ids and window increments have 31 bits.
pub(super) const STREAM_MASK: u32 = 0x7fff_ffff;

/// Sets the length of the frame that begins at `start` to what follows its header.
#[inline]
pub(super) fn patch_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - HEADER) as u32;
    let [_, l0, l1, l2] = length.to_be_bytes();
    if let Some(place) = out.get_mut(start..start + 3) {
        place.copy_from_slice(&[l0, l1, l2]);
    }
}

pub(super) fn write_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    Frame { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.write(out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(super) fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    Frame { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.write(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(super) fn write_ping(out: &mut Vec<u8>, payload: [u8; 8], flags: u8) {
    Frame { length: 8, kind: kind::PING, flags, stream: 0 }.write(out);
    out.extend_from_slice(&payload);
}

pub(super) fn write_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode, why: &str) {
    Frame { length: 8 + why.len() as u32, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(why.as_bytes());
}

/// A frame's payload without its padding; `None` if the padding is longer than the frame (RFC 9113 §6.1).
#[inline]
pub(super) fn unpad(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    if !frame.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// The four bytes a payload begins with.
#[inline]
pub(super) fn word(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
