//! gRPC-Web, over HTTP/1 and HTTP/2, to hosts of either. What is expected was seen at Envoy 1.40 with the same
//! configuration.

use serde_json::json;
use wire::h2::{Config, Stream};

use crate::common::{Answer, Client, Host, cluster, eventually, http_listener, nobody, to, typed};
use crate::peer::{Peer, Seen};
use crate::rig::{Rig, manager, message};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

/// A web request's head.
fn head(path: &str, content_type: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-type: {content_type}\r\n{lines}\r\n")
}

fn base64(bytes: &[u8]) -> String {
    let (mut encoder, mut out) = (wire::grpc::Base64Encoder::default(), vec![]);
    encoder.push(bytes, &mut out);
    encoder.finish(&mut out);
    String::from_utf8(out).unwrap()
}

/// Text as clients read it: padding may stand anywhere.
fn unbase64(text: &[u8]) -> Vec<u8> {
    let (mut decoder, mut out) = (wire::grpc::Base64Decoder::default(), vec![]);
    decoder.push(text, &mut out).expect("base64");
    assert!(decoder.is_whole());
    out
}

fn trailers(text: &str) -> Vec<u8> {
    let mut out = vec![0x80];
    out.extend((text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out
}

/// The host gets the request as gRPC, and answers with two messages.
fn serve(host: &mut Peer, expected: &[u8]) -> Stream {
    let request = host.request();
    let stream = request.stream();
    assert_eq!(request.field("content-type"), Some("application/grpc"), "{request:?}");
    assert_eq!(request.field("te"), Some("trailers"));
    assert_eq!(request.field("grpc-accept-encoding"), Some("identity"));
    let mut body = vec![];
    loop {
        match host.next_of(stream) {
            Seen::Data { bytes, end, .. } => {
                body.extend(bytes);
                if end {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(body, expected);
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    host.data(stream, &message("ab"), false);
    host.data(stream, &message("cde")[..6], false);
    host.data(stream, &message("cde")[6..], false);
    host.trailers(stream, "grpc-status: 0\r\ngrpc-message: fine\r\n");
    stream
}

fn answered() -> Vec<u8> {
    [message("ab"), message("cde"), trailers("grpc-status: 0\r\ngrpc-message: fine\r\n")].concat()
}

/// The answer with its body as bytes.
fn read(client: &mut Client) -> (Answer, Vec<u8>) {
    use std::io::Read;
    let mut raw = std::mem::take(&mut client.buffer);
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(raw[..end + 2].to_vec()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let answer = Answer { status, head, body: String::new() };
            let mut storage = wire::h1::HeadStorage::new();
            let to = wire::h1::ResponseTo::default();
            let limits = wire::h1::Limits::default();
            wire::h1::parse_response(&raw, &mut storage, &limits, to).unwrap().unwrap();
            let mut reader = wire::h1::BodyReader::response(storage.response(&raw).framing(), &limits);
            let (mut at, mut body) = (end + 4, vec![]);
            loop {
                let decoded = reader.decode(&raw[at..]).unwrap();
                body.extend_from_slice(decoded.payload);
                at += decoded.consumed;
                if decoded.done || reader.is_done() {
                    assert_eq!(raw.len(), at, "nothing follows");
                    return (answer, body);
                }
                if decoded.consumed == 0 {
                    break;
                }
            }
        }
        match client.stream.read(&mut chunk) {
            Ok(length @ 1..) => raw.extend_from_slice(&chunk[..length]),
            Ok(_) => panic!("ended after {:?}", String::from_utf8_lossy(&raw)),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&raw)),
        }
    }
}

#[test]
fn binary_over_http1() {
    let rig = Rig::new();
    let mut host = None;
    let mut client = rig.proxy.client();
    let said = message("two eggs");
    for chunked in [false, true, false] {
        let body = String::from_utf8(said.clone()).unwrap();
        if chunked {
            client.say(&head("/shop.Cart/Add", BINARY, "transfer-encoding: chunked\r\n"));
            client.say(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
        } else {
            client.say(&head("/shop.Cart/Add", BINARY, &format!("content-length: {}\r\n", body.len())));
            client.say(&body);
        }
        serve(host.get_or_insert_with(|| rig.host()), &said);
        let (answer, body) = read(&mut client);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(body, answered());
    }
    eventually("all are counted as gRPC", || {
        let labels = ["request_protocol=\"grpc\"", "grpc_response_status=\"0\""];
        rig.proxy.count("istio_requests_total", &labels) == 3
    });
}

#[test]
fn text_over_http1_however_it_is_cut() {
    let rig = Rig::new();
    let said = [message("two eggs"), message("and bread")].concat();
    // Encoded as one, and message by message with padding within.
    for text in [base64(&said), base64(&message("two eggs")) + &base64(&message("and bread"))] {
        let mut client = rig.proxy.client();
        let mut host = None;
        for cut in [1, 2, 3, 5, 7, text.len()] {
            let accept = format!("accept: {TEXT}\r\n");
            if cut % 2 == 1 {
                client.say(&head("/shop.Cart/Add", TEXT, &format!("{accept}transfer-encoding: chunked\r\n")));
                for part in text.as_bytes().chunks(cut) {
                    client.say(&format!("{:x}\r\n{}\r\n", part.len(), str::from_utf8(part).unwrap()));
                }
                client.say("0\r\n\r\n");
            } else {
                let length = text.len();
                client.say(&head("/shop.Cart/Add", TEXT, &format!("{accept}content-length: {length}\r\n")));
                for part in text.as_bytes().chunks(cut) {
                    client.say(str::from_utf8(part).unwrap());
                }
            }
            let host = host.get_or_insert_with(|| rig.host_or_kept());
            serve(host, &said);
            let (answer, body) = read(&mut client);
            assert_eq!(answer.header("content-type"), Some("application/grpc-web-text+proto"));
            assert_eq!(unbase64(&body), answered(), "cut {cut}");
        }
        rig.keep(host.unwrap());
    }
}

#[test]
fn over_http2() {
    let rig = Rig::new();
    let mut client = rig.client();
    let said = message("two eggs");
    for (content_type, accept) in
        [(BINARY, None), (TEXT, Some(TEXT)), ("application/grpc-web-text+proto", Some(BINARY)), (TEXT, None)]
    {
        let is_text = content_type.contains("text");
        let body = if is_text { base64(&said).into_bytes() } else { said.clone() };
        let lines = accept.map(|accept| format!("accept: {accept}\r\n")).unwrap_or_default();
        let lines = format!("{lines}content-length: {}\r\n", body.len());
        let asked = client.open(&head("/shop.Cart/Add", content_type, &lines), false);
        let (first, rest) = body.split_at(5);
        client.data(asked, first, false);
        client.data(asked, rest, true);
        let mut host = rig.host_or_kept();
        serve(&mut host, &said);
        rig.keep(host);
        let answer = client.answer(asked);
        assert_eq!(answer.status, 200);
        let text = accept == Some(TEXT);
        let expected = if text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
        assert!(answer.head.contains(&format!("content-type: {expected}\n")), "{}", answer.head);
        assert_eq!(answer.trailers, "");
        let got = if text { unbase64(&answer.body) } else { answer.body };
        assert_eq!(got, answered());
    }
}

/// A message reaches a client of text as soon as it is there, not with the next one.
#[test]
fn each_message_of_a_stream_can_be_decoded_when_it_comes() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&head("/shop.Cart/Watch", TEXT, &format!("accept: {TEXT}\r\n")), true);
    let mut host = rig.host();
    let stream = host.request().stream();
    host.respond(stream, 200, "content-type: application/grpc\r\n", false);
    assert!(matches!(client.next_of(asked), Seen::Response { status: 200, .. }));
    for text in ["a", "bc", "def", ""] {
        host.data(stream, &message(text), false);
        let got = client.body(asked, base64(&message(text)).len());
        assert_eq!(unbase64(&got), message(text));
    }
    host.trailers(stream, "grpc-status: 7\r\n");
    assert_eq!(unbase64(&client.answer(asked).body), trailers("grpc-status: 7\r\n"));
}

#[test]
fn trailers_only() {
    let rig = Rig::new();
    let mut client = rig.proxy.client();
    client.say(&(head("/shop.Cart/Add", BINARY, "content-length: 5\r\n") + "\0\0\0\0\0"));
    let mut host = rig.host();
    let stream = host.request().stream();
    host.respond(stream, 200, "content-type: application/grpc\r\ngrpc-status: 5\r\n", true);
    let (answer, body) = read(&mut client);
    assert_eq!((answer.status, body.len()), (200, 0));
    assert_eq!(answer.header("grpc-status"), Some("5"));
    assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(answer.header("content-length"), Some("0"));
}

/// Envoy: the status stays, the body becomes the message.
#[test]
fn own_replies() {
    let routes = json!([
        { "match": { "prefix": "/dead" }, "route": { "cluster": "dead" } },
        { "match": { "prefix": "/empty" }, "direct_response": { "status": 403 } },
        { "match": { "prefix": "/429" },
            "direct_response": { "status": 429, "body": { "inline_string": "a\"b \u{e9}%" } } },
    ]);
    let proxy = crate::rig::start(http_listener(manager(routes)), &[cluster("dead", &[nobody()])]);
    let cases = [
        ("/dead", 503, Some("14"), "upstream connect error"),
        ("/empty", 403, None, ""),
        ("/none", 404, None, ""),
        ("/429", 429, Some("14"), "a\"b %C3%A9%25"),
    ];
    for (accept, expected) in [
        ("", "application/grpc-web+proto"),
        ("accept: application/grpc-web-text\r\n", "application/grpc-web-text+proto"),
    ] {
        let mut h1 = proxy.client();
        let mut h2 = Peer::connect(proxy.address);
        for (path, status, grpc, said) in cases {
            h1.say(&(head(path, BINARY, &format!("{accept}content-length: 5\r\n")) + "\0\0\0\0\0"));
            let (answer, body) = read(&mut h1);
            assert_eq!((answer.status, body.len()), (status, 0), "{path}");
            assert_eq!(answer.header("content-type"), Some(expected), "{path}");
            assert_eq!(answer.header("grpc-status"), grpc, "{path}");
            assert!(answer.header("grpc-message").unwrap_or_default().starts_with(said), "{path}");
            let asked = h2.open(&head(path, BINARY, accept), true);
            let answer = h2.answer(asked);
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
            assert!(answer.head.contains(&format!("content-type: {expected}\n")), "{path}: {}", answer.head);
            assert_eq!(answer.head.contains("grpc-status: 14\n"), grpc.is_some(), "{path}: {}", answer.head);
        }
    }
}

/// A host that answers something else is told as a message too, whatever it frames it by.
#[test]
fn answers_that_are_no_grpc() {
    let long = "y".repeat(20_000);
    for (answer, status, grpc, said) in [
        (
            "HTTP/1.1 500 x\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\noh \"50%\" ".to_owned(),
            500,
            Some("2"),
            "oh \"50%25\"",
        ),
        (
            "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned(),
            200,
            Some("2"),
            "hi",
        ),
        ("HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n".to_owned(), 404, None, ""),
        (
            format!("HTTP/1.1 502 x\r\ncontent-length: 20000\r\n\r\n{long}"),
            502,
            Some("14"),
            &long[..16 * 1024],
        ),
    ] {
        let host = Host::answering(&answer);
        let proxy = crate::rig::start(http_listener(manager(to("app"))), &[cluster("app", &[host.address])]);
        let mut client = proxy.client();
        client.say(&(head("/a.B/C", BINARY, "content-length: 5\r\n") + "\0\0\0\0\0"));
        let (answer, body) = read(&mut client);
        assert_eq!((answer.status, body.len()), (status, 0), "{}", answer.head);
        assert_eq!(answer.header("content-type"), Some(BINARY));
        assert_eq!(answer.header("content-length"), Some("0"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("grpc-status"), grpc);
        assert_eq!(answer.header("grpc-message").unwrap_or_default(), said);
    }
    // By HTTP/2, which frames by itself: to clients of either.
    let rig = Rig::new();
    let foreign = |host: &mut Peer| {
        let request = host.request();
        let stream = request.stream();
        if !matches!(request, Seen::Request { end: true, .. }) {
            assert_eq!(host.body(stream, 5), message(""));
        }
        host.respond(stream, 503, "content-type: text/html\r\n", false);
        host.data(stream, b"<b>down", false);
        host.data(stream, b"</b>", true);
    };
    let mut host = None;
    for _ in 0..2 {
        let mut client = rig.proxy.client();
        client.say(&(head("/a.B/C", BINARY, "content-length: 5\r\n") + "\0\0\0\0\0"));
        foreign(host.get_or_insert_with(|| rig.host()));
        let (answer, body) = read(&mut client);
        assert_eq!((answer.status, body.len()), (503, 0), "{}", answer.head);
        assert_eq!(answer.header("grpc-message"), Some("<b>down</b>"));
        let mut client = rig.client();
        let asked = client.open(&head("/a.B/C", BINARY, ""), true);
        foreign(host.as_mut().unwrap());
        let answer = client.answer(asked);
        assert_eq!((answer.status, answer.body.len()), (503, 0));
        assert!(
            answer.head.contains("grpc-status: 14\n") && answer.head.contains("grpc-message: <b>down</b>\n")
        );
    }
}

#[test]
fn what_is_no_base64_is_refused() {
    let rig = Rig::new();
    for (text, whole) in [("AB!D", false), ("ABCDE", true), ("Z===", false), ("=", false)] {
        let mut client = rig.proxy.client();
        client.say(&(head("/a.B/C", TEXT, &format!("content-length: {}\r\n", text.len())) + text));
        let (answer, _) = read(&mut client);
        assert_eq!(answer.status, 400, "{text}");
        assert_eq!(answer.header("grpc-status"), Some("13"));
        assert_eq!(answer.header("grpc-message"), Some("Bad gRPC-web request, invalid base64 data."));
        // Found out in the middle of the body, by HTTP/2.
        let mut client = rig.client();
        let asked = client.open(&head("/a.B/C", TEXT, ""), false);
        client.data(asked, b"AAAA", false);
        client.data(asked, text.as_bytes(), whole);
        assert_eq!(client.answer(asked).status, 400, "{text}");
    }
    eventually("all is over", || rig.proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
}

/// An HTTP/1 host of a text client: the decoded body is framed anew.
#[test]
fn to_an_http1_host() {
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            let mut body = vec![];
            while !body.ends_with(b"0\r\n\r\n") {
                body.extend(connection.read_some());
            }
            assert_eq!(body, b"8\r\n\0\0\0\0\x03xyz\r\n0\r\n\r\n");
            connection.say(
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            connection.say("8\r\n\0\0\0\0\u{3}abc\r\n0\r\nGrpc-Status: 0\r\n\r\n");
        }
    });
    let proxy = crate::rig::start(http_listener(manager(to("app"))), &[cluster("app", &[host.address])]);
    let text = base64(&message("xyz"));
    let expected = [message("abc"), trailers("grpc-status: 0\r\n")].concat();
    let mut h1 = proxy.client();
    let mut h2 = Peer::connect(proxy.address);
    for _ in 0..2 {
        h1.say(&(head("/a.B/C", TEXT, &format!("content-length: {}\r\n", text.len())) + &text));
        assert_eq!(read(&mut h1).1, expected);
        let asked = h2.open(&head("/a.B/C", TEXT, &format!("content-length: {}\r\n", text.len())), false);
        h2.data(asked, text.as_bytes(), true);
        assert_eq!(h2.answer(asked).body, expected);
    }
}

#[test]
fn beside_cors() {
    let policy = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        json!({
            "allow_origin_string_match": [{ "exact": "http://page" }],
            "allow_headers": "content-type,x-grpc-web",
            "expose_headers": "grpc-status,grpc-message",
        }),
    );
    let rig = Rig::with(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "app" },
        "typed_per_filter_config": { "envoy.filters.http.cors": policy } }]));
    let mut client = rig.proxy.client();
    let preflight = client.ask(
        "OPTIONS /a.B/C HTTP/1.1\r\nhost: shop\r\norigin: http://page\r\naccess-control-request-method: POST\r\n\r\n",
    );
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type,x-grpc-web"));
    client.say(&(head("/a.B/C", BINARY, "origin: http://page\r\ncontent-length: 5\r\n") + "\0\0\0\0\0"));
    serve(&mut rig.host(), &message(""));
    let (answer, body) = read(&mut client);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://page"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("grpc-status,grpc-message"));
    assert_eq!(body, answered());
}

#[test]
fn other_types_pass_unchanged() {
    let rig = Rig::new();
    let mut client = rig.client();
    let asked = client.open(&head("/a.B/C", "application/grpc-web+json", ""), true);
    let mut host = rig.host_with(Config::default());
    let request = host.request();
    assert_eq!(request.field("content-type"), Some("application/grpc-web+json"));
    host.respond(request.stream(), 200, "content-type: application/grpc-web+json\r\n", false);
    host.data(request.stream(), b"{}", true);
    assert_eq!(client.answer(asked).body, b"{}");
}
