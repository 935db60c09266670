//! The heads of responses, at a client (§8).

use super::*;

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
