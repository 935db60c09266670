//! How the outgoing head differs from the incoming one.

use crate::{
    HeaderId,
    text::{is_token, push_u64},
};

use super::{
    Head,
    head::{SlotSet, Span},
};

/// Lines to cut, lines to add, parts of the start line to replace. Reusable: one per worker, cleared per message,
/// allocates only while it grows. Whatever is not mentioned here is forwarded byte for byte, in order.
///
/// The fields meant for this hop alone need no mention; they are never forwarded. Host is special: it can be
/// replaced by any of the setters, in its place, but neither removed nor doubled.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub(crate) cut: SlotSet,
    pub(crate) lines: Vec<Line>,
    /// The added lines, one after the other.
    pub(crate) text: Vec<u8>,
    pub(crate) method: Option<Span>,
    pub(crate) target: Option<Span>,
    pub(crate) host: Option<Span>,
    pub(crate) status: Option<u16>,
    /// The replaced parts of the start line.
    pub(crate) words: Vec<u8>,
    pub(crate) any_removed: bool,
}

/// An added line in `text`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub id: HeaderId,
    pub name: Span,
    pub value: Span,
    pub removed: bool,
}

impl Line {
    /// The line with its CRLF.
    pub fn whole(self) -> Span {
        Span { start: self.name.start, length: self.value.start + self.value.length + 2 - self.name.start }
    }
}

impl Edits {
    pub fn new() -> Edits {
        Edits::default()
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.cut = SlotSet::default();
        self.lines.clear();
        self.text.clear();
        self.words.clear();
        (self.method, self.target, self.host, self.status) = (None, None, None, None);
        self.any_removed = false;
    }

    /// Removes every line of this name, added ones included.
    pub fn remove(&mut self, head: &Head<'_>, name: &[u8]) {
        let id = HeaderId::of(name);
        if id != HeaderId::Other {
            return self.remove_known(head, id);
        }
        for (at, slot) in head.storage.slots.iter().enumerate() {
            if slot.id == id && slot.name.of(head.bytes).eq_ignore_ascii_case(name) {
                self.cut.insert(at);
            }
        }
        for line in &mut self.lines {
            if line.id == id && line.name.of(&self.text).eq_ignore_ascii_case(name) {
                line.removed = true;
                self.any_removed = true;
            }
        }
    }

    /// As [`Edits::remove`], for a known name.
    pub fn remove_known(&mut self, head: &Head<'_>, id: HeaderId) {
        if id == HeaderId::Host {
            return;
        }
        if head.storage.known(id).is_some() {
            head.storage.all(id).for_each(|slot| self.cut.insert(slot));
        }
        for line in self.lines.iter_mut().filter(|line| line.id == id && id != HeaderId::Other) {
            line.removed = true;
            self.any_removed = true;
        }
    }

    /// Leaves exactly one line of this name, at the end.
    pub fn set(&mut self, head: &Head<'_>, name: &[u8], value: &[u8]) {
        self.remove(head, name);
        self.append(name, value);
    }

    pub fn set_known(&mut self, head: &Head<'_>, id: HeaderId, value: &[u8]) {
        self.remove_known(head, id);
        self.append_known(id, value);
    }

    /// Adds a line. A name that is no token is not added; CR, LF and NUL in a value become spaces (RFC 9110 §5.5),
    /// so that no value can end its line.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        if is_token(name) {
            self.push(HeaderId::of(name), name, |out| out.extend_from_slice(value));
        }
    }

    #[inline]
    pub fn append_known(&mut self, id: HeaderId, value: &[u8]) {
        self.append_known_with(id, |out| out.extend_from_slice(value));
    }

    /// Adds a line whose value is a number.
    pub fn append_number(&mut self, id: HeaderId, value: u64) {
        self.append_known_with(id, |out| push_u64(out, value));
    }

    /// Adds a line whose value `write` appends.
    #[inline]
    pub fn append_known_with(&mut self, id: HeaderId, write: impl FnOnce(&mut Vec<u8>)) {
        if id != HeaderId::Other {
            self.push(id, id.name().as_bytes(), write);
        }
    }

    /// Adds `value` to the end of a list field as Envoy does for x-forwarded-for: `old, value` in one line.
    pub fn append_to_list(&mut self, head: &Head<'_>, id: HeaderId, value: &[u8]) {
        let added = self.lines.iter().rposition(|line| line.id == id && !line.removed);
        if let Some(at) = added {
            // Rare: the same list extended twice. The line moves to the end with its new member.
            let old = self.lines.get(at).map(|line| line.value.of(&self.text).to_vec()).unwrap_or_default();
            if let Some(line) = self.lines.get_mut(at) {
                line.removed = true;
                self.any_removed = true;
            }
            return self.append_known_with(id, |out| {
                out.extend_from_slice(&old);
                out.extend_from_slice(b", ");
                out.extend_from_slice(value);
            });
        }
        let cut = self.cut;
        let slots = || head.storage.all(id).filter(move |slot| !cut.has(*slot));
        self.append_known_with(id, |out| {
            for slot in slots() {
                out.extend_from_slice(head.storage.value(slot, head.bytes));
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value);
        });
        head.storage.all(id).for_each(|slot| self.cut.insert(slot));
    }

    /// The first value of a field as it will be sent: with the edits made so far, without what is for this hop
    /// alone.
    #[inline]
    pub fn value<'a>(&'a self, head: &Head<'a>, name: &[u8]) -> Option<&'a [u8]> {
        match HeaderId::of(name) {
            HeaderId::Other => self.values(head, name).next(),
            id => self.value_known(head, id),
        }
    }

    /// As [`Edits::value`], for a known name.
    #[inline]
    pub fn value_known<'a>(&'a self, head: &Head<'a>, id: HeaderId) -> Option<&'a [u8]> {
        // A known field costs one look if it stands untouched in the head, and one at each added line if it is not in it.
        if id != HeaderId::Other && id != HeaderId::Host {
            match head.storage.known(id) {
                Some(slot) if !self.is_cut(head, slot) => return Some(head.storage.value(slot, head.bytes)),
                None => {
                    let added = self.lines.iter().find(|line| line.id == id && !line.removed)?;
                    return Some(added.value.of(&self.text));
                }
                Some(_) => {}
            }
        }
        self.values(head, id.name().as_bytes()).next()
    }

    /// All values of a field as they will be sent, in order.
    pub fn values<'a, 'n>(
        &'a self,
        head: &Head<'a>,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let id = HeaderId::of(name);
        let replaced = if id == HeaderId::Host { self.replaced_host() } else { None };
        let head = *head;
        let sent = head.storage.slots.iter().enumerate().filter(move |(at, slot)| {
            slot.id == id
                && replaced.is_none()
                && (id != HeaderId::Other || slot.name.of(head.bytes).eq_ignore_ascii_case(name))
                && !self.is_cut(&head, *at)
        });
        let added = self.lines.iter().filter(move |line| {
            !line.removed
                && line.id == id
                && (id != HeaderId::Other || line.name.of(&self.text).eq_ignore_ascii_case(name))
        });
        let sent = sent.map(move |(_, slot)| slot.value.of(head.bytes));
        replaced.into_iter().chain(sent).chain(added.map(|line| line.value.of(&self.text)))
    }

    #[inline]
    fn is_cut(&self, head: &Head<'_>, slot: usize) -> bool {
        self.cut.has(slot) || head.storage.per_hop.has(slot)
    }

    /// Sends another method. Ignored unless a token.
    pub fn method(&mut self, method: &[u8]) {
        if is_token(method) {
            self.method = Some(self.word(method));
        }
    }

    /// Sends another target, in origin form. Bytes a request line can not hold are percent-encoded.
    pub fn target(&mut self, target: &[u8]) {
        self.target = Some(self.word(target));
    }

    /// Sends another Host, in the place of the old one.
    pub fn host(&mut self, host: &[u8]) {
        self.host = Some(self.word(host));
    }

    /// Answers with another status and its registered reason phrase.
    pub fn status(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The target as it will be sent, if it was replaced.
    pub fn replaced_target(&self) -> Option<&[u8]> {
        self.target.map(|span| span.of(&self.words))
    }

    /// The Host as it will be sent, if it was replaced.
    pub fn replaced_host(&self) -> Option<&[u8]> {
        self.host.map(|span| span.of(&self.words))
    }

    #[inline]
    fn push(&mut self, id: HeaderId, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        let value = self.text.len();
        write(&mut self.text);
        if let Some(written) = self.text.get_mut(value..) {
            // Without an early end the compiler makes vectors of it; most values are shorter than a call would take.
            let ends_line = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
            if written.iter().fold(false, |any, byte| any | ends_line(*byte)) {
                written.iter_mut().filter(|byte| ends_line(**byte)).for_each(|byte| *byte = b' ');
            }
        }
        if id == HeaderId::Host {
            // A request has one Host, whatever a policy adds.
            let host = self.text.split_off(value);
            self.text.truncate(start);
            return self.host(&host);
        }
        let length = self.text.len() - value;
        self.text.extend_from_slice(b"\r\n");
        self.lines.push(Line {
            id,
            name: Span { start: start as u32, length: name.len() as u32 },
            value: Span { start: value as u32, length: length as u32 },
            removed: false,
        });
    }

    fn word(&mut self, text: &[u8]) -> Span {
        let start = self.words.len() as u32;
        for byte in text {
            if (0x21..=0x7e).contains(byte) {
                self.words.push(*byte);
            } else {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                self.words.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
        Span { start, length: self.words.len() as u32 - start }
    }
}
