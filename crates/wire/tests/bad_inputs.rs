//! The catalogue of bad HTTP/1 inputs (classes H and U, and the rows of L, P and G that meet a codec): each gets
//! its stated status, detail and flag, and the verdict is the same however its bytes are split. The ids are those
//! of the project's reliability notes.

use wire::{
    BodyFraming, Reject,
    h1::{self, BodyReader, HeadStorage, Limits, ResponseTo},
};

const CODEC: &str = "http1.codec_error";
const CHARACTERS: &str = "http1.invalid_characters";
const CODING: &str = "http1.invalid_transfer_encoding";
const BOTH: &str = "http1.content_length_and_chunked_not_allowed";
const URL: &str = "http1.invalid_url";
const AUTHORITY: &str = "http.invalid_authority";
const NO_HOST: &str = "missing_host_header";
const CONNECTION: &str = "http1.connection_header_rejected";

/// Parses the whole, and again byte by byte as a connection would; both must agree.
fn request(bytes: &[u8], limits: &Limits) -> Result<Option<(usize, HeadStorage)>, Reject> {
    let mut storage = HeadStorage::new();
    let whole = h1::parse_request(bytes, &mut storage, limits);
    let (mut partial, mut parts) = (h1::PartialHead::default(), HeadStorage::new());
    let split = (0..=bytes.len())
        .map(|end| partial.request(&bytes[..end], &mut parts, limits))
        .find(|verdict| *verdict != Ok(None))
        .unwrap_or(Ok(None));
    // Of two faults the first to be known is told.
    let same = whole == split || whole.is_err() && split.is_err();
    assert!(same, "{split:?} in parts, {whole:?} of {}", bytes.escape_ascii());
    whole.map(|length| length.map(|length| (length, storage)))
}

fn refused(id: &str, bytes: impl AsRef<[u8]>, status: u16, details: &str) {
    let bytes = bytes.as_ref();
    let shown = bytes.escape_ascii().to_string();
    match request(bytes, &Limits::default()) {
        Err(reject) => {
            assert_eq!((reject.status, reject.details), (status, details), "{id}: {shown:.300}");
            assert!(reject.close, "{id}: {shown:.300}");
            let by_manager = matches!(details, NO_HOST | "low_version" | "expectation_failed");
            assert_eq!(reject.flag, if by_manager { "-" } else { "DPE" }, "{id}: {shown:.300}");
        }
        Ok(parsed) => panic!("{id}: accepted {:?} bytes of {shown:.300}", parsed.map(|(length, _)| length)),
    }
}

/// A GET with these field lines besides Host.
fn with(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

fn with_bytes(lines: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat()
}

#[test]
fn h01_to_h07_transfer_encoding() {
    refused("H-01", with("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, BOTH);
    refused("H-02", with("Transfer-Encoding: chunked\r\nContent-Length: 5"), 400, BOTH);
    refused("H-03", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, CODING);
    refused("H-04", with("Transfer-Encoding: gzip, chunked"), 501, CODING);
    refused("H-05", with("Transfer-Encoding: chunked, identity"), 501, CODING);
    refused("H-05", with("Transfer-Encoding: identity"), 501, CODING);
    refused("H-06", with("Transfer-Encoding: ,chunked\r\nContent-Length: 5"), 400, BOTH);
    refused("H-06", with("Transfer-Encoding: ,chunked"), 501, CODING);
    refused("H-07", with("Transfer-Encoding: xchunked"), 501, CODING);
    refused("H-07", with("Transfer-Encoding: chunked\x0b"), 400, CHARACTERS);
    refused("H-07", with_bytes(b"Transfer-Encoding: \xffchunked\xff"), 501, CODING);
    refused("H-07", with("Transfer-Encoding: "), 501, CODING);
    refused("H-08", with("Transfer-Encoding : chunked"), 400, CODEC);
    refused("H-09", with("Transfer-\r\nEncoding: chunked"), 400, CODEC);
}

#[test]
fn h10_to_h17_content_length() {
    refused("H-10", with("Content-Length: 1\r\nContent-Length: 0"), 400, CODEC);
    refused("H-10", with("Content-Length: 0\r\nContent-Length: 1"), 400, CODEC);
    refused("H-11", with("Content-Length: 5\r\nContent-Length: 5"), 400, CODEC);
    refused("H-12", with("Content-Length: 5, 5"), 400, CODEC);
    for value in ["+5", "-48", "0x10", "010", "1_0", "1Z", " ", ""] {
        refused("H-13", with(&format!("Content-Length: {value}")), 400, CODEC);
    }
    refused("H-14", with("Content-Length: 18446744073709551616"), 400, CODEC);
    refused("H-14", with(&format!("Content-Length: {}", "9".repeat(99))), 400, CODEC);
    let smuggled = "content-length: \r\ncontent-length: 43\r\n\r\nPOST /x HTTP/1.1\r\nHost: b\r\n";
    refused("H-15", with(smuggled), 400, CODEC);
    refused("H-16", with_bytes(b"Content-Length\x85: 10"), 400, CODEC);
    refused("H-16", with_bytes(b"Content-Length\xa0: 10"), 400, CODEC);
    refused("H-17", with("Content-Length 10"), 400, CODEC);
}

/// Feeds a chunked body whole and split at every point; all must agree.
fn chunked(body: &[u8], limits: &Limits) -> Result<(usize, bool, Vec<u8>), Reject> {
    let read = |parts: &[&[u8]]| -> Result<(usize, bool, Vec<u8>), Reject> {
        let mut reader = BodyReader::request(BodyFraming::Chunked, limits);
        let (mut consumed, mut forwarded, mut done) = (0, vec![], false);
        for part in parts {
            let step = reader.advance(part)?;
            consumed += step.consumed;
            forwarded.extend(&part[..step.forward]);
            done = step.done;
            if step.tail {
                forwarded.extend(reader.tail());
            }
            if done {
                break;
            }
        }
        Ok((consumed, done, forwarded))
    };
    let whole = read(&[body]);
    if body.len() < 1024 {
        for at in 0..=body.len() {
            assert_eq!(read(&[&body[..at], &body[at..]]), whole, "split at {at} of {}", body.escape_ascii());
        }
        assert_eq!(read(&body.chunks(1).collect::<Vec<_>>()), whole);
    }
    whole
}

#[test]
fn h18_to_h21_chunks() {
    let bad: [(&str, &[u8]); 20] = [
        ("H-18", b"0_2e\r\n"),
        ("H-18", b"0x0\r\n\r\n"),
        ("H-18", b"-0x0\r\n\r\n"),
        ("H-18", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("H-18", b"           0\r\n\r\n"),
        ("H-18", b"\r\n\r\n"),
        ("H-18", b";ext\r\n\r\n"),
        ("H-19", b"FFFFFFFFFFFFFFFFF\r\n"),
        ("H-19", b"10000000000000000\r\n"),
        ("H-19", b"00000000000000005\r\nhello\r\n"),
        ("H-20", b"a\r\n0123456789\n0\r\n\r\n"),
        ("H-20", b"5\nhello\r\n0\r\n\r\n"),
        ("H-20", b"5;a\r\rhello\r\n0\r\n\r\n"),
        ("H-20", b"5;a\nhello\r\n0\r\n\r\n"),
        ("H-20", b"5\r\nhelloXX0\r\n\r\n"),
        ("H-20", b"5\rXhello\r\n0\r\n\r\n"),
        ("H-20", b"5 6\r\nhello\r\n0\r\n\r\n"),
        ("H-20", b"5\r\nhello\rX0\r\n\r\n"),
        ("H-20", b"0\r\n\n"),
        ("H-33", b"5\r\nhello\r\n\0\r\n\r\n"),
    ];
    for (id, body) in bad {
        let reject = chunked(body, &Limits::default()).expect_err(&format!("{id} {}", body.escape_ascii()));
        let expected = Reject { status: 400, details: CODEC, close: true, flag: "DPE" };
        assert_eq!(reject, expected, "{id} {}", body.escape_ascii());
    }
    let extension = [b"5;", &[b'x'; 65536][..], b"\r\nhello\r\n0\r\n\r\n"].concat();
    assert_eq!(chunked(&extension, &Limits::default()).unwrap_err().details, CODEC, "H-21");
    let many = [b"1;", &[b'x'; 4096][..], b"\r\na\r\n"].concat().repeat(10_000);
    assert_eq!(chunked(&many, &Limits::default()).unwrap_err().details, CODEC, "H-21");
    let fine = b"5;name=\"v\"\r\nhello\r\n6  \r\n world\r\n0\r\n\r\n";
    assert_eq!(chunked(fine, &Limits::default()), Ok((fine.len(), true, fine.to_vec())));
}

#[test]
fn a_refused_body_stays_refused() {
    let mut reader = BodyReader::request(BodyFraming::Chunked, &Limits::default());
    let first = reader.advance(b"zz").unwrap_err();
    assert_eq!(reader.advance(b"0\r\n\r\n"), Err(first));
    assert!(!reader.is_done() && reader.finish().is_err());
}

#[test]
fn h22_trailers() {
    let large = [b"0\r\nx: ", "y".repeat(200_000).as_bytes(), b"\r\n\r\n"].concat();
    let reject = chunked(&large, &Limits::default()).unwrap_err();
    assert_eq!((reject.status, reject.details), (431, "http1.trailers_too_large"));
    let many = [b"0\r\n", "x: y\r\n".repeat(101).as_bytes(), b"\r\n"].concat();
    assert_eq!(chunked(&many, &Limits::default()).unwrap_err().details, "http1.too_many_headers");

    let forbidden =
        b"3\r\nabc\r\n0\r\nContent-Length: 0\r\nX-Sum: 1\r\nHost: evil\r\nAuthorization: x\r\n\r\nGET";
    let (consumed, done, forwarded) = chunked(forbidden, &Limits::default()).unwrap();
    assert_eq!((consumed, done), (forbidden.len() - 3, true));
    assert_eq!(forwarded, b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    for body in [
        &b"0\r\nx: a\n\r\n"[..],
        b"0\r\n: a\r\n\r\n",
        b"0\r\nx: a\r\n b\r\n\r\n",
        b"0\r\nx: a\0\r\n\r\n",
        b"0\r\nx\r\n\r\n",
    ] {
        let reject = chunked(body, &Limits::default()).expect_err(&body.escape_ascii().to_string());
        assert_eq!(reject.status, 400);
    }
}

#[test]
fn h23_to_h27_lines() {
    refused("H-23", with("Header: v\0\ralue"), 400, CHARACTERS);
    refused("H-23", "GET / HTTP/1.1\r\nHost: google.com\0.kallus.org\r\n\r\n", 400, CHARACTERS);
    refused("H-23", with("Test: a\0b"), 400, CHARACTERS);
    refused("H-23", with("Test: a\0"), 400, CHARACTERS);
    refused("H-24", with("Visible: :/\rSmuggled: :)"), 400, CHARACTERS);
    refused("H-24", "GET / HTTP/1.1\r\nHost: a\r\n\rZ\r\n\r\n", 400, CODEC);
    refused("H-25", with("X: a\r\n b"), 400, CODEC);
    refused("H-25", with("X: a\r\n\tb"), 400, CODEC);
    refused("H-26", "GET / HTTP/1.1\r\n\tContent-Length: 1\r\nHost: a\r\n\r\n", 400, CODEC);
    for byte in b" \"(),/;<=>?@[]{}\\\x01\x7f" {
        refused("H-26", with_bytes(&[b'X', *byte, b'y', b':', b' ', b'1']), 400, CODEC);
    }
    refused("H-26", with(": ignored"), 400, CODEC);
    refused("H-26", with(":\r\nI: am chopped off"), 400, CODEC);
    refused("H-26", with("a field line without colon"), 400, CODEC);
    refused("H-27", "GET / HTTP/1.1\nHost: a\n\n", 400, CODEC);
    refused("H-27", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, CODEC);
    refused("H-27", "GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n", 400, CODEC);
    refused("H-27", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, CODEC);
    refused("H-27", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-27", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-27", "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
}

#[test]
fn h28_h29_versions() {
    for version in
        ["HTTP/1.32", "HTTP/", "HTTP/\r\r1.1", "HTTP/4294967295.255", "HTTP/2.0", "HTTP/0.9", "http/1.1"]
    {
        refused("H-28", format!("GET / {version}\r\nHost: a\r\n\r\n"), 400, CODEC);
    }
    refused("H-28", "GET /\r\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-29", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426, "low_version");
    refused("H-29", "GET / HTTP/1.0\r\n\r\n", 426, "low_version");

    let limits = Limits { allow_http10: true, ..Limits::default() };
    let parse = |text: &str| request(text.as_bytes(), &limits);
    let reject = parse("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
    assert_eq!((reject.status, reject.details), (400, "http1.transfer_encoding_not_allowed"));
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap_err().details, NO_HOST);
    let text = "POST / HTTP/1.0\r\nHost: a\r\n\r\nnever a body";
    let (length, storage) = parse(text).unwrap().unwrap();
    let head = storage.request(text.as_bytes());
    assert_eq!((length, head.framing(), head.keep_alive()), (text.len() - 12, BodyFraming::None, false));
    let text = "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n";
    assert!(parse(text).unwrap().unwrap().1.request(text.as_bytes()).keep_alive());
}

#[test]
fn h30_host() {
    refused("H-30", "GET / HTTP/1.1\r\n\r\n", 400, NO_HOST);
    refused("H-30", "GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, NO_HOST);
    refused("H-30", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, AUTHORITY);
    refused("H-30", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, AUTHORITY);
    for host in ["a,b", "a b", "[::1", "a:99999", "user@a", "a:", ":80", "a/b"] {
        refused("H-30", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400, AUTHORITY);
    }
}

#[test]
fn h31_h32_methods_and_targets() {
    refused("H-31", "G=\":<>(e),[T];?\" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-31", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(8192)), 400, CODEC);
    refused("H-31", "\0 / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-31", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    // Tokens, but none of Envoy's methods; served where configuration asks for any.
    for method in ["get", "X", "M-SEARCH", "QUERY", "GETS", "GE", "BREW"] {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        refused("H-31", &text, 400, CODEC);
        let custom = Limits { allow_custom_methods: true, ..Limits::default() };
        let mut storage = HeadStorage::new();
        assert_eq!(h1::parse_request(text.as_bytes(), &mut storage, &custom), Ok(Some(text.len())));
        assert_eq!(storage.request(text.as_bytes()).method(), method.as_bytes(), "H-31: forwarded verbatim");
    }
    for method in [
        "GET",
        "POST",
        "PUT",
        "HEAD",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "TRACE",
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "MSEARCH",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ] {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(accepted(text.as_bytes()).1.request(text.as_bytes()).method(), method.as_bytes(), "H-31");
    }

    for target in
        ["!", "a/b", "*", "ftp://a/", "http:/a", "http:///x", "http://u@a/", "http://a?x", "http://a:b/"]
    {
        let details = match target {
            "http:///x" | "http://u@a/" | "http://a:b/" => AUTHORITY,
            _ => URL,
        };
        refused("H-32", format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400, details);
    }
    let https = "http1.https_url_on_plaintext_connection";
    // Envoy 1.40: 403.
    refused("H-32", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 403, https);
    refused("H-32", "GET /b\u{fc}cher HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL);
    refused("H-32", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    refused("H-32", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC);
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100 * 1024));
    refused("H-32", long, 414, "http1.headers_too_large");

    let text = b"GET //evil/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let storage = accepted(text).1;
    let head = storage.request(text);
    assert_eq!((head.path(), head.authority()), (&b"//evil/"[..], &b"a"[..]));
    let text = b"GET http://a:81/x?y HTTP/1.1\r\nHost: b\r\n\r\n";
    let storage = accepted(text).1;
    let head = storage.request(text);
    assert_eq!((head.path(), head.authority()), (&b"/x?y"[..], &b"a:81"[..]));
    assert_eq!(head.authority_parts().port, Some(81));
    assert_eq!(head.authority_parts().host, b"a");
}

fn accepted(text: &[u8]) -> (usize, HeadStorage) {
    match request(text, &Limits::default()) {
        Ok(Some(parsed)) => parsed,
        other => panic!("{}: {:?}", text.escape_ascii(), other.map(|_| "incomplete")),
    }
}

#[test]
fn h33_what_follows_a_message_is_its_own() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    let (length, storage) = accepted(text);
    assert_eq!(storage.request(text).framing(), BodyFraming::None);
    assert_eq!(&text[length..length + 11], b"GET /second");
    refused("H-33", [b"\0", &text[..]].concat(), 400, CODEC);
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\ngarbage";
    let (length, storage) = accepted(text);
    assert!(!storage.request(text).keep_alive());
    assert_eq!(&text[length..], b"garbage");
}

#[test]
fn h34_expect_and_connection() {
    refused("H-34", with("Expect: 200-maybe"), 417, "expectation_failed");
    refused("H-34", with("Expect: 100-continue\r\nExpect: 100-continue"), 417, "expectation_failed");
    for name in [
        "Content-Length",
        "Host",
        "x-forwarded-for",
        "x-forwarded-client-cert",
        "authorization",
        ":path",
        "x-envoy-internal",
        "transfer-encoding",
        "cookie",
    ] {
        refused("H-34", with(&format!("Connection: close, {name}")), 400, CONNECTION);
    }
    let many = (0..11).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(", ");
    refused("H-34", with(&format!("Connection: {many}")), 400, CONNECTION);
    let text = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi";
    assert!(accepted(text).1.request(text).expect_continue());
}

#[test]
fn l05_limits() {
    let many = |count: usize| with("X: y\r\n".repeat(count - 1).trim_end());
    accepted(&many(100));
    refused("L-05", many(101), 431, "http1.too_many_headers");
    refused("L-05", with(&format!("X: {}", "y".repeat(70 * 1024))), 431, "http1.headers_too_large");
    refused("L-05", with(&format!("{}: y", "x".repeat(64 * 1024))), 431, "http1.headers_too_large");
    let base = with("X: ").len();
    accepted(&with(&format!("X: {}", "y".repeat(60 * 1024 - base))));
    refused(
        "L-05",
        with(&format!("X: {}", "y".repeat(60 * 1024 - base + 1))),
        431,
        "http1.headers_too_large",
    );
}

#[test]
fn g06_tls_on_a_plaintext_port() {
    refused("G-06", b"\x16\x03\x01\x02\x00\x01\x00", 400, CODEC);
    refused("N-20", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, CODEC);
}

#[test]
fn u01_u03_upgrades() {
    let text = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let (length, storage) = accepted(text);
    assert_eq!(storage.request(text).upgrade(), Some(&b"websocket"[..]));
    assert!(text[length..].starts_with(b"GET /admin"), "U-01: bytes after the head are not part of it");
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA",
        "Connection: upgrade\r\nUpgrade: h2c, HTTP/2.0",
        "Upgrade: websocket",
        "Connection: upgrade",
    ] {
        let text = with(lines);
        let storage = accepted(&text).1;
        let head = storage.request(&text);
        assert_eq!(head.upgrade(), None, "U-03: {lines}");
        let mut out = vec![];
        h1::write_request(&head, &h1::Edits::new(), &mut out);
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "U-03: {lines}");
    }
    // A list is one value, which is not what any of its members is.
    for value in ["websocket, h2c", "h2c, websocket", "websocket, foo"] {
        let text = with(&format!("Connection: upgrade\r\nUpgrade: {value}"));
        let storage = accepted(&text).1;
        assert_eq!(storage.request(&text).upgrade(), Some(value.as_bytes()), "U-03");
    }
    refused("U-03", with("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c"), 400, CODEC);
}

#[test]
fn u04_connect() {
    let connect = |lines: &str| format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n{lines}\r\n");
    let text = connect("");
    let storage = accepted(text.as_bytes()).1;
    let head = storage.request(text.as_bytes());
    assert!(head.is_connect());
    assert_eq!(
        (head.framing(), head.authority(), head.path()),
        (BodyFraming::Tunnel, &b"a:443"[..], &b""[..])
    );
    refused("U-04", connect("Transfer-Encoding: chunked\r\n"), 501, "http1.transfer_encoding_not_allowed");
    refused("U-04", connect("Content-Length: 5\r\n"), 400, "http1.content_length_not_allowed");
    accepted(connect("Content-Length: 0\r\n").as_bytes());
    refused("U-04", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL);
    refused("U-04", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL);
}

fn response(text: &[u8], to: ResponseTo) -> Result<Option<(usize, HeadStorage)>, Reject> {
    let mut storage = HeadStorage::new();
    let whole = h1::parse_response(text, &mut storage, &Limits::default(), to);
    let split = (0..=text.len())
        .filter(|end| text.len() < 1024 || end % 61 == 0 || *end == text.len())
        .map(|end| h1::parse_response(&text[..end], &mut HeadStorage::new(), &Limits::default(), to))
        .find(|verdict| *verdict != Ok(None));
    assert_eq!(whole, split.unwrap_or(Ok(None)), "{}", text.escape_ascii());
    whole.map(|length| length.map(|length| (length, storage)))
}

#[test]
fn u07_u08_l13_responses_refused() {
    let plain = ResponseTo::default();
    let upgrade = ResponseTo { upgrade: true, ..plain };
    let connect = ResponseTo { connect: true, ..plain };
    for (id, text, to, details) in [
        (
            "U-07",
            "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket",
            plain,
            "http1.unexpected_upgrade",
        ),
        (
            "U-07",
            "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c",
            upgrade,
            "http1.unexpected_upgrade",
        ),
        ("U-07", "101 Switching Protocols", upgrade, "http1.unexpected_upgrade"),
        ("U-08", "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", plain, BOTH),
        ("U-08", "200 OK\r\nContent-Length: 5\r\nContent-Length: 6", plain, CODEC),
        ("U-08", "200 OK\r\nContent-Length: 5\r\nContent-Length: 5", plain, CODEC),
        ("U-08", "200 OK\r\nContent-Length: -1", plain, CODEC),
        ("U-08", "200 OK\r\nTransfer-Encoding: gzip, chunked", plain, CODING),
        ("U-08", "204 No Content\r\nContent-Length: 5", plain, "http1.content_length_not_allowed"),
        (
            "U-08",
            "204 No Content\r\nTransfer-Encoding: chunked",
            plain,
            "http1.transfer_encoding_not_allowed",
        ),
        (
            "U-08",
            "103 Early Hints\r\nTransfer-Encoding: chunked",
            plain,
            "http1.transfer_encoding_not_allowed",
        ),
        ("U-08", "200 OK\r\nTransfer-Encoding: chunked", connect, "http1.transfer_encoding_not_allowed"),
        ("L-13", "020 What", plain, CODEC),
        ("L-13", "OK", plain, CODEC),
        ("L-13", "200 OK\r\nX : y", plain, CODEC),
        ("L-13", "200 OK\r\nX: a\r\n b", plain, CODEC),
        ("L-13", "200 OK\nX: a", plain, CODEC),
        ("L-13", "200 OK\r\nX: a\0", plain, CHARACTERS),
    ] {
        let reject = response(format!("HTTP/1.1 {text}\r\n\r\n").as_bytes(), to).expect_err(text);
        assert_eq!(reject, Reject { status: 502, details: reject.details, close: true, flag: "UPE" });
        assert_eq!(reject.details, details, "{id}: {text}");
    }
    for text in [&b"<html>"[..], b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"\0"] {
        assert_eq!(response(text, plain).unwrap_err().flag, "UPE", "L-13: {}", text.escape_ascii());
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert_eq!(response(many.as_bytes(), plain).unwrap_err().details, "http1.too_many_headers", "L-13");
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200 * 1024));
    let reject = h1::parse_response(large.as_bytes(), &mut HeadStorage::new(), &Limits::default(), plain);
    assert_eq!(reject.unwrap_err().details, "http1.headers_too_large", "L-13");
}

#[test]
fn truncated_bodies_are_not_complete() {
    // U-08: headers, then nothing more.
    for framing in [BodyFraming::Length(5), BodyFraming::Chunked] {
        let mut reader = BodyReader::response(framing, &Limits::default());
        reader.advance(b"1\r\na").unwrap();
        assert_eq!(reader.finish().unwrap_err().flag, "UC");
        let mut reader = BodyReader::request(framing, &Limits::default());
        assert_eq!(reader.finish().unwrap_err().flag, "DC");
    }
    let mut reader = BodyReader::response(BodyFraming::UntilClose, &Limits::default());
    assert_eq!(reader.advance(b"abc").unwrap().consumed, 3);
    assert!(!reader.is_done());
    reader.finish().unwrap();
    assert!(reader.is_done());
}
