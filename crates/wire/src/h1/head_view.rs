//! Views of a parsed head: its version, its fields, what they say of connection and body.

use crate::{HeaderId, authority::Authority};

use super::{
    BodyFraming,
    head::{HeadStorage, Slot, Span},
    reason::reason,
    target::TargetForm,
};

/// The protocol version of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

/// The scheme of a request (RFC 9110 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    /// In any case (CVE-2023-35944: `HTTPS` is https).
    pub fn parse(text: &[u8]) -> Option<Scheme> {
        match text {
            _ if text.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            _ if text.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl Version {
    /// As access logs print it: `HTTP/1.1`.
    pub fn name(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// One header field: its name as sent, its value without surrounding white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub id: HeaderId,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// What both kinds of head have in common, in HTTP/1 and HTTP/2 alike; [`RequestHead`] and [`ResponseHead`] dereference to it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) storage: &'a HeadStorage,
}

impl<'a> Head<'a> {
    /// Bytes of the whole head, what a client sent before its start line included.
    #[inline]
    pub fn wire_length(&self) -> usize {
        self.bytes.len()
    }

    pub fn version(&self) -> Version {
        self.storage.line.version
    }

    /// Where the body that follows ends.
    #[inline]
    pub fn framing(&self) -> BodyFraming {
        self.storage.line.framing
    }

    /// Whether the connection this came on may carry another message after this one.
    #[inline]
    pub fn keep_alive(&self) -> bool {
        self.storage.line.keep_alive
    }

    /// The protocol asked for (request) or granted (response) by Upgrade together with `Connection: upgrade`,
    /// as sent: `websocket`. An h2c upgrade is never one; its fields are cut (bad-inputs U-03).
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        self.storage.line.upgrade.map(|slot| self.storage.value(usize::from(slot), self.bytes))
    }

    /// The first value of a known field, found by index.
    #[inline]
    pub fn known(&self, id: HeaderId) -> Option<&'a [u8]> {
        self.storage.known(id).map(|slot| self.storage.value(slot, self.bytes))
    }

    /// The value of a known field that stands exactly once. Envoy has the lines of its own headers as one value, joined with
    /// `,`: twice `application/grpc` is no content type.
    #[inline]
    pub fn only(&self, id: HeaderId) -> Option<&'a [u8]> {
        self.known(id).filter(|_| !self.repeats(id))
    }

    /// Whether a known field stands more than once.
    pub fn repeats(&self, id: HeaderId) -> bool {
        self.storage.repeats(id)
    }

    /// The first value of a field, its name in any case. An index for known names, else one pass.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        match HeaderId::of(name) {
            HeaderId::Other => self.all(name).next(),
            id => self.known(id),
        }
    }

    /// All values of a field in order, its name in any case.
    pub fn all<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let id = HeaderId::of(name);
        self.fields()
            .filter(move |field| {
                field.id == id && (id != HeaderId::Other || field.name.eq_ignore_ascii_case(name))
            })
            .map(|field| field.value)
    }

    /// Every field in order, those for this hop alone included.
    pub fn fields(&self) -> Fields<'a> {
        Fields { slots: self.storage.slots.iter(), bytes: self.bytes }
    }
}

/// The fields of a head, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    slots: std::slice::Iter<'a, Slot>,
    bytes: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let slot = self.slots.by_ref().find(|slot| !slot.hidden)?;
        Some(Field { id: slot.id, name: slot.name.of(self.bytes), value: slot.value.of(self.bytes) })
    }
}

/// A request's head, as parsed and found acceptable.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a>(pub(crate) Head<'a>);

impl<'a> std::ops::Deref for RequestHead<'a> {
    type Target = Head<'a>;
    fn deref(&self) -> &Head<'a> {
        &self.0
    }
}

impl<'a> RequestHead<'a> {
    /// A token of at most 64 bytes, as sent; methods are case-sensitive.
    #[inline]
    pub fn method(&self) -> &'a [u8] {
        self.0.storage.line.method.of(self.0.bytes)
    }

    /// The request target as sent, in any of its four forms.
    pub fn target(&self) -> &'a [u8] {
        self.0.storage.line.target.of(self.0.bytes)
    }

    pub fn target_form(&self) -> TargetForm {
        self.0.storage.line.form
    }

    /// The path with its query (and fragment, if the client sent one) in origin form, raw: begins with `/`, or is
    /// `*`, or is empty for CONNECT. Feed it to [`crate::path`] before matching on it.
    #[inline]
    pub fn path(&self) -> &'a [u8] {
        match (self.0.storage.line.form, self.0.storage.line.path) {
            // RFC 9112 §3.2.4: what an absolute target without a path stands for.
            (TargetForm::Absolute, Span { length: 0, .. }) if self.method() == b"OPTIONS" => b"*",
            (TargetForm::Absolute, Span { length: 0, .. }) => b"/",
            (_, path) => path.of(self.0.bytes),
        }
    }

    /// Who the request is for, `host[:port]` as sent: the target's own authority if it has one, else Host.
    #[inline]
    pub fn authority(&self) -> &'a [u8] {
        self.0.storage.line.authority.of(self.0.bytes)
    }

    /// The same, taken apart.
    pub fn authority_parts(&self) -> Authority<'a> {
        let line = &self.0.storage.line;
        let host = Span { start: line.authority.start, length: line.host_length }.of(self.0.bytes);
        Authority { host, port: line.port }
    }

    /// The client waits for `100 Continue` before it sends its body.
    pub fn expect_continue(&self) -> bool {
        self.0.storage.line.expect_continue
    }

    /// As an HTTP/2 request says it; HTTP/1 does not.
    pub fn scheme(&self) -> Option<Scheme> {
        self.0.storage.line.scheme
    }

    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }
}

/// A response's head, as parsed and found acceptable.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a>(pub(crate) Head<'a>);

impl<'a> std::ops::Deref for ResponseHead<'a> {
    type Target = Head<'a>;
    fn deref(&self) -> &Head<'a> {
        &self.0
    }
}

impl<'a> ResponseHead<'a> {
    /// 100 to 999.
    #[inline]
    pub fn status(&self) -> u16 {
        self.0.storage.line.status
    }

    /// The reason phrase as sent, maybe empty; the registered one where the status came without.
    pub fn reason(&self) -> &'a [u8] {
        let line = &self.0.storage.line;
        if line.is_written() { line.reason.of(self.0.bytes) } else { reason(line.status).as_bytes() }
    }

    /// A 1xx that another head follows (any but 101). A caller bounds how many it passes on (bad-inputs U-08).
    pub fn is_interim(&self) -> bool {
        matches!(self.status(), 100 | 102..=199)
    }
}
