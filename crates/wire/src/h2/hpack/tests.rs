use proptest::prelude::*;

use super::*;
use crate::HeaderId;

/// Collects what a decoder says.
#[derive(Default)]
struct Lines(Vec<(String, bool)>);

impl Sink for Lines {
    fn field(&mut self, text: &mut Vec<u8>, field: Decoded) -> Result<(), HpackError> {
        let line = text.split_off(field.start);
        assert!(line[field.name_length..].starts_with(b": ") && line.ends_with(b"\r\n"));
        self.0.push((line[..line.len() - 2].escape_ascii().to_string(), field.sensitive));
        Ok(())
    }
}

/// Names, values and serials.
#[derive(Default)]
struct Came(Vec<(Vec<u8>, Vec<u8>, u32)>);

impl Sink for Came {
    fn field(&mut self, text: &mut Vec<u8>, field: Decoded) -> Result<(), HpackError> {
        let line = text.split_off(field.start);
        let (name, value) = line[..line.len() - 2].split_at(field.name_length);
        self.0.push((name.to_vec(), value[2..].to_vec(), field.serial));
        Ok(())
    }
}

/// What comes by reference again and again goes by reference without being looked for.
#[test]
fn an_origin_is_remembered() {
    let origin = Origin { decoder: 7, serial: 3 };
    let mut encoder = Encoder::new(4096, false);
    let mut send = |value: &[u8]| {
        let mut out = vec![];
        encoder.field_from(origin, HeaderId::Other, b"x-name", value, &mut out);
        out
    };
    assert_eq!(send(b"value"), b"\x40\x06x-name\x05value");
    // The value is not looked at any more.
    assert_eq!(send(b"another"), [0xbe]);
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
    let mut lines = Lines::default();
    decoder.decode(block, &mut vec![], &mut lines)?;
    Ok(lines.0.into_iter().map(|(line, _)| line).collect())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One example of appendix C: the table's limit, and for each block its bytes, its fields, the size it leaves.
type Example<'a> = (usize, &'a [(&'a str, &'a [&'a str], usize)]);

/// RFC 7541 appendix C.2 to C.6.
#[test]
fn published_examples() {
    let examples: &[Example<'_>] = &[
        // C.2.1 to C.2.4
        (
            4096,
            &[("400a637573746f6d2d6b65790d637573746f6d2d686561646572", &["custom-key: custom-header"], 55)],
        ),
        (4096, &[("040c2f73616d706c652f70617468", &[":path: /sample/path"], 0)]),
        (4096, &[("100870617373776f726406736563726574", &["password: secret"], 0)]),
        (4096, &[("82", &[":method: GET"], 0)]),
        // C.3
        (
            4096,
            &[
                (
                    "828684410f7777772e6578616d706c652e636f6d",
                    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
                    57,
                ),
                (
                    "828684be58086e6f2d6361636865",
                    &[
                        ":method: GET",
                        ":scheme: http",
                        ":path: /",
                        ":authority: www.example.com",
                        "cache-control: no-cache",
                    ],
                    110,
                ),
                (
                    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                    &[
                        ":method: GET",
                        ":scheme: https",
                        ":path: /index.html",
                        ":authority: www.example.com",
                        "custom-key: custom-value",
                    ],
                    164,
                ),
            ],
        ),
        // C.4: with Huffman
        (
            4096,
            &[
                (
                    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
                    57,
                ),
                (
                    "828684be5886a8eb10649cbf",
                    &[
                        ":method: GET",
                        ":scheme: http",
                        ":path: /",
                        ":authority: www.example.com",
                        "cache-control: no-cache",
                    ],
                    110,
                ),
                (
                    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                    &[
                        ":method: GET",
                        ":scheme: https",
                        ":path: /index.html",
                        ":authority: www.example.com",
                        "custom-key: custom-value",
                    ],
                    164,
                ),
            ],
        ),
        // C.5: responses, evictions in a table of 256
        (
            256,
            &[
                (
                    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768\
                     747470733a2f2f7777772e6578616d706c652e636f6d",
                    &[
                        ":status: 302",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:21 GMT",
                        "location: https://www.example.com",
                    ],
                    222,
                ),
                (
                    "4803333037c1c0bf",
                    &[
                        ":status: 307",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:21 GMT",
                        "location: https://www.example.com",
                    ],
                    222,
                ),
                (
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153\
                     444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e\
                     3d31",
                    &[
                        ":status: 200",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:22 GMT",
                        "location: https://www.example.com",
                        "content-encoding: gzip",
                        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                    ],
                    215,
                ),
            ],
        ),
        // C.6: the same with Huffman
        (
            256,
            &[
                (
                    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8\
                     e9ae82ae43d3",
                    &[
                        ":status: 302",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:21 GMT",
                        "location: https://www.example.com",
                    ],
                    222,
                ),
                (
                    "4883640effc1c0bf",
                    &[
                        ":status: 307",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:21 GMT",
                        "location: https://www.example.com",
                    ],
                    222,
                ),
                (
                    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b\
                     3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                    &[
                        ":status: 200",
                        "cache-control: private",
                        "date: Mon, 21 Oct 2013 20:13:22 GMT",
                        "location: https://www.example.com",
                        "content-encoding: gzip",
                        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                    ],
                    215,
                ),
            ],
        ),
    ];
    for (limit, blocks) in examples {
        let mut decoder = Decoder::new(*limit);
        for (block, fields, size) in *blocks {
            assert_eq!(decode(&mut decoder, &bytes(block)).unwrap(), *fields);
            assert_eq!(decoder.table().size(), *size, "{block}");
        }
    }
}

/// RFC 7541 §2.3.3, §4.2, §5.1, §5.2, §6.1, §6.3 (bad-inputs N-22).
#[test]
fn refused() {
    for (rule, block) in [
        ("§6.1 index 0", "80"),
        ("§2.3.3 index past both tables", "be"),
        ("§6.2.1 name index past both tables", "7f0001"),
        ("§6.2.2 name index past both tables", "0f3f0161"),
        ("§6.3 size above the agreed one", "3fe21f"),
        ("§4.2 size update after a field", "8220"),
        ("§5.1 integer too large", "ffffffffffff0f"),
        ("§5.2 string past the block", "0005616263"),
        ("§5.2 EOS", "0085ffffffffff0161"),
        ("§5.2 padding of a byte", "00821fff0161"),
        ("§5.2 padding of zeros", "0081180161"),
        ("cut after the name", "000161"),
        ("cut in an index", "ff"),
        ("cut in a length", "007f"),
    ] {
        assert!(decode(&mut Decoder::new(4096), &bytes(block)).is_err(), "{rule}: {block}");
    }
    assert_eq!(decode(&mut Decoder::new(4096), &bytes("3fe11f203fe11f82")).unwrap(), [":method: GET"]);
}

#[test]
fn never_indexed_is_seen() {
    let mut lines = Lines::default();
    let block = bytes("100870617373776f726406736563726574000161016282");
    Decoder::new(4096).decode(&block, &mut vec![], &mut lines).unwrap();
    let sensitive: Vec<bool> = lines.0.iter().map(|(_, sensitive)| *sensitive).collect();
    assert_eq!(sensitive, [true, false, false]);
}

#[test]
fn an_unused_table_owns_nothing_and_a_used_one_little() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(
        decode(&mut decoder, &bytes("8286840461ff")[..4]).unwrap_err(),
        HpackError("field block ends within a field")
    );
    let mut encoder = Encoder::new(4096, false);
    let mut out = vec![];
    encoder.field(HeaderId::Other, b"x", b"y", Indexing::Once, &mut out);
    assert_eq!((decoder.table().memory(), encoder.memory()), (0, 0));
    for number in 0..100_000u32 {
        out.clear();
        encoder.begin_block(&mut out);
        let value = number.to_string();
        encoder.field(HeaderId::Other, b"x-name", value.as_bytes(), Indexing::Recurring, &mut out);
        assert_eq!(decode(&mut decoder, &out).unwrap(), [format!("x-name: {value}")]);
        assert!(decoder.table().size() <= 4096);
    }
    assert!(decoder.table().memory() < 24 * 1024 && encoder.memory() < 24 * 1024);
    encoder.release();
    assert_eq!(encoder.memory(), 0);
}

/// Whatever their hashes, fields that come with every message go by reference from the second on.
#[test]
fn recurring_fields_do_not_push_one_another_out() {
    for seed in 0..200 {
        let mut encoder = Encoder::new(4096, false);
        let mut lengths = vec![];
        for _ in 0..3 {
            let mut out = vec![];
            for at in 0..24 {
                let name = format!("x-{seed}-{at}");
                encoder.field(HeaderId::Other, name.as_bytes(), b"v", Indexing::Recurring, &mut out);
            }
            lengths.push(out.len());
        }
        assert_eq!(lengths[2], 24, "{seed}");
    }
}

fn field() -> impl Strategy<Value = (String, String, u8)> {
    let name = prop_oneof![
        Just("content-type".to_owned()),
        Just("x-request-id".to_owned()),
        Just("accept-language".to_owned()),
        "[a-z][a-z0-9-]{0,12}",
    ];
    let value = prop_oneof![Just(String::new()), "[ -~]{0,20}", "[ab]", "[ -~]{120,140}"];
    (name, value, 0..3u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What an encoder sends, a decoder reads, through table changes of all kinds.
    #[test]
    fn round_trip(
        blocks in prop::collection::vec((prop::collection::vec(field(), 0..20), prop::option::of(0..6000usize)), 1..20),
        bound in prop::sample::select(vec![0usize, 100, 4096]),
        huffman: bool,
    ) {
        let mut encoder = Encoder::new(bound, huffman);
        let mut decoder = Decoder::new(4096);
        for (fields, limit) in blocks {
            if let Some(limit) = limit {
                if limit == 5000 { encoder.release() } else {
                    // The peer of the encoder says what it can hold, then holds the encoder to it.
                    encoder.set_peer_limit(limit.min(4096));
                }
            }
            let mut block = vec![];
            encoder.begin_block(&mut block);
            let mut expected = vec![];
            for (name, value, how) in &fields {
                let how = [Indexing::Once, Indexing::Recurring, Indexing::Never][usize::from(*how)];
                encoder.field(HeaderId::of(name.as_bytes()), name.as_bytes(), value.as_bytes(), how, &mut block);
                expected.push((format!("{name}: {}", value.as_bytes().escape_ascii()), how == Indexing::Never));
            }
            let mut lines = Lines::default();
            decoder.decode(&block, &mut vec![], &mut lines).unwrap();
            prop_assert_eq!(lines.0, expected);
        }
    }

    /// The transcoding cache: what comes from several connections leaves by one as it came, whatever is evicted, resized
    /// or given back between.
    #[test]
    fn transcoding(
        blocks in prop::collection::vec((0..3usize, prop::collection::vec(field(), 0..8), 0..12usize), 1..25),
        bound in prop::sample::select(vec![0usize, 150, 4096]),
    ) {
        let mut sources: Vec<_> = (0..3).map(|_| (Encoder::new(300, false), Decoder::new(4096))).collect();
        let (mut encoder, mut decoder) = (Encoder::new(bound, false), Decoder::new(4096));
        for (source, fields, what) in blocks {
            match what {
                0 => encoder.release(),
                1 => encoder.set_peer_limit(100),
                2 => encoder.set_peer_limit(4096),
                3 => sources[source] = (Encoder::new(300, false), Decoder::new(4096)),
                _ => {}
            }
            let (from, to) = &mut sources[source];
            let mut block = vec![];
            from.begin_block(&mut block);
            for (name, value, _) in &fields {
                from.field(HeaderId::of(name.as_bytes()), name.as_bytes(), value.as_bytes(), Indexing::Recurring, &mut block);
            }
            let mut came = Came::default();
            to.decode(&block, &mut vec![], &mut came).unwrap();
            let (mut block, mut expected) = (vec![], vec![]);
            encoder.begin_block(&mut block);
            for (name, value, serial) in &came.0 {
                let origin = Origin { decoder: to.id(), serial: *serial };
                encoder.field_from(origin, HeaderId::of(name), name, value, &mut block);
                expected.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
            }
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), expected);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5)) {
        let mut decoder = Decoder::new(256);
        for block in blocks {
            let _ = decode(&mut decoder, &block);
            prop_assert!(decoder.table().size() <= decoder.table().limit());
        }
    }
}
