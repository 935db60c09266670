//! Writing the outgoing head: the incoming bytes without the lines that were cut, then the lines that were added.

use crate::{HeaderId, text::push_u64};

use super::{
    BodyFraming, Edits, RequestHead, ResponseHead,
    head::{SlotSet, Span},
    head_view::{Head, Version},
    reason::push_status_line,
    target::TargetForm,
};

/// Appends the request head to send upstream: origin form (CONNECT and `*` apart), HTTP/1.1, one Host that is the
/// request's authority, and whatever `edits` ask for.
pub fn write_request(head: &RequestHead<'_>, edits: &Edits, out: &mut Vec<u8>) {
    let line = &head.0.storage.line;
    let absolute = line.form == TargetForm::Absolute;
    let untouched = edits.method.is_none() && edits.target.is_none() && !absolute;
    if untouched && line.version == Version::Http11 && line.is_written() {
        out.extend_from_slice(between(head.0.bytes, line.start, line.fields));
    } else {
        out.extend_from_slice(edits.method.map_or(head.method(), |method| method.of(&edits.words)));
        out.push(b' ');
        let target = match edits.target {
            Some(target) => target.of(&edits.words),
            None if absolute => head.path(),
            None => head.target(),
        };
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    let old_host = head.0.storage.known(HeaderId::Host);
    let new_host = match edits.host {
        Some(host) => Some(host.of(&edits.words)),
        // RFC 9112 §3.2.2: the target's authority replaces Host. So it does where Host was missing or, for
        // CONNECT, said something else.
        None if absolute || line.form == TargetForm::Authority => Some(head.authority()),
        None => None,
    };
    write_fields(
        &head.0,
        edits,
        old_host.zip(new_host),
        old_host.is_none().then_some(new_host).flatten(),
        out,
    );
}

/// Appends the response head to send downstream, as HTTP/1.1.
pub fn write_response(head: &ResponseHead<'_>, edits: &Edits, out: &mut Vec<u8>) {
    let line = &head.0.storage.line;
    match edits.status {
        Some(status) => push_status_line(out, status),
        None if !line.is_written() => push_status_line(out, line.status),
        None if line.version == Version::Http11 => {
            out.extend_from_slice(between(head.0.bytes, line.start, line.fields))
        }
        None => {
            out.extend_from_slice(b"HTTP/1.1 ");
            push_u64(out, u64::from(line.status));
            out.push(b' ');
            out.extend_from_slice(head.reason());
            out.extend_from_slice(b"\r\n");
        }
    }
    write_fields(&head.0, edits, None, None, out);
}

/// `replace`: a slot to write anew in its place; `first`: a Host to put before all others.
#[inline]
fn write_fields(
    head: &Head<'_>,
    edits: &Edits,
    replace: Option<(usize, &[u8])>,
    first: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let line = &head.storage.line;
    if let Some(host) = first {
        push_line(out, b"host", host);
    }
    let mut cut: SlotSet = head.storage.per_hop.union(&edits.cut);
    if let Some((slot, _)) = replace {
        cut.insert(slot);
    }
    let mut at = line.fields;
    for index in cut.iter() {
        let Some(slot) = head.storage.slots.get(index) else { break };
        out.extend_from_slice(between(head.bytes, at, slot.name.start));
        if let Some((replaced, value)) = replace
            && replaced == index
        {
            push_line(out, slot.name.of(head.bytes), value);
        }
        at = slot.end;
    }
    out.extend_from_slice(between(head.bytes, at, line.end.saturating_sub(2)));
    if edits.any_removed {
        for line in edits.lines.iter().filter(|line| !line.removed) {
            out.extend_from_slice(line.whole().of(&edits.text));
        }
    } else {
        out.extend_from_slice(&edits.text);
    }
    if line.rewrite_te {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if line.upgrade.is_some() {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    if line.framing == BodyFraming::Chunked && head.storage.known(HeaderId::TransferEncoding).is_none() {
        // HTTP/2 frames a body of unknown length by itself.
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn between(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    Span { start, length: end.saturating_sub(start) }.of(bytes)
}
