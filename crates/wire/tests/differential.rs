//! The codec against slow, obvious readers of the same grammar, over inputs made of the grammar's words: both accept
//! the same, and read the same.

use proptest::prelude::*;
use wire::{
    BodyFraming,
    h1::{self, BodyReader, HeadStorage, Limits},
};

/// RFC 9112 §2 to §6 for an origin-form HTTP/1.1 request: its framing, or nothing if it is to be refused.
fn naive_head(bytes: &[u8]) -> Option<BodyFraming> {
    let text: String = bytes.iter().map(|byte| *byte as char).collect();
    let text = text.trim_start_matches("\r\n");
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let token = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    };
    let [method, target, "HTTP/1.1"] = words[..] else { return None };
    if !token(method) || !target.starts_with('/') || !target.chars().all(|c| c.is_ascii_graphic()) {
        return None;
    }
    let (mut hosts, mut lengths, mut codings) = (vec![], vec![], vec![]);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !token(name) || value.chars().any(|c| c != '\t' && c.is_control() && (c as u32) < 0x80) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']).to_owned();
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    if hosts != ["a"] && hosts != ["a:1"] {
        return None;
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(BodyFraming::None),
        ([length], []) => {
            let number: u64 = length.parse().ok()?;
            if number.to_string() != *length {
                return None;
            }
            Some(if number == 0 { BodyFraming::None } else { BodyFraming::Length(number) })
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Some(BodyFraming::Chunked),
        _ => None,
    }
}

/// RFC 9112 §7.1 for a body without trailers: its payload and length, or nothing while it is incomplete or wrong.
fn naive_chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let whole = bytes.len();
    let mut payload = vec![];
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        bytes = &bytes[end + 2..];
        let (size, extension) = line.split_at(line.find([';', ' ', '\t']).unwrap_or(line.len()));
        let extension = extension.trim_start_matches([' ', '\t']);
        if !(extension.is_empty() || extension.starts_with(';')) || extension.contains(['\r', '\n', '\0']) {
            return None;
        }
        if size.is_empty() || size.len() > 16 || !size.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
        payload.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(if size == 0 { &b""[..] } else { b"\r\n" })?;
        if size == 0 {
            return bytes.strip_prefix(b"\r\n").map(|rest| (payload, whole - rest.len()));
        }
    }
}

const HEAD: &[&[u8]] = &[
    b"Host: a\r\n",
    b"hOST:\ta:1 \r\n",
    b"Host: \r\n",
    b"Content-Length: 3\r\n",
    b"content-length:0\r\n",
    b"Content-Length: 03\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"TRANSFER-ENCODING: Chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"x: y\r\n",
    b"x:\r\n",
    b"x y\r\n",
    b"x\xe9: 1\r\n",
    b"x: \xe9\r\n",
    b"x: a\0\r\n",
    b" x: 1\r\n",
    b"x : 1\r\n",
    b"x: 1\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"x: a\tb\r\n",
    b"x: \x7f\r\n",
];
const LINES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"\r\nPOST /a?b HTTP/1.1\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET / HTTP/1.1 \r\n",
    b"GET / HTTP/1.1\n",
    b"G(T / HTTP/1.1\r\n",
    b"GET /\xe9 HTTP/1.1\r\n",
    b"GET / HTTP/1.2\r\n",
    b"GET x HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\n",
];
const CHUNKS: &[&[u8]] = &[
    b"3\r\nabc\r\n",
    b"3\r\nabc",
    b"\rx",
    b"0\r\n",
    b"\r\n",
    b"1\r\na",
    b"a\r\n",
    b"0123456789",
    b"0",
    b"00",
    b";x=\"y\"",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"0000000000000000",
    b"f",
    b"F",
    b"x",
    b"\0",
    b"0\r\n\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn heads(line in prop::sample::select(LINES), fields in prop::collection::vec(prop::sample::select(HEAD), 0..6)) {
        let bytes = [line, b"Host: a\r\n", &fields.concat(), b"\r\n"].concat();
        let bytes = if fields.len() % 2 == 0 { bytes } else { [line, &fields.concat(), b"\r\n"].concat() };
        let mut storage = HeadStorage::new();
        let parsed = h1::parse_request(&bytes, &mut storage, &Limits::default());
        match parsed {
            Ok(None) => prop_assert!(!bytes.windows(4).any(|end| end == b"\r\n\r\n"), "{}", bytes.escape_ascii()),
            Ok(Some(_)) => prop_assert_eq!(
                Some(storage.request(&bytes).framing()), naive_head(&bytes), "{}", bytes.escape_ascii()),
            Err(reject) => prop_assert_eq!(naive_head(&bytes), None, "{} {}", bytes.escape_ascii(), reject),
        }
    }

    #[test]
    fn chunked(words in prop::collection::vec(prop::sample::select(CHUNKS), 0..10)) {
        let bytes = words.concat();
        let mut reader = BodyReader::request(BodyFraming::Chunked, &Limits::default());
        let (mut at, mut payload, mut refused) = (0, vec![], false);
        while at < bytes.len() && !reader.is_done() {
            match reader.decode(&bytes[at..]) {
                Ok(step) => {
                    at += step.consumed;
                    payload.extend(step.payload);
                }
                Err(_) => { refused = true; break }
            }
        }
        let ours = (!refused && reader.is_done() && reader.tail().is_empty()).then_some((payload, at));
        prop_assert_eq!(ours, naive_chunked(&bytes), "{}", bytes.escape_ascii());
    }
}
