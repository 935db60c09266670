//! Class N: HTTP/2 from clients.

use serde_json::json;

use crate::common::Host;
use crate::frames::*;
use crate::recorder::Recorder;
use crate::rig::{
    Door, Failures, Neighbour, OUTBOUND, Plan, Rig, alone, beside_others, connect, eventually, read_to_end,
    resident, shown,
};
use crate::rows::Row;

pub const ROWS: &[Row] = &[
    Row(
        "N-01",
        "closed by ≤500 streams (Envoy aborts at 250 premature) — GOAWAY ENHANCE_YOUR_CALM/INTERNAL_ERROR; upstream saw ≤500 requests",
    ),
    Row("N-02", "closed after ≤1 024 local resets"),
    Row("N-03", "closed at ≤512 frames / at header limit; no stream to the app"),
    Row("N-04", "decoded size counted: 431/stream reset at 60 KiB; closed at 4×"),
    Row("N-05", "closed at 1 000 queued control frames"),
    Row("N-06", "closed (Envoy >1 consecutive; h2 >100)"),
    Row("N-07", "closed / stream error; no tree growth"),
    Row("N-08", "as RFC 9113 / h2spec"),
    Row("N-09", "stream idle 300 s (edge 60 s [R]) resets; memory ≤ per-stream window; upstream read paused"),
    Row("N-10", "bounded; FLOW_CONTROL_ERROR on overflow"),
    Row("N-11", "RST REFUSED_STREAM; others fine"),
    Row("N-12", "connection PROTOCOL_ERROR / GOAWAY and new connection"),
    Row("N-13", "stream PROTOCOL_ERROR (E default: whole connection)"),
    Row("N-14", "stream PROTOCOL_ERROR or 400"),
    Row("N-15", "400/stream reset; backend H1 stream byte-exact"),
    Row("N-16", "stream PROTOCOL_ERROR; upstream request aborted"),
    Row("N-17", "trimmed or rejected; never produces invalid H1"),
    Row("N-18", "stream PROTOCOL_ERROR; no crash"),
    Row("N-19", "upstream connection closed, request retried if safe else 502/503 UR/UPE"),
    Row("N-20", "close / 400"),
    Row("N-21", "FRAME_SIZE_ERROR / PROTOCOL_ERROR per h2spec"),
    Row("N-22", "COMPRESSION_ERROR"),
    Row("N-23", "431 / 400; scheme compared case-insensitively"),
    Row("N-24", "ignored"),
];

const PROTOCOL: u32 = 1;
const INTERNAL: u32 = 2;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// What must become of stream 1, or of the connection.
#[derive(Clone, Copy)]
enum Verdict {
    /// GOAWAY with one of these codes, and the end.
    Over(&'static [u32]),
    /// The stream is reset with PROTOCOL_ERROR, or refused with one of these statuses; the connection goes on.
    Refused(&'static [u16]),
    /// The stream is reset with one of these; the connection goes on.
    Reset(&'static [u32]),
    /// The same, or the connection ends with PROTOCOL_ERROR: Envoy's default for what is malformed.
    Malformed,
    /// The stream or the connection ends, however; or what was wrong came too late for the stream.
    Ends,
    /// Nothing of the kind: the stream is answered with 200, if there is one.
    Ignored,
}

use Verdict::{Ends, Ignored, Malformed, Over, Refused, Reset};

struct Case {
    row: &'static str,
    what: &'static str,
    frames: Vec<u8>,
    verdict: Verdict,
}

fn case(row: &'static str, what: &'static str, frames: impl AsRef<[u8]>, verdict: Verdict) -> Case {
    Case { row, what, frames: frames.as_ref().to_vec(), verdict }
}

/// A GET whose fields are these alone.
fn only<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block(fields))
}

fn with_path(path: &str) -> Vec<u8> {
    only(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")])
}

fn with_block(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
}

fn ids_and_heads() -> Vec<Case> {
    let malformed = |row, what, fields: &[(&str, &str)]| case(row, what, get(1, fields), Malformed);
    let bad_line = |what, fields: &[(&str, &str)]| case("N-15", what, only(fields), Refused(&[400]));
    vec![
        case("N-12", "an even id", get(2, &[]), Over(&[PROTOCOL])),
        case("N-12", "a decreasing id", [get(5, &[]), get(3, &[])].concat(), Over(&[PROTOCOL, CLOSED])),
        malformed("N-13", "upper case", &[("X-Upper", "1")]),
        malformed("N-13", "connection", &[("connection", "x")]),
        malformed("N-13", "transfer-encoding", &[("transfer-encoding", "chunked")]),
        malformed("N-13", "te", &[("te", "gzip")]),
        malformed("N-13", "keep-alive", &[("keep-alive", "5")]),
        malformed("N-13", "upgrade", &[("upgrade", "websocket")]),
        case(
            "N-14",
            "no method",
            only(&[(":scheme", "http"), (":path", "/"), (":authority", "a")]),
            Refused(&[400]),
        ),
        malformed("N-14", "two paths", &[(":path", "/y")]),
        malformed("N-14", "pseudo after regular", &[("x", "y"), (":extra", "z")]),
        malformed("N-14", "status in a request", &[(":status", "200")]),
        case("N-14", "empty path", with_path(""), Refused(&[400])),
        case("N-14", "path without slash", with_path("x"), Refused(&[400])),
        case("N-14", "path with space", with_path("/a b"), Refused(&[400])),
        case("N-14", "path with CRLF", with_path("/a\r\nb"), Refused(&[400])),
        case("N-14", "path with fragment", with_path("/a#b"), Refused(&[400])),
        malformed("N-14", "unknown pseudo", &[(":foo", "bar")]),
        case(
            "N-14",
            "pseudo in trailers",
            [post(1, &[]), frame(DATA, 0, 1, "hi"), headers(1, END_STREAM, &[(":path", "/y")])].concat(),
            Reset(&[PROTOCOL]),
        ),
        case("N-15", "CRLF in a value", get(1, &[("x-y", "a\r\nX: y")]), Refused(&[400])),
        case("N-15", "a colon in a name", get(1, &[("x: y", "a")]), Refused(&[400])),
        case("N-15", "NUL in a value", get(1, &[("x-y", "a\0b")]), Refused(&[400])),
        bad_line(
            "a request as method",
            &[
                (":method", "GET / HTTP/1.1\r\nHost: b\r\n\r\nGET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ],
        ),
        bad_line(
            "CRLF in the path",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/ HTTP/1.1\r\nHost: b\r\n\r\n"),
                (":authority", "a"),
            ],
        ),
        bad_line(
            "a space in the authority",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a b")],
        ),
        bad_line(
            "CRLF in the authority",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a\r\nx: y")],
        ),
        bad_line(
            "CRLF in the scheme",
            &[(":method", "GET"), (":scheme", "http\r\nx: y"), (":path", "/"), (":authority", "a")],
        ),
        case("N-17", "an empty name", get(1, &[("", "x")]), Refused(&[400])),
        case("N-23", "64 KiB of authority", huge_authority(), Refused(&[431, 400])),
        case("N-23", "two hosts", get(1, &[("host", "a"), ("host", "b")]), Refused(&[400])),
        case(
            "N-23",
            "ftp",
            only(&[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "a")]),
            Refused(&[400]),
        ),
        case(
            "N-23",
            "HTTP in capitals",
            only(&[(":method", "GET"), (":scheme", "HTTP"), (":path", "/x"), (":authority", "a")]),
            Ignored,
        ),
        case(
            "U-05",
            "CONNECT with scheme and path",
            only(&[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a:443")]),
            Malformed,
        ),
    ]
}

fn huge_authority() -> Vec<u8> {
    let long = "a".repeat(64 * 1024);
    let whole = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", &long)]);
    split_block(1, &whole)
}

/// HEADERS and as many CONTINUATIONs as a block needs.
fn split_block(stream: u32, whole: &[u8]) -> Vec<u8> {
    let mut pieces = whole.chunks(16_384).peekable();
    let mut out = vec![];
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { END_STREAM | end } else { end };
        out.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    out
}

fn bodies_and_frames() -> Vec<Case> {
    let data = |flags, text: &str| frame(DATA, flags, 1, text);
    let trailers = |flags| headers(1, flags, &[("x-t", "1")]);
    let padded = |length: u8| frame(DATA, PADDED | END_STREAM, 1, [&[length][..], b"hi"].concat());
    vec![
        case(
            "N-16",
            "less than announced",
            [post(1, &[("content-length", "5")]), data(END_STREAM, "1234")].concat(),
            Reset(&[PROTOCOL]),
        ),
        case(
            "N-16",
            "more than announced",
            [post(1, &[("content-length", "5")]), data(0, "123456"), data(END_STREAM, "")].concat(),
            Reset(&[PROTOCOL]),
        ),
        case(
            "N-16",
            "announced, and nothing comes",
            headers(1, END_STREAM, &[POST, &[("content-length", "5")]].concat()),
            Refused(&[400]),
        ),
        case(
            "N-18",
            "trailers without end",
            [post(1, &[]), data(0, "hi"), trailers(0)].concat(),
            Reset(&[PROTOCOL]),
        ),
        case(
            "N-18",
            "two trailers",
            [post(1, &[]), data(0, "hi"), trailers(END_STREAM), trailers(END_STREAM)].concat(),
            Ends,
        ),
        case(
            "N-18",
            "data after trailers",
            [post(1, &[]), trailers(END_STREAM), data(END_STREAM, "hi")].concat(),
            Ends,
        ),
        case("N-21", "a frame too large", frame(DATA, 0, 1, vec![0; 16_385]), Over(&[SIZE])),
        case("N-21", "more padding than frame", [post(1, &[]), padded(200)].concat(), Over(&[PROTOCOL])),
        case("N-21", "PING of 7", frame(PING, 0, 0, "1234567"), Over(&[SIZE])),
        case("N-21", "SETTINGS of 5", frame(SETTINGS, 0, 0, "12345"), Over(&[SIZE])),
        case(
            "N-21",
            "RST_STREAM of 3",
            [post(1, &[]), frame(RST_STREAM, 0, 1, "123")].concat(),
            Over(&[SIZE]),
        ),
        case(
            "N-22",
            "EOS in a string",
            with_block(&[0x00, 0x81, 0xff, 0x84, 0xff, 0xff, 0xff, 0xff]),
            Over(&[COMPRESSION]),
        ),
        case(
            "N-22",
            "more than 7 bits of padding",
            with_block(&[0x00, 0x82, 0x1f, 0xff, 0x01, b'x']),
            Over(&[COMPRESSION]),
        ),
        case("N-22", "padding of zeros", with_block(&[0x00, 0x81, 0x18, 0x01, b'x']), Over(&[COMPRESSION])),
        case("N-22", "index 0", with_block(&[0x80]), Over(&[COMPRESSION])),
        case("N-22", "an index out of range", with_block(&[0xc6]), Over(&[COMPRESSION])),
        case(
            "N-22",
            "a table beyond the limit",
            with_block(&[0x3f, 0xe1, 0xff, 0xff, 0x03]),
            Over(&[COMPRESSION]),
        ),
        case(
            "N-22",
            "a table update at the end",
            with_block(&[block(GET), vec![0x20]].concat()),
            Over(&[COMPRESSION]),
        ),
        case("N-22", "a string cut off", with_block(&[0x00, 0x05, b'x']), Over(&[COMPRESSION])),
        case(
            "N-24",
            "METADATA",
            [frame(0x4d, END_HEADERS, 0, ""), frame(0x4d, 4, 1, ""), get(1, &[])].concat(),
            Ignored,
        ),
        case(
            "N-24",
            "ALTSVC, ORIGIN, unknown",
            [frame(10, 0, 0, "\0\0"), frame(12, 0, 0, ""), frame(0xee, 0xff, 7, "zz"), get(1, &[])].concat(),
            Ignored,
        ),
        case(
            "N-07",
            "self-dependency",
            [frame(PRIORITY, 0, 1, [0, 0, 0, 1, 16]), get(3, &[])].concat(),
            Ends,
        ),
        case(
            "N-08",
            "increment 0 of the connection",
            frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 0]),
            Over(&[PROTOCOL]),
        ),
        case(
            "N-08",
            "overflow of the connection",
            frame(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff]),
            Over(&[FLOW]),
        ),
        case(
            "N-08",
            "increment 0 of a stream",
            [post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 0])].concat(),
            Reset(&[PROTOCOL]),
        ),
        case(
            "N-08",
            "overflow of a stream",
            [post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0x7f, 0xff, 0xff, 0xff])].concat(),
            Reset(&[FLOW]),
        ),
        case("N-10", "a window beyond 2^31-1", frame(SETTINGS, 0, 0, setting(4, 0x8000_0000)), Over(&[FLOW])),
        case(
            "N-10",
            "a setting that overflows a stream",
            [
                post(1, &[]),
                frame(WINDOW_UPDATE, 0, 1, 0x7fff_0000u32.to_be_bytes()),
                frame(SETTINGS, 0, 0, setting(4, 0x7fff_ffff)),
            ]
            .concat(),
            Over(&[FLOW]),
        ),
    ]
}

/// How a case went: a status, a reset of its stream, or the end of the connection.
#[derive(Debug, PartialEq)]
enum Outcome {
    Status(u16),
    Reset(u32),
    Over(Option<u32>),
}

/// Reads until something becomes of a stream of the case.
fn outcome(peer: &mut Peer) -> Outcome {
    let decisive = |frame: &Frame| match frame.kind {
        HEADERS => frame.status() >= 200,
        kind => kind == RST_STREAM || kind == GOAWAY,
    };
    match peer.until(decisive) {
        None => Outcome::Over(None),
        Some(frame) if frame.kind == HEADERS => Outcome::Status(frame.status()),
        Some(frame) if frame.kind == RST_STREAM => Outcome::Reset(frame.code()),
        Some(frame) => Outcome::Over(Some(frame.code())),
    }
}

fn run(cases: Vec<Case>) {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let mut failures = Failures::default();
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        for case in &cases {
            for split in [false, true] {
                let name = format!("{} {} at {} split {split}", case.row, case.what, door.name);
                if split && case.frames.len() > 4096 {
                    continue;
                }
                host.forget();
                failures.gather(|| judge(&name, door, &host, case, split));
                failures.gather(|| neighbour.unharmed(&name));
            }
        }
    }
    println!("{} payloads to {} listeners", cases.len(), rig.doors.len());
    failures.none();
    eventually("nothing is left under way", || rig.handle().active() == 0);
}

fn judge(name: &str, door: &Door, host: &Recorder, case: &Case, split: bool) {
    let mut peer = Peer::client(door.address, &[]);
    for piece in case.frames.chunks(if split { 1 } else { usize::MAX }) {
        if !peer.say(piece) {
            break;
        }
    }
    let got = outcome(&mut peer);
    let refused = |statuses: &[u16]| match got {
        Outcome::Status(status) => statuses.contains(&status),
        ref other => *other == Outcome::Reset(PROTOCOL),
    };
    let right = match case.verdict {
        Over(codes) => matches!(got, Outcome::Over(Some(code)) if codes.contains(&code)),
        Refused(statuses) => refused(statuses),
        Reset(codes) => matches!(got, Outcome::Reset(code) if codes.contains(&code)),
        Malformed => refused(&[400]) || got == Outcome::Over(Some(PROTOCOL)),
        Ends => true,
        Ignored => got == Outcome::Status(200),
    };
    assert!(right, "{name}: {got:?}");
    if matches!(got, Outcome::Over(_)) {
        // What was under way may still be ended; then the connection is.
        peer.rest();
    } else if !matches!(case.verdict, Ends) {
        assert!(peer.serves(101), "{name}: the connection does not go on");
    }
    let requests = host.requests();
    let own = requests.iter().filter(|request| !request.starts_with(b"GET /x ")).count();
    if !matches!(case.verdict, Ends | Ignored) {
        assert_eq!(own, 0, "{name}: completed as {}", shown(&requests.concat()));
    }
    // What the host got is HTTP/1 without a gap, and nothing a client wrote into a field.
    for taken in host.connections().iter().filter(|taken| !taken.bytes.is_empty()) {
        let text = String::from_utf8_lossy(&taken.bytes).to_ascii_lowercase();
        assert!(!text.contains("host: b\r\n") && !text.contains("\nx: y"), "{name}: {}", shown(&taken.bytes));
    }
}

#[test]
fn n12_to_n17_n23_heads() {
    run(ids_and_heads());
}

#[test]
fn n16_to_n24_bodies_and_frames() {
    run(bodies_and_frames());
}

#[test]
fn n17_white_space_around_a_value() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        host.forget();
        let mut peer = Peer::client(door.address, &[]);
        peer.say(get(1, &[("x-y", " \ta ")]));
        match outcome(&mut peer) {
            Outcome::Status(200) => {
                let text = String::from_utf8_lossy(&host.bytes()).into_owned();
                assert!(text.contains("\r\nx-y: a\r\n"), "N-17 at {}: {text}", door.name);
            }
            other => {
                assert!([Outcome::Status(400), Outcome::Reset(PROTOCOL)].contains(&other), "N-17: {other:?}")
            }
        }
    }
}

#[test]
fn n12_the_last_id() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let mut peer = Peer::client(door.address, &[]);
        assert!(peer.serves(0x7fff_ffff), "N-12 at {}", door.name);
        // There is none after it; a lower one is no new one.
        peer.say(get(1, &[]));
        let got = outcome(&mut peer);
        assert!(matches!(got, Outcome::Over(_) | Outcome::Reset(_)), "N-12 at {}: {got:?}", door.name);
        Neighbour::at(door).unharmed("N-12");
    }
}

#[test]
fn n11_one_stream_too_many() {
    let _turn = beside_others();
    let host = Recorder::silent();
    let manager = |manager: &mut serde_json::Value| {
        manager["http2_protocol_options"] = json!({ "max_concurrent_streams": 100 });
    };
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    for door in &rig.doors {
        let mut peer = Peer::client(door.address, &[]);
        for number in 0..101 {
            peer.say(get(1 + 2 * number, &[]));
        }
        let reset = peer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY)).unwrap();
        assert_eq!(
            (reset.kind, reset.stream, reset.code()),
            (RST_STREAM, 201, REFUSED),
            "N-11 at {}",
            door.name
        );
        // One ends, and there is room again.
        peer.say(frame(RST_STREAM, 0, 1, [0, 0, 0, 8]));
        peer.say([get(203, &[]), frame(PING, 0, 0, "12345678")].concat());
        let answer = peer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY | PING)).unwrap();
        assert_eq!(answer.kind, PING, "N-11 at {}", door.name);
        Neighbour::at(door).unharmed("N-11");
    }
}

#[test]
fn n20_who_does_not_begin_as_http2() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        // Its first frame is not SETTINGS.
        let mut peer = Peer::over(connect(door.address));
        peer.say([PREFACE, &get(1, &[])].concat());
        let frames = peer.rest();
        let last = frames.iter().find(|frame| frame.kind == GOAWAY);
        assert!(last.is_none_or(|frame| frame.code() == PROTOCOL), "N-20 at {}", door.name);
        // Half a preface.
        let bad = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n";
        let mut stream = connect(door.address);
        std::io::Write::write_all(&mut stream, bad).unwrap();
        if door.name == OUTBOUND {
            eventually("N-20: no HTTP/2, so TCP", || rig.raw.bytes() == bad);
        } else {
            let got = read_to_end(&mut stream);
            assert!(
                got.is_empty() || got.starts_with(b"HTTP/1.1 400 ") || got[3] <= SETTINGS || got[3] == GOAWAY,
                "N-20: {}",
                shown(&got)
            );
        }
        neighbour.unharmed("N-20");
    }
    assert_eq!(shown(&host.bytes()), "``", "N-20");
}

#[test]
fn n20_ports_for_one_version_only() {
    let _turn = beside_others();
    let host = Recorder::http();
    for (codec, input) in [
        ("HTTP1", &[PREFACE, &frame(SETTINGS, 0, 0, ""), &get(1, &[])].concat()[..]),
        ("HTTP2", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let manager = match codec {
            "HTTP1" => |manager: &mut serde_json::Value| manager["codec_type"] = "HTTP1".into(),
            _ => |manager: &mut serde_json::Value| manager["codec_type"] = "HTTP2".into(),
        };
        let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
        for door in &rig.doors {
            let mut stream = connect(door.address);
            std::io::Write::write_all(&mut stream, input).unwrap();
            let got = read_to_end(&mut stream);
            let fine =
                got.is_empty() || got.starts_with(b"HTTP/1.1 400 ") || codec == "HTTP2" && got[3] <= GOAWAY;
            assert!(fine, "N-20 {codec} at {}: {}", door.name, shown(&got));
        }
    }
    assert_eq!(shown(&host.bytes()), "``", "N-20");
}

/// A flood: pieces sent until the proxy has enough.
struct Flood {
    row: &'static str,
    what: &'static str,
    /// Sent once.
    begin: Vec<u8>,
    /// Sent again and again, for each number from 0.
    piece: fn(u32) -> Vec<u8>,
    times: u32,
    /// What the connection may end with; empty: it need not end.
    codes: &'static [u32],
    /// Resets of streams there may be before that.
    resets: usize,
    /// Whole requests the host may see.
    requests: usize,
    /// Whether the client reads what it is told.
    reads: bool,
}

fn nothing(_: u32) -> Vec<u8> {
    vec![]
}

fn floods() -> Vec<Flood> {
    const ENOUGH: &[u32] = &[CALM, INTERNAL, PROTOCOL];
    let flood = |row, what| Flood {
        row,
        what,
        begin: vec![],
        piece: nothing,
        times: 10_000,
        codes: ENOUGH,
        resets: 1_024,
        requests: 0,
        reads: true,
    };
    let open = || frame(HEADERS, END_STREAM, 1, block(GET));
    let kib = |name: &str| {
        let mut whole = block(GET);
        whole.push(0x40);
        text(&mut whole, name.as_bytes());
        text(&mut whole, &[b'v'; 4000]);
        whole.extend([0xbe; 16_000]);
        split_block(1, &whole)
    };
    vec![
        Flood {
            piece: |number| {
                [get(2 * number + 1, &[]), frame(RST_STREAM, 0, 2 * number + 1, [0, 0, 0, 8])].concat()
            },
            requests: 500,
            ..flood("N-01", "rapid reset")
        },
        Flood {
            piece: |number| {
                [post(2 * number + 1, &[]), frame(WINDOW_UPDATE, 0, 2 * number + 1, [0; 4])].concat()
            },
            times: 2_000,
            ..flood("N-02", "made to reset")
        },
        Flood {
            piece: |number| [get(2 * number + 1, &[]), frame(DATA, 0, 2 * number + 1, "x")].concat(),
            times: 2_000,
            requests: 1_024,
            ..flood("N-02", "data after the end")
        },
        Flood {
            begin: open(),
            piece: |_| frame(CONTINUATION, 0, 1, "\0"),
            times: 100_000,
            ..flood("N-03", "small")
        },
        Flood {
            begin: open(),
            piece: |_| frame(CONTINUATION, 0, 1, block(&[("x", "y".repeat(16_370).as_str())])),
            ..flood("N-03", "large")
        },
        Flood { begin: kib("bomb"), codes: &[], times: 0, ..flood("N-04", "16 000 references to 4 KiB") },
        Flood {
            begin: split_block(1, &[block(GET), block(&[("cookie", "a")]).repeat(10_000)].concat()),
            codes: &[],
            times: 0,
            ..flood("N-04", "10 000 cookies")
        },
        Flood {
            piece: |_| frame(SETTINGS, 0, 0, ""),
            times: 20_000,
            reads: false,
            ..flood("N-05", "SETTINGS")
        },
        Flood {
            piece: |_| frame(PING, 0, 0, "12345678"),
            times: 20_000,
            reads: false,
            ..flood("N-05", "PING")
        },
        Flood {
            piece: |number| {
                frame(
                    SETTINGS,
                    0,
                    0,
                    (0..2_500)
                        .flat_map(|id| setting(1_000 + (id + number as u16) % 50_000, 1))
                        .collect::<Vec<u8>>(),
                )
            },
            times: 4,
            codes: &[],
            ..flood("N-05", "10 000 unknown settings")
        },
        Flood {
            begin: post(1, &[]),
            piece: |_| frame(DATA, 0, 1, ""),
            times: 200_000,
            ..flood("N-06", "empty DATA")
        },
        Flood {
            begin: open(),
            piece: |_| frame(CONTINUATION, 0, 1, ""),
            times: 100_000,
            ..flood("N-06", "empty CONTINUATION")
        },
        Flood {
            piece: |_| frame(PRIORITY, 0, 3, [0, 0, 0, 0, 16]),
            times: 200_000,
            ..flood("N-07", "PRIORITY")
        },
        Flood {
            begin: post(1, &[]),
            piece: |_| frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
            times: 200_000,
            ..flood("N-08", "WINDOW_UPDATE")
        },
        Flood {
            begin: post(1, &[]),
            piece: |number| frame(SETTINGS, 0, 0, setting(4, if number % 2 == 0 { 0 } else { 0x7fff_ffff })),
            ..flood("N-10", "windows to and fro")
        },
    ]
}

#[test]
fn n01_to_n10_floods() {
    let _turn = alone();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let mut failures = Failures::default();
    for flood in floods() {
        for door in &rig.doors {
            let name = format!("{} {} at {}", flood.row, flood.what, door.name);
            failures.gather(|| drown(&name, &rig, door, &host, &flood));
            failures.gather(|| Neighbour::at(door).unharmed(&name));
        }
    }
    failures.none();
    eventually("nothing is left under way", || rig.handle().active() == 0);
}

fn drown(name: &str, rig: &Rig, door: &Door, host: &Recorder, flood: &Flood) {
    host.forget();
    let mut neighbour = Neighbour::at(door);
    let mut peer = Peer::client(door.address, &[]);
    let before = resident();
    let mut alive = peer.say(&flood.begin);
    let mut sent = 0;
    let mut batch = vec![];
    let mut frames = vec![];
    let over = |frames: &[Frame]| frames.iter().any(|frame| frame.kind == GOAWAY);
    while alive && sent < flood.times && !over(&frames) {
        batch.clear();
        for _ in 0..250.min(flood.times - sent) {
            batch.extend((flood.piece)(sent));
            sent += 1;
        }
        alive = peer.say(&batch);
        neighbour.unharmed(name);
        if flood.reads {
            frames.extend(peer.arrived());
        }
    }
    let held = resident().saturating_sub(before);
    peer.say(frame(PING, 0, 0, "the end!"));
    let is_end = |frame: &Frame| frame.kind == PING && frame.payload == b"the end!";
    while let Some(frame) = peer.next() {
        frames.push(frame);
        if frames.last().is_some_and(is_end) {
            break;
        }
    }
    let refused = |frame: &&Frame| frame.kind == RST_STREAM || frame.kind == HEADERS && frame.status() >= 400;
    let resets = frames.iter().filter(refused).count();
    let end = frames.iter().find(|frame| frame.kind == GOAWAY).map(Frame::code);
    let requests = host.requests().len();
    println!(
        "{name}: {sent} sent, {resets} streams reset, ended {end:?}, {held} bytes held, {requests} requests"
    );
    if flood.codes.is_empty() {
        assert!(resets == 1 || end.is_some() || flood.row == "N-05", "{name}: taken as it is");
    } else {
        // The GOAWAY may be lost to the reset that what was still under way causes.
        assert!(end.is_none_or(|code| flood.codes.contains(&code)), "{name}: {end:?}");
        assert!(!frames.last().is_some_and(is_end), "{name}: goes on");
    }
    assert!(resets <= flood.resets, "{name}: {resets} resets");
    assert!(requests <= flood.requests, "{name}: {requests} requests");
    // What this client keeps of the flood and its answers is counted too.
    assert!(held < 8 << 20, "{name}: {held} bytes held");
    drop(peer);
    eventually(name, || rig.handle().active() == 0);
}

#[test]
fn n09_responses_nobody_lets_in() {
    const EACH: usize = 1 << 20;
    static BODY: [u8; EACH] = [b'x'; EACH];
    let _turn = alone();
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {EACH}\r\n\r\n"));
            if std::io::Write::write_all(&mut connection.stream, &BODY).is_err() {
                return;
            }
        }
    });
    let manager = |manager: &mut serde_json::Value| manager["stream_idle_timeout"] = "1s".into();
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        let mut peer = Peer::client(door.address, &setting(4, 0));
        let before = resident();
        for number in 0..100 {
            peer.say(get(1 + 2 * number, &[]));
        }
        for _ in 0..100 {
            peer.until(|frame| frame.kind == HEADERS).unwrap();
        }
        neighbour.unharmed("N-09");
        let held = resident().saturating_sub(before);
        println!("N-09 at {}: {held} bytes held of {} offered", door.name, 100 * EACH);
        // Half a MiB each, with the hundred hosts' threads, which are of this process too.
        assert!(held < 50 << 20, "N-09 at {}: {held}", door.name);
        // All are given up.
        for _ in 0..100 {
            let reset = peer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY)).unwrap();
            assert_eq!(reset.kind, RST_STREAM, "N-09 at {}", door.name);
        }
        neighbour.unharmed("N-09");
        drop(peer);
        eventually("N-09", || rig.handle().active() == 0);
    }
}

/// A host over HTTP/2 that does so with every request.
fn h2_host(act: fn(&mut Peer, u32)) -> Host {
    Host::start(move |connection| {
        let mut peer = Peer::over(connection.stream.try_clone().unwrap());
        if !peer.take_preface() {
            return;
        }
        peer.say([frame(SETTINGS, 0, 0, ""), frame(SETTINGS, ACK, 0, "")].concat());
        while let Some(request) = peer.until(|frame| frame.kind == HEADERS) {
            act(&mut peer, request.stream);
        }
    })
}

const FINE: &[(&str, &str)] = &[(":status", "200"), ("content-length", "0")];

#[test]
fn n19_hosts_that_misbehave() {
    let _turn = beside_others();
    type Act = fn(&mut Peer, u32);
    let acts: &[(&str, Act)] = &[
        ("GOAWAY, then no streams allowed", |peer, _| {
            let last = [0u32.to_be_bytes(), 0u32.to_be_bytes()].concat();
            peer.say([frame(GOAWAY, 0, 0, last), frame(SETTINGS, 0, 0, setting(3, 0))].concat());
        }),
        ("PUSH_PROMISE", |peer, stream| {
            let promised = [&2u32.to_be_bytes()[..], &block(GET)].concat();
            peer.say(frame(PUSH_PROMISE, END_HEADERS, stream, promised));
        }),
        ("a header block without end", |peer, stream| {
            peer.say(frame(HEADERS, 0, stream, block(FINE)));
            let piece = frame(CONTINUATION, 0, stream, block(&[("x-y", "z".repeat(16_000).as_str())]));
            // A GiB, if it is let.
            for _ in 0..65_536 {
                if !peer.say(&piece) {
                    return;
                }
            }
        }),
        ("no status", |peer, stream| {
            peer.say(headers(stream, END_STREAM, &[("x", "y")]));
        }),
        ("a status of letters", |peer, stream| {
            peer.say(headers(stream, END_STREAM, &[(":status", "abc")]));
        }),
        ("101", |peer, stream| {
            peer.say(headers(stream, 0, &[(":status", "101")]));
        }),
        ("CRLF in a value", |peer, stream| {
            peer.say(headers(stream, END_STREAM, &[(":status", "200"), ("x-y", "a\r\nset-cookie: b")]));
        }),
        ("transfer-encoding", |peer, stream| {
            peer.say(headers(stream, END_STREAM, &[(":status", "200"), ("transfer-encoding", "chunked")]));
        }),
        ("a frame too large", |peer, stream| {
            peer.say(frame(HEADERS, END_HEADERS, stream, vec![0; 20_000]));
        }),
        ("an answer nobody asked for", |peer, stream| {
            peer.say(headers(stream + 2, END_STREAM, FINE));
        }),
        ("bad compression", |peer, stream| {
            peer.say(frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x80]));
        }),
    ];
    let mut failures = Failures::default();
    for (what, act) in acts {
        failures.gather(|| from_host(what, *act));
    }
    // Every error code, and one there is not.
    for code in 0..15 {
        failures.gather(|| reset_by_host(code));
    }
    failures.none();
}

fn plan_h2(host: std::net::SocketAddr) -> Plan {
    let mut plan = Plan::to(host);
    plan.clusters[0]["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
        crate::common::typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": {} } })) });
    plan
}

/// Both kinds of client get one answer, 502 or 503, or a response that was begun is reset.
fn from_host(what: &str, act: fn(&mut Peer, u32)) {
    let host = h2_host(act);
    let rig = Rig::new(plan_h2(host.address));
    for door in &rig.doors {
        let name = format!("N-19 {what} at {}", door.name);
        let mut neighbour = Neighbour::at(door);
        let before = resident();
        let got =
            crate::rig::send(door.address, &[b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]);
        assert_eq!(got.answers.len(), 1, "{name}: {}", shown(&got.bytes));
        assert!([502, 503].contains(&got.answers[0].status), "{name}: {}", shown(&got.bytes));
        let mut peer = Peer::client(door.address, &[]);
        peer.say(get(1, &[]));
        let got = outcome(&mut peer);
        let refused = matches!(got, Outcome::Status(502 | 503) | Outcome::Reset(_));
        assert!(refused, "{name}: {got:?}");
        assert!(resident().saturating_sub(before) < 32 << 20, "{name}: memory");
        neighbour.unharmed(&name);
    }
}

fn reset_by_host(code: u32) {
    let host = Host::start(move |connection| {
        let mut peer = Peer::over(connection.stream.try_clone().unwrap());
        peer.take_preface();
        peer.say([frame(SETTINGS, 0, 0, ""), frame(SETTINGS, ACK, 0, "")].concat());
        while let Some(request) = peer.until(|frame| frame.kind == HEADERS) {
            let answer = if request.stream == 1 {
                frame(RST_STREAM, 0, request.stream, code.to_be_bytes())
            } else {
                headers(request.stream, END_STREAM, FINE)
            };
            peer.say(answer);
        }
    });
    let rig = Rig::new(plan_h2(host.address));
    let door = &rig.doors[0];
    let name = format!("N-19 RST_STREAM {code} at {}", door.name);
    let mut peer = Peer::client(door.address, &[]);
    peer.say(get(1, &[]));
    let got = outcome(&mut peer);
    // REFUSED_STREAM was not acted upon, and may be tried again.
    let right = matches!(got, Outcome::Status(502 | 503) | Outcome::Reset(_))
        || code == REFUSED && got == Outcome::Status(200);
    assert!(right, "{name}: {got:?}");
    // The host's connection is as good as before.
    assert!(peer.serves(3), "{name}: afterwards");
    Neighbour::at(door).unharmed(&name);
}
