//! Entry points for fuzzers, called through [`crate::fuzzing::TARGETS`].

use std::{sync::Arc, time::Duration};

use crate::{
    BodyFraming,
    h1::{self, Edits, HeadStorage, Limits, ResponseTo, Scheme, Underscores},
};

use super::{
    Config, Connection, ErrorCode, Event, PREFACE, RequestParts, Scratch,
    gather::{Gather, HeadLimits, Kind, SeenAuthority},
    hop,
    hpack::{Decoded, Decoder, Encoder, HpackError, Indexing, Sink, name::Name},
    write,
};

/// An empty SETTINGS frame and the acknowledgement of ours.
const BEGIN: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Frames from a client, after its preface and settings. The first byte is the split.
pub fn fuzz_server(data: &[u8]) {
    fuzz_connection(data, || {
        let mut server = Connection::server(Arc::new(Config::default()), Duration::ZERO);
        let mut input = &[&PREFACE[..], BEGIN].concat()[..];
        while let Ok(Some(_)) = server.next(&mut input, &mut Scratch::new(), Duration::ZERO) {}
        server
    });
}

/// Frames from a server to which three requests were sent.
pub fn fuzz_client(data: &[u8]) {
    fuzz_connection(data, || {
        let mut client = Connection::client(Arc::new(Config::default()), Duration::ZERO);
        let mut input = BEGIN;
        while let Ok(Some(_)) = client.next(&mut input, &mut Scratch::new(), Duration::ZERO) {}
        for method in [&b"GET"[..], b"HEAD", b"CONNECT"] {
            let parts =
                RequestParts { method, scheme: Scheme::Http, authority: b"a:1", path: b"/", lines: b"" };
            let _ = client.open_parts(&parts, method != b"CONNECT", 0);
        }
        client
    });
}

fn fuzz_connection(data: &[u8], make: impl Fn() -> Connection) {
    let Some((split, data)) = data.split_first() else { return };
    let whole = walk(make(), data, data.len().max(1));
    assert_eq!(walk(make(), data, usize::from(*split) + 1), whole, "the split changes what happens");
    assert_eq!(walk(make(), data, 1), whole, "the split changes what happens");
}

/// What comes of `data` fed in pieces. Runs of one body are joined: their bounds are those of the reads.
fn walk(mut connection: Connection, data: &[u8], split: usize) -> Vec<String> {
    let mut scratch = Scratch::new();
    let mut log: Vec<String> = Vec::new();
    'pieces: for piece in data.chunks(split) {
        let mut input = piece;
        loop {
            let event = match connection.next(&mut input, &mut scratch, Duration::ZERO) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    log.push(error.to_string());
                    break 'pieces;
                }
            };
            if let Event::Request { head, .. } = event {
                assert_forwardable(&head);
            }
            if let Event::Data { stream, bytes, end, .. } = event {
                connection.consume(stream, bytes.len());
                let mut text = format!("data {} ", stream.id());
                if log.last().is_some_and(|last| last.starts_with(&text) && !last.ends_with("end")) {
                    text = log.pop().unwrap_or_default();
                }
                text.push_str(&bytes.escape_ascii().to_string());
                text.push_str(if end { " end" } else { "" });
                log.push(text);
                continue;
            }
            log.push(match event {
                Event::Request { stream, head, end } => {
                    let fields: Vec<_> = head.fields().collect();
                    format!("{} {:?} {:?} {fields:?} {end}", stream.id(), head.method(), head.path())
                }
                Event::Response { stream, head, end, .. } => {
                    let fields: Vec<_> = head.fields().collect();
                    format!("{} {} {fields:?} {end}", stream.id(), head.status())
                }
                other => format!("{other:?}"),
            });
        }
        assert!(input.is_empty(), "all input is taken");
    }
    assert!(connection.open_streams() <= 100 && connection.memory() < 1 << 20);
    let streams: Vec<_> = connection.streams().collect();
    streams.into_iter().for_each(|(stream, _)| connection.reset(stream, ErrorCode::CANCEL));
    assert_eq!(connection.open_streams(), 0);
    log
}

/// Whatever is accepted is read by an HTTP/1 server as it was read here.
fn assert_forwardable(head: &h1::RequestHead<'_>) {
    let mut out = Vec::new();
    h1::write_request(head, &Edits::new(), &mut out);
    let mut storage = HeadStorage::new();
    let limits = Limits {
        secure: true,
        max_head: usize::MAX,
        max_headers: 250,
        allow_custom_methods: true,
        ..Limits::default()
    };
    let length = h1::parse_request(&out, &mut storage, &limits);
    assert_eq!(length, Ok(Some(out.len())), "forwarded head is refused: {}", out.escape_ascii());
    let next = storage.request(&out);
    assert_eq!(
        (next.method(), next.path(), next.authority(), next.framing(), next.upgrade()),
        (head.method(), head.path(), head.authority(), head.framing(), head.upgrade())
    );
}

/// A head from a peer of ours whose [`hop`] field holds the bytes after the first, which says what head: whatever the
/// value, HTTP/1 reads what comes out as it is read here.
pub fn fuzz_hop(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let (answer, upgrade, end) = (choice & 1 != 0, choice & 2 != 0, choice & 4 != 0);
    let to = ResponseTo { head: choice & 8 != 0, connect: false, upgrade };
    let status: &[u8] =
        [b"200", b"304", b"502", b"103"].get(usize::from(choice >> 4 & 3)).map_or(b"200", |s| *s);
    let mut fields: Vec<(&[u8], &[u8])> = match (answer, upgrade) {
        (true, _) => vec![(b":status", status)],
        (false, true) => vec![(b":method", b"CONNECT"), (b":protocol", b"websocket")],
        (false, false) => vec![(b":method", b"POST")],
    };
    if !answer {
        fields.extend([(&b":scheme"[..], &b"http"[..]), (b":path", b"/p"), (b":authority", b"h:1")]);
    }
    fields.extend([(&b"accept"[..], &b"a"[..]), (b"cookie", b"1"), (b"x-b", b""), (b"cookie", b"2")]);
    fields.push((b"x-filamesh-hop", value));
    let (mut text, mut storage) = (Vec::new(), HeadStorage::new());
    let protocol = (answer && upgrade).then_some(&b"websocket"[..]);
    if !gathered(&fields, (!answer).then_some(end), to, protocol, &mut text, &mut storage) {
        return;
    }
    let mut out = Vec::new();
    if !answer {
        hop::restore_request(&mut text, &mut storage);
        return assert_forwardable(&storage.request(&text));
    }
    hop::restore_response(&mut text, &mut storage, to);
    let head = storage.response(&text);
    h1::write_response(&head, &Edits::new(), &mut out);
    let mut again = HeadStorage::new();
    let length = h1::parse_response(&out, &mut again, &Limits::default(), to);
    assert_eq!(length, Ok(Some(out.len())), "forwarded head is refused: {}", out.escape_ascii());
    let next = again.response(&out);
    assert_eq!((next.status(), next.reason()), (head.status(), head.reason()));
    assert_eq!((next.framing(), next.upgrade()), (head.framing(), head.upgrade()));
}

/// A head of these fields, as it is decoded; whether it is acceptable. `end`: of a request.
fn gathered(
    fields: &[(&[u8], &[u8])],
    end: Option<bool>,
    to: ResponseTo,
    protocol: Option<&[u8]>,
    text: &mut Vec<u8>,
    storage: &mut HeadStorage,
) -> bool {
    let mut block = Vec::new();
    for (name, value) in fields {
        Encoder::new(0, false).field(crate::HeaderId::Other, name, value, Indexing::Once, &mut block);
    }
    let limits = HeadLimits {
        max_size: usize::MAX >> 8,
        max_fields: 250,
        max_referred: usize::MAX,
        underscores: Underscores::Allow,
    };
    let kind = if end.is_some() { Kind::Request { extended: true } } else { Kind::Response };
    let mut gather = Gather::new(kind, limits, text, storage);
    if Decoder::new(4096).decode(&block, text, &mut gather).is_err() {
        return false;
    }
    match end {
        Some(end) => gather.finish_request(text, end, &mut SeenAuthority::default()).is_ok(),
        None => gather.finish_response(text, false, to, protocol).is_ok(),
    }
}

/// Over the hop and back it is what one HTTP/1 hop would have sent.
pub(crate) fn assert_restored(head: &h1::RequestHead<'_>, direct: &[u8]) {
    let upgrade = head.upgrade().is_some();
    let crosses = head.framing() == BodyFraming::None && head.path() != b"*";
    let length = head.known(crate::HeaderId::ContentLength).is_some();
    // No HTTP/2 client sends a fragment, nor can all upgrades cross.
    if head.path().contains(&b'#') || upgrade && (length || !crosses) {
        return;
    }
    let mut shape = Vec::new();
    hop::shape_request(head, &Edits::new(), &mut shape);
    let mut encoder = Encoder::new(4096, false);
    let mut block = Vec::new();
    write::request(&mut encoder, head, &Edits::new(), Scheme::Http, &shape, &mut block);
    let limits = HeadLimits {
        max_size: usize::MAX >> 8,
        max_fields: 250,
        max_referred: usize::MAX,
        underscores: Underscores::Allow,
    };
    let (mut text, mut storage) = (Vec::new(), HeadStorage::new());
    let mut gather = Gather::new(Kind::Request { extended: true }, limits, &mut text, &mut storage);
    assert_eq!(Decoder::new(4096).decode(&block, &mut text, &mut gather), Ok(()));
    let end = head.framing() == BodyFraming::None && !upgrade;
    assert!(
        gather.finish_request(&mut text, end, &mut SeenAuthority::default()).is_ok(),
        "{}",
        direct.escape_ascii()
    );
    assert!(hop::restore_request(&mut text, &mut storage), "{}", shape.escape_ascii());
    let mut out = Vec::new();
    h1::write_request(&storage.request(&text), &Edits::new(), &mut out);
    assert_eq!(out.escape_ascii().to_string(), direct.escape_ascii().to_string());
}

/// Two field blocks, the first byte saying where they part: what is decoded, encoded and decoded again is the same.
pub fn fuzz_hpack(data: &[u8]) {
    let Some((at, data)) = data.split_first() else { return };
    let (first, second) = data.split_at(usize::from(*at).min(data.len()));
    let mut decoder = Decoder::new(256);
    for huffman in [false, true] {
        let mut encoder = Encoder::new(200, huffman);
        let mut again = Decoder::new(4096);
        let mut decoder = decoder.clone();
        for block in [first, second] {
            let mut fields = Fields::default();
            if decoder.decode(block, &mut Vec::new(), &mut fields).is_err() {
                break;
            }
            let mut out = Vec::new();
            encoder.begin_block(&mut out);
            for (name, value) in &fields.0 {
                let id = match Name::of(name) {
                    Name::Field(id) if id.name().as_bytes() == name => id,
                    _ => crate::HeaderId::Other,
                };
                encoder.field(id, name, value, Indexing::Recurring, &mut out);
            }
            let mut same = Fields::default();
            assert_eq!(again.decode(&out, &mut Vec::new(), &mut same), Ok(()));
            assert_eq!(same.0, fields.0);
        }
    }
    let _ = decoder.decode(data, &mut Vec::new(), &mut Fields::default());
    assert!(decoder.table().memory() < 4096);
}

#[derive(Default)]
struct Fields(Vec<(Vec<u8>, Vec<u8>)>);

impl Sink for Fields {
    fn field(&mut self, text: &mut Vec<u8>, field: Decoded) -> Result<(), HpackError> {
        let line = text.split_off(field.start);
        let (name, rest) = line.split_at(field.name_length);
        let value = rest.get(2..rest.len() - 2).unwrap_or_default();
        self.0.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}
