//! Both roles against each other: bodies through small windows, trailers, tunnels, leaving, keepalive.

use std::time::Duration;

use wire::{
    HeaderId,
    h1::{Edits, Scheme},
    h2::{Config, ErrorCode, OpenError, RequestParts, SendError, Stream, Trailers},
};

use super::support::*;

/// Moves output both ways until there is none.
pub fn settle(client: &mut End, server: &mut End) {
    loop {
        let (to_server, to_client) =
            (client.connection.output().to_vec(), server.connection.output().to_vec());
        if to_server.is_empty() && to_client.is_empty() {
            return;
        }
        client.connection.sent(to_server.len());
        server.connection.sent(to_client.len());
        server.feed(&to_server).unwrap();
        client.feed(&to_client).unwrap();
    }
}

pub fn pair(client: Config, server: Config) -> (End, End) {
    let (mut client, mut server) = (End::raw_client(client), End::raw_server(server));
    settle(&mut client, &mut server);
    client.log.clear();
    server.log.clear();
    (client, server)
}

fn open(client: &mut End, method: &[u8], end: bool) -> Stream {
    let parts = RequestParts {
        method,
        scheme: Scheme::Http,
        authority: b"svc:80",
        path: b"/p",
        lines: b"X-Custom: 1\r\nUser-Agent: t\r\nAuthorization: secret\r\nConnection: close\r\n",
    };
    client.connection.open_parts(&parts, end, 9).unwrap()
}

#[test]
fn there_and_back() {
    let (mut client, mut server) = pair(Config::default(), Config { huffman: true, ..Config::default() });
    for at in 0..3 {
        let asked = open(&mut client, b"GET", true);
        settle(&mut client, &mut server);
        let stream = server.stream(asked.id());
        assert_eq!(
            server.log.pop().unwrap(),
            format!(
                "request {} GET /p svc:80 None host=svc:80 x-custom=1 user-agent=t authorization=secret end",
                asked.id()
            )
        );
        server.connection.respond_parts(stream, 103, b"link: </x>\r\n", false).unwrap();
        server.connection.respond_parts(stream, 200, b"Server: s\r\nx-n: 1\r\n", false).unwrap();
        server.connection.data(stream, b"hello", false).unwrap();
        server.connection.trailers(stream, &Trailers::from_section(b"grpc-status: 0\r\n\r\n")).unwrap();
        settle(&mut client, &mut server);
        let id = asked.id();
        assert_eq!(
            client.log,
            [
                format!("response {id} 103 None link=</x>"),
                format!("response {id} 200 Chunked server=s x-n=1"),
                format!("data {id} hello"),
                format!("trailers {id} grpc-status: 0\\r\\n\\r\\n"),
            ]
        );
        client.log.clear();
        assert_eq!((client.connection.open_streams(), server.connection.open_streams()), (0, 0), "turn {at}");
        assert_eq!(server.connection.data(stream, b"x", false), Err(SendError::Gone));
    }
}

#[test]
fn a_large_body_through_small_windows() {
    let small = Config { stream_window: 100, connection_window: 65_535, ..Config::default() };
    let (mut client, mut server) = pair(small.clone(), small);
    let asked = open(&mut client, b"POST", false);
    settle(&mut client, &mut server);
    server.log.clear();
    let body: Vec<u8> = (0..200_000u32).map(|at| b'a' + (at % 26) as u8).collect();
    assert_eq!(client.connection.data(asked, &body, false), Ok(body.len() - 100));
    client.connection.trailers(asked, &Trailers::from_section(b"x: y\r\n\r\n")).unwrap();
    assert_eq!(client.connection.data(asked, b"z", false), Err(SendError::OutOfOrder));
    settle(&mut client, &mut server);
    let id = asked.id();
    let received: String =
        server.log.iter().filter_map(|event| event.strip_prefix(&format!("data {id} "))).collect();
    assert_eq!(received.as_bytes(), body);
    assert_eq!(server.log.last().unwrap(), &format!("trailers {id} x: y\\r\\n\\r\\n"));
}

#[test]
fn an_owner_that_does_not_consume_stops_the_sender() {
    let (mut client, mut server) =
        pair(Config::default(), Config { stream_window: 1000, ..Config::default() });
    server.consume = false;
    let (first, second) = (open(&mut client, b"POST", false), open(&mut client, b"POST", false));
    settle(&mut client, &mut server);
    assert_eq!(client.connection.data(first, &[b'x'; 5000], false), Ok(4000));
    settle(&mut client, &mut server);
    assert_eq!(client.connection.send_state(first).unwrap().queued, 4000);
    // Its neighbour goes on.
    assert_eq!(client.connection.data(second, &[b'y'; 900], true), Ok(0));
    settle(&mut client, &mut server);
    assert!(server.log.iter().any(|event| event.ends_with("y end")));
    let stream = server.stream(first.id());
    client.log.clear();
    for _ in 0..8 {
        server.connection.consume(stream, 500);
        settle(&mut client, &mut server);
    }
    assert_eq!(client.log, [format!("writable {}", first.id())]);
    assert_eq!(client.connection.send_state(first).unwrap().queued, 0);
}

#[test]
fn output_that_does_not_leave_is_bounded() {
    let wide = Config {
        stream_window: 0x7fff_0000,
        connection_window: 0x7fff_0000,
        output_high_water: 10_000,
        max_queued: 100_000,
        ..Config::default()
    };
    let (mut client, mut server) = pair(wide.clone(), wide);
    let asked = open(&mut client, b"POST", false);
    settle(&mut client, &mut server);
    server.log.clear();
    client.log.clear();
    assert_eq!(client.connection.data(asked, &[b'q'; 60_000], true), Ok(50_000));
    assert!(client.connection.output().len() < 10_100);
    assert_eq!(client.connection.data(asked, &[0; 1], true), Err(SendError::OutOfOrder));
    settle(&mut client, &mut server);
    let received: usize = server.log.iter().map(|event| event.matches('q').count()).sum();
    assert_eq!(received, 60_000 + server.log.iter().filter(|event| event.starts_with("request")).count());
    assert!(server.log.last().unwrap().ends_with(" end"));
}

#[test]
fn heads_larger_than_a_frame() {
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let lines = format!("x-large: {}\r\n", "v".repeat(50_000));
    let parts = RequestParts {
        method: b"GET",
        scheme: Scheme::Https,
        authority: b"a",
        path: b"/",
        lines: lines.as_bytes(),
    };
    client.connection.open_parts(&parts, true, 0).unwrap();
    let kinds: Vec<u8> = split(client.connection.output()).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [HEADERS, CONTINUATION, CONTINUATION, CONTINUATION]);
    settle(&mut client, &mut server);
    assert!(server.log[0].ends_with("v end"));
}

#[test]
fn h2c_by_upgrade() {
    // RFC 7540 §3.2: MAX_CONCURRENT_STREAMS 100, INITIAL_WINDOW_SIZE 65535.
    let config = std::sync::Arc::new(Config::default());
    let (mut server, stream) =
        wire::h2::Connection::server_upgraded(config.clone(), Duration::ZERO, b"AAMAAABkAAQAAP__", false)
            .unwrap();
    let (client, asked) =
        wire::h2::Connection::client_upgraded(config.clone(), Duration::ZERO, Default::default(), 5);
    server.respond_parts(stream, 200, b"", false).unwrap();
    server.data(stream, b"hi", true).unwrap();
    let mut from = End::raw_client(Config::default());
    from.connection = client;
    let mut to = End::raw_server(Config::default());
    to.connection = server;
    settle(&mut from, &mut to);
    assert_eq!(asked.id(), 1);
    assert_eq!(from.log[1..], ["response 1 200 Chunked", "data 1 hi end"]);
    assert_eq!(open(&mut from, b"GET", true).id(), 3);
    assert!(wire::h2::Connection::server_upgraded(config, Duration::ZERO, b"AAMAAAB", false).is_none());
}

#[test]
fn leaving_in_peace() {
    // RFC 9113 §6.8.
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let asked = open(&mut client, b"GET", true);
    settle(&mut client, &mut server);
    server.connection.shutdown();
    // A request that crosses the first GOAWAY is served; what follows the second is not sent.
    let crossing = open(&mut client, b"GET", true);
    settle(&mut client, &mut server);
    let goaways: Vec<&String> = client.log.iter().filter(|event| event.starts_with("goaway")).collect();
    assert_eq!(goaways, ["goaway 2147483647 NO_ERROR", "goaway 3 NO_ERROR"]);
    assert_eq!(client.connection.can_open(), Err(OpenError::Leaving));
    assert!(!server.connection.is_drained() && !client.connection.is_drained());
    for id in [asked.id(), crossing.id()] {
        server.connection.respond_parts(server.stream(id), 200, b"", true).unwrap();
    }
    settle(&mut client, &mut server);
    assert!(server.connection.is_drained() && client.connection.is_drained());
    // Without an answer to the ping, time decides.
    let (_, mut server) = pair(Config::default(), Config::default());
    server.connection.shutdown();
    assert_eq!(server.said(), ["GOAWAY 2147483647 NO_ERROR", "PING"]);
    assert_eq!(server.connection.deadline(), Some(Duration::from_secs(1)));
    server.connection.poll_timeouts(Duration::from_secs(1)).unwrap();
    assert_eq!(server.said(), ["GOAWAY 0 NO_ERROR"]);
    // Streams past the last are not heard, their blocks still decoded.
    assert_eq!(server.events(&get(1, &[])), Vec::<String>::new());
    assert_eq!(server.events(&frame(DATA, 1, 1, [1])), Vec::<String>::new());
    assert_eq!(server.events(&frame(HEADERS, 5, 3, [0x80])), ["closed COMPRESSION_ERROR"]);
}

#[test]
fn refused_by_goaway_and_reset() {
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let asked = open(&mut client, b"GET", true);
    client.said();
    server.connection.leave_now(ErrorCode::NO_ERROR);
    settle(&mut client, &mut server);
    assert_eq!(client.log, ["goaway 0 NO_ERROR", "reset 1 REFUSED_STREAM goaway"]);
    assert_eq!(client.connection.send_state(asked), None);
    // A late answer to it is not an error.
    assert_eq!(client.events(&headers(1, 1, &[(":status", "200")])), Vec::<String>::new());
}

#[test]
fn a_stream_given_up_is_not_heard_any_more() {
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let asked = open(&mut client, b"GET", true);
    settle(&mut client, &mut server);
    client.connection.reset(asked, ErrorCode::CANCEL);
    let stream = server.stream(1);
    server.connection.respond_parts(stream, 200, b"x-new: table\r\n", false).unwrap();
    server.connection.data(stream, &[0; 1000], false).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.log, Vec::<String>::new());
    assert_eq!(server.log.last().unwrap(), "reset 1 CANCEL peer");
}

#[test]
fn an_early_answer_ends_the_request() {
    // RFC 9113 §8.1: complete, then RST_STREAM with NO_ERROR.
    let (mut client, mut server) = pair(Config::default(), Config::default());
    let asked = open(&mut client, b"POST", false);
    settle(&mut client, &mut server);
    let stream = server.stream(1);
    server.connection.respond_parts(stream, 413, b"", true).unwrap();
    server.connection.reset(stream, ErrorCode::NO_ERROR);
    client.connection.data(asked, &[0; 100], false).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.log, ["response 1 413 None end", "reset 1 NO_ERROR peer"]);
    assert_eq!((client.connection.open_streams(), server.connection.open_streams()), (0, 0));
}

#[test]
fn limits_of_the_other_side() {
    let (mut client, mut server) =
        pair(Config::default(), Config { max_concurrent_streams: 2, ..Config::default() });
    let first = open(&mut client, b"GET", true);
    open(&mut client, b"GET", true);
    assert_eq!(client.connection.can_open(), Err(OpenError::Busy));
    settle(&mut client, &mut server);
    server.connection.respond_parts(server.stream(first.id()), 200, b"", true).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.connection.can_open(), Ok(()));
    assert_eq!(server.connection.can_open(), Err(OpenError::Exhausted));
}

#[test]
fn keepalive() {
    let config = Config { keepalive_interval: Some(Duration::from_secs(30)), ..Config::default() };
    let (mut client, mut server) = pair(config, Config::default());
    client.connection.poll_timeouts(Duration::from_secs(30)).unwrap();
    assert_eq!(client.connection.deadline(), Some(Duration::from_secs(40)));
    client.now = Duration::from_secs(31);
    settle(&mut client, &mut server);
    client.connection.poll_timeouts(Duration::from_secs(60)).unwrap();
    assert_eq!(client.said(), Vec::<String>::new());
    client.connection.poll_timeouts(Duration::from_secs(61)).unwrap();
    assert_eq!(client.said(), ["PING"]);
    assert!(client.connection.poll_timeouts(Duration::from_secs(71)).is_err());
    let (mut client, mut server) = pair(Config::default(), Config::default());
    client.connection.ping();
    settle(&mut client, &mut server);
    assert_eq!(client.log, ["pong"]);
}

#[test]
fn never_indexed_stays_so() {
    // RFC 7541 §6.2.3: an intermediary keeps it.
    let mut end = End::server(Config::default());
    let mut secret = block(&[("x-secret", "s")]);
    secret[0] = 0x10;
    end.feed(&frame(HEADERS, 5, 1, [block(GET), secret.clone(), block(&[("x-open", "o")])].concat()))
        .unwrap();
    let mut up = End::client(Config::default());
    let head = end.scratch.request();
    assert_eq!(head.known(HeaderId::Host), Some(&b"a"[..]));
    up.connection.open(&head, &Edits::new(), Scheme::Http, true, 0).unwrap();
    let (_, _, _, payload) = split(up.connection.output()).remove(0);
    assert!(payload.windows(secret.len()).any(|window| window == secret));
    let open = block(&[("x-open", "o")]);
    assert!(payload.windows(open.len()).any(|window| window == open));
}
