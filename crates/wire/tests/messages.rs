//! Good messages: how they are framed, what of them is forwarded, and how edits change it.

use wire::{
    BodyFraming, HeaderId,
    h1::{self, BodyReader, Edits, HeadStorage, Limits, ResponseTo, Underscores},
};

fn request(text: &str) -> HeadStorage {
    request_with(text, &Limits::default())
}

fn request_with(text: &str, limits: &Limits) -> HeadStorage {
    let mut storage = HeadStorage::new();
    assert_eq!(h1::parse_request(text.as_bytes(), &mut storage, limits), Ok(Some(text.len())), "{text}");
    storage
}

fn forwarded(text: &str, edit: impl FnOnce(&h1::RequestHead<'_>, &mut Edits)) -> String {
    let storage = request(text);
    let head = storage.request(text.as_bytes());
    let (mut edits, mut out) = (Edits::new(), vec![]);
    edit(&head, &mut edits);
    h1::write_request(&head, &edits, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_a_request_says() {
    let text = "POST /a?b HTTP/1.1\r\nhOst: svc:80\r\nX-Two: 1\r\nUser-Agent:  curl/8 \t\r\nx-two: 2\r\n\
                CONTENT-LENGTH: 12\r\nEmpty:\r\nCookie: a\r\ncookie: b\r\n\r\n";
    let storage = request(text);
    let head = storage.request(text.as_bytes());
    assert_eq!((head.method(), head.target(), head.path()), (&b"POST"[..], &b"/a?b"[..], &b"/a?b"[..]));
    assert_eq!(head.authority(), b"svc:80");
    assert_eq!(head.authority_parts().host, b"svc");
    assert_eq!((head.framing(), head.keep_alive()), (BodyFraming::Length(12), true));
    assert_eq!(head.known(HeaderId::UserAgent), Some(&b"curl/8"[..]));
    assert_eq!(head.header(b"USER-AGENT"), Some(&b"curl/8"[..]));
    assert_eq!(head.header(b"X-TWO"), Some(&b"1"[..]));
    assert_eq!(head.all(b"x-two").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.all(b"cookie").collect::<Vec<_>>(), [b"a", b"b"]);
    assert!(head.repeats(HeaderId::Cookie) && !head.repeats(HeaderId::Host));
    assert_eq!(head.header(b"empty"), Some(&b""[..]));
    assert_eq!(head.header(b"absent"), None);
    assert_eq!(head.fields().count(), 8);
    assert_eq!(head.fields().next().unwrap().name, b"hOst");
    assert_eq!(head.wire_length(), text.len());
}

#[test]
fn an_untouched_head_is_forwarded_byte_for_byte() {
    let text =
        "GET /Path HTTP/1.1\r\nHOST: a\r\nx-Odd:   spaces kept  \r\nX-B: \r\nx-b:c\r\nTe: trailers\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), text);
    // Empty lines before the request are not (RFC 9112 §2.2).
    assert_eq!(forwarded(&format!("\r\n\r\n{text}"), |_, _| {}), text);
}

#[test]
fn fields_of_this_hop_are_cut() {
    // RFC 9110 §7.6.1, bad-inputs H-34.
    let text = "GET / HTTP/1.1\r\nConnection: close, X-Secret, TE\r\nHost: a\r\nx-secret: 1\r\nKeep-Alive: 5\r\n\
                Proxy-Connection: x\r\nX-Kept: 1\r\nTE: deflate, trailers\r\nX-SECRET: 2\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\nte: trailers\r\n\r\n");
    let text = "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = "GET / HTTP/1.1\r\nHost: a\r\nTE: Trailers\r\nTE: trailers\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "GET / HTTP/1.1\r\nHost: a\r\nTE: Trailers\r\n\r\n");
    let text = "GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let upgraded = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), upgraded);
}

#[test]
fn the_authority_of_the_target_becomes_host() {
    // RFC 9112 §3.2.2, bad-inputs H-32.
    let text = "GET http://a:81/x?y HTTP/1.1\r\nX: 1\r\nHost: b\r\nY: 2\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "GET /x?y HTTP/1.1\r\nX: 1\r\nHost: a:81\r\nY: 2\r\n\r\n");
    let text = "GET HTTP://a HTTP/1.1\r\nX: 1\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "GET / HTTP/1.1\r\nhost: a\r\nX: 1\r\n\r\n");
    let text = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = "CONNECT a:443 HTTP/1.1\r\nHost: other\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(forwarded(text, |_, _| {}), "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
}

#[test]
fn edits_replace_remove_and_append_lines_as_recorded() {
    let text = "GET /old HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Gone: 1\r\nX-Set: 1\r\nx-set: 2\r\n\r\n";
    let out = forwarded(text, |head, edits| {
        edits.method(b"PUT");
        edits.target(b"/new x");
        edits.host(b"b");
        edits.remove(head, b"x-gone");
        edits.append(b"X-New", b"1");
        edits.set(head, b"X-SET", b"3");
        edits.append_to_list(head, HeaderId::XForwardedFor, b"2.2.2.2");
        edits.append_to_list(head, HeaderId::XForwardedFor, b"3.3.3.3");
        edits.append_number(HeaderId::XEnvoyAttemptCount, 2);
        assert_eq!(edits.value(head, b"x-set"), Some(&b"3"[..]));
        assert_eq!(edits.value(head, b"x-gone"), None);
        assert_eq!(edits.value(head, b"x-forwarded-for"), Some(&b"1.1.1.1, 2.2.2.2, 3.3.3.3"[..]));
        assert_eq!(edits.value(head, b"host"), Some(&b"b"[..]));
        assert_eq!(edits.replaced_target(), Some(&b"/new%20x"[..]));
    });
    assert_eq!(
        out,
        "PUT /new%20x HTTP/1.1\r\nHost: b\r\nX-New: 1\r\nX-SET: 3\r\n\
         x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3\r\nx-envoy-attempt-count: 2\r\n\r\n"
    );
}

#[test]
fn values_are_those_that_will_be_sent() {
    let text =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-A: 1\r\nx-a: 2\r\nCookie: c\r\n\r\n";
    let storage = request(text);
    let head = storage.request(text.as_bytes());
    let mut edits = Edits::new();
    let values = |edits: &Edits, name: &str| -> Vec<String> {
        let values: Vec<_> =
            edits.values(&head, name.as_bytes()).map(|v| String::from_utf8_lossy(v).into()).collect();
        let first = edits.value(&head, name.as_bytes()).map(|v| String::from_utf8_lossy(v).into());
        assert_eq!(first, values.first().cloned(), "{name}");
        values
    };
    assert_eq!(values(&edits, "x-hop"), [""; 0]);
    assert_eq!(values(&edits, "connection"), [""; 0]);
    assert_eq!(values(&edits, "X-A"), ["1", "2"]);
    assert_eq!(values(&edits, "cookie"), ["c"]);
    assert_eq!(values(&edits, "accept"), [""; 0]);
    edits.append(b"x-a", b"3");
    edits.append(b"cookie", b"d");
    edits.append(b"accept", b"e");
    assert_eq!(values(&edits, "x-a"), ["1", "2", "3"]);
    assert_eq!(values(&edits, "cookie"), ["c", "d"]);
    assert_eq!(values(&edits, "accept"), ["e"]);
    edits.remove(&head, b"COOKIE");
    edits.set(&head, b"X-A", b"4");
    edits.host(b"b");
    assert_eq!(values(&edits, "cookie"), [""; 0]);
    assert_eq!(values(&edits, "x-a"), ["4"]);
    assert_eq!(values(&edits, "host"), ["b"]);
}

#[test]
fn no_value_ends_its_line_and_no_name_is_more_than_a_name() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let out = forwarded(text, |head, edits| {
        edits.append(b"x", b"a\r\nevil: 1\0");
        edits.append(b"bad: name", b"1");
        edits.append(b"", b"1");
        edits.target(b"/a\r\nHost: b");
        edits.host(b"a\r\nx: y");
        edits.method(b"GET / HTTP/1.1\r\n");
        let _ = head;
    });
    assert_eq!(out, "GET /a%0D%0AHost:%20b HTTP/1.1\r\nHost: a%0D%0Ax:%20y\r\nx: a  evil: 1 \r\n\r\n");
}

#[test]
fn whatever_edits_say_one_host_line_is_sent() {
    let text = "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(
        forwarded(text, |head, edits| edits.remove(head, b"host")),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let set = forwarded(text, |head, edits| edits.set(head, b"HOST", b"c"));
    assert_eq!(set, "GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let added = forwarded(text, |_, edits| edits.append_known(HeaderId::Host, b"c"));
    assert_eq!(added, "GET / HTTP/1.1\r\nHost: c\r\n\r\n");
}

#[test]
fn edits_are_as_new_after_clear() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n";
    let storage = request(text);
    let head = storage.request(text.as_bytes());
    let mut edits = Edits::new();
    edits.host(b"b");
    edits.target(b"/b");
    edits.method(b"PUT");
    edits.set(&head, b"x", b"2");
    edits.remove(&head, b"x");
    edits.clear();
    let mut out = vec![];
    h1::write_request(&head, &edits, &mut out);
    assert_eq!(out, text.as_bytes());
}

#[test]
fn names_with_underscores_are_allowed_dropped_or_refused_as_configured() {
    // Envoy's headers_with_underscores_action.
    let text = "GET / HTTP/1.1\r\nHost: a\r\nx_y: 1\r\nX: 1\r\n\r\n";
    let limits = |underscores| Limits { underscores, ..Limits::default() };
    let reject = h1::parse_request(text.as_bytes(), &mut HeadStorage::new(), &limits(Underscores::Reject));
    assert_eq!(reject.unwrap_err().details, "http1.unexpected_underscore");
    let storage = request_with(text, &limits(Underscores::Drop));
    let head = storage.request(text.as_bytes());
    assert_eq!(head.header(b"x_y"), None);
    let mut out = vec![];
    h1::write_request(&head, &Edits::new(), &mut out);
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    assert_eq!(
        request_with(text, &limits(Underscores::Allow)).request(text.as_bytes()).header(b"x_y"),
        Some(&b"1"[..])
    );
}

#[test]
fn how_a_response_is_framed() {
    // RFC 9112 §6.3.
    let plain = ResponseTo::default();
    let head = ResponseTo { head: true, ..plain };
    let connect = ResponseTo { connect: true, ..plain };
    let upgrade = ResponseTo { upgrade: true, ..plain };
    let switching = "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
    for (text, to, framing, keep_alive) in [
        ("200 OK\r\nContent-Length: 5", plain, BodyFraming::Length(5), true),
        ("200 OK\r\nContent-Length: 0", plain, BodyFraming::None, true),
        ("200 OK\r\nTransfer-Encoding: Chunked", plain, BodyFraming::Chunked, true),
        ("200 OK\r\nConnection: close\r\nContent-Length: 5", plain, BodyFraming::Length(5), false),
        ("200 OK", plain, BodyFraming::UntilClose, false),
        ("200", plain, BodyFraming::UntilClose, false),
        ("200 OK\r\nContent-Length: 5", head, BodyFraming::None, true),
        ("200 OK\r\nTransfer-Encoding: chunked", head, BodyFraming::None, true),
        ("200 OK", head, BodyFraming::None, true),
        ("304 Not Modified\r\nContent-Length: 5", plain, BodyFraming::None, true),
        ("204 No Content", plain, BodyFraming::None, true),
        ("204 No Content\r\nContent-Length: 0", plain, BodyFraming::None, true),
        ("100 Continue", plain, BodyFraming::None, true),
        ("103 Early Hints\r\nLink: </x>", plain, BodyFraming::None, true),
        ("200 OK", connect, BodyFraming::Tunnel, false),
        ("407 No\r\nContent-Length: 5", connect, BodyFraming::Length(5), true),
        (switching, upgrade, BodyFraming::Tunnel, false),
        ("200 OK\r\nContent-Length: 1", upgrade, BodyFraming::Length(1), true),
    ] {
        let text = format!("HTTP/1.1 {text}\r\n\r\n");
        let mut storage = HeadStorage::new();
        let parsed = h1::parse_response(text.as_bytes(), &mut storage, &Limits::default(), to);
        assert_eq!(parsed, Ok(Some(text.len())), "{text}");
        let head = storage.response(text.as_bytes());
        assert_eq!((head.framing(), head.keep_alive()), (framing, keep_alive), "{text}");
        assert_eq!(head.is_interim(), text.starts_with("HTTP/1.1 10") && !text.contains("101"), "{text}");
    }
    for text in [
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n",
    ] {
        let mut storage = HeadStorage::new();
        h1::parse_response(text.as_bytes(), &mut storage, &Limits::default(), plain).unwrap();
        assert!(!storage.response(text.as_bytes()).keep_alive());
    }
}

#[test]
fn responses_forwarded() {
    let write = |text: &str, to: ResponseTo, edit: &dyn Fn(&h1::ResponseHead<'_>, &mut Edits)| {
        let mut storage = HeadStorage::new();
        h1::parse_response(text.as_bytes(), &mut storage, &Limits::default(), to).unwrap().unwrap();
        let head = storage.response(text.as_bytes());
        let (mut edits, mut out) = (Edits::new(), vec![]);
        edit(&head, &mut edits);
        h1::write_response(&head, &edits, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let plain = ResponseTo::default();
    let text = "HTTP/1.1 200 Fine \u{fc}\r\nConnection: keep-alive\r\nServer: x\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        write(text, plain, &|head, edits| edits.set_known(head, HeaderId::Server, b"istio-envoy")),
        "HTTP/1.1 200 Fine \u{fc}\r\nContent-Length: 0\r\nserver: istio-envoy\r\n\r\n"
    );
    // A response can not have anyone's fields removed on the way.
    let text = "HTTP/1.1 200 OK\r\nConnection: set-cookie, content-length, x-hop\r\nX-Hop: 1\r\nContent-Length: 0\r\nSet-Cookie: a\r\n\r\n";
    assert_eq!(
        write(text, plain, &|_, _| {}),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a\r\n\r\n"
    );
    assert_eq!(
        write("HTTP/1.0 200 Ok ok\r\nX: 1\r\n\r\n", plain, &|_, _| {}),
        "HTTP/1.1 200 Ok ok\r\nX: 1\r\n\r\n"
    );
    assert_eq!(write("HTTP/1.1 200\r\n\r\n", plain, &|_, _| {}), "HTTP/1.1 200\r\n\r\n");
    assert_eq!(
        write("HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", plain, &|_, edits| edits.status(503)),
        "HTTP/1.1 503 Service Unavailable\r\nX: 1\r\n\r\n"
    );
    let text = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(
        write(text, ResponseTo { upgrade: true, ..plain }, &|_, _| {}),
        "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    let text = "HTTP/1.1 426 No\r\nConnection: Upgrade\r\nUpgrade: h3\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(write(text, plain, &|_, _| {}), "HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn a_chunked_body_decoded() {
    let body = b"5;x\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nnext";
    let mut reader = BodyReader::response(BodyFraming::Chunked, &Limits::default());
    let (mut at, mut payload) = (0, vec![]);
    loop {
        let step = reader.decode(&body[at..]).unwrap();
        at += step.consumed;
        payload.extend(step.payload);
        if step.done {
            break;
        }
    }
    assert_eq!((&payload[..], reader.payload()), (&b"hello world"[..], 11));
    assert_eq!(&body[at..], b"next");
    assert_eq!(reader.tail(), b"X-Sum: 1\r\n\r\n");
    let mut out = vec![];
    h1::push_chunk_header(&mut out, 0x2af);
    assert_eq!(out, b"2af\r\n");
}
