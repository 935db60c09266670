//! The rules that hold for both sides, against a client: request 1 is out, its answer maybe on the way.

use super::*;

/// What a client does with frames. `ended`: its request is out in full.
fn client(rule: &str, ended: bool, bytes: &[u8], answer: &Answer) {
    let new = || {
        let mut end = End::client(Config::default());
        let parts = wire::h2::RequestParts {
            method: b"POST",
            scheme: wire::h1::Scheme::Http,
            authority: b"a",
            path: b"/",
            lines: b"",
        };
        end.connection.open_parts(&parts, ended, 0).unwrap();
        end.said();
        end
    };
    let mut whole = new();
    let events = whole.events(bytes);
    let said = whole.said();
    check(rule, answer, &events, &said);
    let mut pieces = new();
    let mut log = vec![];
    for byte in bytes {
        log.extend(pieces.events(&[*byte]));
        if log.last().is_some_and(|event| event.starts_with("closed")) {
            break;
        }
    }
    let said_pieces = pieces.said();
    check(rule, answer, &log, &said_pieces);
    assert_eq!(said, said_pieces, "{rule}: by single bytes");
}

fn ok(flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, flags, &[&[(":status", "200")], more].concat())
}

#[test]
fn frames() {
    for (rule, bytes, answer) in [
        (
            "§4.2 larger than SETTINGS_MAX_FRAME_SIZE",
            frame(DATA, 0, 1, [0; 16_385]),
            Connection("FRAME_SIZE_ERROR"),
        ),
        ("§6.3 PRIORITY of 4", frame(PRIORITY, 0, 1, [0; 4]), Stream("FRAME_SIZE_ERROR")),
        ("§6.4 RST_STREAM of 3", frame(RST_STREAM, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS of 5", frame(SETTINGS, 0, 0, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS ACK of 6", frame(SETTINGS, ACK, 0, [0; 6]), Connection("FRAME_SIZE_ERROR")),
        ("§6.7 PING of 7", frame(PING, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.8 GOAWAY of 7", frame(GOAWAY, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.9 WINDOW_UPDATE of 3", frame(WINDOW_UPDATE, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        (
            "§6.1 padding as long as the frame",
            frame(DATA, PADDED, 1, [3, 1, 2]),
            Connection("PROTOCOL_ERROR"),
        ),
        ("§6.1 no room for the padding's length", frame(DATA, PADDED, 1, []), Connection("PROTOCOL_ERROR")),
        ("§6.1 padding to the brim", frame(DATA, PADDED, 1, [2, 0, 0]), Fine),
        ("§6.1 DATA on 0", frame(DATA, 0, 0, [1]), Connection("PROTOCOL_ERROR")),
        ("§6.2 HEADERS on 0", headers(0, 1, &[(":status", "200")]), Connection("PROTOCOL_ERROR")),
        ("§6.3 PRIORITY on 0", frame(PRIORITY, 0, 0, [0; 5]), Connection("PROTOCOL_ERROR")),
        ("§6.4 RST_STREAM on 0", frame(RST_STREAM, 0, 0, [0; 4]), Connection("PROTOCOL_ERROR")),
        ("§6.5 SETTINGS on 1", frame(SETTINGS, 0, 1, []), Connection("PROTOCOL_ERROR")),
        ("§6.7 PING on 1", frame(PING, 0, 1, [0; 8]), Connection("PROTOCOL_ERROR")),
        ("§6.8 GOAWAY on 1", frame(GOAWAY, 0, 1, [0; 8]), Connection("PROTOCOL_ERROR")),
        ("§6.10 CONTINUATION on 0", frame(CONTINUATION, 4, 0, []), Connection("PROTOCOL_ERROR")),
        ("§6.10 CONTINUATION of no block", frame(CONTINUATION, 4, 1, []), Connection("PROTOCOL_ERROR")),
        ("§5.5 unknown frames", [frame(0x4d, 0, 0, []), frame(0x0a, 0xff, 1, b"alt")].concat(), Fine),
        (
            "§4.1 flags that mean nothing",
            [frame(PING, 0xfe, 0, [0; 8]), frame(DATA, 0xf6, 1, [0; 4])].concat(),
            Fine,
        ),
        (
            "§6.5.2 INITIAL_WINDOW_SIZE 2^31",
            frame(SETTINGS, 0, 0, setting(4, 1 << 31)),
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.5.2 MAX_FRAME_SIZE 16383",
            frame(SETTINGS, 0, 0, setting(5, 16_383)),
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.5.2 MAX_FRAME_SIZE 2^24",
            frame(SETTINGS, 0, 0, setting(5, 1 << 24)),
            Connection("PROTOCOL_ERROR"),
        ),
        ("§6.5.2 unknown setting", frame(SETTINGS, 0, 0, setting(0x99, 7)), Fine),
        (
            "§6.9 WINDOW_UPDATE 0 on the connection",
            frame(WINDOW_UPDATE, 0, 0, [0; 4]),
            Connection("PROTOCOL_ERROR"),
        ),
        ("§6.9 WINDOW_UPDATE 0 on a stream", frame(WINDOW_UPDATE, 0, 1, [0; 4]), Stream("PROTOCOL_ERROR")),
        (
            "§6.9.1 the connection's window too wide",
            frame(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff]),
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.9.1 a stream's window too wide",
            frame(WINDOW_UPDATE, 0, 1, [0x7f, 0xff, 0xff, 0xff]),
            Stream("FLOW_CONTROL_ERROR"),
        ),
        (
            "§6.9 the reserved bit of an increment is ignored",
            frame(WINDOW_UPDATE, 0, 1, [0x80, 0, 0, 1]),
            Fine,
        ),
        (
            "§6.8 the reserved bit of GOAWAY is ignored",
            frame(GOAWAY, 0, 0, [0x80, 0, 0, 1, 0, 0, 0, 0]),
            Fine,
        ),
    ] {
        let bytes = [ok(0, &[]), bytes].concat();
        client(rule, false, &bytes, &answer);
    }
}

#[test]
fn streams() {
    let reset = frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    let cases: Vec<(&str, bool, Vec<Vec<u8>>, Answer)> = vec![
        (
            "§5.1 idle: HEADERS",
            true,
            vec![headers(3, 1, &[(":status", "200")])],
            Connection("PROTOCOL_ERROR"),
        ),
        ("§5.1 idle: DATA", true, vec![frame(DATA, 0, 3, [1])], Connection("PROTOCOL_ERROR")),
        ("§5.1 idle: RST_STREAM", true, vec![frame(RST_STREAM, 0, 3, [0; 4])], Connection("PROTOCOL_ERROR")),
        (
            "§5.1 idle: WINDOW_UPDATE",
            true,
            vec![frame(WINDOW_UPDATE, 0, 3, [0, 0, 0, 1])],
            Connection("PROTOCOL_ERROR"),
        ),
        ("§5.1 idle: PRIORITY", true, vec![frame(PRIORITY, 0, 3, [0, 0, 0, 0, 1])], Fine),
        ("§5.1.1 even: DATA", true, vec![frame(DATA, 0, 2, [1])], Connection("PROTOCOL_ERROR")),
        (
            "§5.1.1 even: RST_STREAM",
            true,
            vec![frame(RST_STREAM, 0, 2, [0; 4])],
            Connection("PROTOCOL_ERROR"),
        ),
        ("§5.1 half-closed: DATA", false, vec![ok(1, &[]), frame(DATA, 1, 1, [1])], Stream("STREAM_CLOSED")),
        ("§5.1 half-closed: HEADERS", false, vec![ok(1, &[]), ok(1, &[])], Stream("STREAM_CLOSED")),
        (
            "§5.1 half-closed: WINDOW_UPDATE, PRIORITY",
            false,
            vec![
                ok(1, &[]),
                frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
                frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]),
            ],
            Fine,
        ),
        (
            "§5.1 closed: WINDOW_UPDATE, RST_STREAM",
            true,
            vec![ok(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]), reset.clone()],
            Fine,
        ),
        ("§5.1 closed by the peer: HEADERS", true, vec![reset.clone(), ok(1, &[])], Fine),
        (
            "§6.10 another frame within a block",
            true,
            vec![frame(HEADERS, 1, 1, block(&[(":status", "200")])), frame(PING, 0, 0, [0; 8])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 CONTINUATION of another stream",
            true,
            vec![frame(HEADERS, 1, 1, block(&[(":status", "200")])), frame(CONTINUATION, 4, 3, [])],
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.10 a block in three parts",
            true,
            vec![
                frame(HEADERS, 1, 1, block(&[(":status", "200")])),
                frame(CONTINUATION, 0, 1, block(&[("x", "y")])),
                frame(CONTINUATION, 4, 1, []),
            ],
            Fine,
        ),
        (
            "§4.3 a block that can not be decoded",
            true,
            vec![frame(HEADERS, 5, 1, [0x80])],
            Connection("COMPRESSION_ERROR"),
        ),
        (
            "§4.3 nor one for a stream that is gone",
            true,
            vec![ok(1, &[]), frame(HEADERS, 5, 1, [0x80])],
            Connection("COMPRESSION_ERROR"),
        ),
        (
            "RFC 7540 §5.3.1 HEADERS that depend on themselves",
            true,
            vec![frame(HEADERS, PRIO | 5, 1, [&[0, 0, 0, 1, 1][..], &block(&[(":status", "200")])].concat())],
            Stream("PROTOCOL_ERROR"),
        ),
    ];
    for (rule, ended, frames, answer) in cases {
        client(rule, ended, &frames.concat(), &answer);
    }
}

#[test]
fn bodies_and_trailers() {
    let trailers = |flags: u8, fields: &[(&str, &str)]| headers(1, flags, fields);
    for (rule, frames, answer) in [
        (
            "§8.1 trailers without END_STREAM",
            vec![ok(0, &[]), trailers(0, &[("x", "y")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.1 pseudo in trailers",
            vec![ok(0, &[]), trailers(1, &[(":status", "200")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.2.1 capitals in trailers",
            vec![ok(0, &[]), trailers(1, &[("X", "y")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.2.2 connection in trailers",
            vec![ok(0, &[]), trailers(1, &[("connection", "x")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "§8.1.1 too short before trailers",
            vec![ok(0, &[("content-length", "5")]), trailers(1, &[("x", "y")])],
            Stream("PROTOCOL_ERROR"),
        ),
        ("§8.1 trailers", vec![ok(0, &[]), frame(DATA, 0, 1, [0]), trailers(1, &[("x", "y")])], Fine),
        ("§8.2.1 space in a value", vec![ok(1, &[("x", " y")])], Stream("PROTOCOL_ERROR")),
        ("§8.2.1 line end in a value", vec![ok(1, &[("x", "y\r\nz")])], Stream("PROTOCOL_ERROR")),
        ("§8.2.2 te", vec![ok(1, &[("te", "gzip")])], Stream("PROTOCOL_ERROR")),
        ("§8.2.2 upgrade", vec![ok(1, &[("upgrade", "x")])], Stream("PROTOCOL_ERROR")),
        (
            "§8.3 pseudo after a field",
            vec![headers(1, 1, &[("x", "y"), (":status", "200")])],
            Stream("PROTOCOL_ERROR"),
        ),
        (
            "RFC 9110 §8.6 content-length twice",
            vec![ok(0, &[("content-length", "1"), ("content-length", "1")])],
            Stream("PROTOCOL_ERROR"),
        ),
    ] {
        client(rule, true, &frames.concat(), &answer);
    }
}

/// §6.9.2: a smaller INITIAL_WINDOW_SIZE may leave a window below zero, which updates have to fill first. §6.5.3: each
/// SETTINGS is acknowledged once.
#[test]
fn windows_of_the_other_side() {
    let mut end = End::client(Config::default());
    let parts = wire::h2::RequestParts {
        method: b"POST",
        scheme: wire::h1::Scheme::Http,
        authority: b"a",
        path: b"/",
        lines: b"",
    };
    let stream = end.connection.open_parts(&parts, false, 0).unwrap();
    end.connection.data(stream, &[0; 1000], false).unwrap();
    end.said();
    end.feed(&frame(SETTINGS, 0, 0, setting(4, 400))).unwrap();
    assert_eq!(end.connection.send_state(stream).unwrap().stream_window, -600);
    end.connection.data(stream, &[0; 10], false).unwrap();
    assert_eq!(end.said(), ["SETTINGS ack"]);
    end.feed(&frame(WINDOW_UPDATE, 0, 1, 600u32.to_be_bytes())).unwrap();
    assert_eq!(end.said(), Vec::<String>::new());
    end.feed(&frame(WINDOW_UPDATE, 0, 1, 4u32.to_be_bytes())).unwrap();
    assert_eq!(end.said(), ["DATA 1 4"]);
    end.feed(&[frame(SETTINGS, 0, 0, setting(4, 500)), frame(SETTINGS, 0, 0, [])].concat()).unwrap();
    assert_eq!(end.said(), ["SETTINGS ack", "DATA 1 6", "SETTINGS ack"]);
    // A PING is answered, the answer to one is not.
    end.feed(&[frame(PING, ACK, 0, [1; 8]), frame(PING, 0, 0, [2; 8])].concat()).unwrap();
    assert_eq!(end.said(), ["PING ack"]);
}
