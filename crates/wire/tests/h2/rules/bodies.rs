//! Bodies and trailers (§8.1).

use super::*;

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
            "content-length in trailers, as Envoy 1.40 has it",
            vec![cl("1"), frame(DATA, 0, 1, [0]), trailers(1, &[("content-length", "1")])],
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
        headers(1, 1, &[("grpc-status", "0"), ("host", "a"), ("x-sum", "1")]),
    ];
    assert_eq!(
        end.events(&frames.concat())[1..],
        ["data 1 ab", "data 1 cd", "trailers 1 grpc-status: 0\\r\\nx-sum: 1\\r\\n\\r\\n"]
    );
}
