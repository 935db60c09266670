use super::*;

/// When a head is refused that comes byte by byte: at which byte, and how.
fn request(head: &[u8], limits: &Limits) -> Option<(usize, u16, &'static str)> {
    let (mut partial, mut storage) = (PartialHead::default(), HeadStorage::new());
    (1..=head.len()).find_map(|end| match partial.request(&head[..end], &mut storage, limits) {
        Ok(_) => None,
        Err(reject) => Some((end, reject.status, reject.details)),
    })
}

fn response(head: &[u8]) -> Option<(usize, u16, &'static str)> {
    let (mut partial, mut storage) = (PartialHead::default(), HeadStorage::new());
    (1..=head.len()).find_map(|end| {
        let verdict = partial.response(&head[..end], &mut storage, &Limits::default(), ResponseTo::default());
        verdict.err().map(|reject| (end, reject.status, reject.details))
    })
}

/// The bar stands behind the byte with which the head cannot become valid any more.
fn at_bar(text: &str) -> (Vec<u8>, usize) {
    let bar = text.find('|').unwrap();
    ([&text[..bar], &text[bar + 1..]].concat().into_bytes(), bar)
}

#[test]
fn a_request_that_cannot_become_valid_is_refused_at_the_byte_that_shows_it() {
    use details::*;
    for (text, status, detail) in [
        ("\x16|\x03\x01", 400, CODEC_ERROR),
        ("\n|GET / HTTP/1.1", 400, CODEC_ERROR),
        ("\r\n\rG|", 400, CODEC_ERROR),
        ("GEX| / HTTP/1.1", 400, CODEC_ERROR),
        ("GE |/ HTTP/1.1", 400, CODEC_ERROR),
        ("g|et", 400, CODEC_ERROR),
        ("GET\t| /", 400, CODEC_ERROR),
        ("GET  |/ HTTP/1.1", 400, CODEC_ERROR),
        ("GET /\x7f| HTTP/1.1", 400, CODEC_ERROR),
        ("GET /\u{e9}| HTTP/1.1", 400, INVALID_URL),
        ("GET x |HTTP/1.1", 400, INVALID_URL),
        ("GET https://a/ |HTTP/1.1", 403, HTTPS_ON_PLAINTEXT),
        ("GET /\r|\n", 400, CODEC_ERROR),
        ("GET / X| ", 400, CODEC_ERROR),
        ("GET / HTTP/2|.0\r\n", 400, CODEC_ERROR),
        ("GET / HTTP/1.2|\r\n", 400, CODEC_ERROR),
        ("GET / HTTP/1.0|\r\n", 426, LOW_VERSION),
        ("GET / HTTP/1.1\n|", 400, CODEC_ERROR),
        ("GET / HTTP/1.1 |\r\n", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\n |folded: x", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\n:| x", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\nx |: y", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\nx\r|\n", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\nx: y\n|", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\nx: y\0|z", 400, INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nx: y\rz|", 400, INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nx: y\r\n |folded", 400, CODEC_ERROR),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r|\n", 400, INVALID_AUTHORITY),
        ("GET / HTTP/1.1\r\nhost: a b\r|\n", 400, INVALID_AUTHORITY),
        ("GET / HTTP/1.1\r\nhost:\r|\n", 400, MISSING_HOST),
        ("POST / HTTP/1.1\r\ncontent-length: 1x\r|\n", 400, CODEC_ERROR),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r|\n", 400, CODEC_ERROR),
        (
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r|\n",
            400,
            CONTENT_LENGTH_AND_CHUNKED,
        ),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r|\n", 501, INVALID_TRANSFER_ENCODING),
    ] {
        let (head, bar) = at_bar(text);
        let (head, bar) = if text.contains("GET /\u{e9}") { (head, bar - 1) } else { (head, bar) };
        assert_eq!(request(&head, &Limits::default()), Some((bar, status, detail)), "{text:?}");
    }
    let limits = Limits { underscores: Underscores::Reject, max_headers: 1, ..Limits::default() };
    let (head, bar) = at_bar("GET / HTTP/1.1\r\na_b:| c");
    assert_eq!(request(&head, &limits), Some((bar, 400, UNEXPECTED_UNDERSCORE)));
    let (head, bar) = at_bar("GET / HTTP/1.1\r\na: b\r\nc|: d");
    assert_eq!(request(&head, &limits), Some((bar, 431, TOO_MANY_HEADERS)));
}

#[test]
fn a_response_that_cannot_become_valid_is_refused_at_the_byte_that_shows_it() {
    use details::*;
    for (text, detail) in [
        ("2|20 mail.example.com ESMTP\r\n", CODEC_ERROR),
        ("HTTX|", CODEC_ERROR),
        ("HTTP/2|", CODEC_ERROR),
        ("HTTP/1.1  |200", CODEC_ERROR),
        ("HTTP/1.1 0|99", CODEC_ERROR),
        ("HTTP/1.1 20x|", CODEC_ERROR),
        ("HTTP/1.1 2000|", CODEC_ERROR),
        ("HTTP/1.1 200 O\0|K", CODEC_ERROR),
        ("HTTP/1.1 200\n|", CODEC_ERROR),
        ("HTTP/1.1 200 OK\r\nx y|: z", CODEC_ERROR),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r|\n", CODEC_ERROR),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r|\n", TRANSFER_ENCODING_NOT_ALLOWED),
    ] {
        let (head, bar) = at_bar(text);
        let bar = if text.contains("x y|") { bar - 1 } else { bar };
        assert_eq!(response(&head), Some((bar, 502, detail)), "{text:?}");
    }
}

#[test]
fn what_is_served_is_never_refused_in_parts() {
    let limits = Limits { allow_http10: true, allow_custom_methods: true, secure: true, ..Limits::default() };
    for head in [
        "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nx:\r\ny: \t z \t\r\nv: \u{e9}\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nhost: [::1]:80\r\n\r\n",
        "GET https://a/ HTTP/1.1\r\nhost: any thing\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nhost:\r\n\r\n",
        "FOO /?a|b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\nexpect: 100-continue\r\n\r\n",
    ] {
        assert_eq!(request(head.as_bytes(), &limits), None, "{head:?}");
    }
    for head in
        ["HTTP/1.1 200\r\n\r\n", "HTTP/1.0 404 \r\na:b\r\n\r\n", "HTTP/1.1 999 \u{e9}\t\r\nx: y\r\n\r\n"]
    {
        assert_eq!(response(head.as_bytes()), None, "{head:?}");
    }
}

/// A head of 60 KiB that comes byte by byte is read once, not once for each byte: a thousand times as many bytes would
/// have to be looked at otherwise.
#[test]
fn a_trickle_costs_as_much_as_its_length() {
    let mut head = b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec();
    while head.len() < 60 * 1024 {
        head.extend_from_slice(
            b"x-some-field: some value that is neither long nor short, of sixty-odd bytes..\r\n",
        );
    }
    let limits = Limits { max_head: 1 << 20, max_headers: 250, ..Limits::default() };
    head.truncate(19_000);
    head.extend_from_slice(b"long: ");
    head.resize(60 * 1024, b'v');
    let mut partial = PartialHead::default();
    let mut storage = HeadStorage::new();
    for end in 1..=head.len() {
        assert_eq!(partial.request(&head[..end], &mut storage, &limits), Ok(None));
        assert_eq!(partial.read as usize, end);
    }
    head.extend_from_slice(b"\r\n\r\n");
    assert_eq!(partial.request(&head, &mut storage, &limits), Ok(Some(head.len())));
    assert_eq!(partial.read, 0, "begins anew");
}
