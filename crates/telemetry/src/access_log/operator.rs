//! A compiled operator.

use super::source::{AddressField, HeaderName, NumberField, TextField};
use super::time::TimeFormat;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Literal(Literal),
    StartTime(TimeFormat),
    Request(Header),
    Response(Header),
    Trailer(Header),
    Text(TextField, Cleaning, Option<usize>),
    Number(NumberField),
    Address(AddressField, AddressPart),
    FlagsShort,
    FlagsLong,
    Grpc(GrpcStyle),
    Metadata {
        namespace: String,
        path: Vec<String>,
        max: Option<usize>,
    },
    FilterState {
        key: String,
        max: Option<usize>,
    },
    /// An environment variable or host name that was not there when the format was compiled.
    Missing,
}

/// Text between operators. Most of it is a space or a quote: up to eight bytes are copied by a length
/// known at compile time, which spares a call into the C library for each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    short: [u8; 8],
    text: Box<[u8]>,
}

impl Literal {
    pub fn new(text: Vec<u8>) -> Literal {
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(&text) {
            *to = *from;
        }
        Literal { short, text: text.into() }
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }

    #[inline]
    pub fn push(&self, out: &mut Vec<u8>) {
        if self.text.len() <= self.short.len() {
            let end = out.len() + self.text.len();
            out.extend_from_slice(&self.short);
            out.truncate(end);
        } else {
            out.extend_from_slice(&self.text);
        }
    }
}

/// `%REQ(first?second):max%`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub first: Name,
    pub second: Option<Name>,
    pub max: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Name {
    Method,
    Path,
    Authority,
    Scheme,
    Status,
    Named(HeaderName),
}

/// How a text is made to stay one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleaning {
    AsIs,
    /// Spaces become underscores, as Envoy does for details and reasons.
    Underscores,
    /// A server name (SNI), which the client chose: bytes that a host name cannot hold become underscores, and an IP
    /// address, which RFC 6066 §3 forbids as a server name, is none.
    HostName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressPart {
    Whole,
    WithoutPort,
    PortOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcStyle {
    Camel,
    Snake,
    Number,
}
