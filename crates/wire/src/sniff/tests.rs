use super::*;

/// A ClientHello in one record, with these extensions.
fn hello(server_name: Option<&[u8]>, alpn: &[&[u8]]) -> Vec<u8> {
    let mut extensions = vec![0x0a, 0x0a, 0, 0]; // GREASE (RFC 8701)
    if let Some(name) = server_name {
        let length = name.len() as u16;
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name);
    }
    if !alpn.is_empty() {
        let list: Vec<u8> = alpn.iter().flat_map(|name| [&[name.len() as u8], *name].concat()).collect();
        extensions.extend([0, 16]);
        extensions.extend((list.len() as u16 + 2).to_be_bytes());
        extensions.extend((list.len() as u16).to_be_bytes());
        extensions.extend(list);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([9; 32]);
    body.extend([0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat())
        .collect()
}

#[test]
fn name_and_alpn_under_every_fragmentation_and_split() {
    // bad-inputs M-09.
    let message = hello(Some(b"Reviews.Default.svc"), &[b"istio", b"h2"]);
    let expected = ClientHello {
        server_name: Some("reviews.default.svc".into()),
        invalid_server_name: false,
        alpn: vec![b"istio".to_vec(), b"h2".to_vec()],
    };
    for size in [1, 2, 5, 64, 4096] {
        let bytes = records(&message, size);
        for end in 0..bytes.len() {
            assert_eq!(inspect(&bytes[..end]), Sniff::NeedMore, "{end} of records of {size}");
        }
        assert_eq!(inspect(&bytes), Sniff::Tls(expected.clone()));
    }
}

#[test]
fn server_names_that_are_none() {
    // bad-inputs M-08; RFC 6066 §3: literal addresses.
    for name in [&b""[..], b"127.0.0.1", b"fe80::1", b"a\0b", b"a b", &[b'a'; 300], "bücher".as_bytes()] {
        let Sniff::Tls(hello) = inspect(&records(&hello(Some(name), &[]), 4096)) else { panic!("{name:?}") };
        assert_eq!((hello.server_name, hello.invalid_server_name), (None, true));
    }
    let Sniff::Tls(hello) = inspect(&records(&hello(None, &[]), 4096)) else { panic!() };
    assert_eq!(hello, ClientHello::default());
}

#[test]
fn no_extension_twice() {
    // RFC 8446 §4.2: which of two names would count?
    let one = hello(Some(b"a"), &[b"h2"]);
    let extensions = one[4 + 2 + 32 + 33 + 6 + 2 + 2..].to_vec();
    for twice in [&extensions[4..14], &extensions[14..]] {
        let mut message = one.clone();
        message.extend(twice);
        let added = twice.len() as u16;
        message[3] += added as u8;
        message[4 + 2 + 32 + 33 + 6 + 2 + 1] += added as u8;
        assert_eq!(inspect_tls(&records(&message, 4096)), Tls::NotTls);
    }
    assert!(matches!(inspect_tls(&records(&one, 4096)), Tls::Hello(_)));
}

#[test]
fn hellos_too_large_or_malformed() {
    let large = records(&[1, 0, 0x44, 0, 3, 3], 4096);
    assert_eq!(inspect_tls(&large), Tls::TooLarge);
    let good = records(&hello(Some(b"a"), &[b"h2"]), 4096);
    for at in 5 + 4..good.len() {
        let mut bad = good.clone();
        bad.truncate(at);
        // The message is as long as it says but the record is cut: still waiting.
        assert_eq!(inspect_tls(&bad), Tls::NeedMore);
    }
    for bytes in
        [&[22, 2][..], &[22, 3, 1, 0, 0], &[22, 3, 1, 0xff, 0xff], &[22, 3, 1, 0, 1, 2], &[0x80, 0x2e]]
    {
        assert_eq!(inspect_tls(bytes), Tls::NotTls, "{bytes:?}");
    }
    // Every way to lie about a length inside ends in a verdict, and never in a name that was not sent.
    for at in 5..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            if let Tls::Hello(hello) = inspect_tls(&bad) {
                assert!(hello.server_name.is_none_or(|name| name.len() == 1));
            }
        }
    }
}

#[test]
fn http_byte_by_byte() {
    // bad-inputs G-05.
    for (text, verdict) in [
        (&b"GET /a?b HTTP/1.1\r\n"[..], Sniff::Http1(Version::Http11)),
        (b"\r\nPOST * HTTP/1.0\r\n", Sniff::Http1(Version::Http10)),
        (b"NOTIFY * HTTP/1.1\n", Sniff::Http1(Version::Http11)),
        // No method of Envoy's inspector: left to TCP.
        (b"M-SEARCH * HTTP/1.1\n", Sniff::Unknown),
        (b"QUERY / HTTP/1.1\n", Sniff::Unknown),
        (HTTP2_PREFACE, Sniff::Http2Preface),
        (b"GET / HTTP/1.2\r\n", Sniff::Unknown),
        (b"GET /\r\n", Sniff::Unknown),
        (b"GET \0", Sniff::Unknown),
        (b"GET / HTTP/1.1\rX", Sniff::Unknown),
        (b"PRI * HTTP/2.0\r\n\r\nX", Sniff::Unknown),
        (b"GETX", Sniff::Unknown),
        (b"get / HTTP/1.1\r\n", Sniff::Unknown),
        (b"\x00", Sniff::Unknown),
        (b"EHLO", Sniff::Unknown),
        (b"SSH-", Sniff::Unknown),
    ] {
        let decided = (0..=text.len()).find(|end| inspect(&text[..*end]) != Sniff::NeedMore).unwrap();
        assert_eq!(inspect(&text[..decided]), verdict, "{}", text.escape_ascii());
        assert_eq!(inspect(text), verdict, "{}", text.escape_ascii());
    }
}

#[test]
fn a_request_line_without_end_is_not_waited_for() {
    let mut line = b"GET /".to_vec();
    line.resize(MAX_LINE + 100, b'a');
    assert_eq!(inspect(&line), Sniff::HttpTooLong);
    assert_eq!(inspect(&line[..MAX_LINE - 1]), Sniff::NeedMore);
}

/// Whoever gives up sniffing must not choose the laxer chain while the bytes can still be HTTP: each place of a first
/// line in which a sender may go on without end.
#[test]
fn a_first_line_of_any_length_that_can_still_be_http_is_never_called_another_protocol() {
    for (start, byte) in
        [("GET /", b'a'), ("GET ", b'/'), ("POST /?", b'%'), ("GET http://", b'h'), ("\r\n", b'\n')]
    {
        let mut line = start.as_bytes().to_vec();
        if byte == b'\n' {
            line = b"\r\n".repeat(MAX_LINE);
        }
        line.resize(2 * MAX_LINE, byte);
        for length in [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE] {
            let verdict = inspect_http(&line[..length]);
            let expected = if length < MAX_LINE { Sniff::NeedMore } else { Sniff::HttpTooLong };
            assert_eq!(verdict, expected, "{start:?} and {length} bytes");
        }
        // And what follows makes no difference.
        line.extend_from_slice(b" HTTP/1.1\r\n\r\n");
        assert_eq!(inspect_http(&line), Sniff::HttpTooLong);
    }
}
