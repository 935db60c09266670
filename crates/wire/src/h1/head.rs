//! A parsed head: indices in a reusable storage. [`super::head_view`] reads the buffer through them.

use crate::HeaderId;

use super::{
    BodyFraming,
    head_view::{Head, RequestHead, ResponseHead, Scheme, Version},
    limits::MAX_HEADERS,
    target::TargetForm,
};

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
