//! A compiled operator.

use super::source::{AddressField, NumberField, TextField};
use super::time::TimeFormat;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Literal(Box<[u8]>),
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
    Named(Box<str>),
}

/// How a text is made to stay one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleaning {
    AsIs,
    /// Spaces become underscores, as Envoy does for details and reasons.
    Underscores,
    /// Anything that no host name holds becomes an underscore: a client chooses the SNI.
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
