//! What protocol a connection speaks, by its first bytes: Envoy's `tls_inspector` and `http_inspector`.
//!
//! All functions look at the connection's first bytes without consuming them, and are asked again with more while
//! they answer "need more". Waiting for a peer that sends nothing is the caller's to bound (bad-inputs L-04).

mod client_hello;

use crate::h1::{Version, method::METHODS};

pub use client_hello::{ClientHello, Tls, inspect_tls};

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniff {
    NeedMore,
    Tls(ClientHello),
    Http1(Version),
    Http2Preface,
    /// HTTP as far as it has come, in a line longer than is waited for. It belongs to whatever serves HTTP, whose limits
    /// refuse it: taking it for another protocol would carry a request past the policies that are for requests.
    HttpTooLong,
    /// Some other protocol, treated as plain TCP.
    Unknown,
}

/// The client's connection preface of HTTP/2 (RFC 9113 §3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request line that is not complete within so many bytes is not waited for, whatever else it may become.
pub const MAX_LINE: usize = 32 * 1024;

/// Both inspectors, TLS first. A ClientHello too large or malformed is [`Sniff::Unknown`].
pub fn inspect(bytes: &[u8]) -> Sniff {
    match inspect_tls(bytes) {
        Tls::NeedMore => Sniff::NeedMore,
        Tls::Hello(hello) => Sniff::Tls(hello),
        Tls::TooLarge => Sniff::Unknown,
        Tls::NotTls => inspect_http(bytes),
    }
}

/// HTTP/2 by its preface; HTTP/1 by a request line with a registered method and a version 1.0 or 1.1, as soon as
/// the line is complete, and [`Sniff::HttpTooLong`] once [`MAX_LINE`] bytes of it have come. Anything else is
/// [`Sniff::Unknown`] at the first byte that can not belong to either.
pub fn inspect_http(bytes: &[u8]) -> Sniff {
    match inspect_line(bytes.get(..MAX_LINE).unwrap_or(bytes)) {
        Sniff::NeedMore if bytes.len() >= MAX_LINE => Sniff::HttpTooLong,
        verdict => verdict,
    }
}

fn inspect_line(bytes: &[u8]) -> Sniff {
    if bytes.is_empty() {
        return Sniff::NeedMore;
    }
    let known = bytes.len().min(HTTP2_PREFACE.len());
    if bytes.get(..known) == HTTP2_PREFACE.get(..known) {
        return if known == HTTP2_PREFACE.len() { Sniff::Http2Preface } else { Sniff::NeedMore };
    }
    // A client may send empty lines first (RFC 9112 §2.2).
    let mut line = bytes;
    while let [b'\r', b'\n', rest @ ..] = line {
        line = rest;
    }
    if matches!(line, [] | [b'\r']) {
        return Sniff::NeedMore;
    }
    let method = line.iter().take(LONGEST_METHOD + 1).position(|byte| *byte == b' ');
    let Some(method) = method else {
        return if METHODS.iter().any(|method| method.starts_with(line)) {
            Sniff::NeedMore
        } else {
            Sniff::Unknown
        };
    };
    let (method, rest) = line.split_at(method);
    if !METHODS.contains(&method) {
        return Sniff::Unknown;
    }
    let rest = rest.get(1..).unwrap_or_default();
    match first_control(rest) {
        None => Sniff::NeedMore,
        Some(end) => match (rest.get(..end), rest.get(end..)) {
            (Some(_), Some([b'\r'])) => Sniff::NeedMore,
            (Some(line), Some([b'\r', b'\n', ..] | [b'\n', ..])) => version(line),
            _ => Sniff::Unknown,
        },
    }
}

/// Where the first control byte is. Looked for in runs, which the compiler makes vectors of: a line that comes byte by
/// byte is searched anew for each of them.
fn first_control(line: &[u8]) -> Option<usize> {
    const RUN: usize = 64;
    let has_control = |run: &[u8]| run.iter().fold(false, |has, byte| has | byte.is_ascii_control());
    let start = RUN * line.chunks(RUN).position(has_control)?;
    let rest = line.get(start..)?;
    rest.iter().position(u8::is_ascii_control).map(|at| start + at)
}

/// By the end of a request line without its method: `target HTTP/1.x`.
fn version(line: &[u8]) -> Sniff {
    let Some(space) = memchr::memrchr(b' ', line) else { return Sniff::Unknown };
    match line.split_at(space) {
        ([], _) => Sniff::Unknown,
        (_, b" HTTP/1.1") => Sniff::Http1(Version::Http11),
        (_, b" HTTP/1.0") => Sniff::Http1(Version::Http10),
        _ => Sniff::Unknown,
    }
}

const LONGEST_METHOD: usize = 16;

#[cfg(test)]
mod tests;
