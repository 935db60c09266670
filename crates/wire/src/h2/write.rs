//! From a head, however it came, to a field block.

use crate::{
    BodyFraming, HeaderId,
    h1::{Edits, RequestHead, ResponseHead, Scheme, TargetForm, Version, head::SlotSet, head_view::Head},
};

use super::{
    gather::PATH,
    hpack::{Encoder, Indexing, Origin, name::Pseudo, static_table},
    trailers,
};

/// The protocol that a request asks for as HTTP/2 can: by an extended CONNECT (RFC 8441 §4), which has a path and no
/// body. Any other goes as if it did not ask, which a server may take any request for (RFC 9110 §7.8).
#[inline]
pub(super) fn upgrade<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    head.upgrade().filter(|_| head.framing() == BodyFraming::None && head.path() != b"*")
}

/// Appends the block of a request, as `edits` would have it. An HTTP/1 upgrade becomes an extended CONNECT
/// (RFC 8441 §4). `hop`: the value of [`super::hop`]'s field, empty for none.
pub(super) fn request(
    encoder: &mut Encoder,
    head: &RequestHead<'_>,
    edits: &Edits,
    scheme: Scheme,
    hop: &[u8],
    out: &mut Vec<u8>,
) {
    encoder.begin_block(out);
    let upgrade = upgrade(head);
    let form = head.target_form();
    let method = match edits.method {
        _ if upgrade.is_some() => b"CONNECT",
        Some(method) => method.of(&edits.words),
        None => head.method(),
    };
    match method {
        b"GET" => encoder.static_field(2, out),
        b"POST" => encoder.static_field(3, out),
        _ => pseudo(encoder, 2, Pseudo::Method, method, Indexing::Recurring, out),
    }
    if let Some(protocol) = upgrade {
        // Registered in lower case, while HTTP/1 does not mind (RFC 9110 §7.8).
        with_lower(protocol, |protocol| {
            pseudo(encoder, 0, Pseudo::Protocol, protocol, Indexing::Recurring, out);
        });
    }
    if form != TargetForm::Authority || edits.method.is_some() {
        encoder.static_field(if scheme == Scheme::Https { 7 } else { 6 }, out);
        let path = edits.replaced_target();
        match path.unwrap_or(head.path()) {
            b"/" => encoder.static_field(4, out),
            value => {
                let storage = head.storage;
                let again = path.is_none() && storage.recurring.has(PATH);
                let grpc = || {
                    head.known(HeaderId::ContentType)
                        .is_some_and(|kind| kind.starts_with(b"application/grpc"))
                };
                if again {
                    let origin = Origin { decoder: storage.decoder, serial: storage.path_serial };
                    encoder.pseudo_from(origin, 4, Pseudo::Path.name().as_bytes(), value, out);
                } else {
                    let indexing = if grpc() { Indexing::Recurring } else { Indexing::Once };
                    pseudo(encoder, 4, Pseudo::Path, value, indexing, out);
                }
            }
        }
    }
    match edits.replaced_host() {
        Some(host) => pseudo(encoder, 1, Pseudo::Authority, host, Indexing::Recurring, out),
        None => {
            let host = head.storage.known(HeaderId::Host).and_then(|at| head.storage.slots.get(at));
            let serial = host.map_or(0, |host| host.serial);
            let origin = Origin { decoder: head.storage.decoder, serial };
            encoder.pseudo_from(origin, 1, Pseudo::Authority.name().as_bytes(), head.authority(), out);
        }
    }
    fields(encoder, head, edits, upgrade.is_some(), hop, out);
}

/// Appends the block of a response, as `edits` would have it, but with `code` for its status. A 101 becomes the 200 of
/// an extended CONNECT. `hop`: the value of [`super::hop`]'s field, empty for none.
pub(super) fn response(
    encoder: &mut Encoder,
    head: &ResponseHead<'_>,
    edits: &Edits,
    code: u16,
    hop: &[u8],
    out: &mut Vec<u8>,
) {
    encoder.begin_block(out);
    status(encoder, code, out);
    fields(encoder, head, edits, false, hop, out);
}

/// Appends `:status`.
pub(super) fn status(encoder: &mut Encoder, status: u16, out: &mut Vec<u8>) {
    let status = if status == 101 { 200 } else { status };
    match static_table::index_of_status(status) {
        0 => {
            let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
            pseudo(encoder, 8, Pseudo::Status, &digits, Indexing::Recurring, out);
        }
        index => encoder.static_field(index, out),
    }
}

/// Appends the fields of lines as HTTP/1 spells them.
pub(super) fn lines(encoder: &mut Encoder, lines: &[u8], sensitive: bool, out: &mut Vec<u8>) {
    for (name, value) in trailers::lines(lines) {
        let id = HeaderId::of(name);
        if !is_hop_field(id) {
            field(encoder, id, name, value, if sensitive { Indexing::Never } else { indexing(id) }, out);
        }
    }
}

pub(super) fn pseudo(
    encoder: &mut Encoder,
    index: u8,
    name: Pseudo,
    value: &[u8],
    indexing: Indexing,
    out: &mut Vec<u8>,
) {
    encoder.pseudo(index, name.name().as_bytes(), value, indexing, out);
}

/// The fields that are left of a head. `tunnel`: it asks for one, and so has no length.
#[inline]
fn fields(
    encoder: &mut Encoder,
    head: &Head<'_>,
    edits: &Edits,
    tunnel: bool,
    hop: &[u8],
    out: &mut Vec<u8>,
) {
    let storage = head.storage;
    let cut: SlotSet = storage.per_hop.union(&edits.cut);
    let lower = storage.line.version == Version::Http2;
    for (at, slot) in storage.slots.iter().enumerate() {
        if cut.has(at) || is_hop_field(slot.id) || tunnel && slot.id == HeaderId::ContentLength {
            continue;
        }
        let (name, value) = (slot.name.of(head.bytes), slot.value.of(head.bytes));
        if lower && slot.serial != 0 {
            let origin = Origin { decoder: storage.decoder, serial: slot.serial };
            encoder.field_from(origin, slot.id, name, value, out);
            continue;
        }
        let how = if storage.sensitive.has(at) {
            Indexing::Never
        } else if storage.recurring.has(at) {
            Indexing::Recurring
        } else {
            indexing(slot.id)
        };
        if lower {
            encoder.field(slot.id, name, value, how, out);
        } else {
            field(encoder, slot.id, name, value, how, out);
        }
    }
    for line in edits.lines.iter().filter(|line| !line.removed && !is_hop_field(line.id)) {
        let (name, value) = (line.name.of(&edits.text), line.value.of(&edits.text));
        field(encoder, line.id, name, value, indexing(line.id), out);
    }
    if storage.line.rewrite_te {
        encoder.field(HeaderId::Te, b"te", b"trailers", Indexing::Recurring, out);
    }
    if !hop.is_empty() {
        let id = HeaderId::XFilameshHop;
        encoder.field(id, id.name().as_bytes(), hop, Indexing::Recurring, out);
    }
}

/// A field whose name may have capitals.
#[inline]
fn field(
    encoder: &mut Encoder,
    id: HeaderId,
    name: &[u8],
    value: &[u8],
    indexing: Indexing,
    out: &mut Vec<u8>,
) {
    if id != HeaderId::Other {
        return encoder.field(id, id.name().as_bytes(), value, indexing, out);
    }
    if !name.iter().any(u8::is_ascii_uppercase) {
        return encoder.field(id, name, value, indexing, out);
    }
    with_lower(name, |name| encoder.field(id, name, value, indexing, out));
}

/// Lends `text` in lower case, without allocating unless it is long.
#[inline]
fn with_lower(text: &[u8], then: impl FnOnce(&[u8])) {
    const SHORT: usize = 64;
    let mut buffer = [0; SHORT];
    match buffer.get_mut(..text.len()) {
        Some(lower) => {
            lower.copy_from_slice(text);
            lower.make_ascii_lowercase();
            then(lower);
        }
        None => then(&text.to_ascii_lowercase()),
    }
}

/// What HTTP/2 says otherwise, or not at all (RFC 9113 §8.2.2).
#[inline]
pub(super) fn is_hop_field(id: HeaderId) -> bool {
    matches!(
        id,
        HeaderId::Host
            | HeaderId::Connection
            | HeaderId::KeepAlive
            | HeaderId::ProxyConnection
            | HeaderId::TransferEncoding
            | HeaderId::Upgrade
            | HeaderId::Http2Settings
            | HeaderId::XFilameshHop
    )
}

/// How a field goes that did not come by reference: names whose values are few are entered into the table, secrets
/// kept out of it (RFC 7541 §7.1.3).
#[inline]
fn indexing(id: HeaderId) -> Indexing {
    use HeaderId::*;
    match id {
        Authorization | ProxyAuthorization => Indexing::Never,
        UserAgent | Accept | AcceptEncoding | ContentType | Server | Te | CacheControl | Vary | Via => {
            Indexing::Recurring
        }
        GrpcStatus | GrpcEncoding | XForwardedProto | XEnvoyAttemptCount | XEnvoyInternal => {
            Indexing::Recurring
        }
        XEnvoyDecoratorOperation | XEnvoyPeerMetadata | XEnvoyPeerMetadataId => Indexing::Recurring,
        _ => Indexing::Once,
    }
}
