//! Settings as text.

/// RFC 4648 §5 without padding, as HTTP2-Settings is written (RFC 7540 §3.2.1).
pub(super) fn decode_base64url(text: &[u8]) -> Option<Vec<u8>> {
    const LONGEST: usize = 1024;
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() > LONGEST || text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - group.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(..group.len() * 3 / 4)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("AAMAAABk", Some(&[0, 3, 0, 0, 0, 100])),
            ("AAMAAABkAAQAAP__", Some(&[0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 255, 255])),
            ("YQ", Some(b"a")),
            ("YQ==", Some(b"a")),
            ("YWI", Some(b"ab")),
            ("A", None),
            ("AA+A", None),
        ] {
            assert_eq!(decode_base64url(text.as_bytes()).as_deref(), bytes, "{text}");
        }
    }
}
