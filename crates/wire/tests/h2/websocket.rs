//! WebSockets and other upgrades between HTTP/1 and HTTP/2 (RFC 6455, RFC 8441), towards peers that are not ours.

use wire::{
    HeaderId,
    h1::{self, Edits, HeadStorage, Limits, ResponseTo, Scheme},
    h2::{Config, OpenError},
    websocket,
};

use super::{
    exchange::{pair, settle},
    support::*,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const GRANTED: ResponseTo = ResponseTo { head: false, connect: false, upgrade: true };

#[test]
fn websocket_by_extended_connect() {
    // RFC 8441; from and to HTTP/1.
    let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let mut storage = HeadStorage::new();
    h1::parse_request(request, &mut storage, &Limits::default()).unwrap();
    let head = storage.request(request);
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let asked = client.connection.open(&head, &Edits::new(), Scheme::Http, false, 0).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(server.log, ["request 1 GET /chat a None host=a sec-websocket-version=13 upgrade=websocket"]);
    let mut out = vec![];
    h1::write_request(&last_request(&server), &Edits::new(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    let response =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nx: y\r\n\r\n";
    let mut storage = HeadStorage::new();
    let to = h1::ResponseTo { upgrade: true, ..Default::default() };
    h1::parse_response(response, &mut storage, &Limits::default(), to).unwrap();
    let stream = server.stream(1);
    server.connection.respond(stream, &storage.response(response), &Edits::new(), false).unwrap();
    server.connection.data(stream, b"frames", false).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.log, ["response 1 101 Tunnel x=y upgrade=websocket", "data 1 frames"]);
    let mut out = vec![];
    h1::write_response(&last_response(&client), &Edits::new(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nx: y\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    client.connection.data(asked, b"more", true).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(server.log.last().unwrap(), "data 1 more end");
    // A refusal is an ordinary response.
    let asked = client.connection.open(&head, &Edits::new(), Scheme::Http, false, 0).unwrap();
    settle(&mut client, &mut server);
    server.connection.respond_parts(server.stream(asked.id()), 403, b"", true).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.log.last().unwrap(), "response 3 403 None end");

    let (mut client, mut server) =
        pair(Config::default(), Config { extended_connect: false, ..Config::default() });
    let refused = client.connection.open(&head, &Edits::new(), Scheme::Http, false, 0);
    assert_eq!(refused, Err(OpenError::NoExtendedConnect));
    settle(&mut client, &mut server);

    // RFC 8441 §3: as long as the peer's settings have not come, it is not asked.
    let mut early = wire::h2::Connection::client(Config::default().into(), std::time::Duration::ZERO);
    let unasked = early.open(&head, &Edits::new(), Scheme::Http, false, 0);
    assert_eq!(unasked, Err(OpenError::NoExtendedConnect));
}

fn last_request(end: &End) -> h1::RequestHead<'_> {
    end.scratch.request()
}

fn last_response(end: &End) -> h1::ResponseHead<'_> {
    end.scratch.response()
}

fn parsed_request(text: &str) -> HeadStorage {
    let mut storage = HeadStorage::new();
    h1::parse_request(text.as_bytes(), &mut storage, &Limits::default()).unwrap().unwrap();
    storage
}

fn parsed_response(text: &str) -> HeadStorage {
    let mut storage = HeadStorage::new();
    h1::parse_response(text.as_bytes(), &mut storage, &Limits::default(), GRANTED).unwrap().unwrap();
    storage
}

fn to_http2(text: &str, end: bool) -> String {
    let storage = parsed_request(text);
    let mut client = End::client(Config::default());
    client.connection.open(&storage.request(text.as_bytes()), &Edits::new(), Scheme::Http, end, 0).unwrap();
    let frames = split(client.connection.output());
    assert_eq!(frames.len(), 1);
    let mut server = End::server(Config::default());
    server.events(client.connection.output()).remove(0)
}

/// Envoy keeps the key, and `:protocol` is registered in lower case (RFC 8441 §3).
#[test]
fn requests_to_http2() {
    let upgrade = "Upgrade: WebSocket\r\nConnection: Upgrade\r\n";
    assert_eq!(
        to_http2(&format!("GET /ws HTTP/1.1\r\nHost: h\r\n{upgrade}Sec-WebSocket-Key: {KEY}\r\n\r\n"), false),
        format!("request 1 GET /ws h None host=h sec-websocket-key={KEY} upgrade=websocket")
    );
    assert_eq!(
        to_http2(&format!("GET /ws HTTP/1.1\r\nHost: h\r\n{upgrade}Content-Length: 0\r\n\r\n"), false),
        "request 1 GET /ws h None host=h upgrade=websocket"
    );
    // With a body, or without a path, it goes as if no upgrade had been asked for (RFC 9110 §7.8).
    assert_eq!(
        to_http2(&format!("PUT / HTTP/1.1\r\nHost: h\r\n{upgrade}Content-Length: 3\r\n\r\n"), false),
        "request 1 PUT / h Length(3) host=h content-length=3"
    );
    assert_eq!(
        to_http2(&format!("OPTIONS * HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n"), true),
        "request 1 OPTIONS * h None host=h end"
    );
}

fn connect(more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "CONNECT"), (":scheme", "http"), (":path", "/ws"), (":authority", "a")];
    headers(1, 0, &[&fields[..], more].concat())
}

#[test]
fn requests_from_http2() {
    let websocket = (":protocol", "websocket");
    for (fields, expected) in [
        (
            vec![websocket, ("content-length", "0")],
            "request 1 GET /ws a None host=a content-length=0 upgrade=websocket",
        ),
        // RFC 9110 §9.3.6: what asks for a tunnel has no content.
        (vec![websocket, ("content-length", "5")], "refused 1 400 http2.violation.of.messaging.rule"),
        // Past every policy (bad-inputs U-03); RFC 9220 §3 has 501 for a protocol that is not supported.
        (vec![(":protocol", "h2c")], "refused 1 501 http2.unexpected_upgrade"),
        (vec![(":protocol", "foo, HTTP/2.0")], "refused 1 501 http2.unexpected_upgrade"),
        (vec![(":protocol", "")], "refused 1 501 http2.unexpected_upgrade"),
    ] {
        assert_eq!(End::server(Config::default()).events(&connect(&fields)), [expected]);
    }
    // The length is not forwarded, nor does it bound the tunnel.
    let mut server = End::server(Config::default());
    server.feed(&connect(&[websocket, ("content-length", "0")])).unwrap();
    let mut out = vec![];
    h1::write_request(&server.scratch.request(), &Edits::new(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    assert_eq!(server.events(&frame(DATA, 0, 1, b"frames")), ["data 1 frames"]);
}

/// RFC 6455 §4.1: without a key no HTTP/1 server would answer.
#[test]
fn a_key_for_http1() {
    let random = u128::from_be_bytes(*b"the sample nonce");
    let mut server = End::server(Config::default());
    server.feed(&connect(&[(":protocol", "websocket"), ("sec-websocket-version", "13")])).unwrap();
    let head = server.scratch.request();
    let mut edits = Edits::new();
    let key = websocket::add_key(&head, &mut edits, random).unwrap();
    let mut out = vec![];
    h1::write_request(&head, &edits, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            "GET /ws HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\n\
             sec-websocket-key: {KEY}\r\nconnection: upgrade\r\n\r\n"
        )
    );
    // The proof is checked and taken off; the answer is the 200 of an extended CONNECT.
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\nX: y\r\n\r\n"
    );
    let storage = parsed_response(&answer);
    let head = storage.response(answer.as_bytes());
    let mut edits = Edits::new();
    assert_eq!(websocket::take_accept(&head, &mut edits, &key), Ok(()));
    server.said();
    server.connection.respond(server.stream(1), &head, &edits, false).unwrap();
    let mut client = End::client(Config::default());
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let storage = parsed_request(asked);
    client
        .connection
        .open(&storage.request(asked.as_bytes()), &Edits::new(), Scheme::Http, false, 0)
        .unwrap();
    let frames = server.connection.output().to_vec();
    assert_eq!(split(&frames)[0].3[0], 0x88, ":status 200");
    assert_eq!(client.events(&frames), ["response 1 101 Tunnel x=y upgrade=websocket"]);
    // Who did not understand is not believed.
    for (case, answer) in [
        ("no proof", answer.replace("Sec-WebSocket-Accept", "X-Accept")),
        ("another's", answer.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
        ("two", answer.replace("X: y", &format!("Sec-WebSocket-Accept: {ACCEPT}"))),
        ("another protocol", answer.replace("websocket", "foo")),
    ] {
        let storage = parsed_response(&answer);
        let refused = websocket::take_accept(&storage.response(answer.as_bytes()), &mut Edits::new(), &key);
        let refused = refused.expect_err(case);
        assert_eq!((refused.status, refused.details), (502, "http1.unexpected_upgrade"), "{case}");
    }
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let storage = parsed_response(refusal);
    let head = storage.response(refusal.as_bytes());
    assert_eq!(websocket::take_accept(&head, &mut Edits::new(), &key), Ok(()));
    // A key of the client's own is kept, and what is no WebSocket gets none.
    for text in [
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ),
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        let storage = parsed_request(&text);
        let mut edits = Edits::new();
        assert_eq!(websocket::add_key(&storage.request(text.as_bytes()), &mut edits, random), None);
        assert_eq!(edits.value(&storage.request(text.as_bytes()), b"x-nothing"), None);
    }
}

/// RFC 8441 §5: an HTTP/2 host proves nothing, while an HTTP/1 client wants to see it.
#[test]
fn a_proof_for_http1() {
    let asked = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let storage = parsed_request(&asked);
    let asked = storage.request(asked.as_bytes());
    for (fields, sent) in [
        (
            &[(":status", "200"), ("x", "y")][..],
            format!("x: y\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n"),
        ),
        (
            &[(":status", "200"), ("sec-websocket-accept", "own")],
            "sec-websocket-accept: own\r\nupgrade: websocket\r\n".to_owned(),
        ),
    ] {
        let mut client = End::client(Config::default());
        client.connection.open(&asked, &Edits::new(), Scheme::Http, false, 0).unwrap();
        client.events(&headers(1, 0, fields));
        let head = client.scratch.response();
        let mut edits = Edits::new();
        websocket::add_accept(&head, &mut edits, asked.known(HeaderId::SecWebSocketKey).unwrap());
        let mut out = vec![];
        h1::write_response(&head, &edits, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("HTTP/1.1 101 Switching Protocols\r\n{sent}connection: upgrade\r\n\r\n")
        );
    }
    // A failure is told as it is.
    let mut client = End::client(Config::default());
    client.connection.open(&asked, &Edits::new(), Scheme::Http, false, 0).unwrap();
    client.events(&headers(1, 0, &[(":status", "404"), ("content-length", "2")]));
    let head = client.scratch.response();
    let (mut edits, mut out) = (Edits::new(), vec![]);
    websocket::add_accept(&head, &mut edits, KEY.as_bytes());
    h1::write_response(&head, &edits, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n");
}

/// An HTTP/1 client's CONNECT to an HTTP/2 host and back (RFC 9113 §8.5).
#[test]
fn a_tunnel_by_connect() {
    let asked = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n";
    let storage = parsed_request(asked);
    for (status, expected) in [
        ("200", "HTTP/1.1 200 OK\r\n\r\n"),
        ("403", "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let mut client = End::client(Config::default());
        client
            .connection
            .open(&storage.request(asked.as_bytes()), &Edits::new(), Scheme::Http, false, 0)
            .unwrap();
        client.events(&headers(1, 0, &[(":status", status)]));
        let mut out = vec![];
        h1::write_response(&client.scratch.response(), &Edits::new(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
