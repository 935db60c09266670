//! Entry points for fuzzers, called through [`crate::fuzzing::TARGETS`].

use std::{sync::Arc, time::Duration};

use crate::h1::{self, Edits, HeadStorage, Limits, Scheme};

use super::{
    Config, Connection, ErrorCode, Event, PREFACE, RequestParts, Scratch,
    hpack::{Decoded, Decoder, Encoder, HpackError, Indexing, Sink, name::Name},
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
    let limits = Limits { secure: true, max_head: usize::MAX, max_headers: 250, ..Limits::default() };
    let length = h1::parse_request(&out, &mut storage, &limits);
    assert_eq!(length, Ok(Some(out.len())), "forwarded head is refused: {}", out.escape_ascii());
    let next = storage.request(&out);
    assert_eq!(
        (next.method(), next.path(), next.authority(), next.framing(), next.upgrade()),
        (head.method(), head.path(), head.authority(), head.framing(), head.upgrade())
    );
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
