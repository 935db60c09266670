//! What is refused, and how: table tests by section of RFC 9113 (§), RFC 8441 and bad-inputs class N.

use wire::h2::{Config, PREFACE};

use super::support::*;

/// What a server does with frames after the handshake.
#[derive(Debug)]
enum Answer {
    /// GOAWAY with this code.
    Connection(&'static str),
    /// RST_STREAM of stream 1 with this code.
    Stream(&'static str),
    /// A reply on stream 1 with this status.
    Status(u16),
    Fine,
}
use Answer::*;

fn check(rule: &str, answer: &Answer, events: &[String], said: &[String]) {
    let closed = events.iter().find_map(|event| event.strip_prefix("closed "));
    let reset = said.iter().find_map(|frame| frame.strip_prefix("RST_STREAM 1 "));
    match answer {
        Connection(code) => {
            assert_eq!(closed, Some(*code), "{rule}: {events:?} {said:?}");
            assert!(
                said.iter().any(|frame| frame.starts_with("GOAWAY") && frame.ends_with(code)),
                "{rule}: {said:?}"
            );
        }
        Stream(code) => {
            assert_eq!((closed, reset), (None, Some(*code)), "{rule}: {events:?} {said:?}");
        }
        Status(status) => {
            assert_eq!(closed, None, "{rule}: {said:?}");
            let refused = format!("refused 1 {status} ");
            assert!(events.iter().any(|event| event.starts_with(&refused)), "{rule}: {events:?}");
            assert!(said.contains(&"HEADERS 1 end".to_owned()), "{rule}: {said:?}");
        }
        Fine => assert_eq!((closed, reset), (None, None), "{rule}: {events:?} {said:?}"),
    }
}

fn server(rule: &str, bytes: &[u8], answer: Answer) {
    // The same by single bytes: the answer must not depend on the split.
    let mut whole = End::server(Config::default());
    let events = whole.events(bytes);
    let said = whole.said();
    check(rule, &answer, &events, &said);
    let mut pieces = End::server(Config::default());
    let mut log = vec![];
    for byte in bytes {
        log.extend(pieces.events(&[*byte]));
        if log.last().is_some_and(|event| event.starts_with("closed")) {
            break;
        }
    }
    let said_pieces = pieces.said();
    check(rule, &answer, &log, &said_pieces);
    assert_eq!(said, said_pieces, "{rule}: by single bytes");
}

#[test]
fn preface_and_first_frame() {
    // §3.4, bad-inputs N-20.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        &[&PREFACE[..], &frame(PING, 0, 0, [0; 8])].concat(),
        &[&PREFACE[..], &frame(SETTINGS, ACK, 0, [])].concat(),
        &[&PREFACE[..], &get(1, &[])].concat(),
    ] {
        let mut end = End::raw_server(Config::default());
        assert_eq!(end.events(bytes), ["closed PROTOCOL_ERROR"], "{}", bytes.escape_ascii());
    }
    let mut client = End::raw_client(Config::default());
    assert_eq!(client.events(&frame(PING, 0, 0, [0; 8])), ["closed PROTOCOL_ERROR"]);
    let mut client = End::raw_client(Config::default());
    assert_eq!(client.events(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ["closed PROTOCOL_ERROR"]);
}

#[test]
fn frame_sizes() {
    let stream = post(1, &[]);
    for (rule, bytes, answer) in [
        (
            "§4.2 larger than SETTINGS_MAX_FRAME_SIZE",
            frame(DATA, 0, 1, [0; 16_385]),
            Connection("FRAME_SIZE_ERROR"),
        ),
        ("§4.2 HEADERS too large", frame(HEADERS, 4, 3, [0; 16_385]), Connection("FRAME_SIZE_ERROR")),
        ("§6.3 PRIORITY of 4", frame(PRIORITY, 0, 1, [0; 4]), Stream("FRAME_SIZE_ERROR")),
        ("§6.4 RST_STREAM of 3", frame(RST_STREAM, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        ("§6.4 RST_STREAM of 5", frame(RST_STREAM, 0, 1, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS of 5", frame(SETTINGS, 0, 0, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS ACK of 6", frame(SETTINGS, ACK, 0, [0; 6]), Connection("FRAME_SIZE_ERROR")),
        ("§6.7 PING of 7", frame(PING, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.7 PING of 9", frame(PING, 0, 0, [0; 9]), Connection("FRAME_SIZE_ERROR")),
        ("§6.8 GOAWAY of 7", frame(GOAWAY, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.9 WINDOW_UPDATE of 3", frame(WINDOW_UPDATE, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        ("§6.9 WINDOW_UPDATE of 5", frame(WINDOW_UPDATE, 0, 0, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        (
            "§6.1 padding as long as the frame",
            frame(DATA, PADDED, 1, [3, 1, 2]),
            Connection("PROTOCOL_ERROR"),
        ),
        ("§6.1 no room for the padding's length", frame(DATA, PADDED, 1, []), Connection("PROTOCOL_ERROR")),
        (
            "§6.2 padding as long as the frame",
            frame(HEADERS, PADDED | 4, 3, [3, 1, 2]),
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.2 no room for the priority",
            frame(HEADERS, PRIO | 4, 3, [0; 4]),
            Connection("FRAME_SIZE_ERROR"),
        ),
        ("§6.1 padding to the brim", frame(DATA, PADDED, 1, [2, 0, 0]), Fine),
    ] {
        server(rule, &[stream.clone(), bytes].concat(), answer);
    }
}

#[test]
fn stream_ids_and_states() {
    let cases: Vec<(&str, Vec<Vec<u8>>, Answer)> = vec![
        ("§6.1 DATA on 0", vec![frame(DATA, 0, 0, [1])], Connection("PROTOCOL_ERROR")),
        ("§6.2 HEADERS on 0", vec![headers(0, 1, GET)], Connection("PROTOCOL_ERROR")),
        ("§6.3 PRIORITY on 0", vec![frame(PRIORITY, 0, 0, [0; 5])], Connection("PROTOCOL_ERROR")),
        ("§6.4 RST_STREAM on 0", vec![frame(RST_STREAM, 0, 0, [0; 4])], Connection("PROTOCOL_ERROR")),
        ("§6.5 SETTINGS on 1", vec![frame(SETTINGS, 0, 1, [])], Connection("PROTOCOL_ERROR")),
        ("§6.7 PING on 1", vec![frame(PING, 0, 1, [0; 8])], Connection("PROTOCOL_ERROR")),
        ("§6.8 GOAWAY on 1", vec![frame(GOAWAY, 0, 1, [0; 8])], Connection("PROTOCOL_ERROR")),
        ("§6.10 CONTINUATION on 0", vec![frame(CONTINUATION, 4, 0, [])], Connection("PROTOCOL_ERROR")),
        ("§5.1 idle: DATA", vec![frame(DATA, 0, 1, [1])], Connection("PROTOCOL_ERROR")),
        ("§5.1 idle: RST_STREAM", vec![frame(RST_STREAM, 0, 1, [0; 4])], Connection("PROTOCOL_ERROR")),
        (
            "§5.1 idle: WINDOW_UPDATE",
            vec![frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1])],
            Connection("PROTOCOL_ERROR"),
        ),
        ("§5.1 idle: CONTINUATION", vec![frame(CONTINUATION, 4, 1, [])], Connection("PROTOCOL_ERROR")),
        ("§5.1 idle: PRIORITY", vec![frame(PRIORITY, 0, 5, [0, 0, 0, 0, 1])], Fine),
        ("§5.1 half-closed: DATA", vec![get(1, &[]), frame(DATA, 1, 1, [1])], Stream("STREAM_CLOSED")),
        ("§5.1 half-closed: HEADERS", vec![get(1, &[]), get(1, &[])], Stream("STREAM_CLOSED")),
        (
            "§5.1 half-closed: WINDOW_UPDATE, PRIORITY",
            vec![
                get(1, &[]),
                frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
                frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]),
            ],
            Fine,
        ),
        (
            "§5.1 closed by the peer: DATA",
            vec![post(1, &[]), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(DATA, 0, 1, [1])],
            Stream("STREAM_CLOSED"),
        ),
        (
            "§5.1 closed by the peer: HEADERS",
            vec![post(1, &[]), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), get(1, &[])],
            Connection("STREAM_CLOSED"),
        ),
        (
            "§5.1 closed by the peer: WINDOW_UPDATE, RST_STREAM",
            vec![
                post(1, &[]),
                frame(RST_STREAM, 0, 1, [0, 0, 0, 8]),
                frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
                frame(RST_STREAM, 0, 1, [0, 0, 0, 8]),
            ],
            Fine,
        ),
        ("§5.1.1 even (N-12)", vec![get(2, &[])], Connection("PROTOCOL_ERROR")),
        (
            "§5.1.1 not above those before (N-12)",
            vec![get(5, &[]), get(3, &[])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 another frame within a block",
            vec![frame(HEADERS, 1, 1, block(GET)), frame(PING, 0, 0, [0; 8])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 CONTINUATION of another stream",
            vec![frame(HEADERS, 1, 1, block(GET)), frame(CONTINUATION, 4, 3, [])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 unknown frame within a block",
            vec![frame(HEADERS, 1, 1, block(GET)), frame(0x4d, 0, 1, [])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 CONTINUATION after the block's end",
            vec![get(1, &[]), frame(CONTINUATION, 4, 1, [])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.6, §8.4 PUSH_PROMISE from a client",
            vec![frame(PUSH_PROMISE, 4, 1, [0; 4])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§5.5 unknown frames (N-24)",
            vec![
                frame(0x4d, 0, 0, []),
                frame(0x0a, 0, 0, b"alt"),
                frame(0x0c, 0xff, 7, b"origin"),
                get(1, &[]),
            ],
            Fine,
        ),
        (
            "RFC 7540 §5.3.1 HEADERS that depend on themselves",
            vec![frame(HEADERS, PRIO | 5, 1, [&[0, 0, 0, 1, 1][..], &block(GET)].concat())],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "RFC 7540 §5.3.1 PRIORITY on itself (N-07)",
            vec![post(1, &[]), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 1])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§6.2 padding and priority",
            vec![frame(
                HEADERS,
                PADDED | PRIO | 5,
                1,
                [&[2, 0, 0, 0, 0, 9][..], &block(GET), &[0, 0]].concat(),
            )],
            Fine,
        ),
        ("§4.1 the reserved bit is ignored", vec![frame(HEADERS, 5, 0x8000_0001, block(GET))], Fine),
        ("§6.5.2 ENABLE_PUSH 2", vec![frame(SETTINGS, 0, 0, setting(2, 2))], Connection("PROTOCOL_ERROR")),
        (
            "§6.5.2 INITIAL_WINDOW_SIZE 2^31 (N-10)",
            vec![frame(SETTINGS, 0, 0, setting(4, 1 << 31))],
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.5.2 MAX_FRAME_SIZE 16383",
            vec![frame(SETTINGS, 0, 0, setting(5, 16_383))],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.5.2 MAX_FRAME_SIZE 2^24",
            vec![frame(SETTINGS, 0, 0, setting(5, 1 << 24))],
            Connection("PROTOCOL_ERROR"),
        ),
        ("RFC 8441 §3 2", vec![frame(SETTINGS, 0, 0, setting(8, 2))], Connection("PROTOCOL_ERROR")),
        ("§6.5.2 unknown setting", vec![frame(SETTINGS, 0, 0, setting(0x99, 7))], Fine),
        (
            "§6.9 WINDOW_UPDATE 0 on the connection (N-08)",
            vec![frame(WINDOW_UPDATE, 0, 0, [0; 4])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.9 WINDOW_UPDATE 0 on a stream (N-08)",
            vec![post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0; 4])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§6.9.1 the connection's window too wide (N-08)",
            vec![frame(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff])],
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.9.1 a stream's window too wide (N-08)",
            vec![post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0x7f, 0xff, 0xff, 0xff])],
            Stream("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.9.2 a window made too wide by SETTINGS (N-10)",
            vec![
                post(1, &[]),
                frame(WINDOW_UPDATE, 0, 1, [0, 1, 0, 0]),
                frame(SETTINGS, 0, 0, setting(4, 0x7fff_ffff)),
            ],
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "§4.3 a block that can not be decoded (N-22)",
            vec![frame(HEADERS, 5, 1, [0x80])],
            Connection("COMPRESSION_ERROR"),
        ),
        (
            "§4.3 nor one of a refused stream",
            vec![get(1, &[]), frame(HEADERS, 5, 1, [0x80])],
            Connection("COMPRESSION_ERROR"),
        ),
    ];
    for (rule, frames, answer) in cases {
        server(rule, &frames.concat(), answer);
    }
}

#[test]
fn requests() {
    let malformed: &[(&str, &[(&str, &str)])] = &[
        ("§8.2.1 capitals (N-13)", &[("X-A", "1")]),
        ("§8.2.1 capital in a known name", &[("Accept", "1")]),
        ("§8.2.1 empty name (N-17)", &[("", "1")]),
        ("§8.2.1 space in a name (N-15)", &[("x a", "1")]),
        ("§8.2.1 colon in a name (N-15)", &[("x: y", "1")]),
        ("§8.2.1 line end in a name", &[("x\r\ny", "1")]),
        ("§8.2.1 line end in a value (N-15)", &[("x", "a\r\nX: y")]),
        ("§8.2.1 LF alone", &[("x", "a\ny")]),
        ("§8.2.1 CR alone", &[("x", "a\ry")]),
        ("§8.2.1 NUL", &[("x", "a\0")]),
        ("RFC 9110 §5.5 other control byte", &[("x", "a\u{7f}")]),
        ("§8.2.1 white space first (N-17)", &[("x", " a")]),
        ("§8.2.1 white space last (N-17)", &[("x", "a\t")]),
        ("§8.2.2 connection (N-13)", &[("connection", "x")]),
        ("§8.2.2 transfer-encoding (N-13)", &[("transfer-encoding", "chunked")]),
        ("§8.2.2 keep-alive (N-13)", &[("keep-alive", "1")]),
        ("§8.2.2 proxy-connection", &[("proxy-connection", "close")]),
        ("§8.2.2 upgrade (N-13)", &[("upgrade", "websocket")]),
        ("§8.2.2 te: gzip (N-13)", &[("te", "gzip")]),
        ("§8.2.2 te: trailers, gzip", &[("te", "trailers, gzip")]),
        ("§8.3 pseudo after a field (N-14)", &[("x", "1"), (":path", "/")]),
        ("§8.3 pseudo twice (N-14)", &[(":path", "/")]),
        ("§8.3 unknown pseudo (N-14)", &[(":foo", "1")]),
        ("§8.3 :status in a request (N-14)", &[(":status", "200")]),
        ("§8.3.1 host says something else", &[("host", "b")]),
        ("§8.1.1 content-length and no body (N-16)", &[("content-length", "5")]),
        ("RFC 9110 §8.6 content-length twice", &[("content-length", "0"), ("content-length", "0")]),
        ("RFC 9110 §8.6 content-length no number", &[("content-length", "+0")]),
        ("RFC 8441 §4 :protocol without CONNECT", &[(":protocol", "websocket")]),
    ];
    for (rule, more) in malformed {
        server(rule, &get(1, more), Stream("PROTOCOL_ERROR"));
    }
    let whole: &[(&str, &[(&str, &str)])] = &[
        ("§8.3.1 no :method (N-14)", &[(":scheme", "http"), (":path", "/"), (":authority", "a")]),
        ("§8.3.1 no :scheme (N-14)", &[(":method", "GET"), (":path", "/"), (":authority", "a")]),
        ("§8.3.1 no :path (N-14)", &[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        (
            "§8.3.1 empty :path (N-14)",
            &[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")],
        ),
        (
            "§8.3.1 :path without slash (N-14)",
            &[(":method", "GET"), (":scheme", "http"), (":path", "x"), (":authority", "a")],
        ),
        (
            "§8.3.1 :path with a space (N-14)",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1"), (":authority", "a")],
        ),
        (
            "§8.3.1 :path with a line end (N-15)",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/\r\nx: y"), (":authority", "a")],
        ),
        (
            "§8.3.1 :path with a fragment (N-14)",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/#x"), (":authority", "a")],
        ),
        (
            "§8.3.1 :path beyond ASCII (H-32)",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/é"), (":authority", "a")],
        ),
        (
            "§8.3.1 * without OPTIONS",
            &[(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a")],
        ),
        (
            "RFC 9110 §9.1 :method that is no token (N-15)",
            &[
                (":method", "GET / HTTP/1.1\r\nHost: b\r\n\r\nGET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ],
        ),
        (
            "RFC 9110 §9.1 empty :method",
            &[(":method", ""), (":scheme", "http"), (":path", "/"), (":authority", "a")],
        ),
        ("§8.5 CONNECT with :path", &[(":method", "CONNECT"), (":path", "/"), (":authority", "a:1")]),
        ("§8.5 CONNECT with :scheme", &[(":method", "CONNECT"), (":scheme", "http"), (":authority", "a:1")]),
        ("§8.5 CONNECT without :authority", &[(":method", "CONNECT"), ("host", "a:1")]),
        ("§8.5 CONNECT without a port", &[(":method", "CONNECT"), (":authority", "a")]),
        (
            "RFC 8441 §4 extended CONNECT without :path",
            &[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")],
        ),
    ];
    for (rule, fields) in whole {
        server(rule, &headers(1, 1, fields), Stream("PROTOCOL_ERROR"));
    }
    type Answered<'a> = (&'a str, u16, &'a [(&'a str, &'a str)]);
    let answered: &[Answered<'_>] = &[
        ("no authority at all", 400, &[(":method", "GET"), (":scheme", "http"), (":path", "/")]),
        (
            "empty authority",
            400,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")],
        ),
        (
            "space in :authority (N-15)",
            400,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a b")],
        ),
        (
            "user in :authority §8.3.1",
            400,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")],
        ),
        (
            "host twice (N-23)",
            400,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "a")],
        ),
        (
            ":scheme: ftp (N-23)",
            400,
            &[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "a")],
        ),
    ];
    for (rule, status, fields) in answered {
        server(rule, &headers(1, 1, fields), Status(*status));
    }
    server("an expectation nobody knows", &post(1, &[("expect", "tea")]), Status(417));
    server("§6.5.2 too many fields (L-05)", &get(1, &[("x", "1"); 97]), Status(431));
    let long = "v".repeat(62_000);
    let large = block(&[GET, &[("x", &long)]].concat());
    let (first, rest) = large.split_at(16_000);
    let mut frames = frame(HEADERS, 1, 1, first);
    for (at, part) in rest.chunks(16_000).enumerate() {
        frames.extend(frame(CONTINUATION, if at == rest.len() / 16_000 { 4 } else { 0 }, 1, part));
    }
    server("one field above 60 KiB (L-05, N-23)", &frames, Status(431));
}

#[test]
fn good_requests() {
    for (fields, expected) in [
        (&[("x-a", "1"), ("te", "trailers")][..], "request 1 GET / a None host=a x-a=1 te=trailers end"),
        (&[("host", "A")], "request 1 GET / a None host=a end"),
        // §8.2.3.
        (
            &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c")],
            "request 1 GET / a None host=a x=y cookie=a=1; b=2; c end",
        ),
        (&[("cookie", "a=1")], "request 1 GET / a None host=a cookie=a=1 end"),
        (&[("content-length", "0")], "request 1 GET / a None host=a content-length=0 end"),
        (&[("http2-settings", "x")], "request 1 GET / a None host=a end"),
        (&[("x", "")], "request 1 GET / a None host=a x= end"),
        (&[("x", "\u{e9}\tz")], "request 1 GET / a None host=a x=\\xc3\\xa9\\tz end"),
    ] {
        assert_eq!(End::server(Config::default()).events(&get(1, fields)), [expected]);
    }
    for (flags, fields, expected) in [
        (
            0,
            &[(":method", "CONNECT"), (":authority", "a:80")][..],
            "request 1 CONNECT  a:80 Tunnel host=a:80",
        ),
        (
            1,
            &[(":method", "GET"), (":scheme", "HTTPS"), (":path", "/p?q"), ("host", "h:1"), ("x", "y")],
            "request 1 GET /p?q h:1 None host=h:1 x=y end",
        ),
        (
            1,
            &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a")],
            "request 1 OPTIONS * a None host=a end",
        ),
        (
            0,
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/chat"),
                (":authority", "a"),
                ("sec-websocket-version", "13"),
            ],
            "request 1 GET /chat a None host=a sec-websocket-version=13 upgrade=websocket",
        ),
        (
            0,
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            "request 1 POST / a Chunked host=a",
        ),
        (
            0,
            &[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
                ("content-length", "7"),
            ],
            "request 1 POST / a Length(7) host=a content-length=7",
        ),
    ] {
        assert_eq!(End::server(Config::default()).events(&headers(1, flags, fields)), [expected]);
    }
}

#[test]
fn bodies_and_trailers() {
    let cl = |length: &str| post(1, &[("content-length", length)]);
    let trailers = |flags: u8, fields: &[(&str, &str)]| headers(1, flags, fields);
    for (rule, frames, answer) in [
        ("§8.1.1 body too long (N-16)", vec![cl("5"), frame(DATA, 1, 1, [0; 6])], Stream("PROTOCOL_ERROR")),
        ("§8.1.1 body too short (N-16)", vec![cl("5"), frame(DATA, 1, 1, [0; 4])], Stream("PROTOCOL_ERROR")),
        ("§8.1.1 padding is no body", vec![cl("2"), frame(DATA, 9, 1, [1, 0, 0, 0])], Fine),
        (
            "§8.1.1 body too long, padded",
            vec![cl("1"), frame(DATA, 9, 1, [1, 0, 0, 0])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.1.1 body too short before trailers",
            vec![cl("5"), trailers(1, &[("x", "y")])],
            Stream("PROTOCOL_ERROR"),
        ),
        ("§8.1.1 no body", vec![cl("5"), frame(DATA, 1, 1, [])], Stream("PROTOCOL_ERROR")),
        (
            "§8.1 trailers without END_STREAM (N-18)",
            vec![post(1, &[]), trailers(0, &[("x", "y")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.1 pseudo in trailers (N-14)",
            vec![post(1, &[]), trailers(1, &[(":path", "/")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.2.2 connection in trailers",
            vec![post(1, &[]), trailers(1, &[("connection", "x")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.2.1 capitals in trailers",
            vec![post(1, &[]), trailers(1, &[("X", "x")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.1 trailers twice (N-18)",
            vec![post(1, &[]), trailers(1, &[("x", "y")]), trailers(1, &[("x", "y")])],
            Stream("STREAM_CLOSED"),
        ),
        ("§8.1 trailers", vec![cl("1"), frame(DATA, 0, 1, [0]), trailers(1, &[("x", "y")])], Fine),
    ] {
        server(rule, &frames.concat(), answer);
    }
    let mut end = End::server(Config::default());
    let frames = [
        post(1, &[]),
        frame(DATA, 0, 1, b"ab"),
        frame(DATA, PADDED, 1, b"\x01cd\0"),
        headers(1, 1, &[("grpc-status", "0"), ("content-length", "3"), ("x-sum", "1")]),
    ];
    assert_eq!(
        end.events(&frames.concat())[1..],
        ["data 1 ab", "data 1 cd", "trailers 1 grpc-status: 0\\r\\nx-sum: 1\\r\\n\\r\\n"]
    );
}

#[test]
fn windows_of_this_side() {
    // §6.9.1: one byte more than the stream's window.
    let mut end = End::server(Config { stream_window: 100, ..Config::default() });
    end.consume = false;
    end.feed(&post(1, &[])).unwrap();
    end.feed(&frame(DATA, 0, 1, [0; 100])).unwrap();
    assert_eq!(end.said(), Vec::<String>::new());
    end.feed(&frame(DATA, 0, 1, [0; 1])).unwrap();
    assert_eq!(end.said(), ["RST_STREAM 1 FLOW_CONTROL_ERROR"]);
    // What was not consumed of a stream that is gone does not narrow the connection's window for ever.
    let mut end =
        End::server(Config { stream_window: 65_535, connection_window: 65_535, ..Config::default() });
    end.consume = false;
    for at in 0..20 {
        let id = 2 * at + 1;
        end.feed(&post(id, &[])).unwrap();
        for _ in 0..2 {
            end.feed(&frame(DATA, 0, id, [0; 16_384])).unwrap();
        }
        end.feed(&frame(RST_STREAM, 0, id, [0, 0, 0, 8])).unwrap();
    }
    // The connection's own.
    end.feed(&[post(101, &[]), post(103, &[])].concat()).unwrap();
    let mut result = Ok(());
    let mut sent = 0;
    while result.is_ok() {
        sent += 16_384;
        result = end.feed(&frame(DATA, 0, if sent % 32_768 == 0 { 101 } else { 103 }, [0; 16_384]));
    }
    assert!(sent <= 65_535 + 32_768 + 16_384, "{sent}");
    assert!(end.said().last().unwrap().ends_with("FLOW_CONTROL_ERROR"));
    // Consumed is given back, half a window at a time, padding without being asked.
    let mut end = End::server(Config { stream_window: 1000, ..Config::default() });
    end.consume = false;
    end.feed(&[post(1, &[]), frame(DATA, PADDED, 1, [&[99][..], &[7; 499]].concat())].concat()).unwrap();
    let stream = end.stream(1);
    end.connection.consume(stream, 300);
    assert_eq!(end.said(), Vec::<String>::new());
    end.connection.consume(stream, 5000);
    assert_eq!(end.said(), ["WINDOW_UPDATE 1 500"]);
}

fn client(rule: &str, open: &[(&str, &str)], end: bool, frames: &[Vec<u8>], answer: &str) {
    let mut side = End::client(Config::default());
    open_client(&mut side, open, end);
    let mut events = vec![];
    for frame in frames {
        events.extend(side.events(frame));
    }
    let said = side.said();
    let outcome = events
        .iter()
        .find(|event| event.starts_with("closed") || event.starts_with("reset"))
        .cloned()
        .unwrap_or(events.join("; "));
    assert_eq!(outcome, answer, "{rule}: {events:?} {said:?}");
}

fn open_client(side: &mut End, open: &[(&str, &str)], end: bool) {
    let method = open.first().map_or("GET", |(method, _)| *method);
    let parts = wire::h2::RequestParts {
        method: method.as_bytes(),
        scheme: wire::h1::Scheme::Http,
        authority: b"a:80",
        path: b"/",
        lines: b"",
    };
    side.connection.open_parts(&parts, end, 7).unwrap();
    side.said();
}

/// The same rules, mirrored.
#[test]
fn responses() {
    let ok = |flags: u8, more: &[(&str, &str)]| headers(1, flags, &[&[(":status", "200")], more].concat());
    let protocol = "reset 1 PROTOCOL_ERROR here";
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        (
            "a response",
            vec![ok(0, &[("x", "y")]), frame(DATA, 1, 1, b"hi")],
            "response 1 200 Chunked x=y; data 1 hi end",
        ),
        ("a response without body", vec![ok(1, &[])], "response 1 200 None end"),
        (
            "§8.1 interim",
            vec![headers(1, 0, &[(":status", "103")]), ok(1, &[])],
            "response 1 103 None; response 1 200 None end",
        ),
        ("§8.1 interim that ends", vec![headers(1, 1, &[(":status", "100")])], protocol),
        ("§8.6 101", vec![headers(1, 0, &[(":status", "101")])], protocol),
        ("§8.3.2 no :status", vec![headers(1, 1, &[("x", "y")])], protocol),
        ("§8.3.2 :status twice", vec![headers(1, 1, &[(":status", "200"), (":status", "200")])], protocol),
        ("§8.3.2 :status no number", vec![headers(1, 1, &[(":status", "2xx")])], protocol),
        ("§8.3.2 :status of four digits", vec![headers(1, 1, &[(":status", "2000")])], protocol),
        ("§8.3 :path in a response", vec![ok(1, &[(":path", "/")])], protocol),
        ("§8.2.2 connection", vec![ok(1, &[("connection", "close")])], protocol),
        ("§8.2.1 capitals", vec![ok(1, &[("X", "y")])], protocol),
        ("§8.1 DATA before the head", vec![frame(DATA, 0, 1, [1])], protocol),
        ("§8.1 a second head", vec![ok(0, &[]), ok(0, &[])], protocol),
        ("§8.1.1 too long", vec![ok(0, &[("content-length", "1")]), frame(DATA, 1, 1, [0; 2])], protocol),
        ("§8.1.1 too short", vec![ok(0, &[("content-length", "3")]), frame(DATA, 1, 1, [0; 2])], protocol),
        ("§8.1.1 announced and none", vec![ok(1, &[("content-length", "3")])], protocol),
        (
            "RFC 9110 §15.3.5 204 with a body",
            vec![headers(1, 0, &[(":status", "204")]), frame(DATA, 1, 1, [1])],
            protocol,
        ),
        (
            "RFC 9110 §15.4.5 304 with a length",
            vec![headers(1, 1, &[(":status", "304"), ("content-length", "9")])],
            "response 1 304 None content-length=9 end",
        ),
        (
            "§8.4 PUSH_PROMISE (N-19)",
            vec![frame(PUSH_PROMISE, 4, 1, [&[0, 0, 0, 2][..], &block(GET)].concat())],
            "closed PROTOCOL_ERROR",
        ),
        ("§5.1.1 a stream never opened", vec![headers(3, 1, &[(":status", "200")])], "closed PROTOCOL_ERROR"),
        ("§5.1.1 a stream of its own", vec![headers(2, 1, &[(":status", "200")])], "closed PROTOCOL_ERROR"),
        (
            "§6.5.2 ENABLE_PUSH 1 from a server",
            vec![frame(SETTINGS, 0, 0, setting(2, 1))],
            "closed PROTOCOL_ERROR",
        ),
        ("RFC 8441 §3 from 1 to 0", vec![frame(SETTINGS, 0, 0, setting(8, 0))], "closed PROTOCOL_ERROR"),
        (
            "§6.4 every code (N-19)",
            vec![frame(RST_STREAM, 0, 1, [0, 0, 0, 0xd])],
            "reset 1 HTTP_1_1_REQUIRED peer",
        ),
        (
            "§7 unknown codes (N-19)",
            vec![frame(RST_STREAM, 0, 1, [0xff, 0, 0, 1])],
            "reset 1 error code 0xff000001 peer",
        ),
        (
            "§6.8 GOAWAY that leaves it out",
            vec![frame(GOAWAY, 0, 0, [0; 8])],
            "reset 1 REFUSED_STREAM goaway",
        ),
        (
            "GOAWAY then MAX_CONCURRENT_STREAMS 0 (N-19, CVE-2021-32780)",
            vec![
                frame(GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]),
                frame(SETTINGS, 0, 0, setting(3, 0)),
                ok(1, &[]),
            ],
            "goaway 1 NO_ERROR; settings; response 1 200 None end",
        ),
        ("too many fields (L-13)", vec![ok(1, &[("x", "1"); 101])], protocol),
    ];
    for (rule, frames, answer) in cases {
        client(rule, &[], true, &frames, answer);
    }
    client(
        "RFC 9110 §9.3.2 HEAD",
        &[("HEAD", "")],
        true,
        &[ok(1, &[("content-length", "9")])],
        "response 1 200 None content-length=9 end",
    );
    client("HEAD with a body", &[("HEAD", "")], true, &[ok(0, &[]), frame(DATA, 1, 1, [1])], protocol);
    client(
        "§8.5 CONNECT",
        &[("CONNECT", "")],
        false,
        &[ok(0, &[("content-length", "5")]), frame(DATA, 0, 1, b"raw")],
        "response 1 200 Tunnel content-length=5; data 1 raw",
    );
}
