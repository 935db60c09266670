//! What a peer can make a server hold with few bytes (attack 22, "HPACK bomb"): heads of open streams are paid for.

use wire::h2::Config;

use super::support::*;

/// A literal with incremental indexing, which enters the table.
fn entered(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x40, name.len() as u8];
    out.extend(name);
    // A length of up to 16 KiB, RFC 7541 §5.1.
    let rest = value.len() - 127;
    out.extend([127, (rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8]);
    out.extend(value);
    out
}

/// `GET /` of authority `a`, the pseudo-header fields by reference or in few bytes.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x01, 1, b'a'];

#[test]
fn n22_a_head_that_refers_to_one_large_entry_again_and_again_is_refused() {
    let mut end = End::server(Config::default());
    let first = [GET, &entered(b"a", &[b'v'; 3900])].concat();
    assert!(end.events(&frame(HEADERS, 5, 1, &first))[0].starts_with("request 1 "));
    // Twice is borne, as when a list is repeated; fifteen times are 60 KB for fifteen bytes.
    assert!(end.events(&frame(HEADERS, 5, 3, [GET, &[0xbe; 2]].concat()))[0].starts_with("request 3 "));
    assert_eq!(
        end.events(&frame(HEADERS, 5, 5, [GET, &[0xbe; 15]].concat())),
        ["refused 5 431 http2.headers_too_large"]
    );
    assert!(end.said().contains(&"HEADERS 5 end".to_owned()));
}

/// The most that is held for a byte, whatever shape the heads have: 128 streams that stay open.
#[test]
fn n22_heads_of_open_streams_are_paid_for_by_the_bytes_that_were_sent() {
    for (shape, first, again) in [
        ("large entries", entered(b"a", &[b'v'; 3900]), vec![0xbe, 0xbe]),
        ("many small ones", entered(b"a", &[b'v'; 200]), vec![0xbe; 40]),
        ("cookies", entered(b"cookie", &[b'v'; 200]), vec![0xbe; 30]),
        ("of the static table", entered(b"a", &[b'v'; 200]), vec![0x90; 90]),
    ] {
        let mut end = End::server(Config { max_concurrent_streams: 1024, ..Config::default() });
        let mut sent = frame(HEADERS, END_HEADERS, 1, [GET, &first].concat());
        end.feed(&sent).unwrap();
        for at in 1..128u32 {
            let bytes = frame(HEADERS, END_HEADERS, 2 * at + 1, [GET, &again].concat());
            end.feed(&bytes).unwrap();
            sent.extend(bytes);
        }
        let held: usize =
            end.log.iter().filter(|event| event.starts_with("request")).map(|event| event.len()).sum();
        let credit = Config::default().head_credit + 8 * 1024;
        assert!(held <= credit + 8 * sent.len(), "{shape}: {held} held for {} sent", sent.len());
        let refused = end.said().iter().filter(|frame| frame.ends_with("REFUSED_STREAM")).count();
        let taken = end.streams.len();
        assert_eq!(taken + refused, 128, "{shape}: what is not taken may come again");
        // A stream that ends makes room for another.
        let first = end.streams[0];
        end.connection.reset(first, wire::h2::ErrorCode::CANCEL);
        assert_eq!(end.events(&frame(HEADERS, 5, 301, GET)).len(), 1, "{shape}");
    }
}

#[test]
fn n22_real_requests_are_not_refused_for_being_compressed_well() {
    let mut end = End::server(Config { max_concurrent_streams: 1024, ..Config::default() });
    // A browser's first page: a cookie of 2 KiB and the usual fields, then a burst by reference to them.
    let cookie = entered(b"cookie", &[b'c'; 2000]);
    let agent = entered(b"user-agent", &[b'm'; 130]);
    let accept = entered(b"accept", &[b't'; 200]);
    end.feed(&frame(HEADERS, 5, 1, [GET, &cookie, &agent, &accept].concat())).unwrap();
    for at in 1..30u32 {
        let path = format!("/static/asset-number-{at}.js");
        let block =
            [&[0x82, 0x04, path.len() as u8][..], path.as_bytes(), &[0x86, 1, 1, b'a', 0xbe, 0xbf, 0xc0]];
        end.feed(&frame(HEADERS, 5, 2 * at + 1, block.concat())).unwrap();
    }
    assert_eq!(end.streams.len(), 30);
    // A load generator's: a thousand streams of the same few references at once.
    let mut end = End::server(Config { max_concurrent_streams: 1024, ..Config::default() });
    for at in 0..1000u32 {
        end.feed(&frame(HEADERS, 5, 2 * at + 1, GET)).unwrap();
    }
    assert_eq!(end.streams.len(), 1000);
    assert_eq!(end.said(), Vec::<String>::new());
}

#[test]
fn memory_of_ended_streams_is_given_back_while_others_go_on() {
    let mut end = End::server(Config { max_concurrent_streams: 1024, ..Config::default() });
    end.feed(&frame(SETTINGS, 0, 0, setting(4, 0))).unwrap();
    for at in 0..500u32 {
        end.feed(&get(2 * at + 1, &[])).unwrap();
    }
    let streams = end.streams.clone();
    for stream in &streams {
        end.connection.respond_parts(*stream, 200, b"", false).unwrap();
        end.connection.data(*stream, &[0; 4000], true).unwrap();
    }
    assert_eq!(end.connection.backlog(), end.connection.output().len() + 500 * 4000);
    end.said();
    assert_eq!(end.connection.backlog(), 500 * 4000);
    let (last, others) = streams.split_last().unwrap();
    assert_eq!(end.connection.stalled_since(end.now).count(), 500);
    others.iter().for_each(|stream| end.connection.reset(*stream, wire::h2::ErrorCode::CANCEL));
    assert_eq!(end.connection.stalled_since(end.now).map(|(stream, _)| stream).collect::<Vec<_>>(), [*last]);
    end.said();
    assert_eq!(end.connection.backlog(), 4000);
    assert!(end.connection.memory() < 300 * 1024, "{}", end.connection.memory());
}
