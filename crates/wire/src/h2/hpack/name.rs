//! What a field's name is.

use crate::HeaderId;

/// The pseudo-header fields of RFC 9113 §8.3 and RFC 8441 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    /// One nobody knows, which makes a message malformed.
    Unknown,
}

impl Pseudo {
    /// Colon included; empty for [`Pseudo::Unknown`].
    pub const fn name(self) -> &'static str {
        match self {
            Pseudo::Method => ":method",
            Pseudo::Scheme => ":scheme",
            Pseudo::Authority => ":authority",
            Pseudo::Path => ":path",
            Pseudo::Protocol => ":protocol",
            Pseudo::Status => ":status",
            Pseudo::Unknown => "",
        }
    }

    /// `name` with its colon, in lower case.
    pub fn of(name: &[u8]) -> Pseudo {
        match name {
            b":method" => Pseudo::Method,
            b":scheme" => Pseudo::Scheme,
            b":authority" => Pseudo::Authority,
            b":path" => Pseudo::Path,
            b":protocol" => Pseudo::Protocol,
            b":status" => Pseudo::Status,
            _ => Pseudo::Unknown,
        }
    }
}

/// The name of a decoded field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Pseudo(Pseudo),
    Field(HeaderId),
}

impl Name {
    #[inline]
    pub fn of(name: &[u8]) -> Name {
        match name.first() {
            Some(b':') => Name::Pseudo(Pseudo::of(name)),
            _ => Name::Field(HeaderId::of(name)),
        }
    }
}
