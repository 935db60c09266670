//! Attacks 2, 4, 19, 21 and 25 at the codec: frames cut at every byte, bodies that end short of their length, windows
//! driven to their limits, senders that are asked for frames of no size, values as large as a frame.

use wire::{
    h1::Scheme,
    h2::{Config, PREFACE, RequestParts},
};

use super::support::*;

const PARTS: RequestParts<'_> =
    RequestParts { method: b"POST", scheme: Scheme::Http, authority: b"a", path: b"/", lines: b"" };

/// One frame of every type, each well-formed on its own after `post(1)`, and one of a type nobody knows.
fn every_frame() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("DATA", frame(DATA, PADDED, 1, [2, b'a', b'b', 0, 0])),
        (
            "HEADERS",
            frame(HEADERS, 5 | PADDED | PRIO, 3, [&[1, 0, 0, 0, 0, 9][..], &block(GET), &[0]].concat()),
        ),
        ("trailers", headers(1, END_STREAM, &[("x", "y")])),
        ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, [0, 0, 0, 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, setting(4, 70_000))),
        ("SETTINGS ack", frame(SETTINGS, ACK, 0, [])),
        ("PING", frame(PING, 0, 0, [7; 8])),
        ("GOAWAY", frame(GOAWAY, 0, 0, [0; 12])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 9])),
        (
            "CONTINUATION",
            [frame(HEADERS, 1, 3, block(GET)), frame(CONTINUATION, 4, 3, block(&[("x", "y")]))].concat(),
        ),
        ("unknown", frame(0x4d, 0xff, 1, b"whatever")),
    ]
}

/// Asks again without any bytes, as an owner does when the socket says nothing, or its end came: no event, no output.
fn is_quiet(end: &mut End, what: &str) {
    for _ in 0..3 {
        assert_eq!(end.events(&[]), Vec::<String>::new(), "{what}");
    }
    assert_eq!(end.said(), Vec::<String>::new(), "{what}: nothing is said twice");
}

#[test]
fn every_frame_cut_at_every_byte_is_waited_for_without_work_and_then_means_the_same() {
    for (name, bytes) in every_frame() {
        let mut whole = End::server(Config::default());
        whole.feed(&post(1, &[])).unwrap();
        whole.said();
        let (expected, said) = (whole.events(&bytes), whole.said());
        assert!(!expected.iter().any(|event| event.starts_with("closed")), "{name}: {expected:?}");
        for cut in 0..bytes.len() {
            let what = format!("{name} cut at {cut} of {}", bytes.len());
            let mut end = End::server(Config::default());
            end.feed(&post(1, &[])).unwrap();
            end.said();
            let mut events = end.events(&bytes[..cut]);
            let mut frames = end.said();
            let memory = end.connection.memory();
            is_quiet(&mut end, &what);
            assert_eq!(end.connection.memory(), memory, "{what}: waiting takes no memory");
            events.extend(end.events(&bytes[cut..]));
            frames.extend(end.said());
            // A body may be told in two runs.
            let joined = |events: &[String]| events.concat().replace("data 1 ", "");
            assert_eq!(joined(&events), joined(&expected), "{what}");
            assert_eq!(frames, said, "{what}");
        }
    }
}

#[test]
fn a_preface_cut_at_every_byte_is_waited_for() {
    let hello = [&PREFACE[..], &frame(SETTINGS, 0, 0, setting(3, 9))].concat();
    for cut in 0..hello.len() {
        let mut end = End::raw_server(Config::default());
        end.said();
        assert_eq!(end.events(&hello[..cut]), Vec::<String>::new(), "{cut}");
        is_quiet(&mut end, "the preface");
        assert_eq!(end.events(&hello[cut..]), ["settings"], "{cut}");
    }
    // The attack's own bytes: a SETTINGS frame of 8 that carries an ACK or not, cut.
    for had in 0..8 {
        let mut end = End::server(Config::default());
        let cut = &frame(RST_STREAM, 0, 0, [0; 8])[..9 + had];
        assert_eq!(end.events(cut), Vec::<String>::new());
        is_quiet(&mut end, "a frame that will be an error");
    }
}

#[test]
fn a_body_that_ends_short_of_its_length_is_an_error_however_it_ends() {
    let head = || post(1, &[("content-length", "43")]);
    let part = || frame(DATA, 0, 1, [b'x'; 42]);
    for (name, frames) in [
        ("an empty last frame", vec![head(), frame(DATA, END_STREAM, 1, [])]),
        (
            "a padded last frame that is empty",
            vec![head(), frame(DATA, END_STREAM | PADDED, 1, [3, 0, 0, 0])],
        ),
        ("trailers", vec![head(), headers(1, END_STREAM, &[("x", "y")])]),
        ("empty trailers", vec![head(), frame(HEADERS, 5, 1, [])]),
        ("a byte short", vec![head(), part(), frame(DATA, END_STREAM, 1, [])]),
        ("a byte short, trailers", vec![head(), part(), headers(1, END_STREAM, &[("x", "y")])]),
        ("the head", vec![headers(1, END_STREAM, &[POST, &[("content-length", "43")]].concat())]),
        ("a byte too many", vec![head(), part(), frame(DATA, 0, 1, [b'x'; 2])]),
    ] {
        let mut end = End::server(Config::default());
        let events = end.events(&frames.concat());
        assert_eq!(end.said().last().unwrap(), "RST_STREAM 1 PROTOCOL_ERROR", "{name}: {events:?}");
        assert!(
            !events.iter().any(|event| event.ends_with(" end") || event.starts_with("trailers")),
            "{name}"
        );
    }
    // The same from a host.
    for (name, last) in [
        ("an empty last frame", frame(DATA, END_STREAM, 1, [])),
        ("trailers", headers(1, END_STREAM, &[("x", "y")])),
    ] {
        let mut end = End::client(Config::default());
        end.connection.open_parts(&PARTS, true, 0).unwrap();
        let head = headers(1, 0, &[(":status", "200"), ("content-length", "43")]);
        let events = end.events(&[head, last].concat());
        assert_eq!(events[1..], ["reset 1 PROTOCOL_ERROR here"], "{name}");
    }
}

#[test]
fn windows_raised_to_the_brim_never_wrap() {
    let mut end = End::server(Config::default());
    for at in 0..100u32 {
        end.feed(&get(2 * at + 1, &[])).unwrap();
    }
    let streams = end.streams.clone();
    for stream in &streams {
        end.connection.respond_parts(*stream, 200, b"", false).unwrap();
        end.connection.data(*stream, &[0; 100_000], false).unwrap();
    }
    end.said();
    // The connection's window is used up, each stream's raised as far as it goes.
    for at in 0..100u32 {
        let window = end.connection.send_state(streams[at as usize]).unwrap().stream_window;
        let raise = (0x7fff_ffff - window) as u32;
        end.feed(&frame(WINDOW_UPDATE, 0, 2 * at + 1, raise.to_be_bytes())).unwrap();
        assert_eq!(end.connection.send_state(streams[at as usize]).unwrap().stream_window, 0x7fff_ffff);
    }
    // To 0 and back: windows move down, below zero if need be, and up again.
    for (size, window) in [(0u32, 0x7fff_ffff - 65_535i64), (65_535, 0x7fff_ffff)] {
        end.feed(&frame(SETTINGS, 0, 0, setting(4, size))).unwrap();
        assert_eq!(end.connection.send_state(streams[0]).unwrap().stream_window, window);
    }
    for stream in &streams[1..50] {
        end.feed(&frame(RST_STREAM, 0, stream.id(), [0, 0, 0, 8])).unwrap();
    }
    // One more, by SETTINGS or by an update, is too much.
    let settings = frame(SETTINGS, 0, 0, setting(4, 0x7fff_ffff));
    assert_eq!(end.events(&settings), ["closed FLOW_CONTROL_ERROR"]);
    let mut end = End::server(Config::default());
    end.feed(&post(1, &[])).unwrap();
    end.feed(&frame(WINDOW_UPDATE, 0, 0, (0x7fff_ffffu32 - 65_535).to_be_bytes())).unwrap();
    assert_eq!(end.events(&frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])), ["closed FLOW_CONTROL_ERROR"]);
}

#[test]
fn a_host_that_asks_for_frames_of_no_size_ends_its_connection_and_loops_nobody() {
    for size in [0u32, 1, 16_383, 1 << 24, u32::MAX] {
        let mut end = End::raw_client(Config::default());
        end.connection.open_parts(&PARTS, false, 0).unwrap();
        assert_eq!(end.events(&frame(SETTINGS, 0, 0, setting(5, size))), ["closed PROTOCOL_ERROR"], "{size}");
        let said = end.said();
        assert!(said.last().unwrap().starts_with("GOAWAY 0 PROTOCOL_ERROR"), "{size}: {said:?}");
    }
    // The smallest that is allowed: a head of 20 KiB goes in two frames, decoded to what was sent.
    let lines = format!("x: {}\r\n", "v".repeat(20 * 1024));
    let parts = RequestParts { lines: lines.as_bytes(), ..PARTS };
    let mut end = End::client(Config::default());
    end.feed(&frame(SETTINGS, 0, 0, setting(5, 16_384))).unwrap();
    end.said();
    end.connection.open_parts(&parts, true, 0).unwrap();
    let out = end.connection.output().to_vec();
    assert_eq!(frames(&out), ["HEADERS 1 end", "CONTINUATION"]);
    assert!(split(&out).iter().all(|(_, _, _, payload)| payload.len() <= 16_384));
}

/// What a rule makes of a request may look like frames, and be as large as one: the peer decodes exactly it.
#[test]
fn values_and_bodies_about_the_size_of_a_frame_arrive_as_they_are() {
    for length in [16_383, 16_384, 16_385, 16_390, 32_768, 40_000] {
        // Frame headers, over and over.
        let value = "0000080000000000010PRI*HTTP/2.0".repeat(length / 31 + 1)[..length].to_owned();
        let lines = format!("x-copied: {value}\r\n");
        let mut client = End::client(Config::default());
        let mut server = End::server(Config::default());
        let parts = RequestParts { lines: lines.as_bytes(), ..PARTS };
        let stream = client.connection.open_parts(&parts, false, 0).unwrap();
        client.connection.data(stream, value.as_bytes(), true).unwrap();
        let out = client.connection.output().to_vec();
        for (_, _, _, payload) in split(&out) {
            assert!(payload.len() <= 16_384, "{length}: {}", payload.len());
        }
        server.feed(&out).unwrap();
        assert!(server.log[0].contains(&format!(" x-copied={value}")), "{length}");
        let body: String = server.log[1..].iter().map(|event| event.trim_start_matches("data 1 ")).collect();
        assert_eq!(body, format!("{value} end"), "{length}");
        // And back: a direct answer's body.
        let stream = server.stream(1);
        server.connection.respond_parts(stream, 200, lines.as_bytes(), false).unwrap();
        server.connection.data(stream, value.as_bytes(), true).unwrap();
        let out = server.connection.output().to_vec();
        assert!(split(&out).iter().all(|(_, _, _, payload)| payload.len() <= 16_384), "{length}");
        client.log.clear();
        client.feed(&out).unwrap();
        assert!(client.log.iter().any(|event| event.contains(&format!(" x-copied={value}"))), "{length}");
        assert!(client.log.last().unwrap().ends_with(" end"), "{length}");
    }
}
