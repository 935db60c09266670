//! Streams: their ids and states (§5), and what rules the connection (§6.5 to §6.10).

use super::*;

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
