//! The budget of the data path: reading and rewriting a message allocates nothing once the reusable parts have grown.

// Counting allocations takes an allocator, and that is unsafe by nature. This one only counts and passes on.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use wire::{
    HeaderId,
    h1::{self, BodyReader, Edits, HeadStorage, Limits, ResponseTo, Scheme},
    h2::{Config, Connection, Event, RequestParts, Scratch, Trailers},
    id::Random,
    path::{Normalization, canonicalize},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as our own caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as our own caller promised.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] = b"POST /reviews/1?full=yes HTTP/1.1\r\nHost: reviews:9080\r\nConnection: keep-alive, x-hop\r\n\
X-Hop: 1\r\nUser-Agent: test\r\nX-Forwarded-For: 10.0.0.1\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
5\r\nhello\r\n0\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_message_is_parsed_edited_and_written_without_an_allocation() {
    let limits = Limits::default();
    let (mut storage, mut edits, mut out) = (HeadStorage::new(), Edits::new(), Vec::new());
    let mut random = Random::from_seed(1);
    let mut exchange = || {
        out.clear();
        edits.clear();
        let length = h1::parse_request(REQUEST, &mut storage, &limits).unwrap().unwrap();
        let head = storage.request(REQUEST);
        let canonical = canonicalize(head.path(), Normalization::BASE).unwrap();
        assert_eq!(canonical.path(), b"/reviews/1");
        assert!(edits.value(&head, b"x-hop").is_none());
        edits.target(b"/other");
        edits.host(b"other");
        edits.append_to_list(&head, HeaderId::XForwardedFor, b"10.0.0.2");
        edits.set_known(&head, HeaderId::XRequestId, &random.uuid());
        edits.append_number(HeaderId::XEnvoyAttemptCount, 1);
        edits.set(&head, b"x-custom", b"1");
        h1::write_request(&head, &edits, &mut out);
        let mut body = BodyReader::request(head.framing(), &limits);
        assert!(body.advance(&REQUEST[length..]).unwrap().done);

        let to = ResponseTo::request(&head);
        let length = h1::parse_response(RESPONSE, &mut storage, &limits, to).unwrap().unwrap();
        let head = storage.response(RESPONSE);
        edits.clear();
        edits.set_known(&head, HeaderId::Server, b"istio-envoy");
        h1::write_response(&head, &edits, &mut out);
        let mut body = BodyReader::response(head.framing(), &limits);
        assert!(body.advance(&RESPONSE[length..]).unwrap().done);
    };
    exchange();
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| exchange());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Over HTTP/2, through both connections of a hop.
#[test]
fn an_http2_message_costs_none() {
    let config = std::sync::Arc::new(Config::default());
    let now = Duration::ZERO;
    let (mut client, mut down) =
        (Connection::client(config.clone(), now), Connection::server(config.clone(), now));
    let (mut up, mut origin) = (Connection::client(config.clone(), now), Connection::server(config, now));
    let (mut scratch, mut edits) = (Scratch::new(), Edits::new());
    let parts = RequestParts {
        method: b"POST",
        scheme: Scheme::Http,
        authority: b"reviews:9080",
        path: b"/reviews/1",
        lines: b"user-agent: test\r\nx-custom: 1\r\ncookie: a\r\ncookie: b\r\n",
    };
    let mut number = 0;
    let mut exchange = || {
        number += 1;
        let asked = client.open_parts(&parts, false, number).unwrap();
        client.data(asked, b"body", true).unwrap();
        let mut forwarded = None;
        let mut input = client.output();
        while let Some(event) = down.next(&mut input, &mut scratch, now).unwrap() {
            match event {
                Event::Request { stream, head, end } => {
                    edits.clear();
                    edits.append_number(HeaderId::XEnvoyAttemptCount, number);
                    let out = up.open(&head, &edits, Scheme::Http, end, number).unwrap();
                    forwarded = Some((stream, out));
                }
                Event::Data { stream, bytes, end, .. } => {
                    up.data(forwarded.unwrap().1, bytes, end).unwrap();
                    down.consume(stream, bytes.len());
                }
                _ => {}
            }
        }
        client.sent(client.output().len());
        let mut input = up.output();
        while let Some(event) = origin.next(&mut input, &mut scratch, now).unwrap() {
            if let Event::Data { stream, bytes, .. } = event {
                origin.consume(stream, bytes.len());
                origin.respond_parts(stream, 200, b"server: x\r\n", false).unwrap();
                origin.data(stream, b"answer", false).unwrap();
                origin.trailers(stream, &Trailers::from_section(b"grpc-status: 0\r\n\r\n")).unwrap();
            }
        }
        up.sent(up.output().len());
        let mut input = origin.output();
        while let Some(event) = up.next(&mut input, &mut scratch, now).unwrap() {
            let (back, _) = forwarded.unwrap();
            match event {
                Event::Response { head, end, .. } => {
                    edits.clear();
                    edits.set_known(&head, HeaderId::Server, b"istio-envoy");
                    down.respond(back, &head, &edits, end).unwrap();
                }
                Event::Data { stream, bytes, end, .. } => {
                    down.data(back, bytes, end).unwrap();
                    up.consume(stream, bytes.len());
                }
                Event::Trailers { trailers, .. } => down.trailers(back, &trailers).unwrap(),
                _ => {}
            }
        }
        origin.sent(origin.output().len());
        let mut input = down.output();
        let mut ended = false;
        while let Some(event) = client.next(&mut input, &mut scratch, now).unwrap() {
            ended |= matches!(event, Event::Trailers { .. });
        }
        down.sent(down.output().len());
        assert!(ended);
    };
    // The compression tables reach their size first.
    (0..1_000).for_each(|_| exchange());
    let before = ALLOCATIONS.get();
    (0..500).for_each(|_| exchange());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
