//! Field blocks on a connection (§4.3, RFC 7541 §4.2); the coding itself is tested beside it.

use super::*;

const OK: &[&str] = &["request 1 GET / a None host=a end"];

/// A field block after the client has acknowledged a table of so many bytes.
fn server_of(header_table_size: u32, blocks: &[Vec<u8>]) -> Vec<String> {
    let mut end = End::server(Config { header_table_size, ..Config::default() });
    let frames: Vec<u8> = blocks
        .iter()
        .enumerate()
        .flat_map(|(at, block)| frame(HEADERS, END_STREAM | END_HEADERS, 2 * at as u32 + 1, block))
        .collect();
    end.events(&frames)
}

fn get_after(prefix: &[u8]) -> Vec<u8> {
    [prefix, &block(GET)].concat()
}

/// §4.3.1: a reduction that was acknowledged has to be carried out at the beginning of the next block.
#[test]
fn a_reduced_table() {
    // 256 is 0x3f 0xe1 0x01, 257 is 0x3f 0xe2 0x01.
    for (rule, prefix, good) in [
        ("no word of it", &[][..], false),
        ("to more than was agreed", &[0x3f, 0xe2, 0x01], false),
        ("to what was agreed", &[0x3f, 0xe1, 0x01], true),
        ("to nothing", &[0x20], true),
        ("to nothing, then to what was agreed", &[0x20, 0x3f, 0xe1, 0x01], true),
    ] {
        let expected = if good { OK } else { &["closed COMPRESSION_ERROR"] };
        assert_eq!(server_of(256, &[get_after(prefix)]), expected, "{rule}");
    }
    // Once is enough, and where nothing was reduced there is nothing to say.
    assert_eq!(server_of(256, &[get_after(&[0x20]), get_after(&[])]).len(), 2);
    assert_eq!(server_of(8192, &[get_after(&[])]), OK);
    assert_eq!(server_of(8192, &[get_after(&[0x3f, 0xe1, 0x3f])]), OK);
    assert_eq!(server_of(8192, &[get_after(&[0x3f, 0xe2, 0x3f])]), ["closed COMPRESSION_ERROR"]);
}

/// Before the acknowledgement the peer may still use what it began with.
#[test]
fn a_table_not_yet_reduced() {
    let mut end = End::raw_server(Config { header_table_size: 256, ..Config::default() });
    end.feed(&[&PREFACE[..], &frame(SETTINGS, 0, 0, [])].concat()).unwrap();
    let long = "v".repeat(500);
    let mut entered = block(GET);
    entered.extend([0x40, 1, b'x', 127, 0xf5, 2]);
    entered.extend(long.bytes());
    let head = |id, block: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, id, block);
    end.log.clear();
    end.feed(&head(1, &entered)).unwrap();
    end.feed(&head(3, &[&block(GET)[..], &[0xbe]].concat())).unwrap();
    assert_eq!(end.log.len(), 2);
    assert!(end.log[1].ends_with(&format!(" x={long} end")), "{}", end.log[1]);
    end.feed(&frame(SETTINGS, ACK, 0, [])).unwrap();
    end.feed(&head(5, &get_after(&[0x20]))).unwrap();
    assert!(end.feed(&head(7, &[0xbe])).is_err());
}
