//! From decoded fields to a head: what RFC 9113 §8 and RFC 8441 ask of a message, field by field and as a whole.
//!
//! The text that is gathered is, from the first field on, what the same head would be in HTTP/1: so it is read by
//! the same views, edited by the same edits, and forwarded to an HTTP/1 peer as runs of bytes. Before the first
//! field stand the pseudo-header fields.

use crate::{
    HeaderId, Reject,
    h1::{
        HeadStorage, MAX_HEADERS, Underscores,
        head::{Slot, Span},
    },
    reject::{Side, details},
    text::parse_decimal,
};

use super::{
    error::detail,
    hpack::{
        Decoded, HpackError, Sink,
        name::{Name, Pseudo},
        table::{ENTRY_OVERHEAD, LINE_OVERHEAD},
    },
};

pub(super) mod memo;
mod whole;

pub(super) use whole::SeenAuthority;

/// Bounds on one head or trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Names and values together, in bytes.
    pub max_size: usize,
    pub max_fields: usize,
    /// Of names and values, so much may have come by reference to the peer's table. Whoever refers to the same large
    /// entry again and again means to have us hold what was never sent (HPACK bomb).
    pub max_referred: usize,
    pub underscores: Underscores,
}

/// What block is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `extended`: we announced that we take extended CONNECT (RFC 8441 §3).
    Request {
        extended: bool,
    },
    Response,
    Trailers,
    /// Of a stream nobody waits for: decoded for the sake of the table alone.
    Nothing,
}

/// Why a well-coded head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RFC 9113 §8.1.1: the stream is reset with PROTOCOL_ERROR.
    Malformed(&'static str),
    /// A server answers with the status, if it is the request that is at fault.
    Rejected(Reject),
}

/// A longest method as in HTTP/1.
const MAX_METHOD: usize = 64;
/// Slots for what is added to a head here: Host, a joined Cookie, Upgrade.
const ADDED: usize = 4;
/// The number by which a storage knows the path among the recurring fields; no slot has it.
pub(super) const PATH: usize = 255;
/// At the beginning of every text: what an extended CONNECT asks for is a GET in HTTP/1.
const GET: &[u8] = b"GET";
/// A block that decodes to so many times the allowed size ends the connection (bad-inputs N-04).
const BOMB: usize = 4;

/// Takes the fields of one block.
pub(super) struct Gather<'a> {
    storage: &'a mut HeadStorage,
    limits: HeadLimits,
    kind: Kind,
    state: State,
}

/// What was learned from the fields so far, besides what is in the storage.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Names and values.
    size: usize,
    /// The same as RFC 9113 §10.5.1 counts it.
    gross: usize,
    /// What of them came by reference to the dynamic table.
    referred: usize,
    count: usize,
    /// Values of the pseudo-header fields.
    pseudo: [Span; Pseudo::Unknown as usize],
    authority_serial: u32,
    seen: u8,
    /// Where the first field that is no pseudo-header field begins.
    fields: Option<usize>,
    fault: Option<Fault>,
    content_length: Option<u64>,
    sensitive: bool,
}

impl<'a> Gather<'a> {
    pub fn new(
        kind: Kind,
        limits: HeadLimits,
        text: &mut Vec<u8>,
        storage: &'a mut HeadStorage,
    ) -> Gather<'a> {
        text.clear();
        if kind != Kind::Trailers {
            storage.reset();
            text.extend_from_slice(GET);
        }
        Gather { storage, limits, kind, state: State::default() }
    }

    /// Whose serials the fields' are ([`Decoder::id`](super::hpack::Decoder::id)).
    fn came_by(&mut self, id: u64) {
        self.storage.decoder = id;
    }

    #[cold]
    fn malformed(&mut self, why: &'static str) {
        self.state.fault.get_or_insert(Fault::Malformed(why));
    }

    #[cold]
    fn rejected(&mut self, reject: Reject) {
        self.state.fault.get_or_insert(Fault::Rejected(reject));
    }

    fn side(&self) -> Side {
        if matches!(self.kind, Kind::Request { .. }) { Side::Request } else { Side::Response }
    }

    #[inline]
    fn span(&self, pseudo: Pseudo) -> Option<Span> {
        (self.state.seen >> pseudo as u8 & 1 == 1).then(|| self.state.pseudo[pseudo as usize])
    }

    /// Keeps a pseudo-header field in front of all others.
    fn pseudo(&mut self, text: &[u8], field: &Decoded, pseudo: Pseudo) {
        let allowed = match self.kind {
            Kind::Request { .. } => !matches!(pseudo, Pseudo::Status | Pseudo::Unknown),
            Kind::Response => pseudo == Pseudo::Status,
            Kind::Trailers | Kind::Nothing => false,
        };
        if !allowed {
            return self.malformed("pseudo-header field out of place");
        }
        if self.state.fields.is_some() {
            return self.malformed("pseudo-header field after a field");
        }
        if self.state.seen >> pseudo as u8 & 1 == 1 {
            return self.malformed("pseudo-header field twice");
        }
        if field.flaws.value {
            return self.malformed("pseudo-header field with a forbidden byte");
        }
        self.state.seen |= 1 << pseudo as u8;
        self.state.pseudo[pseudo as usize] = value_span(text, field);
        match pseudo {
            Pseudo::Path if field.serial != 0 => {
                self.storage.recurring.insert(PATH);
                self.storage.path_serial = field.serial;
            }
            Pseudo::Authority => self.state.authority_serial = field.serial,
            _ => {}
        }
    }

    /// Whether the line stays in the text.
    #[inline]
    fn field(&mut self, text: &mut Vec<u8>, field: &Decoded, id: HeaderId) -> bool {
        if field.flaws.name {
            self.malformed("field name is no lower-case token");
            return false;
        }
        if field.flaws.value {
            self.malformed("field value with a forbidden byte");
            return false;
        }
        if self.kind == Kind::Trailers {
            return self.trailer(text, field, id);
        }
        let mut start = field.start;
        if self.state.fields.is_none() {
            self.state.fields = Some(start);
            start += self.begin_fields(text, start);
        }
        self.ordinary(text, &Decoded { start, ..*field }, id)
    }

    /// Host goes before all others (RFC 9110 §7.2); its line is put in at `start`. How long it is.
    fn begin_fields(&mut self, text: &mut Vec<u8>, start: usize) -> usize {
        let Some(authority) = self.span(Pseudo::Authority) else { return 0 };
        let before = text.len();
        let value = append_line(text, HeaderId::Host, authority);
        let length = text.len() - before;
        if let Some(lines) = text.get_mut(start..) {
            lines.rotate_right(length);
        }
        let value = Span { start: (value + start - before) as u32, ..authority };
        let name_length = HeaderId::Host.name().len();
        self.push(HeaderId::Host, start, name_length, value, start + length, self.state.authority_serial);
        length
    }

    #[inline]
    fn push(&mut self, id: HeaderId, start: usize, name_length: usize, value: Span, end: usize, serial: u32) {
        let name = Span { start: start as u32, length: name_length as u32 };
        self.storage.push(Slot { name, value, end: end as u32, id, hidden: false, serial });
    }

    #[inline]
    fn ordinary(&mut self, text: &[u8], field: &Decoded, id: HeaderId) -> bool {
        let span = value_span(text, field);
        match id {
            HeaderId::Connection
            | HeaderId::KeepAlive
            | HeaderId::ProxyConnection
            | HeaderId::TransferEncoding
            | HeaderId::Upgrade => {
                // RFC 9113 §8.2.2.
                self.malformed("connection-specific field");
                return false;
            }
            HeaderId::Te if !span.of(text).eq_ignore_ascii_case(b"trailers") => {
                self.malformed("te other than trailers");
                return false;
            }
            HeaderId::Http2Settings => return false,
            // For this hop alone, and only if its owner believes the peer: `hop`.
            HeaderId::XFilameshHop => self.storage.per_hop.insert(self.storage.slots.len()),
            HeaderId::Host if matches!(self.kind, Kind::Request { .. }) => match self.span(Pseudo::Authority)
            {
                // RFC 9113 §8.3.1: it must not say something else; then it is there already.
                Some(authority) => {
                    if !span.of(text).eq_ignore_ascii_case(authority.of(text)) {
                        self.malformed("host differs from :authority");
                    }
                    return false;
                }
                None if self.storage.known(HeaderId::Host).is_some() => {
                    self.rejected(Reject::malformed(Side::Request, details::INVALID_AUTHORITY));
                    return false;
                }
                None => {}
            },
            HeaderId::ContentLength => match parse_decimal(span.of(text)) {
                Some(length) if self.state.content_length.is_none() => {
                    self.state.content_length = Some(length)
                }
                _ => {
                    self.malformed("content-length twice or no number");
                    return false;
                }
            },
            HeaderId::Other if self.limits.underscores != Underscores::Allow => {
                let name = text.get(field.start..field.start + field.name_length).unwrap_or_default();
                if name.contains(&b'_') {
                    if self.limits.underscores == Underscores::Reject {
                        self.rejected(Reject::malformed(self.side(), detail::UNEXPECTED_UNDERSCORE));
                    }
                    return false;
                }
            }
            _ => {}
        }
        let slot = self.storage.slots.len();
        if field.sensitive {
            self.storage.sensitive.insert(slot);
        }
        if field.serial != 0 {
            self.storage.recurring.insert(slot);
        }
        self.push(id, field.start, field.name_length, span, text.len(), field.serial);
        true
    }

    fn trailer(&mut self, text: &[u8], field: &Decoded, id: HeaderId) -> bool {
        let name = text.get(field.start..field.start + field.name_length).unwrap_or_default();
        match id {
            HeaderId::Connection
            | HeaderId::KeepAlive
            | HeaderId::ProxyConnection
            | HeaderId::TransferEncoding
            | HeaderId::Upgrade => {
                self.malformed("connection-specific field");
                return false;
            }
            // Envoy 1.40 takes it for an attack too.
            HeaderId::ContentLength => {
                self.malformed("content-length in trailers");
                return false;
            }
            // As in HTTP/1 (bad-inputs H-22).
            _ if id.is_forbidden_in_trailers(name) => return false,
            _ => {}
        }
        self.state.sensitive |= field.sensitive;
        true
    }

    /// Whether a trailer may not be put into a table.
    pub fn is_sensitive(&self) -> bool {
        self.state.sensitive
    }
}

impl Sink for Gather<'_> {
    #[inline]
    fn field(&mut self, text: &mut Vec<u8>, field: Decoded) -> Result<(), HpackError> {
        let size = text.len() - field.start - LINE_OVERHEAD;
        self.state.size += size;
        self.state.gross += size + ENTRY_OVERHEAD;
        self.state.referred += if field.serial == 0 { 0 } else { size };
        // What restores HTTP/1 is no field of the message's own.
        self.state.count += usize::from(!matches!(field.name, Name::Field(HeaderId::XFilameshHop)));
        if self.state.gross > BOMB * self.limits.max_size {
            return Err(HpackError(detail::BOMB));
        }
        if self.state.size > self.limits.max_size || self.state.referred > self.limits.max_referred {
            self.rejected(Reject::with_status(self.side(), 431, detail::HEADERS_TOO_LARGE));
        } else if self.state.count > self.limits.max_fields.min(MAX_HEADERS - ADDED) {
            self.rejected(Reject::with_status(self.side(), 431, detail::TOO_MANY_HEADERS));
        }
        let kept = match field.name {
            _ if self.state.fault.is_some() || self.kind == Kind::Nothing => false,
            Name::Pseudo(pseudo) => {
                self.pseudo(text, &field, pseudo);
                self.state.fault.is_none()
            }
            Name::Field(id) => self.field(text, &field, id),
        };
        if !kept {
            // What was put in before this line stays.
            let line = size + LINE_OVERHEAD;
            text.truncate(text.len() - line);
        }
        Ok(())
    }
}

/// Where the value of the line at the end of `text` is.
#[inline]
fn value_span(text: &[u8], field: &Decoded) -> Span {
    let start = field.start + field.name_length + 2;
    Span { start: start as u32, length: (text.len() - 2).saturating_sub(start) as u32 }
}

/// Appends a line whose value stands elsewhere in the text; where its value begins.
fn append_line(text: &mut Vec<u8>, id: HeaderId, value: Span) -> usize {
    text.extend_from_slice(id.name().as_bytes());
    text.extend_from_slice(b": ");
    let start = text.len();
    text.extend_from_within(value.start as usize..(value.start + value.length) as usize);
    text.extend_from_slice(b"\r\n");
    start
}
