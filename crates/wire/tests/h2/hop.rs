//! HTTP/1 over a hop between two proxies of ours: what comes out is what one HTTP/1 hop would have sent.

use wire::{
    HeaderId,
    h1::{self, Edits, HeadStorage, Limits, ResponseTo, Scheme, Version},
    h2::{Config, hop},
};

use super::support::*;

mod generated;

const LIMITS: Limits = Limits { allow_http10: true, ..limits() };

const fn limits() -> Limits {
    Limits {
        max_head: 60 * 1024,
        max_headers: 200,
        max_trailers: 1024,
        max_chunk_extensions: 1024,
        allow_http10: false,
        allow_custom_methods: true,
        underscores: h1::Underscores::Allow,
        secure: false,
    }
}

/// A hop's limits leave room for what the near proxy adds.
fn config() -> Config {
    Config { max_headers: 240, ..Config::default() }
}

struct Restored {
    text: Vec<u8>,
    storage: HeadStorage,
    shape: String,
    restored: bool,
}

impl Restored {
    fn request(&self) -> h1::RequestHead<'_> {
        self.storage.request(&self.text)
    }

    fn response(&self) -> h1::ResponseHead<'_> {
        self.storage.response(&self.text)
    }
}

/// The head that an HTTP/1 request is on the far side, and what one HTTP/1 hop would have sent.
fn request_over(text: &[u8], edit: impl Fn(&h1::RequestHead<'_>, &mut Edits)) -> (Restored, Vec<u8>) {
    let mut storage = HeadStorage::new();
    h1::parse_request(text, &mut storage, &LIMITS).unwrap().unwrap();
    let head = storage.request(text);
    let mut edits = Edits::new();
    edit(&head, &mut edits);
    let mut direct = vec![];
    h1::write_request(&head, &edits, &mut direct);

    let mut shape = vec![];
    hop::shape_request(&head, &edits, &mut shape);
    let mut client = End::client(config());
    let end = head.framing() == h1::BodyFraming::None && head.upgrade().is_none();
    client.connection.open_with_hop(&head, &edits, Scheme::Http, end, 0, &shape).unwrap();
    let mut server = End::server(config());
    let events = server.events(client.connection.output());
    assert!(events[0].starts_with("request"), "{events:?}");
    let (mut text, mut storage) = (vec![], HeadStorage::new());
    server.scratch.take_head(&mut text, &mut storage);
    let restored = hop::restore_request(&mut text, &mut storage);
    (Restored { text, storage, shape: String::from_utf8_lossy(&shape).into_owned(), restored }, direct)
}

fn written(restored: &Restored) -> Vec<u8> {
    let mut out = vec![];
    h1::write_request(&restored.request(), &Edits::new(), &mut out);
    out
}

/// That what came out is as HTTP/1 would have it, in every view of it.
fn assert_as_parsed(restored: &Restored, direct: &[u8]) {
    let mut storage = HeadStorage::new();
    let parsed = h1::parse_request(direct, &mut storage, &LIMITS);
    assert_eq!(parsed, Ok(Some(direct.len())), "{}", direct.escape_ascii());
    let (parsed, head) = (storage.request(direct), restored.request());
    assert_eq!(
        (head.method(), head.path(), head.target(), head.authority(), head.target_form()),
        (parsed.method(), parsed.path(), parsed.target(), parsed.authority(), parsed.target_form())
    );
    assert_eq!((head.framing(), head.upgrade()), (parsed.framing(), parsed.upgrade()));
    // `connection: upgrade` is each hop's own, and so is a framing that HTTP/2 leaves open.
    let sent = parsed.fields().filter(|field| field.id != HeaderId::Connection);
    assert_eq!(head.fields().collect::<Vec<_>>(), sent.collect::<Vec<_>>());
    for id in HeaderId::ALL.iter().filter(|id| **id != HeaderId::Connection) {
        assert_eq!((head.known(*id), head.repeats(*id)), (parsed.known(*id), parsed.repeats(*id)), "{id:?}");
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn requests() {
    let many: String = (0..95).map(|at| format!("X-{at}: {at}\r\n")).collect();
    for (text, shape) in [
        ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", "1"),
        ("GET / HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nx-a: 1\r\n\r\n", "1Host,Accept"),
        ("GET / HTTP/1.0\r\nHost: h\r\nAccept: a\r\nConnection: close\r\n\r\n", "0Host,Accept"),
        // The same name twice, then spelled in two ways.
        ("GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\n\r\n", "1Host,X-A,X-A"),
        ("GET / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nX-A: 2\r\nX-a: 3\r\ny: 4\r\n\r\n", "1host,x-a,X-A,X-a"),
        // Host third, and missing where the target says it.
        (
            "GET / HTTP/1.1\r\nUser-Agent: u\r\nAccept: a\r\nHost: h\r\nx: y\r\n\r\n",
            "1User-Agent,Accept,Host",
        ),
        ("GET / HTTP/1.1\r\na: 1\r\nhost: h\r\nb: 2\r\n\r\n", "1a,host"),
        ("GET http://abs/p HTTP/1.1\r\nHost: other\r\nX: y\r\n\r\n", "1Host,X"),
        ("GET http://abs HTTP/1.1\r\nA: b\r\nhost: other\r\n\r\n", "1A,host"),
        ("GET http://abs/p HTTP/1.0\r\nX: y\r\n\r\n", "0host,X"),
        ("GET http://abs/p HTTP/1.0\r\n\r\n", "0"),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "1Host"),
        ("CONNECT h:1 HTTP/1.1\r\nX: y\r\nHost: h:1\r\n\r\n", "1X,Host"),
        // Bodies.
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", "1Host,Content-Length"),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nA: b\r\n\r\n", "1Host,Content-Length,A"),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n",
            "1Host,Transfer-Encoding,A",
        ),
        (
            "PUT / HTTP/1.1\r\nhost: h\r\na: b\r\ntransfer-encoding: Chunked\r\n\r\n",
            "1host,a,transfer-encoding:7:Chunked",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
            "1Host,Expect,Content-Length",
        ),
        // What is for one hop alone.
        (
            "GET / HTTP/1.1\r\nHost: h\r\nKeep-Alive: 1\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nTE: gzip, trailers\r\nX: y\r\n\r\n",
            "1Host,X",
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nX: y\r\n\r\n", "1Host,TE,X"),
        // An upgrade.
        (
            "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "1Host,Upgrade:9:WebSocket,Sec-WebSocket-Key,Sec-WebSocket-Version",
        ),
        (
            "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\na: b\r\nupgrade: websocket\r\nc: d\r\n\r\n",
            "1host,a,upgrade:9:websocket",
        ),
        (
            "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: a/1, b\r\nConnection: Upgrade\r\nCookie: 1\r\nCookie: 2\r\n\r\n",
            "1Host,Upgrade:6:a/1, b,Cookie,Cookie",
        ),
        (
            "POST /attach HTTP/1.1\r\nHost: h\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
            "1/4:POST,Host,Upgrade:3:tcp",
        ),
        // Crumbs, which HTTP/2 puts together.
        ("GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nX: y\r\ncookie: b=2\r\n\r\n", "1Host,Cookie,X"),
        ("GET / HTTP/1.1\r\nhost: h\r\ncookie: a=1\r\ncookie: b=2\r\nx: y\r\n\r\n", "1"),
        // White space.
        (
            "GET / HTTP/1.1\r\nHost:h\r\nA:  b\t\r\nB:\r\nC: \r\nD:\t \t\r\ne: f \r\ng: h\r\n\r\n",
            "1Host=/,A=ss/t,B=/,C,D=tst/,e=s/s",
        ),
        // The field itself is nobody's to send.
        ("GET / HTTP/1.1\r\nHost: h\r\nX-Filamesh-Hop: 0HOST\r\n\r\n", "1Host"),
        (
            &format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"),
            &format!("1Host{}", (0..95).map(|at| format!(",X-{at}")).collect::<String>()),
        ),
    ] {
        let (restored, direct) = request_over(text.as_bytes(), |_, _| {});
        assert_eq!(restored.shape, shape, "{text}");
        assert!(restored.restored, "{text}");
        let version = if text.contains(" HTTP/1.0\r\n") { Version::Http10 } else { Version::Http11 };
        assert_eq!(restored.request().version(), version);
        assert_eq!(escaped(&written(&restored)), escaped(&direct));
        assert_as_parsed(&restored, &direct);
    }
}

#[test]
fn requests_with_edits() {
    let text = b"POST /p HTTP/1.1\r\nAccept: a\r\nHost: h\r\nX-Gone: 1\r\nX-Kept: 2\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\n\r\n";
    let (restored, direct) = request_over(text, |head, edits| {
        edits.host(b"Other:80");
        edits.target(b"/q");
        edits.method(b"PATCH");
        edits.remove(head, b"x-gone");
        edits.append(b"X-Added", b"1");
        edits.set_known(head, HeaderId::XForwardedProto, b"http");
        edits.append(b"Connection", b"");
        edits.remove(head, b"connection");
    });
    assert_eq!(restored.shape, "1Accept,Host,X-Kept,Transfer-Encoding,X-Added");
    assert_eq!(escaped(&written(&restored)), escaped(&direct));
    assert_as_parsed(&restored, &direct);
}

#[test]
fn a_restored_request_goes_on_by_http2_as_any_other() {
    let text = b"GET /ws HTTP/1.1\r\nX: y\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n";
    let (restored, _) = request_over(text, |_, _| {});
    let mut client = End::client(Config::default());
    client.connection.open(&restored.request(), &Edits::new(), Scheme::Http, false, 0).unwrap();
    let mut server = End::server(Config::default());
    assert_eq!(
        server.events(client.connection.output()),
        ["request 1 GET /ws h None host=h x=y upgrade=websocket"]
    );
}

/// The head that an HTTP/1 response is on the near side, and what one HTTP/1 hop would have sent.
fn response_over(
    text: &[u8],
    to: ResponseTo,
    edit: impl Fn(&h1::ResponseHead<'_>, &mut Edits),
) -> (Restored, Vec<u8>) {
    let mut storage = HeadStorage::new();
    h1::parse_response(text, &mut storage, &LIMITS, to).unwrap().unwrap();
    let head = storage.response(text);
    let mut edits = Edits::new();
    edit(&head, &mut edits);
    let mut direct = vec![];
    h1::write_response(&head, &edits, &mut direct);

    let asked: &[u8] = match to {
        ResponseTo { head: true, .. } => b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
        ResponseTo { connect: true, .. } => b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
        ResponseTo { upgrade: true, .. } => {
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n"
        }
        _ => b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    };
    let mut request = HeadStorage::new();
    h1::parse_request(asked, &mut request, &LIMITS).unwrap().unwrap();
    let (mut client, mut server) = (End::client(config()), End::server(config()));
    let end = !(to.connect || to.upgrade);
    client.connection.open(&request.request(asked), &Edits::new(), Scheme::Http, end, 0).unwrap();
    server.events(client.connection.output());
    let stream = server.stream(1);

    let mut shape = vec![];
    hop::shape_response(&head, &edits, to, &mut shape);
    let end = head.framing() == h1::BodyFraming::None && !head.is_interim();
    server.connection.respond_with_hop(stream, &head, &edits, end, &shape).unwrap();
    let bytes = server.connection.output().to_vec();
    let events = client.events(&bytes);
    assert!(events[0].starts_with("response"), "{events:?}");
    let (mut text, mut storage) = (vec![], HeadStorage::new());
    client.scratch.take_head(&mut text, &mut storage);
    let restored = hop::restore_response(&mut text, &mut storage, to);
    (Restored { text, storage, shape: String::from_utf8_lossy(&shape).into_owned(), restored }, direct)
}

fn written_response(restored: &Restored) -> Vec<u8> {
    let mut out = vec![];
    h1::write_response(&restored.response(), &Edits::new(), &mut out);
    out
}

#[test]
fn responses() {
    let none = ResponseTo::default();
    let (head, upgrade) = (ResponseTo { head: true, ..none }, ResponseTo { upgrade: true, ..none });
    for (to, text, shape) in [
        (none, "HTTP/1.1 200 OK\r\nserver: s\r\ncontent-length: 1\r\n\r\n", "1"),
        (none, "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 1\r\nx: y\r\n\r\n", "1Server,Content-Length"),
        (none, "HTTP/1.0 200 OK\r\nServer: s\r\nContent-Length: 1\r\n\r\n", "0Server,Content-Length"),
        (
            none,
            "HTTP/1.1 404 Gone, Missing \r\nServer: s\r\nContent-Length: 0\r\n\r\n",
            "1/15: Gone, Missing ,Server,Content-Length",
        ),
        (none, "HTTP/1.1 404 \r\nx: s\r\ncontent-length: 0\r\n\r\n", "1/1: ,"),
        (none, "HTTP/1.1 404\r\nA: s\r\ncontent-length: 0\r\n\r\n", "1/0:,A"),
        (none, "HTTP/1.0 200 Fine\r\nA: s\r\nContent-Length: 2\r\n\r\n", "0/5: Fine,A,Content-Length"),
        (none, "HTTP/1.1 599 Nothing\r\nContent-Length: 2\r\n\r\n", "1/8: Nothing,Content-Length"),
        (none, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: d\r\n\r\n", "1Transfer-Encoding,Date"),
        (
            none,
            "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nHOST: x\r\ncontent-length: 4\r\n\r\n",
            "1Set-Cookie",
        ),
        (none, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "1Link"),
        (none, "HTTP/1.1 100 Continue\r\n\r\n", "1"),
        (none, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX: y\r\n\r\n", "1X"),
        (
            none,
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nETag: y\r\n\r\n",
            "1Transfer-Encoding,ETag",
        ),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n", "1Transfer-Encoding,X"),
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nX: y\r\n\r\n", "1Content-Length,X"),
        (
            ResponseTo { connect: true, ..none },
            "HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n",
            "1/23: Connection established,Via",
        ),
        // An upgrade: granted, refused, and answered as if it had not been asked for.
        (
            upgrade,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n",
            "1Upgrade:9:WebSocket,Sec-WebSocket-Accept",
        ),
        (
            upgrade,
            "HTTP/1.1 101 Web Socket\r\nconnection: upgrade\r\na: b\r\nupgrade: websocket\r\n\r\n",
            "1/11: Web Socket,a,upgrade:9:websocket",
        ),
        (upgrade, "HTTP/1.1 403 Forbidden\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\n", "1Content-Length"),
        (upgrade, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "1@200,Content-Length"),
        (upgrade, "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "1@204,X"),
        (
            upgrade,
            "HTTP/1.1 206 Part\r\nX: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "1@206,/5: Part,X,transfer-encoding",
        ),
    ] {
        let (restored, direct) = response_over(text.as_bytes(), to, |_, _| {});
        assert_eq!(restored.shape, shape, "{text}");
        assert!(restored.restored, "{text}");
        let old = text.starts_with("HTTP/1.0");
        let head = restored.response();
        assert_eq!(head.version(), if old { Version::Http10 } else { Version::Http11 });
        // HTTP/2 and RFC 9110 §7.2 know no Host in a response.
        let direct = String::from_utf8(direct).unwrap().replace("HOST: x\r\n", "");
        assert_eq!(String::from_utf8_lossy(&written_response(&restored)), direct);
        let mut storage = HeadStorage::new();
        h1::parse_response(direct.as_bytes(), &mut storage, &LIMITS, to).unwrap().unwrap();
        let parsed = storage.response(direct.as_bytes());
        assert_eq!((head.status(), head.reason()), (parsed.status(), parsed.reason()), "{text}");
        assert_eq!((head.framing(), head.upgrade()), (parsed.framing(), parsed.upgrade()), "{text}");
    }
}

#[test]
fn responses_with_edits_and_of_open_end() {
    let none = ResponseTo::default();
    let text = b"HTTP/1.0 200 Fine\r\nServer: s\r\nX: y\r\n\r\n";
    let (restored, _) = response_over(text, none, |head, edits| {
        edits.set_known(head, HeaderId::Server, b"istio-envoy");
    });
    // It ended with its connection; over HTTP/2 it ends by itself.
    assert_eq!(
        String::from_utf8(written_response(&restored)).unwrap(),
        "HTTP/1.1 200 Fine\r\nX: y\r\nserver: istio-envoy\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let (restored, direct) =
        response_over(b"HTTP/1.1 200 Fine\r\nX: y\r\nContent-Length: 1\r\n\r\n", none, |_, edits| {
            edits.status(503);
        });
    assert_eq!(restored.shape, "1X,Content-Length");
    assert_eq!(escaped(&written_response(&restored)), escaped(&direct));
}

/// To a stranger, an upgrade answered with success is no upgrade granted.
#[test]
fn a_stranger_is_told_that_an_upgrade_was_not_granted() {
    let mut server = End::server(Config::default());
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    server.feed(&headers(1, 0, &connect)).unwrap();
    let stream = server.stream(1);
    server.connection.respond_parts(stream, 200, b"content-length: 2\r\n", false).unwrap();
    let frames = split(server.connection.output());
    let text = String::from_utf8_lossy(&frames[0].3);
    assert!(text.contains("502"), "{text}");
}

/// A request as it is decoded, with that value.
fn lying(value: &str, fields: &[(&str, &str)], end: bool) -> Option<Restored> {
    let mut server = End::server(config());
    let fields = [fields, &[("x-filamesh-hop", value)]].concat();
    let events = server.events(&headers(1, u8::from(end), &fields));
    if !events.first()?.starts_with("request") {
        return None;
    }
    let (mut text, mut storage) = (vec![], HeadStorage::new());
    server.scratch.take_head(&mut text, &mut storage);
    let restored = hop::restore_request(&mut text, &mut storage);
    Some(Restored { text, storage, shape: value.to_owned(), restored })
}

#[test]
fn a_value_that_does_not_fit_is_ignored() {
    let fields = [GET, &[("accept", "a"), ("x-b", "b"), ("x~", "1")]].concat();
    let plain = "GET / HTTP/1.1\r\nhost: a\r\naccept: a\r\nx-b: b\r\nx~: 1\r\n\r\n";
    for value in [
        "",
        "2",
        "1Host,Accept,X-C",
        "1Host,Accept,X-B,X^",
        "1Host,Accept,X-B,x~,x-d",
        "1Host,",
        "1,Host",
        "1Accept",
        "1Host,Accept,X-B,X~,",
        "1Host,Host",
        "1Host,Accep",
        "1Host,Accept:1:b",
        "1Host,Accept=s",
        "1Host,Accept=x/",
        "1Host,Upgrade:1:x",
        "1Host,transfer-encoding:4:gzip",
        "1Host,transfer-encoding,transfer-encoding",
        "1@200,Host",
        "1/4:POST,Host",
        "1/99:POST,Host",
        "1/:,Host",
        "1/18446744073709551616:,Host",
        "1/18446744073709551615:,Host",
        "1Host,Accept=s/99:",
        "1Host:",
        "1Host\u{80}",
    ] {
        let restored = lying(value, &fields, true).unwrap();
        assert!(!restored.restored, "{value}");
        assert_eq!(restored.request().version(), Version::Http2, "{value}");
        assert_eq!(String::from_utf8(written(&restored)).unwrap(), plain, "{value}");
        assert_eq!(restored.request().header(b"x-filamesh-hop"), None);
    }
    // Elsewhere than last, twice, or not stripped by an owner that knows nothing of it: never forwarded.
    let field = ("x-filamesh-hop", "1Host");
    for more in [vec![field, ("z", "1")], vec![field, field]] {
        let mut server = End::server(config());
        server.events(&headers(1, 1, &[GET, &more].concat()));
        let (mut text, mut storage) = (vec![], HeadStorage::new());
        server.scratch.take_head(&mut text, &mut storage);
        let sent = |text: &[u8], storage: &HeadStorage| {
            let mut out = vec![];
            h1::write_request(&storage.request(text), &Edits::new(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let expected =
            format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", if more[1].0 == "z" { "z: 1\r\n" } else { "" });
        assert_eq!(sent(&text, &storage), expected);
        assert!(hop::is_present(&storage));
        let mut stripped = storage.clone();
        hop::strip(&mut stripped);
        assert!(!hop::is_present(&stripped) && stripped.request(&text).header(b"x-filamesh-hop").is_none());
        assert_eq!(sent(&text, &stripped), expected);
        assert!(!hop::restore_request(&mut text, &mut storage));
        assert_eq!(sent(&text, &storage), expected);
    }
}

/// Whatever a body is, the lines say so: a second reader must find the same end.
#[test]
fn framing_is_what_http2_says() {
    for (value, end, expected) in [
        ("1Host,Transfer-Encoding", true, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "1Host,Transfer-Encoding",
            false,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("1Host", false, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("0Host", false, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let restored = lying(value, POST, end).unwrap();
        assert!(restored.restored);
        assert_eq!(String::from_utf8(written(&restored)).unwrap(), expected);
    }
}

#[test]
fn the_same_shape_is_one_byte_the_second_time() {
    let text = b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\nAccept: a\r\n\r\n";
    let mut storage = HeadStorage::new();
    h1::parse_request(text, &mut storage, &LIMITS).unwrap().unwrap();
    let head = storage.request(text);
    let mut shape = vec![];
    hop::shape_request(&head, &Edits::new(), &mut shape);
    let mut lengths = vec![];
    let mut client = End::client(Config::default());
    for hop in [&[][..], &[], &shape, &shape] {
        client.connection.open_with_hop(&head, &Edits::new(), Scheme::Http, true, 0, hop).unwrap();
        lengths.push(client.connection.output().len());
        client.said();
    }
    assert_eq!(lengths[3], lengths[1] + 1);
}
