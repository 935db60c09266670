//! A head or a body from one protocol to the other.

use wire::{
    BodyFraming, HeaderId,
    h1::{self, BodyReader, Edits, HeadStorage, Limits, ResponseTo, Scheme, Version},
    h2::{Config, Trailers},
};

use super::support::*;

/// What an HTTP/1 peer is sent for a request that came by HTTP/2.
fn to_http1(
    flags: u8,
    fields: &[(&str, &str)],
    edit: impl FnOnce(&h1::RequestHead<'_>, &mut Edits),
) -> String {
    let mut end = End::server(Config::default());
    let events = end.events(&headers(1, flags, fields));
    assert!(events[0].starts_with("request"), "{events:?}");
    let head = end.scratch.request();
    let (mut edits, mut out) = (Edits::new(), vec![]);
    edit(&head, &mut edits);
    h1::write_request(&head, &edits, &mut out);
    // Whatever it is, an HTTP/1 parser as strict as ours reads it as the same.
    let mut storage = HeadStorage::new();
    let limits = Limits { secure: true, ..Limits::default() };
    assert_eq!(h1::parse_request(&out, &mut storage, &limits), Ok(Some(out.len())), "{}", out.escape_ascii());
    String::from_utf8(out).unwrap()
}

/// What an HTTP/2 server is told of a request that came by HTTP/1.
fn to_http2(text: &str, end: bool, edit: impl FnOnce(&h1::RequestHead<'_>, &mut Edits)) -> String {
    let mut storage = HeadStorage::new();
    h1::parse_request(text.as_bytes(), &mut storage, &Limits::default()).unwrap().unwrap();
    let head = storage.request(text.as_bytes());
    let mut edits = Edits::new();
    edit(&head, &mut edits);
    let mut client = End::client(Config::default());
    client.connection.open(&head, &edits, Scheme::Http, end, 0).unwrap();
    let mut server = End::server(Config::default());
    server.events(client.connection.output()).remove(0)
}

#[test]
fn requests_to_http1() {
    let get = |more: &[(&'static str, &'static str)]| [GET, more].concat();
    assert_eq!(
        to_http1(1, &get(&[("x-a", "1"), ("cookie", "a"), ("cookie", "b"), ("te", "trailers")]), |_, _| {}),
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nte: trailers\r\ncookie: a; b\r\n\r\n"
    );
    assert_eq!(
        to_http1(0, POST, |_, _| {}),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        to_http1(0, &[POST, &[("content-length", "3"), ("x", "y")]].concat(), |_, _| {}),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx: y\r\n\r\n"
    );
    assert_eq!(
        to_http1(0, &[(":method", "CONNECT"), (":authority", "a:1"), ("x", "y")], |_, _| {}),
        "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\nx: y\r\n\r\n"
    );
    assert_eq!(
        to_http1(1, &get(&[("x-a", "1"), ("x-b", "2")]), |head, edits| {
            edits.host(b"other");
            edits.target(b"/new?q");
            edits.remove(head, b"X-A");
            edits.set(head, b"x-c", b"3");
        }),
        "GET /new?q HTTP/1.1\r\nhost: other\r\nx-b: 2\r\nx-c: 3\r\n\r\n"
    );
    let no_fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    assert_eq!(to_http1(1, &no_fields, |_, _| {}), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn requests_to_http2() {
    assert_eq!(
        to_http2(
            "GET /p HTTP/1.1\r\nHOST: h\r\nX-Up: A\r\nAccept-Language: de\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
             TE: gzip, trailers\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\r\n",
            true,
            |_, _| {}
        ),
        "request 1 GET /p h None host=h x-up=A accept-language=de te=trailers end"
    );
    assert_eq!(
        to_http2("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", false, |_, _| {}),
        "request 1 POST / h Chunked host=h"
    );
    assert_eq!(
        to_http2(
            "PUT http://abs/p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n",
            false,
            |head, edits| {
                edits.append(b"X-Added", b"v");
                edits.set_known(head, HeaderId::XForwardedProto, b"https");
                edits.append(b"Connection", b"close");
            }
        ),
        "request 1 PUT /p abs Length(4) host=abs content-length=4 x-added=v x-forwarded-proto=https"
    );
    assert_eq!(
        to_http2("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", false, |_, _| {}),
        "request 1 CONNECT  h:443 Tunnel host=h:443"
    );
    assert_eq!(
        to_http2("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", true, |_, edits| {
            edits.method(b"DELETE");
            edits.host(b"n:1");
            edits.target(b"/z");
        }),
        "request 1 DELETE /z n:1 None host=n:1 end"
    );
}

#[test]
fn responses_both_ways() {
    let text = "HTTP/1.1 404 Gone Missing\r\nServer: s\r\nContent-Length: 3\r\nConnection: close\r\n\
                Set-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
    let mut storage = HeadStorage::new();
    h1::parse_response(text.as_bytes(), &mut storage, &Limits::default(), ResponseTo::default()).unwrap();
    let head = storage.response(text.as_bytes());
    let mut server = End::server(Config::default());
    server.feed(&get(1, &[])).unwrap();
    let stream = server.stream(1);
    let mut edits = Edits::new();
    edits.set_known(&head, HeaderId::Server, b"istio-envoy");
    server.connection.respond(stream, &head, &edits, false).unwrap();
    let mut client = End::client(Config::default());
    let parts = wire::h2::RequestParts {
        method: b"GET",
        scheme: Scheme::Http,
        authority: b"a",
        path: b"/",
        lines: b"",
    };
    client.connection.open_parts(&parts, true, 0).unwrap();
    let bytes = server.connection.output().to_vec();
    assert_eq!(
        client.events(&bytes),
        ["response 1 404 Length(3) content-length=3 set-cookie=a set-cookie=b server=istio-envoy"]
    );
    let head = client.scratch.response();
    assert_eq!(head.version(), Version::Http2);
    let mut out = vec![];
    h1::write_response(&head, &Edits::new(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\nset-cookie: a\r\nset-cookie: b\r\nserver: istio-envoy\r\n\r\n"
    );
    let mut edits = Edits::new();
    edits.status(503);
    let mut out = vec![];
    h1::write_response(&head, &edits, &mut out);
    assert!(out.starts_with(b"HTTP/1.1 503 Service Unavailable\r\n"));
}

#[test]
fn bodies_and_trailers_both_ways() {
    // Chunked to DATA and HEADERS.
    let limits = Limits::default();
    let mut reader = BodyReader::request(BodyFraming::Chunked, &limits);
    let text = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 9\r\n\r\n";
    let mut client = End::client(Config::default());
    let parts = wire::h2::RequestParts {
        method: b"POST",
        scheme: Scheme::Http,
        authority: b"a",
        path: b"/",
        lines: b"",
    };
    let stream = client.connection.open_parts(&parts, false, 0).unwrap();
    let mut rest = &text[..];
    while !reader.is_done() {
        let step = reader.decode(rest).unwrap();
        client.connection.data(stream, step.payload, false).unwrap();
        rest = &rest[step.consumed..];
    }
    client.connection.trailers(stream, &Trailers::from_section(reader.tail())).unwrap();
    let mut server = End::server(Config::default());
    let bytes = client.connection.output().to_vec();
    let events = server.events(&bytes);
    let body: String = events.iter().filter_map(|event| event.strip_prefix("data 1 ")).collect();
    assert_eq!(body, "abcde");
    assert_eq!(events.last().unwrap(), "trailers 1 grpc-status: 0\\r\\n\\r\\n");
    // Trailers to what follows the last chunk.
    let trailers = Trailers::from_section(b"grpc-status: 5\r\nX:  y \r\n\r\n");
    assert_eq!(trailers.header(b"Grpc-Status"), Some(&b"5"[..]));
    assert_eq!(trailers.fields().last(), Some((&b"X"[..], &b"y"[..])));
    // An empty section is no HEADERS frame.
    let mut client = End::client(Config::default());
    let stream = client.connection.open_parts(&parts, false, 0).unwrap();
    client.connection.trailers(stream, &Trailers::from_section(b"\r\n")).unwrap();
    assert_eq!(client.said(), ["HEADERS 1", "DATA 1 0 end"]);
}

/// An entry that is made and referred to in the first block of its connection is its connection's own.
#[test]
fn first_blocks_of_several_connections() {
    let mut up = End::client(Config::default());
    let mut origin = End::server(Config::default());
    for value in [b'a', b'b', b'c'] {
        let mut server = End::server(Config::default());
        let fields = [&block(GET)[..], &[0x40, 1, b'x', 1, value, 0xbe]].concat();
        let came = server.events(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields)).remove(0);
        up.connection.open(&server.scratch.request(), &Edits::new(), Scheme::Http, true, 0).unwrap();
        let bytes = up.connection.output().to_vec();
        up.said();
        let arrived = origin.events(&bytes).remove(0);
        assert_eq!(
            arrived.split(' ').skip(2).collect::<Vec<_>>(),
            came.split(' ').skip(2).collect::<Vec<_>>()
        );
    }
}

/// From HTTP/2 to HTTP/2, by way of two compression tables and the cache between them.
#[test]
fn forwarded_as_it_came() {
    let mut random = wire::id::Random::from_seed(5);
    let mut clients: Vec<_> =
        (0..3).map(|_| (End::client(Config::default()), End::server(Config::default()))).collect();
    let (mut up, mut origin) = (
        End::client(Config { encoder_table_size: 600, ..Config::default() }),
        End::server(Config::default()),
    );
    for round in 0..600 {
        let (client, server) = &mut clients[random.below(3) as usize];
        let mut lines = String::new();
        for name in ["user-agent", "x-a", "content-type", "x-b", "cookie", "te"] {
            if random.below(4) > 0 {
                let value =
                    if name == "te" { "trailers".to_owned() } else { format!("v{}", random.below(3)) };
                lines += &format!("{name}: {value}\r\n");
            }
        }
        let (authority, path) = (format!("h{}", random.below(3)), format!("/{}", random.below(4)));
        let parts = wire::h2::RequestParts {
            method: b"POST",
            scheme: Scheme::Http,
            authority: authority.as_bytes(),
            path: path.as_bytes(),
            lines: lines.as_bytes(),
        };
        let asked = client.connection.open_parts(&parts, true, 0).unwrap();
        let bytes = client.connection.output().to_vec();
        client.said();
        let came = server.events(&bytes).remove(0);
        let head = server.scratch.request();
        let mut edits = Edits::new();
        if round % 7 == 0 {
            edits.set(&head, b"x-a", b"edited");
        }
        let forwarded = up.connection.open(&head, &edits, Scheme::Http, true, 0).unwrap();
        let bytes = up.connection.output().to_vec();
        up.said();
        let arrived = origin.events(&bytes).remove(0);
        let fields = |event: &str| {
            let mut words: Vec<_> = event.split(' ').skip(2).map(str::to_owned).collect();
            if round % 7 == 0 {
                words.retain(|word| !word.starts_with("x-a="));
            }
            words
        };
        assert_eq!(fields(&came), fields(&arrived));
        assert!(round % 7 != 0 || arrived.contains("x-a=edited"));
        for (end, stream) in [(client, asked), (&mut up, forwarded)] {
            end.connection.reset(stream, wire::h2::ErrorCode::CANCEL);
            end.said();
        }
        for end in [server, &mut origin] {
            let stream = end.streams.pop().unwrap();
            end.connection.respond_parts(stream, 200, b"", true).unwrap();
            end.said();
        }
    }
}
