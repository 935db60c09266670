//! Frames that were under way when their stream closed: they cost nobody else anything, however many streams closed.

use wire::{
    h1::Scheme,
    h2::{Config, ErrorCode, RequestParts, Stream},
};

use super::support::*;

const PARTS: RequestParts<'_> =
    RequestParts { method: b"GET", scheme: Scheme::Http, authority: b"a", path: b"/", lines: b"" };

/// More than were ever remembered one by one.
const STREAMS: usize = 5_000;

fn open_many(client: &mut End) -> Vec<Stream> {
    client.feed(&frame(SETTINGS, 0, 0, setting(3, u32::MAX))).unwrap();
    let streams = (0..STREAMS).map(|_| client.connection.open_parts(&PARTS, true, 0).unwrap()).collect();
    client.said();
    client.log.clear();
    streams
}

#[test]
fn a_client_that_resets_thousands_of_streams_keeps_the_others() {
    let mut client = End::client(Config::default());
    let streams = open_many(&mut client);
    let (kept, reset) = streams.split_last().unwrap();
    reset.iter().for_each(|stream| client.connection.reset(*stream, ErrorCode::CANCEL));
    client.said();
    let memory = client.connection.memory();
    // Their answers, all under way: an entry for the table, a body, trailers.
    for stream in reset {
        let entry = [&[0x88, 0x40, 1, b'x', 1][..], &[b'a' + (stream.id() % 26) as u8]].concat();
        let answer = [
            frame(HEADERS, END_HEADERS, stream.id(), entry),
            frame(DATA, 0, stream.id(), [0; 1000]),
            headers(stream.id(), END_STREAM, &[("grpc-status", "0")]),
        ];
        client.feed(&answer.concat()).unwrap();
    }
    assert_eq!(client.log, Vec::<String>::new(), "nobody is told of what nobody waits for");
    // 5 MB of body against a window of 1 MiB: it was given back, and nothing was reset for it.
    let said = client.said();
    assert!(said.len() > 5 && said.iter().all(|frame| frame.starts_with("WINDOW_UPDATE 0 ")), "{said:?}");
    // The table of the peer's fields, 4 KiB as the protocol counts it, and nothing for each stream.
    let grown = client.connection.memory() - memory;
    assert!(grown < 16 * 1024, "{grown}");
    // The table was kept up: the entry added last is the newest still.
    let last = b'a' + (reset.last().unwrap().id() % 26) as u8;
    let events = client.events(&frame(HEADERS, END_HEADERS | END_STREAM, kept.id(), [0x88, 0xbe]));
    assert_eq!(events, [format!("response {} 200 None x={} end", kept.id(), last as char)]);
}

#[test]
fn a_server_that_resets_thousands_of_streams_keeps_the_connection() {
    let mut server = End::server(Config { max_concurrent_streams: 1 << 20, ..Config::default() });
    let id = |at: usize| 2 * at as u32 + 1;
    for at in 0..STREAMS {
        server.feed(&post(id(at), &[])).unwrap();
    }
    let streams = server.streams.clone();
    for stream in &streams {
        server.connection.respond_parts(*stream, 413, b"", true).unwrap();
        server.connection.finish(*stream);
    }
    server.said();
    server.log.clear();
    for at in 0..STREAMS {
        let body = [frame(DATA, 0, id(at), [0; 100]), headers(id(at), END_STREAM, &[("x", "y")])];
        server.feed(&body.concat()).unwrap();
    }
    assert_eq!(server.log, Vec::<String>::new());
    let said = server.said();
    assert!(said.iter().all(|frame| frame.starts_with("WINDOW_UPDATE 0 ")), "{said:?}");
    assert_eq!(server.events(&get(id(STREAMS), &[])).len(), 1);
}

#[test]
fn an_empty_data_frame_for_a_closed_stream_is_still_counted_as_empty() {
    let mut client = End::client(Config::default());
    let stream = client.connection.open_parts(&PARTS, true, 0).unwrap();
    client.connection.reset(stream, ErrorCode::CANCEL);
    let empty = frame(DATA, 0, stream.id(), []);
    let flood: Vec<u8> = std::iter::repeat_n(empty, 101).flatten().collect();
    assert_eq!(client.events(&flood), ["closed ENHANCE_YOUR_CALM"]);
}
