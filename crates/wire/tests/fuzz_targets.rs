//! The fuzz targets over their corpus, over the prefixes and single-byte changes of each input, and over inputs put
//! together from the words of the protocols.

use std::{fs, path::Path};

use proptest::prelude::*;
use wire::fuzzing::TARGETS;

#[test]
fn corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(root.join(name)).unwrap() {
            let input = fs::read(entry.unwrap().path()).unwrap();
            inputs += 1;
            target(&input);
            for at in 0..input.len() {
                target(&input[..at]);
                for value in [0, b'\n', b'\r', b' ', b'0', b':', 0xff] {
                    let mut changed = input.clone();
                    changed[at] = value;
                    target(&changed);
                }
            }
        }
        assert!(inputs > 0, "no corpus for {name}");
    }
}

const WORDS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"CONNECT ",
    b"OPTIONS ",
    b"/",
    b"*",
    b"http://a",
    b"https://a",
    b"a:1",
    b"?x",
    b"#f",
    b" ",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 X\r\n",
    b"HTTP/1.0 204\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: ",
    b"close",
    b"upgrade",
    b", ",
    b"x-a",
    b"x-a: 1\r\n",
    b"te",
    b"TE: trailers\r\n",
    b"TE: gzip, trailers\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: ",
    b"100-continue\r\n",
    b"Keep-Alive: 1\r\n",
    b"0\r\n",
    b"3\r\nabc\r\n",
    b"1;a=b\r\nz\r\n",
    b"a",
    b"5",
    b";",
    b":",
    b"\0",
    b"\xff",
    b"%2e",
    b"%2F",
    b"%5c",
    b"%00",
    b"%",
    b"..",
    b".",
    b"//",
    b"\\",
    b"\x16\x03\x01\x00",
    b"\x01\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"[::1]",
    b"@",
    b"\x02",
    b"\x0b",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn words(choice in any::<u8>(), words in prop::collection::vec(prop::sample::select(WORDS), 0..24)) {
        let text = words.concat();
        for (name, target) in TARGETS {
            match *name {
                "body" | "response" => target(&[&[choice], &text[..]].concat()),
                _ => target(&text),
            }
        }
    }

    #[test]
    fn heads(lines in prop::collection::vec(prop::sample::select(WORDS), 0..12)) {
        let fields = lines.concat();
        wire::fuzzing::fuzz_request(&[b"POST /a HTTP/1.1\r\nHost: a\r\n", &fields[..], b"\r\n"].concat());
        wire::fuzzing::fuzz_response(&[b"\x00HTTP/1.1 200 OK\r\n", &fields[..], b"\r\n"].concat());
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }
}
