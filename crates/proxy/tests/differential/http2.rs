//! Requests over HTTP/2, well formed and not, to both: one on each connection, so that the end of a connection, which
//! is Envoy's answer to a malformed message, hides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use wire::id::Random;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, Peer, RST_STREAM, block,
    frame,
};
use crate::generate::Choice;
use crate::host::Seen;
use crate::subject::{LANES, Subject, shown};

struct Case {
    number: usize,
    /// What is wrong or odd about it, and why this proxy may refuse it where Envoy does not.
    oddity: &'static Oddity,
    bytes: Vec<u8>,
    cuts: Vec<usize>,
}

/// A change to a request: its name, why this proxy may be stricter (empty: it may not), and what it does.
struct Oddity(&'static str, &'static str, fn(&mut Request, &mut Choice<'_>));

struct Request {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    padded: bool,
    /// Instead of the body's own length.
    length: Option<String>,
}

impl Request {
    fn set(&mut self, name: &str, value: &str) {
        match self.fields.iter_mut().find(|(key, _)| key == name.as_bytes()) {
            Some((_, old)) => *old = value.as_bytes().to_vec(),
            None => self.add(name, value),
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.fields.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    }

    fn drop(&mut self, name: &str) {
        self.fields.retain(|(key, _)| key != name.as_bytes());
    }
}

const PATHS: &[&str] = &[
    "/a?b=c",
    "/a/../b",
    "/%2e%2e/x",
    "//x//y",
    "/a;b=c",
    "/a%2fb",
    "/a\\b",
    "/./a/.",
    "/?",
    "/%41%7e",
    "/a/%2E/b",
    "/x?a=/../b",
];
const BAD_PATHS: &[&str] =
    &["", "x", "*", "/a b", "/a\r\nb", "/a#b", "/a\tb", "/a\0b", "http://abs.test/x", "?x", "/\u{e9}"];
const BAD_AUTHORITIES: &[&str] = &["a b", "a,b", "[::1", "a:99999", "user@a", "a\r\nx: y", "", "a/b", "a\0b"];
const FINE: &[(&str, &str)] = &[
    ("user-agent", "t"),
    ("x-empty", ""),
    ("x-dup", "1"),
    ("x-dup", "2"),
    ("te", "trailers"),
    ("accept", "*/*"),
    ("via", "2 other"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-for", "1.2.3.4"),
    ("content-type", "application/grpc"),
    ("x-under_score", "1"),
    ("x-high", "\u{e9}"),
    ("priority", "u=1"),
    ("x-request-id", "fixed"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("x-colon", "a:b"),
];

const ODDITIES: &[Oddity] = &[
    Oddity("nothing", "", |_, _| {}),
    Oddity("a path", "", |request, choose| request.set(":path", choose.of(PATHS))),
    Oddity("a bad path", "N-14", |request, choose| request.set(":path", choose.of(BAD_PATHS))),
    Oddity("a bad authority", "H-30, N-15", |request, choose| {
        request.set(":authority", choose.of(BAD_AUTHORITIES))
    }),
    Oddity("a port", "", |request, _| request.set(":authority", "b.test:8080")),
    Oddity("a method", "", |request, choose| {
        request.set(":method", choose.of(&["PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]))
    }),
    Oddity("a bad method", "N-15", |request, choose| {
        request.set(":method", choose.of(&["", "G ET", "GET / HTTP/1.1\r\n", "G\0T", "G:T"]))
    }),
    Oddity("a scheme", "N-23", |request, choose| {
        request.set(":scheme", choose.of(&["https", "ftp", "HTTP", "", "h ttp", "http\r\nx: y"]))
    }),
    Oddity("a pseudo-header is missing", "N-14", |request, choose| {
        request.drop(choose.of(&[":method", ":scheme", ":path", ":authority"]))
    }),
    Oddity("host instead of authority", "", |request, _| {
        request.drop(":authority");
        request.add("host", "b.test");
    }),
    Oddity("another host beside the authority", "N-23: two hosts", |request, choose| {
        request.add("host", choose.of(&["a.test", "b.test", "A.TEST"]))
    }),
    Oddity("a pseudo-header twice", "N-14", |request, choose| {
        request.add(choose.of(&[":method", ":path", ":scheme", ":authority"]), "/x")
    }),
    Oddity("an unknown pseudo-header", "N-14", |request, choose| {
        request.fields.insert(1, (choose.of(&[":foo", ":status", ":", ":protocol"]).into(), b"200".to_vec()))
    }),
    Oddity("a pseudo-header late", "N-14", |request, _| {
        let first = request.fields.remove(0);
        request.fields.push(first);
    }),
    Oddity("upper case", "N-13", |request, _| request.add("X-Upper", "1")),
    Oddity("a connection's field", "N-13", |request, choose| {
        let (name, value) = choose.of(&[
            &("connection", "x"),
            &("transfer-encoding", "chunked"),
            &("te", "gzip"),
            &("keep-alive", "5"),
            &("upgrade", "websocket"),
            &("proxy-connection", "x"),
            &("connection", "close"),
            &("te", "trailers, gzip"),
        ]);
        request.add(name, value);
    }),
    Oddity("a bad name", "N-15, N-17", |request, choose| {
        request.add(choose.of(&["", "x y", "x:y", "x\r\ny", "x\0", "x(", "\u{e9}"]), "1")
    }),
    Oddity("a bad value", "N-15, N-17", |request, choose| {
        request.add("x-y", choose.of(&["a\r\nx: y", "a\0", "a\nb", "a\rb", "a\x01b", "a\x7f"]))
    }),
    Oddity("white space around", "N-17", |request, choose| {
        request.add("x-y", choose.of(&[" a", "a ", "\ta", "a\t", " "]))
    }),
    Oddity("a length that is not so", "N-16", |request, choose| {
        request.length = Some(choose.of(&["0", "1", "99", "+5", "-1", "", "5,5", "05"]).into())
    }),
    Oddity("two lengths", "H-10", |request, choose| request.add("content-length", choose.of(&["0", "7"]))),
    Oddity("trailers", "", |request, _| request.trailers = Some(vec![(b"x-t".to_vec(), b"1".to_vec())])),
    Oddity("bad trailers", "H-22, N-14", |request, choose| {
        let name =
            choose.of(&[":path", "X-T", "connection", "content-length", "host", "x y", "transfer-encoding"]);
        request.trailers = Some(vec![(name.into(), b"1".to_vec())]);
    }),
    Oddity("padding", "", |request, _| request.padded = true),
    Oddity("an expectation", "H-34", |request, choose| {
        request.add("expect", choose.of(&["100-continue", "200-maybe"]))
    }),
    Oddity("many fields", "L-05", |request, choose| {
        (0..80 + choose.below(40)).for_each(|_| request.add("x-many", "1"))
    }),
    Oddity("a large field", "L-05", |request, choose| {
        request.add("x-large", &"y".repeat(choose.below(70_000)))
    }),
    Oddity("crumbs", "", |request, choose| (0..choose.below(60)).for_each(|_| request.add("cookie", "c=1"))),
];

fn case(seed: u64, number: usize) -> Case {
    let mut random = Random::from_seed(seed.wrapping_mul(1_000_033).wrapping_add(number as u64));
    let mut choose = Choice(&mut random);
    let body = choose.one_in(2);
    let path = format!("/case-{number}");
    let mut request = Request { fields: vec![], body: vec![], trailers: None, padded: false, length: None };
    for (name, value) in [
        (":method", if body { "POST" } else { "GET" }),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "a.test"),
    ] {
        request.add(name, value);
    }
    if body {
        request.body = "0123456789".repeat(choose.below(300)).into_bytes();
    }
    for _ in 0..choose.below(5) {
        let (name, value) = FINE[choose.below(FINE.len())];
        request.add(name, value);
    }
    let oddity = &ODDITIES[choose.below(ODDITIES.len())];
    (oddity.2)(&mut request, &mut choose);
    if let Some(length) = request.length.take() {
        request.add("content-length", &length);
    } else if body && choose.one_in(2) {
        let length = request.body.len().to_string();
        request.add("content-length", &length);
    }
    let bytes = written(&request, &mut choose);
    let mut cuts: Vec<usize> = (0..choose.below(5)).map(|_| choose.below(bytes.len())).collect();
    cuts.sort_unstable();
    Case { number, oddity, bytes, cuts }
}

/// The frames of stream 1.
fn written(request: &Request, choose: &mut Choice<'_>) -> Vec<u8> {
    let mut out = vec![];
    let bare = request.body.is_empty() && request.trailers.is_none() && choose.one_in(2);
    heads(&request.fields, bare, choose, &mut out);
    if bare {
        return out;
    }
    let mut rest = &request.body[..];
    let last = request.trailers.is_none();
    loop {
        let (now, later) = rest.split_at(choose.below(rest.len() + 1).max(rest.len().min(1)));
        let end = later.is_empty() && last;
        let flags = if end { END_STREAM } else { 0 };
        match request.padded {
            true => out.extend(frame(DATA, flags | PADDED, 1, [&[3], now, &[0; 3]].concat())),
            false => out.extend(frame(DATA, flags, 1, now)),
        }
        rest = later;
        if later.is_empty() {
            break;
        }
    }
    if let Some(trailers) = &request.trailers {
        heads(trailers, true, choose, &mut out);
    }
    out
}

/// HEADERS and CONTINUATIONs, cut at random.
fn heads(fields: &[(Vec<u8>, Vec<u8>)], end: bool, choose: &mut Choice<'_>, out: &mut Vec<u8>) {
    let whole = block(fields);
    let size = if choose.one_in(3) { 1 + choose.below(whole.len()).min(16_383) } else { 16_384 };
    // Not so many that it were a flood.
    let size = size.max(whole.len() / 20 + 1).min(16_384);
    let mut pieces = whole.chunks(size).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS && end { END_STREAM | last } else { last };
        out.extend(frame(kind, flags, 1, piece));
        kind = CONTINUATION;
    }
}

/// What became of a request.
struct Outcome {
    /// `None`: reset, or the connection ended.
    status: Option<u16>,
    end: String,
    requests: Vec<Seen>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} {}", self.status, self.end)?;
        self.requests.iter().try_for_each(|seen| write!(out, "\n        {seen}"))
    }
}

fn send(subject: &Subject, lane: usize, case: &Case) -> Outcome {
    subject.hosts[lane].take();
    let mut peer = Peer::client(subject.lanes[lane], &[]);
    let mut from = 0;
    for &to in case.cuts.iter().chain([&case.bytes.len()]) {
        if !peer.say(&case.bytes[from..to]) {
            break;
        }
        from = to;
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    let decisive = |frame: &Frame| match frame.kind {
        HEADERS => status(&frame.payload) >= 200,
        kind => kind == RST_STREAM && frame.stream == 1 || kind == GOAWAY,
    };
    let (status, end) = match peer.until(decisive) {
        Some(frame) if frame.kind == HEADERS => (Some(status(&frame.payload)), String::new()),
        Some(frame) => {
            (None, format!("{} {}", if frame.kind == GOAWAY { "GOAWAY" } else { "RST_STREAM" }, frame.code()))
        }
        None => (None, "closed".to_owned()),
    };
    let mut requests = subject.hosts[lane].take();
    // What was refused before may reach the host after its client has been told.
    requests.retain(|seen| !is_of_another(seen, case.number));
    Outcome { status, end, requests }
}

fn is_of_another(seen: &Seen, number: usize) -> bool {
    let target = seen.line.split(' ').nth(1).unwrap_or_default();
    let of = target
        .strip_prefix("/case-")
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    of.is_some_and(|of| !of.is_empty() && of != number.to_string())
}

/// The status of a response's head, its first field: by index, or three digits, in Huffman's code or not.
fn status(block: &[u8]) -> u16 {
    let mut rest = block;
    // A change of the table's size may come first.
    while rest.first().is_some_and(|first| first & 0xe0 == 0x20) {
        let long = rest[0] & 0x1f == 0x1f;
        rest = &rest[1..];
        while long && rest[0] & 0x80 != 0 {
            rest = &rest[1..];
        }
        rest = &rest[usize::from(long)..];
    }
    match rest {
        [first @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        [_, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [_, length, digits @ ..] if length & 0x80 != 0 => {
            let bits = digits[..usize::from(length & 0x7f)]
                .iter()
                .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            huffman(bits, 8 * u32::from(length & 0x7f))
        }
        _ => panic!("no status: {rest:02x?}"),
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0 to 2 have five bits, 3 to 9 six.
fn huffman(bits: u64, mut left: u32) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        let five = (bits >> (left - 5)) & 31;
        let digit = if five <= 2 {
            left -= 5;
            five
        } else {
            left -= 6;
            ((bits >> left) & 63) - 0x19 + 3
        };
        number = number * 10 + digit as u16;
    }
    number
}

fn announced(seen: &Seen) -> bool {
    seen.headers.iter().any(|(name, _)| name == "content-length")
}

fn compare(case: &Case, theirs: &Outcome, ours: &Outcome) -> Result<Option<&'static str>, String> {
    if let Some(seen) = ours.requests.iter().find(|seen| seen.fault.is_some()) {
        return Err(format!("what we forward is no HTTP: {seen}"));
    }
    if ours.requests.len() > 1 {
        return Err("forwarded twice".to_owned());
    }
    match (theirs.requests.first(), ours.requests.first()) {
        // The host was sent a body that its content-length ended before the trailers came, which are not taken back.
        (None, Some(seen)) if ours.status.is_none() && case.oddity.0 == "bad trailers" && announced(seen) => {
            return Ok(Some("both refuse it, this proxy when the body was through"));
        }
        (None, Some(seen)) => return Err(format!("forwarded what Envoy refuses: {seen}")),
        (Some(theirs), Some(ours)) => crate::allowed::equal(theirs, ours)?,
        _ => {}
    }
    let refused = |outcome: &Outcome| outcome.status.is_none_or(|status| status >= 400);
    match () {
        () if theirs.status == ours.status && theirs.requests.len() == ours.requests.len() => Ok(None),
        () if refused(theirs) && refused(ours) => {
            Ok(Some("both refuse it: Envoy ends the connection, this proxy the stream or says why"))
        }
        () if case.oddity.0 == "bad trailers" && ours.requests.first().is_some_and(announced) => {
            Ok(Some("Envoy refuses it, this proxy had its answer before the trailers came"))
        }
        () if refused(ours) && !case.oddity.1.is_empty() => Ok(Some(case.oddity.1)),
        () => Err("another answer".to_owned()),
    }
}

#[test]
#[ignore = "end to end: run by ./test with a real Envoy"]
fn http2_requests_fare_as_with_envoy() {
    let Some(program) = crate::envoy() else { return };
    let seed = crate::number("DIFFERENTIAL_SEED", 20_261_121);
    let count = crate::number("DIFFERENTIAL_CASES", 1_200) as usize;
    println!("seed {seed}, {count} requests (DIFFERENTIAL_SEED, DIFFERENTIAL_CASES)");
    let cases: Vec<Case> = (0..count).map(|number| case(seed, number)).collect();
    let subjects = [Subject::envoy(&program), Subject::ours()];
    let began = Instant::now();
    let results: Mutex<BTreeMap<usize, Result<Option<&str>, String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (cases, subjects, results) = (&cases, &subjects, &results);
            scope.spawn(move || {
                for case in cases.iter().skip(lane).step_by(LANES) {
                    let [theirs, ours] = subjects.each_ref().map(|subject| send(subject, lane, case));
                    let result = compare(case, &theirs, &ours).map_err(|what| {
                        let name = case.oddity.0;
                        format!(
                            "#{} {name}: {what}\n  sent  {}\n  Envoy {theirs}\n  ours  {ours}",
                            case.number,
                            shown(&case.bytes)
                        )
                    });
                    results.lock().unwrap().insert(case.number, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut differing = vec![];
    for result in results.into_values() {
        match result {
            Ok(None) => *excused.entry("alike").or_default() += 1,
            Ok(Some(reason)) => *excused.entry(reason).or_default() += 1,
            Err(text) => differing.push(text),
        }
    }
    println!("{count} requests in {:.1?}", began.elapsed());
    for (reason, count) in excused {
        println!("  {count:4} {reason}");
    }
    assert!(differing.is_empty(), "{} of {count} differ:\n{}", differing.len(), differing.join("\n"));
}
