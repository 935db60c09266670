//! Entry points for fuzzers: bytes in, a panic if a promise of this crate is broken. A corpus of inputs is replayed
//! through them as an ordinary test.

use crate::{
    BodyFraming,
    authority::Authority,
    h1::{self, BodyReader, Edits, HeadStorage, Limits, PartialHead, ResponseTo},
    path::{Normalization, canonicalize},
    reject::Reject,
    sniff::{self, Sniff},
};

/// Takes the fuzzer's bytes.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their corpus directory too.
pub const TARGETS: &[(&str, Target)] = &[
    ("request", fuzz_request),
    ("response", fuzz_response),
    ("body", fuzz_body),
    ("path", fuzz_path),
    ("sniff", fuzz_sniff),
    ("authority", fuzz_authority),
    ("h2_server", crate::h2::fuzzing::fuzz_server),
    ("h2_client", crate::h2::fuzzing::fuzz_client),
    ("h2_hop", crate::h2::fuzzing::fuzz_hop),
    ("hpack", crate::h2::fuzzing::fuzz_hpack),
];

/// Leaves something in every part of a storage.
const USED: &[u8] =
    b"POST http://b:1/used?x HTTP/1.1\r\nHost: a\r\nConnection: x-hop, upgrade\r\nX-Hop: 1\r\n\
    Upgrade: websocket\r\nTE: gzip, trailers\r\nCookie: a\r\nCookie: b\r\nExpect: 100-continue\r\n\
    Transfer-Encoding: chunked\r\nKeep-Alive: 1\r\n\r\n";

/// A verdict does not depend on the split, and what is forwarded is read by the next hop as it was read here.
pub fn fuzz_request(data: &[u8]) {
    for limits in [Limits::default(), Limits { allow_http10: true, secure: true, ..Limits::default() }] {
        let parse = |bytes: &[u8]| {
            let mut storage = HeadStorage::new();
            h1::parse_request(bytes, &mut storage, &limits)
                .map(|length| length.map(|length| (length, storage)))
        };
        let whole = parse(data);
        assert_prefixes_agree(data, &whole, |bytes| {
            parse(bytes).map(|parsed| parsed.map(|(length, _)| length))
        });
        let (mut partial, mut used) = (PartialHead::default(), HeadStorage::new());
        assert_parts_agree(data, &whole, |bytes| partial.request(bytes, &mut used, &limits));
        let Ok(Some((length, storage))) = whole else { continue };
        // A storage used before gives the same.
        let mut used = HeadStorage::new();
        let _ = h1::parse_request(USED, &mut used, &limits);
        assert_eq!(h1::parse_request(data, &mut used, &limits), Ok(Some(length)));
        assert_eq!(format!("{used:?}"), format!("{storage:?}"));

        let head = storage.request(data);
        let mut out = Vec::new();
        h1::write_request(&head, &Edits::new(), &mut out);
        assert!(length <= data.len());
        assert!(Authority::parse(head.authority()).is_some());

        let again = parse(&out);
        let Ok(Some((length, storage))) = again else {
            panic!("forwarded head is refused: {}", out.escape_ascii());
        };
        assert_eq!(length, out.len());
        let next = storage.request(&out);
        assert_eq!(
            (next.method(), next.path(), next.authority(), next.framing(), next.upgrade()),
            (head.method(), head.path(), head.authority(), head.framing(), head.upgrade())
        );
        let mut twice = Vec::new();
        h1::write_request(&next, &Edits::new(), &mut twice);
        if head.upgrade().is_none() {
            assert_eq!(twice, out, "forwarding twice is forwarding once");
        }
        crate::h2::fuzzing::assert_restored(&head, &out);
    }
}

/// As [`fuzz_request`]; the first byte says what was asked.
pub fn fuzz_response(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let to = ResponseTo { head: kind & 1 != 0, connect: kind & 2 != 0, upgrade: kind & 4 != 0 };
    let limits = Limits::default();
    let parse = |bytes: &[u8]| {
        let mut storage = HeadStorage::new();
        h1::parse_response(bytes, &mut storage, &limits, to)
            .map(|length| length.map(|length| (length, storage)))
    };
    let whole = parse(data);
    assert_prefixes_agree(data, &whole, |bytes| parse(bytes).map(|parsed| parsed.map(|(length, _)| length)));
    let (mut partial, mut used) = (PartialHead::default(), HeadStorage::new());
    assert_parts_agree(data, &whole, |bytes| partial.response(bytes, &mut used, &limits, to));
    let Ok(Some((_, storage))) = whole else { return };
    let head = storage.response(data);
    let mut out = Vec::new();
    h1::write_response(&head, &Edits::new(), &mut out);
    let Ok(Some((length, storage))) = parse(&out) else {
        panic!("forwarded head is refused: {}", out.escape_ascii());
    };
    assert_eq!(length, out.len());
    let next = storage.response(&out);
    assert_eq!((next.status(), next.framing()), (head.status(), head.framing()));
}

/// The first verdict on a growing buffer is the verdict on the whole.
fn assert_prefixes_agree<T>(
    data: &[u8],
    whole: &Result<Option<(usize, T)>, Reject>,
    parse: impl Fn(&[u8]) -> Result<Option<usize>, Reject>,
) {
    // Every prefix of a short input; some of a long one.
    let step = data.len() / 256 + 1;
    let first = (0..data.len()).step_by(step).map(|end| parse(data.get(..end).unwrap_or_default()));
    if let Some(first) = first.into_iter().find(|verdict| *verdict != Ok(None)) {
        let whole =
            whole.as_ref().map(|parsed| parsed.as_ref().map(|(length, _)| *length)).map_err(|reject| *reject);
        assert_eq!(first, whole, "the split changes the verdict on {}", data.escape_ascii());
    }
}

/// A head that comes in parts has the verdict of the whole, or is refused before it is whole; what is served is never
/// refused for the way it came.
fn assert_parts_agree<T>(
    data: &[u8],
    whole: &Result<Option<(usize, T)>, Reject>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, Reject>,
) {
    let step = data.len() / 256 + 1;
    let ends = (0..data.len()).step_by(step).chain([data.len()]);
    let mut parts = ends.map(|end| parse(data.get(..end).unwrap_or_default()));
    let first = parts.find(|verdict| *verdict != Ok(None)).unwrap_or(Ok(None));
    match whole {
        Ok(Some((length, _))) => assert_eq!(first, Ok(Some(*length)), "{}", data.escape_ascii()),
        Err(_) => assert!(first.is_err(), "{first:?}: {}", data.escape_ascii()),
        Ok(None) => assert!(!matches!(first, Ok(Some(_))), "{}", data.escape_ascii()),
    }
}

/// The first byte chooses framing and split. Raw and decoded walks agree under any split, and what is forwarded
/// is the same body again.
pub fn fuzz_body(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let framing = match choice & 3 {
        0 => BodyFraming::Length(u64::from(choice >> 2)),
        1 => BodyFraming::UntilClose,
        _ => BodyFraming::Chunked,
    };
    let split = usize::from(choice >> 2) + 1;
    let whole = raw(data, data.len().max(1), framing);
    assert_eq!(raw(data, split, framing), whole);
    assert_eq!(raw(data, 1, framing), whole);
    let decoded = decode(data, split, framing);
    let Ok(raw_walk) = whole else {
        assert_eq!(decoded.err(), whole.err());
        return;
    };
    let decoded = decoded.expect("raw and decoded walks agree");
    assert_eq!((decoded.consumed, decoded.done), (raw_walk.consumed, raw_walk.done));
    let again = decode(&raw_walk.bytes, split, framing).expect("what is forwarded is well-formed");
    assert_eq!((again.bytes, again.done), (decoded.bytes, decoded.done));
}

/// What a walk over a body made of it: the bytes forwarded, or the payload.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    consumed: usize,
    done: bool,
    bytes: Vec<u8>,
}

fn raw(data: &[u8], split: usize, framing: BodyFraming) -> Result<Walk, Reject> {
    let mut reader = BodyReader::request(framing, &Limits::default());
    let mut walk = Walk { consumed: 0, done: reader.is_done(), bytes: Vec::new() };
    for part in data.chunks(split) {
        let step = reader.advance(part)?;
        assert!(step.forward <= step.consumed && step.consumed <= part.len());
        assert!(step.done || step.consumed == part.len(), "bytes left over only after the end");
        walk.consumed += step.consumed;
        walk.bytes.extend_from_slice(part.get(..step.forward).unwrap_or_default());
        if step.tail {
            walk.bytes.extend_from_slice(reader.tail());
        }
        if step.done {
            walk.done = true;
            break;
        }
    }
    Ok(walk)
}

fn decode(data: &[u8], split: usize, framing: BodyFraming) -> Result<Walk, Reject> {
    let mut reader = BodyReader::request(framing, &Limits::default());
    let mut walk = Walk { consumed: 0, done: reader.is_done(), bytes: Vec::new() };
    'parts: for part in data.chunks(split) {
        let mut rest = part;
        while !rest.is_empty() {
            let step = reader.decode(rest)?;
            walk.consumed += step.consumed;
            walk.bytes.extend_from_slice(step.payload);
            if step.done {
                walk.done = true;
                break 'parts;
            }
            assert!(step.consumed > 0, "a walk gets on");
            rest = rest.get(step.consumed..).unwrap_or_default();
        }
    }
    assert_eq!(reader.payload(), walk.bytes.len() as u64);
    Ok(walk)
}

/// A canonical path stays what it is, and holds nothing a second reader would read as another path.
pub fn fuzz_path(data: &[u8]) {
    for how in [
        Normalization::NONE,
        Normalization::BASE,
        Normalization::MERGE_SLASHES,
        Normalization::DECODE_AND_MERGE_SLASHES,
    ] {
        let Ok(once) = canonicalize(data, how) else { continue };
        assert!(!once.target.contains(&b'#') && !once.path().contains(&b'?'));
        let twice = canonicalize(&once.target, how).expect("a canonical path is accepted");
        assert_eq!((&twice.target, twice.path()), (&once.target, once.path()));
        if how.normalize && data.first() == Some(&b'/') {
            assert_eq!(once.path().first(), Some(&b'/'));
            assert!(!once.path().split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
        }
    }
}

/// A verdict once given does not change with more bytes.
pub fn fuzz_sniff(data: &[u8]) {
    let whole = sniff::inspect(data);
    let step = data.len() / 256 + 1;
    for end in (0..data.len()).step_by(step) {
        let verdict = sniff::inspect(data.get(..end).unwrap_or_default());
        if verdict != Sniff::NeedMore {
            assert_eq!(verdict, whole);
            break;
        }
    }
}

/// What is accepted is made of its parts.
pub fn fuzz_authority(data: &[u8]) {
    if let Some(authority) = Authority::parse(data) {
        assert!(data.starts_with(authority.host) && !authority.host.is_empty());
        assert_eq!(authority.port.is_some(), data.len() > authority.host.len());
        assert!(data.is_ascii() && !data.contains(&b'@') && !data.contains(&b','));
    }
}
