//! The heads of requests (§8).

use super::*;

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
