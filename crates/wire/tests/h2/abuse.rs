//! Floods and bombs (bad-inputs class N): the stated reaction, after no more than the stated work, in bounded memory.

use std::time::Duration;

use wire::h2::{Config, ErrorCode};

use super::support::*;

/// Feeds the same again until the connection is closed; how often it was borne.
fn until_closed(end: &mut End, most: usize, mut next: impl FnMut(usize) -> Vec<u8>) -> usize {
    for at in 0..most {
        let result = end.feed(&next(at));
        end.log.truncate(1_000);
        assert!(end.connection.memory() < 1 << 20, "memory is bounded");
        if let Err(error) = result {
            assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM, "{error}");
            let said = end.said();
            assert!(said.last().unwrap().ends_with("ENHANCE_YOUR_CALM"), "{said:?}");
            return at;
        }
        end.said();
    }
    panic!("borne {most} times");
}

fn id(at: usize) -> u32 {
    2 * at as u32 + 1
}

#[test]
fn n01_rapid_reset() {
    let mut end = End::server(Config::default());
    let borne = until_closed(&mut end, 10_000, |at| {
        [get(id(at), &[]), frame(RST_STREAM, 0, id(at), [0, 0, 0, 8])].concat()
    });
    assert_eq!(borne, 249);
    // All at once, as the attack has it.
    let mut end = End::server(Config::default());
    let flood: Vec<u8> = (0..10_000)
        .flat_map(|at| [get(id(at), &[]), frame(RST_STREAM, 0, id(at), [0, 0, 0, 8])].concat())
        .collect();
    assert!(end.feed(&flood).is_err());
    assert!(end.log.iter().filter(|event| event.starts_with("request")).count() <= 250);
}

#[test]
fn n01_a_client_that_cancels_now_and_then_is_borne() {
    let mut end = End::server(Config::default());
    for at in 0..5_000 {
        end.feed(&get(id(at), &[])).unwrap();
        if at % 3 == 0 {
            end.feed(&frame(RST_STREAM, 0, id(at), [0, 0, 0, 8])).unwrap();
        } else {
            let stream = *end.streams.last().unwrap();
            end.connection.respond_parts(stream, 200, b"", true).unwrap();
        }
        end.said();
    }
    // Nor is one whose streams were long-lived.
    let mut end = End::server(Config::default());
    for at in 0..5_000 {
        end.feed(&get(id(at), &[])).unwrap();
        end.now += Duration::from_secs(2);
        end.feed(&frame(RST_STREAM, 0, id(at), [0, 0, 0, 8])).unwrap();
    }
}

#[test]
fn n02_made_you_reset() {
    type Provoke = fn(u32) -> Vec<u8>;
    let ways: [(&str, Provoke); 5] = [
        ("WINDOW_UPDATE of 0", |id| [get(id, &[]), frame(WINDOW_UPDATE, 0, id, [0; 4])].concat()),
        ("DATA after END_STREAM", |id| [get(id, &[]), frame(DATA, 0, id, [1])].concat()),
        ("PRIORITY on itself", |id| {
            [get(id, &[]), frame(PRIORITY, 0, id, [&id.to_be_bytes()[..], &[1]].concat())].concat()
        }),
        ("malformed", |id| get(id, &[("X", "1")])),
        ("PRIORITY of 4", |id| [get(id, &[]), frame(PRIORITY, 0, id, [0; 4])].concat()),
    ];
    for (way, provoke) in ways {
        let mut end = End::server(Config::default());
        let borne = until_closed(&mut end, 2_000, |at| provoke(id(at)));
        assert!((400..=1024).contains(&borne), "{way}: {borne}");
    }
}

#[test]
fn n03_continuation_flood() {
    for size in [1, 16_000] {
        let mut end = End::server(Config::default());
        end.feed(&frame(HEADERS, 1, 1, [0, 1])).unwrap();
        let borne = until_closed(&mut end, 100_000, |_| frame(CONTINUATION, 0, 1, vec![0x40; size]));
        assert!(borne <= 512, "{borne}");
        assert!(!end.log.iter().any(|event| event.starts_with("request")));
    }
}

#[test]
fn n04_hpack_bomb() {
    // One field of 4 KiB in the table, and references to it.
    let value = "v".repeat(3_900);
    let mut bomb = block(GET);
    let at = bomb.len();
    bomb.extend(block(&[("x", &value)]));
    bomb[at] = 0x40;
    let small: Vec<u8> = [bomb.clone(), vec![0xbe; 20]].concat();
    let mut end = End::server(Config::default());
    assert_eq!(end.events(&frame(HEADERS, 5, 1, &small)), ["refused 1 431 http2.headers_too_large"]);
    assert_eq!(end.said(), ["HEADERS 1 end"]);
    // The connection still serves, its tables in step.
    assert!(
        end.events(&frame(HEADERS, 5, 3, [&block(GET)[..], &[0xbe]].concat()))[0].starts_with("request 3")
    );
    let large = [bomb, vec![0xbe; 12_000]].concat();
    assert_eq!(end.events(&frame(HEADERS, 5, 5, &large)), ["closed ENHANCE_YOUR_CALM"]);
    // Cookie crumbs (CVE-2026-47774): within one frame, 7 bytes each.
    let mut crumbs = block(GET);
    crumbs.extend([0x40, 6]);
    crumbs.extend(b"cookie");
    crumbs.extend([1, b'a']);
    let some = [crumbs.clone(), vec![0xbe; 1_000]].concat();
    let mut end = End::server(Config::default());
    assert_eq!(end.events(&frame(HEADERS, 5, 1, &some)), ["refused 1 431 http2.too_many_headers"]);
    let many = [crumbs, vec![0xbe; 10_000]].concat();
    assert_eq!(end.events(&frame(HEADERS, 5, 3, &many)), ["closed ENHANCE_YOUR_CALM"]);
}

#[test]
fn n05_control_frames() {
    // Unread answers.
    for flood in [frame(PING, 0, 0, [0; 8]), frame(SETTINGS, 0, 0, [])] {
        let mut end = End::server(Config::default());
        let bytes = flood.repeat(10_000);
        assert!(end.feed(&bytes).is_err());
        assert!(end.log.len() <= 1_002 && end.connection.output().len() < 64 * 1024);
    }
    // Read ones, 10 000 a second; but not the 50 a second that a busy peer may send.
    let ping = |_| frame(PING, 0, 0, [0; 8]);
    let mut end = End::server(Config::default());
    let mut sent = 0;
    let result = loop {
        end.now += Duration::from_micros(100);
        sent += 1;
        if let Err(error) = end.feed(&ping(())) {
            break error;
        }
        end.said();
    };
    assert!(result.code == ErrorCode::ENHANCE_YOUR_CALM && sent < 1_200, "{sent}");
    let mut end = End::server(Config::default());
    for _ in 0..10_000 {
        end.now += Duration::from_millis(20);
        end.feed(&ping(())).unwrap();
        end.said();
    }
    // Settings with 10 000 unknown ids cannot come in one frame; what fits is read and forgotten.
    let many: Vec<u8> = (0..2_700u32).flat_map(|at| setting(0x4000 + at as u16, at)).collect();
    let mut end = End::server(Config::default());
    assert_eq!(end.events(&frame(SETTINGS, 0, 0, many)), ["settings"]);
    assert!(end.connection.memory() < 4096, "{}", end.connection.memory());
}

#[test]
fn n06_empty_frames() {
    for empty in [frame(DATA, 0, 1, []), frame(DATA, PADDED, 1, [3, 0, 0, 0])] {
        let mut end = End::server(Config::default());
        end.feed(&post(1, &[])).unwrap();
        assert_eq!(until_closed(&mut end, 1_000_000, |_| empty.clone()), 100);
    }
    let mut end = End::server(Config::default());
    end.feed(&frame(HEADERS, 1, 1, [])).unwrap();
    assert!(until_closed(&mut end, 1_000, |_| frame(CONTINUATION, 0, 1, [])) <= 100);
}

#[test]
fn n07_priority() {
    let mut end = End::server(Config::default());
    let borne = until_closed(&mut end, 1_000_000, |at| frame(PRIORITY, 0, id(at), [0; 5]));
    assert_eq!(borne, 100);
}

#[test]
fn n08_window_updates() {
    let mut end = End::server(Config::default());
    let borne = until_closed(&mut end, 100_000, |_| frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]));
    assert_eq!(borne, 100);
}

#[test]
fn n09_zero_window() {
    let config = Config { max_queued: 64 * 1024, ..Config::default() };
    let mut end = End::server(config);
    end.feed(&frame(SETTINGS, 0, 0, setting(4, 0))).unwrap();
    for at in 0..100 {
        end.feed(&get(id(at), &[])).unwrap();
        let stream = *end.streams.last().unwrap();
        end.connection.respond_parts(stream, 200, b"", false).unwrap();
        assert_eq!(end.connection.send_capacity(stream), 0);
        // The owner is told to stop, and made to.
        assert_eq!(end.connection.data(stream, &[0; 16_384], false), Ok(16_384));
        assert_eq!(end.connection.data(stream, &[0; 65_536], false), Err(wire::h2::SendError::Full));
        let state = end.connection.send_state(stream).unwrap();
        assert_eq!((state.stream_window, state.queued), (0, 16_384));
    }
    let said = end.said();
    assert!(!said.iter().any(|frame| frame.starts_with("DATA")), "{said:?}");
    assert!(end.connection.memory() < 100 * 64 * 1024);
    // What is reset is given back.
    for stream in end.streams.clone() {
        end.connection.reset(stream, ErrorCode::CANCEL);
    }
    end.said();
    assert!(end.connection.memory() < 512 * 1024);
    end.connection.release_memory();
    assert!(end.connection.memory() < 1024, "{}", end.connection.memory());
}

#[test]
fn n10_window_size_toggled() {
    let mut end = End::server(Config::default());
    end.feed(&get(1, &[])).unwrap();
    let borne = until_closed(&mut end, 10_000, |at| {
        frame(SETTINGS, 0, 0, setting(4, if at % 2 == 0 { 0 } else { 0x7fff_ffff }))
    });
    assert!(borne <= 1_000);
}

#[test]
fn n11_too_many_streams() {
    let mut end = End::server(Config::default());
    for at in 0..100 {
        end.feed(&get(id(at), &[])).unwrap();
    }
    assert_eq!(end.said(), Vec::<String>::new());
    end.log.clear();
    assert_eq!(end.events(&get(201, &[])), Vec::<String>::new());
    assert_eq!(end.said(), ["RST_STREAM 201 REFUSED_STREAM"]);
    let first = end.stream(1);
    end.connection.respond_parts(first, 204, b"", true).unwrap();
    assert_eq!(end.events(&get(203, &[])).len(), 1);
    assert_eq!(end.said(), ["HEADERS 1 end"]);
    until_closed(&mut end, 1_000, |at| get(205 + 2 * at as u32, &[]));
}

#[test]
fn n12_stream_ids_used_up() {
    let mut end = End::server(Config::default());
    assert_eq!(end.events(&get(0x7fff_ffff, &[])).len(), 1);
    assert_eq!(end.events(&get(1, &[])), ["closed PROTOCOL_ERROR"]);
}

#[test]
fn n19_a_block_without_end_from_upstream() {
    let mut end = End::client(Config::default());
    let parts = wire::h2::RequestParts {
        method: b"GET",
        scheme: wire::h1::Scheme::Http,
        authority: b"a",
        path: b"/",
        lines: b"",
    };
    end.connection.open_parts(&parts, true, 0).unwrap();
    end.feed(&frame(HEADERS, 0, 1, [])).unwrap();
    let borne = until_closed(&mut end, 1 << 16, |_| frame(CONTINUATION, 0, 1, vec![0; 16_384]));
    assert!(borne <= 8);
}

#[test]
fn slow_beginnings() {
    // L-04: nothing, or a part of the preface, or the preface and no more.
    for bytes in [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut end = End::raw_server(Config::default());
        end.feed(bytes).unwrap();
        assert_eq!(end.connection.deadline(), Some(Duration::from_secs(10)));
        assert!(end.connection.poll_timeouts(Duration::from_millis(9_999)).is_ok());
        let error = end.connection.poll_timeouts(Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.code, ErrorCode::SETTINGS_TIMEOUT);
        assert!(end.connection.is_drained());
    }
    // Ours are not acknowledged.
    let mut end = End::raw_server(Config::default());
    end.feed(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, [])].concat()).unwrap();
    assert!(end.connection.poll_timeouts(Duration::from_millis(19_999)).is_ok());
    assert_eq!(
        end.connection.poll_timeouts(Duration::from_secs(20)).unwrap_err().code,
        ErrorCode::SETTINGS_TIMEOUT
    );
}

#[test]
fn an_idle_connection_owns_almost_nothing() {
    let mut end = End::server(Config::default());
    end.connection.release_memory();
    assert!(end.connection.memory() < 64, "{}", end.connection.memory());
    // Also one that has served, but for what the client's table needs.
    for at in 0..50 {
        end.feed(&get(id(at), &[])).unwrap();
        let stream = *end.streams.last().unwrap();
        end.connection.respond_parts(stream, 200, b"server: x\r\n", true).unwrap();
        end.said();
    }
    end.connection.release_memory();
    assert!(end.connection.memory() < 64, "{}", end.connection.memory());
    assert!(size_of::<wire::h2::Connection>() < 1200, "{}", size_of::<wire::h2::Connection>());
}
