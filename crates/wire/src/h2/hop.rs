//! HTTP/1 restored exactly on the far side of a hop that two proxies of ours multiplex over HTTP/2.
//!
//! What HTTP/2 has no word for travels as one more field, `x-filamesh-hop`, last in its block: the version, where Host
//! stands, which names have capitals, a reason phrase of the server's own, the case of an Upgrade. The near proxy
//! makes its value ([`shape_request`], [`shape_response`]) and sends it ([`super::Connection::open_with_hop`],
//! [`super::Connection::respond_with_hop`]); the far one takes it off the head it has got ([`restore_request`],
//! [`restore_response`]), whose [`write_request`](crate::h1::write_request) and
//! [`write_response`](crate::h1::write_response) then give the bytes that one HTTP/1 hop would have sent. Heads that look
//! alike have the same value, which goes by reference to the compression table: one byte.
//!
//! Only a peer that is known to be one of ours may be believed. Nobody else's field does anything: it is never
//! forwarded, by either protocol; [`strip`] keeps it from being seen.
//!
//! ```text
//! value   = version [ "@" status "," ] [ "/" length ":" bytes "," ] [ line *( "," line ) ]
//! version = "0" / "1"                            ; HTTP/1.0, HTTP/1.1
//! status  = 3DIGIT                               ; what was answered to an upgrade that was not granted
//! bytes   = a request's method, if it is an upgrade and not GET
//!         / what follows a response's status code, if not the registered phrase
//! line    = name [ "=" spaces "/" spaces ] [ ":" length ":" value ]
//! spaces  = *( "s" / "t" )                       ; spaces and tabs around the value, where not one space before it
//! ```
//!
//! The lines are those of HTTP/1 in their order, the first of them; those left out at the end are in lower case and
//! where they would be without. `host`, `upgrade` (with its value) and `transfer-encoding` (with its value if that is
//! not in lower case) stand among them though HTTP/2 says them otherwise.

use crate::{
    HeaderId,
    h1::{
        Edits, Head, RequestHead, ResponseHead, ResponseTo, TargetForm, Version,
        head::{HeadStorage, SlotSet, Span},
        reason,
    },
    text::push_u64,
};

use super::write;

mod anew;
mod restore;

pub use restore::{restore_request, restore_response};

/// More white space around a value than this is not worth its bytes.
const MAX_SPACES: usize = 32;
/// What HTTP/2 says where an HTTP/1 server answered an upgrade with a 2xx other than 101: it would be taken for one
/// that was granted (RFC 8441 §5).
pub(super) const DECLINED: u16 = 502;

/// Appends the field's value for a request as it will be sent; nothing if it did not come by HTTP/1.
pub fn shape_request(head: &RequestHead<'_>, edits: &Edits, out: &mut Vec<u8>) {
    let Some(mut shape) = Shape::begin(&head.0, edits, out) else { return };
    let upgrade = write::upgrade(head).is_some();
    let method = edits.method.map_or(head.method(), |method| method.of(&edits.words));
    if upgrade && method != b"GET" {
        shape.text(method);
    }
    let form = head.target_form();
    let replaced = edits.host.is_some() || matches!(form, TargetForm::Absolute | TargetForm::Authority);
    shape.begin_lines();
    if head.0.storage.known(HeaderId::Host).is_none() {
        shape.line(b"host", false);
    }
    shape.lines(|shape, at| match shape.id(at) {
        HeaderId::Host if replaced => shape.line(shape.name(at), shape.written > 0),
        HeaderId::Host => shape.slot(at, shape.written > 0),
        HeaderId::Upgrade if upgrade => shape.upgrade(at),
        HeaderId::ContentLength if upgrade => {}
        id => shape.ordinary(at, id),
    });
    shape.end();
}

/// The same for a response. `to`: what it answers.
pub fn shape_response(head: &ResponseHead<'_>, edits: &Edits, to: ResponseTo, out: &mut Vec<u8>) {
    let Some(mut shape) = Shape::begin(&head.0, edits, out) else { return };
    let line = &head.0.storage.line;
    let status = edits.status.unwrap_or(line.status);
    if to.upgrade && is_declined(status) {
        shape.out.push(b'@');
        push_u64(shape.out, u64::from(status));
        shape.out.push(b',');
    }
    if edits.status.is_none() && line.is_written() {
        // `HTTP/1.1 200` before, CRLF after it.
        let start = line.start + b"HTTP/1.1 200".len() as u32;
        let rest =
            Span { start, length: line.fields.saturating_sub(2).saturating_sub(start) }.of(head.0.bytes);
        if rest.split_first() != Some((&b' ', reason(status).as_bytes())) {
            shape.text(rest);
        }
    }
    shape.begin_lines();
    shape.lines(|shape, at| match shape.id(at) {
        HeaderId::Host => {}
        HeaderId::Upgrade if status == 101 => shape.upgrade(at),
        id => shape.ordinary(at, id),
    });
    shape.end();
}

/// Makes the field as if it had never been there: neither forwarded (which it is not in any case) nor found. For heads
/// from a peer that is not known to be one of ours.
#[inline]
pub fn strip(storage: &mut HeadStorage) {
    if is_present(storage) {
        storage.forget(HeaderId::XFilameshHop);
    }
}

/// Whether the peer sent the field.
#[inline]
pub fn is_present(storage: &HeadStorage) -> bool {
    storage.known(HeaderId::XFilameshHop).is_some()
}

/// Whether an answer to an upgrade leaves it at that, though HTTP/2 would have it granted.
pub(super) fn is_declined(status: u16) -> bool {
    (200..300).contains(&status)
}

/// A value in the making.
struct Shape<'a> {
    head: Head<'a>,
    edits: &'a Edits,
    out: &'a mut Vec<u8>,
    /// Where the lines begin in `out`.
    first_line: usize,
    /// Lines so far.
    written: usize,
    /// How much of `out` is needed: what follows is as it would be without.
    needed: usize,
}

impl<'a> Shape<'a> {
    fn begin(head: &Head<'a>, edits: &'a Edits, out: &'a mut Vec<u8>) -> Option<Shape<'a>> {
        out.push(match head.version() {
            Version::Http10 => b'0',
            Version::Http11 => b'1',
            Version::Http2 => return None,
        });
        let here = out.len();
        Some(Shape { head: *head, edits, out, first_line: here, written: 0, needed: here })
    }

    fn begin_lines(&mut self) {
        (self.first_line, self.needed) = (self.out.len(), self.out.len());
    }

    /// Before the first line.
    fn text(&mut self, text: &[u8]) {
        self.out.push(b'/');
        self.counted(text);
        self.out.push(b',');
    }

    fn counted(&mut self, text: &[u8]) {
        push_u64(self.out, text.len() as u64);
        self.out.push(b':');
        self.out.extend_from_slice(text);
    }

    /// Every line that is sent.
    #[inline]
    fn lines(&mut self, slot: impl Fn(&mut Shape<'a>, usize)) {
        let storage = self.head.storage;
        let cut: SlotSet = storage.per_hop.union(&self.edits.cut);
        for at in 0..storage.slots.len() {
            if !cut.has(at) {
                slot(self, at);
            }
        }
        let edits = self.edits;
        for line in edits.lines.iter().filter(|line| !line.removed) {
            match line.id {
                HeaderId::TransferEncoding => self.line(line.name.of(&edits.text), true),
                id if write::is_hop_field(id) => {}
                _ => self.line(line.name.of(&edits.text), false),
            }
        }
    }

    #[inline]
    fn id(&self, at: usize) -> HeaderId {
        self.head.storage.slots.get(at).map_or(HeaderId::Other, |slot| slot.id)
    }

    #[inline]
    fn name(&self, at: usize) -> &'a [u8] {
        self.head.storage.slots.get(at).map_or(&[], |slot| slot.name.of(self.head.bytes))
    }

    #[inline]
    fn ordinary(&mut self, at: usize, id: HeaderId) {
        match id {
            HeaderId::TransferEncoding => self.coding(at),
            id if write::is_hop_field(id) => {}
            _ => self.slot(at, false),
        }
    }

    /// `needed`: without it the line would be elsewhere, or not at all.
    #[inline]
    fn line(&mut self, name: &[u8], needed: bool) {
        self.out.extend_from_slice(name);
        self.out.push(b',');
        self.written += 1;
        if needed || has_capital(name) {
            self.needed = self.out.len();
        }
    }

    #[inline]
    fn slot(&mut self, at: usize, needed: bool) {
        let Some(slot) = self.head.storage.slots.get(at) else { return };
        self.line(slot.name.of(self.head.bytes), needed);
        let colon = slot.name.start + slot.name.length;
        // `: ` before it and nothing after it; an empty value has no place of its own.
        let value = if slot.value.length == 0 { colon + 2 } else { slot.value.start };
        let spaced = value == colon + 2
            && value + slot.value.length + 2 == slot.end
            && self.head.bytes.get(colon as usize + 1) == Some(&b' ');
        if !spaced {
            self.out.pop();
            self.spaces(at);
            self.out.push(b',');
            self.needed = self.out.len();
        }
    }

    #[cold]
    fn spaces(&mut self, at: usize) {
        let Some(slot) = self.head.storage.slots.get(at) else { return };
        let text =
            |start: u32, end: u32| Span { start, length: end.saturating_sub(start) }.of(self.head.bytes);
        let (colon, end) = (slot.name.start + slot.name.length, slot.end.saturating_sub(2));
        let (before, after) = match slot.value {
            Span { length: 0, .. } => (text(colon + 1, end), &[][..]),
            value => (text(colon + 1, value.start), text(value.start + value.length, end)),
        };
        if before.len().max(after.len()) > MAX_SPACES {
            return;
        }
        let letter = |byte: &u8| if *byte == b'\t' { b't' } else { b's' };
        self.out.push(b'=');
        self.out.extend(before.iter().map(letter));
        self.out.push(b'/');
        self.out.extend(after.iter().map(letter));
    }

    fn coding(&mut self, at: usize) {
        self.slot(at, true);
        if self.head.storage.value(at, self.head.bytes) != b"chunked" {
            self.value(at);
        }
    }

    fn upgrade(&mut self, at: usize) {
        self.slot(at, true);
        self.value(at);
    }

    fn value(&mut self, at: usize) {
        self.out.pop();
        self.out.push(b':');
        self.counted(self.head.storage.value(at, self.head.bytes));
        self.out.push(b',');
        self.needed = self.out.len();
    }

    fn end(self) {
        self.out.truncate(self.needed);
        // The comma of the last line. That of a text before all lines stays: the text may end in a space.
        if self.needed > self.first_line {
            self.out.pop();
        }
    }
}

#[inline]
fn has_capital(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_uppercase) || name.iter().any(u8::is_ascii_uppercase)
}
