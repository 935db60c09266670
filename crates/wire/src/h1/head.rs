//! A parsed head: indices in a reusable storage, and the views that read the buffer through them.

use crate::{HeaderId, authority::Authority};

use super::{BodyFraming, limits::MAX_HEADERS, reason::reason, target::TargetForm};

/// Indices of one parsed head. Owns no bytes; keeps its memory from one head to the next, so that a worker with
/// one storage for requests and one for responses allocates nothing per message. Offsets count from the start of
/// the buffer that was parsed; the views must be given the same bytes (a copy of them will do).
#[derive(Clone, Debug)]
pub struct HeadStorage {
    pub(crate) slots: Vec<Slot>,
    /// By id, one more than the index of its first slot; zero for absent.
    first: [u8; HeaderId::COUNT],
    /// By id, whether it stands more than once.
    repeated: u128,
    /// Fields meant for this hop alone (or dropped for their underscore): never forwarded.
    pub(crate) per_hop: SlotSet,
    /// Fields an HTTP/2 peer asked never to be put into a compression table (RFC 7541 §7.1.3).
    pub(crate) sensitive: SlotSet,
    /// Fields an HTTP/2 peer sent by reference to its compression table: they come again and again.
    pub(crate) recurring: SlotSet,
    /// Which HTTP/2 decoder's table the slots' serials are of.
    pub(crate) decoder: u64,
    /// The serial of `:path`.
    pub(crate) path_serial: u32,
    pub(crate) line: StartLine,
}

const _: () = assert!(HeaderId::COUNT <= 128 && MAX_HEADERS < 255);

/// What was learned from the start line and the fields that rule the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartLine {
    /// Where the start line begins: after the empty lines a client may send before it. A head that came by HTTP/2
    /// has none: it ends where it begins.
    pub start: u32,
    /// Where the first field begins.
    pub fields: u32,
    /// Where the head ends, the empty line included.
    pub end: u32,
    pub version: Version,
    pub method: Span,
    pub target: Span,
    pub form: TargetForm,
    /// What an HTTP/2 request's `:scheme` says, or an absolute target.
    pub scheme: Option<Scheme>,
    pub path: Span,
    pub authority: Span,
    pub host_length: u32,
    pub port: Option<u16>,
    pub status: u16,
    pub reason: Span,
    pub framing: BodyFraming,
    pub keep_alive: bool,
    pub expect_continue: bool,
    /// The slot of an Upgrade field that asks for, or grants, another protocol.
    pub upgrade: Option<u8>,
    /// TE held more than `trailers`: it is cut, and `te: trailers` written in its place.
    pub rewrite_te: bool,
}

/// A part of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub length: u32,
}

impl Span {
    /// Where `part` lies in the buffer that begins at address `base`. Heads are far below 4 GiB.
    #[inline]
    pub fn within(base: usize, part: &[u8]) -> Span {
        Span { start: (part.as_ptr() as usize).wrapping_sub(base) as u32, length: part.len() as u32 }
    }

    #[inline]
    pub fn of(self, head: &[u8]) -> &[u8] {
        let start = self.start as usize;
        head.get(start..start + self.length as usize).unwrap_or_default()
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub name: Span,
    pub value: Span,
    /// Just past the line's CRLF.
    pub end: u32,
    pub id: HeaderId,
    /// Dropped for its underscore.
    pub hidden: bool,
    /// The entry of the HTTP/2 decoder's table by which it came; 0 for none.
    pub serial: u32,
}

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotSet([u64; 4]);

impl SlotSet {
    #[inline]
    pub fn insert(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    #[inline]
    pub fn remove(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    #[inline]
    pub fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    #[inline]
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        SlotSet(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// In rising order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }
}

impl Default for HeadStorage {
    fn default() -> HeadStorage {
        HeadStorage {
            slots: Vec::new(),
            first: [0; HeaderId::COUNT],
            repeated: 0,
            per_hop: SlotSet::default(),
            sensitive: SlotSet::default(),
            recurring: SlotSet::default(),
            decoder: 0,
            path_serial: 0,
            line: StartLine::default(),
        }
    }
}

impl Default for StartLine {
    fn default() -> StartLine {
        StartLine {
            start: 0,
            fields: 0,
            end: 0,
            version: Version::Http11,
            method: Span::default(),
            target: Span::default(),
            form: TargetForm::Origin,
            scheme: None,
            path: Span::default(),
            authority: Span::default(),
            host_length: 0,
            port: None,
            status: 0,
            reason: Span::default(),
            framing: BodyFraming::None,
            keep_alive: true,
            expect_continue: false,
            upgrade: None,
            rewrite_te: false,
        }
    }
}

impl StartLine {
    /// Whether there is a start line in the text.
    #[inline]
    pub fn is_written(&self) -> bool {
        self.start != self.fields
    }
}

impl HeadStorage {
    pub fn new() -> HeadStorage {
        HeadStorage::default()
    }

    /// The view of a request that [`parse_request`](super::parse_request) found in `buffer`.
    #[inline]
    pub fn request<'a>(&'a self, buffer: &'a [u8]) -> RequestHead<'a> {
        RequestHead(Head { bytes: buffer.get(..self.line.end as usize).unwrap_or_default(), storage: self })
    }

    /// The view of a response that [`parse_response`](super::parse_response) found in `buffer`.
    #[inline]
    pub fn response<'a>(&'a self, buffer: &'a [u8]) -> ResponseHead<'a> {
        ResponseHead(Head { bytes: buffer.get(..self.line.end as usize).unwrap_or_default(), storage: self })
    }

    pub(crate) fn reset(&mut self) {
        self.slots.clear();
        self.first = [0; HeaderId::COUNT];
        self.repeated = 0;
        self.per_hop = SlotSet::default();
        self.sensitive = SlotSet::default();
        self.recurring = SlotSet::default();
        (self.decoder, self.path_serial) = (0, 0);
        self.line = StartLine::default();
    }

    /// The same fields as another's; nothing of its start line.
    #[inline]
    pub(crate) fn copy_fields(&mut self, other: &HeadStorage) {
        self.slots.clear();
        self.slots.extend_from_slice(&other.slots);
        (self.first, self.repeated) = (other.first, other.repeated);
        (self.per_hop, self.sensitive, self.recurring) = (other.per_hop, other.sensitive, other.recurring);
        (self.decoder, self.path_serial) = (other.decoder, other.path_serial);
        self.line = StartLine::default();
    }

    /// Bytes that the fields' indices take.
    pub(crate) fn memory_used(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }

    /// Bytes owned.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: Slot) {
        let index = self.slots.len();
        self.slots.push(slot);
        if slot.hidden {
            self.per_hop.insert(index);
        } else {
            self.index(index, slot.id);
        }
    }

    #[inline]
    fn index(&mut self, index: usize, id: HeaderId) {
        if id != HeaderId::Other
            && let Some(first) = self.first.get_mut(id as usize)
        {
            if *first == 0 {
                // At most MAX_HEADERS slots.
                *first = (index + 1) as u8;
            } else {
                self.repeated |= 1 << id as u32;
            }
        }
    }

    /// Puts one line in the place of all lines of its field.
    pub(crate) fn replace(&mut self, slot: Slot) {
        self.forget(slot.id);
        self.push(slot);
    }

    /// Makes all lines of a known field as if they had never been: neither forwarded nor found.
    pub(crate) fn forget(&mut self, id: HeaderId) {
        for (at, old) in self.slots.iter_mut().enumerate().filter(|(_, old)| old.id == id) {
            old.hidden = true;
            self.per_hop.insert(at);
        }
        if let Some(first) = self.first.get_mut(id as usize) {
            *first = 0;
        }
        self.repeated &= !(1 << id as u32);
    }

    /// Takes the last slot away.
    pub(crate) fn pop(&mut self) {
        let Some(slot) = self.slots.pop() else { return };
        let at = self.slots.len();
        [&mut self.per_hop, &mut self.sensitive, &mut self.recurring]
            .into_iter()
            .for_each(|set| set.remove(at));
        if self.known(slot.id) == Some(at)
            && let Some(first) = self.first.get_mut(slot.id as usize)
        {
            *first = 0;
        }
    }

    /// Takes the slots from `count` on for those of the head, in place of those before, whose sets are given.
    pub(crate) fn adopt(&mut self, count: usize, sensitive: SlotSet, recurring: SlotSet) {
        self.first = [0; HeaderId::COUNT];
        (self.repeated, self.per_hop) = (0, SlotSet::default());
        (self.sensitive, self.recurring) = (sensitive, recurring);
        self.slots.drain(..count.min(self.slots.len()));
        for at in 0..self.slots.len() {
            let id = self.slots[at].id;
            self.index(at, id);
        }
    }

    /// The first slot of a known field.
    #[inline]
    pub(crate) fn known(&self, id: HeaderId) -> Option<usize> {
        let first = self.first.get(id as usize).copied().unwrap_or(0);
        (first != 0).then(|| usize::from(first) - 1)
    }

    #[inline]
    pub(crate) fn repeats(&self, id: HeaderId) -> bool {
        self.repeated >> id as u32 & 1 == 1
    }

    #[inline]
    pub(crate) fn value<'a>(&self, slot: usize, head: &'a [u8]) -> &'a [u8] {
        self.slots.get(slot).map_or(&[], |slot| slot.value.of(head))
    }

    /// Keeps every line of a known field from being forwarded.
    pub(crate) fn cut(&mut self, id: HeaderId) {
        if self.known(id).is_some() {
            let mut per_hop = self.per_hop;
            self.all(id).for_each(|slot| per_hop.insert(slot));
            self.per_hop = per_hop;
        }
    }

    /// The slots of a known field.
    pub(crate) fn all(&self, id: HeaderId) -> impl Iterator<Item = usize> {
        let first = self.known(id).unwrap_or(self.slots.len());
        let rest = self.slots.get(first..).unwrap_or_default();
        rest.iter()
            .enumerate()
            .filter(move |(_, slot)| slot.id == id && !slot.hidden)
            .map(move |(at, _)| first + at)
    }
}

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
