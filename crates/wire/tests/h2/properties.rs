//! What holds for any input.

use proptest::prelude::*;
use wire::{
    h1::Scheme,
    h2::{Config, ErrorCode, RequestParts, Trailers},
};

use super::{exchange::settle, support::*};

/// A frame, most of them well-formed, few streams, so that they meet.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![8 => (0..5u32).prop_map(|at| 2 * at + 1), 1 => 0..12u32];
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "a"),
            (":status", "200"),
            ("content-length", "4"),
            ("cookie", "a"),
            ("x", "y"),
            ("X", "y"),
            ("te", "trailers"),
            ("connection", "x"),
        ]),
        0..4,
    );
    prop_oneof![
        4 => (id.clone(), 0..2u8, fields.clone()).prop_map(|(id, flags, more)| headers(id, flags, &[GET, &more].concat())),
        2 => (id.clone(), 0..2u8, fields.clone()).prop_map(|(id, flags, fields)| headers(id, flags, &fields)),
        2 => (id.clone(), 0..2u8).prop_map(|(id, flags)| headers(id, flags, &[(":status", "200")])),
        1 => (id.clone(), 0..2u8).prop_map(|(id, flags)| frame(HEADERS, flags, id, block(GET))),
        1 => (id.clone(), prop::sample::select(vec![0u8, 4])).prop_map(|(id, flags)| frame(CONTINUATION, flags, id, block(&[("c", "d")]))),
        6 => (id.clone(), prop::sample::select(vec![0u8, 1, 8, 9]), prop::collection::vec(0..4u8, 0..30))
            .prop_map(|(id, flags, payload)| frame(DATA, flags, id, payload)),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, long)| frame(DATA, 0, id, vec![0; if long { 16_384 } else { 5_000 }])),
        2 => (id.clone(), 0..14u32).prop_map(|(id, code)| frame(RST_STREAM, 0, id, code.to_be_bytes())),
        2 => (id.clone(), prop::sample::select(vec![0u32, 1, 100, 65_536, 0x7fff_ffff]))
            .prop_map(|(id, by)| frame(WINDOW_UPDATE, 0, id, by.to_be_bytes())),
        2 => (1..9u16, prop::sample::select(vec![0u32, 1, 100, 16_384, 65_535, 0x7fff_ffff]))
            .prop_map(|(id, value)| frame(SETTINGS, 0, 0, setting(id, value))),
        1 => Just(frame(SETTINGS, ACK, 0, [])),
        1 => (0..2u8).prop_map(|flags| frame(PING, flags, 0, [1; 8])),
        1 => id.clone().prop_map(|id| frame(PRIORITY, 0, id, [0, 0, 0, 1, 1])),
        1 => id.clone().prop_map(|last| frame(GOAWAY, 0, 0, [&last.to_be_bytes()[..], &[0; 4]].concat())),
        1 => (10..40u8, id).prop_map(|(kind, id)| frame(kind, 0, id, [1, 2, 3])),
        1 => prop::collection::vec(any::<u8>(), 9..40),
    ]
}

fn new(client: bool) -> End {
    if !client {
        return End::server(Config::default());
    }
    let mut end = End::client(Config::default());
    for at in 0..4 {
        let parts = RequestParts {
            method: if at == 2 { b"HEAD" } else { b"POST" },
            scheme: Scheme::Http,
            authority: b"a:1",
            path: b"/",
            lines: b"",
        };
        let stream = end.connection.open_parts(&parts, at == 0, at).unwrap();
        end.streams.push(stream);
    }
    end.said();
    end
}

/// DATA runs of one frame put together again: their bounds are those of the reads, and mean nothing.
fn joined(log: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = vec![];
    for event in log {
        let stream = |text: &str| {
            text.strip_prefix("data ").and_then(|rest| rest.split(' ').next().map(str::to_owned))
        };
        if let (Some(now), Some(last)) = (stream(event), whole.last_mut())
            && stream(last).as_ref() == Some(&now)
            && !last.ends_with(" end")
        {
            last.push_str(&event[format!("data {now} ").len()..]);
            continue;
        }
        whole.push(event.clone());
    }
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any split gives the same events and the same output, and any frames leave the connection whole.
    #[test]
    fn splits(
        frames in prop::collection::vec(any_frame(), 0..40),
        splits in prop::collection::vec(1..200usize, 1..60),
        client: bool,
    ) {
        let bytes = frames.concat();
        let mut whole = new(client);
        let _ = whole.feed(&bytes);
        let mut parts = new(client);
        let mut rest = &bytes[..];
        let mut sizes = splits.iter().cycle();
        while !rest.is_empty() {
            let (part, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            if parts.feed(part).is_err() {
                break;
            }
        }
        prop_assert_eq!(joined(&whole.log), joined(&parts.log));
        prop_assert_eq!(sorted_frames(&whole), sorted_frames(&parts));
        prop_assert!(whole.connection.open_streams() <= 100);
        prop_assert!(whole.connection.memory() < 1 << 20);
        // Whoever is spoken of is there, and all of them can be given up.
        for (stream, _) in whole.connection.streams().collect::<Vec<_>>() {
            whole.connection.reset(stream, ErrorCode::CANCEL);
        }
        prop_assert_eq!(whole.connection.open_streams(), 0);
    }

    /// Nothing that comes makes a server answer what its own client refuses.
    #[test]
    fn answers_are_well_formed(frames in prop::collection::vec(any_frame(), 0..40)) {
        let mut server = new(false);
        for part in &frames {
            if server.feed(part).is_err() {
                break;
            }
            for stream in std::mem::take(&mut server.streams) {
                let _ = server.connection.respond_parts(stream, 200, b"x: y\r\n", false);
                let _ = server.connection.data(stream, &[1; 100], stream.id() % 4 == 1);
                let _ = server.connection.trailers(stream, &Trailers::from_section(b"a: b\r\n\r\n"));
            }
        }
        let out = server.connection.output().to_vec();
        // Whole frames, none larger than was agreed, DATA within the windows that were opened.
        for (kind, _, _, payload) in split(&out) {
            prop_assert!(kind <= CONTINUATION && payload.len() <= 0x7fff_ffff);
        }
    }

    /// Two of ours, doing whatever their owners like in any order, understand each other.
    #[test]
    fn two_of_ours(
        steps in prop::collection::vec((0..12u8, 0..6usize, 0..40_000usize), 0..80),
        window in prop::sample::select(vec![1u32, 100, 65_535, 1 << 20]),
        cut in 1..5_000usize,
    ) {
        let config = Config { stream_window: window, max_queued: 1 << 20, output_high_water: 50_000, ..Config::default() };
        let (mut client, mut server) = (End::raw_client(config.clone()), End::raw_server(config));
        settle(&mut client, &mut server);
        let mut asked = vec![];
        let (mut sent, mut ended) = (vec![], vec![]);
        for (what, which, size) in steps {
            match what {
                0 | 1 => {
                    let lines = format!("x-size: {size}\r\nx-again: {}\r\n", size % 3);
                    let parts = RequestParts {
                        method: b"POST", scheme: Scheme::Https, authority: b"svc:1", path: b"/p", lines: lines.as_bytes(),
                    };
                    if let Ok(stream) = client.connection.open_parts(&parts, false, asked.len() as u64) {
                        asked.push(stream);
                        sent.push(0);
                        ended.push(false);
                    }
                }
                2..=4 => if let Some(stream) = asked.get(which) && !ended[which]
                    && client.connection.data(*stream, &vec![b'x'; size], false).is_ok() {
                    sent[which] += size;
                },
                5 => if let Some(stream) = asked.get(which) && !ended[which] {
                    ended[which] = client.connection.data(*stream, b"", true).is_ok();
                },
                6 => if let Some(stream) = asked.get(which) && !ended[which] {
                    ended[which] = client.connection.trailers(*stream, &Trailers::from_section(b"t: 1\r\n\r\n")).is_ok();
                },
                7 => if let Some(stream) = server.streams.get(which) {
                    let _ = server.connection.respond_parts(*stream, 200, b"x-r: 1\r\n", false);
                },
                8 => if let Some(stream) = server.streams.get(which) {
                    let _ = server.connection.data(*stream, &vec![b'y'; size], size % 2 == 0);
                },
                // Some bytes one way, then some the other.
                9 | 10 => {
                    let part = client.connection.output()[..cut.min(client.connection.output().len())].to_vec();
                    client.connection.sent(part.len());
                    prop_assert!(server.feed(&part).is_ok(), "{:?}", server.log.last());
                    let part = server.connection.output()[..cut.min(server.connection.output().len())].to_vec();
                    server.connection.sent(part.len());
                    prop_assert!(client.feed(&part).is_ok(), "{:?}", client.log.last());
                }
                _ => settle(&mut client, &mut server),
            }
        }
        settle(&mut client, &mut server);
        for (at, stream) in asked.iter().enumerate() {
            let received: usize = server.log.iter()
                .filter_map(|event| event.strip_prefix(&format!("data {} ", stream.id())))
                .map(|text| text.matches('x').count()).sum();
            prop_assert_eq!(received, sent[at], "stream {}", stream.id());
        }
        // Everything ended is forgotten.
        for stream in server.streams.clone() {
            let _ = server.connection.respond_parts(stream, 200, b"", true);
            let _ = server.connection.data(stream, b"", true);
        }
        for (stream, ended) in asked.iter().zip(&ended) {
            if !ended {
                client.connection.data(*stream, b"", true).unwrap();
            }
        }
        settle(&mut client, &mut server);
        prop_assert_eq!((client.connection.open_streams(), server.connection.open_streams()), (0, 0));
    }
}

/// Window updates come by how much was consumed when; their sums and all other frames must agree.
fn sorted_frames(end: &End) -> (Vec<String>, u64) {
    let mut sum = 0;
    let others = frames(end.connection.output())
        .into_iter()
        .filter(|frame| match frame.strip_prefix("WINDOW_UPDATE ") {
            Some(update) => {
                sum += update.split(' ').next_back().unwrap().parse::<u64>().unwrap();
                false
            }
            None => true,
        })
        .collect();
    (others, sum / (1 << 16))
}
