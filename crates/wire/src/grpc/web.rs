//! gRPC-Web: trailers as a last message of the body, the body maybe in base64.

/// The forms of gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebKind {
    /// `application/grpc-web`, `+codec`: the body as it is.
    Binary,
    /// `application/grpc-web-text`: the body in base64.
    Text,
}

impl WebKind {
    /// What a content-type (or accept) asks for.
    pub fn of(content_type: &[u8]) -> Option<WebKind> {
        let kind = content_type.split(|byte| matches!(byte, b'+' | b';')).next()?;
        match crate::text::trim(kind) {
            kind if kind.eq_ignore_ascii_case(b"application/grpc-web") => Some(WebKind::Binary),
            kind if kind.eq_ignore_ascii_case(b"application/grpc-web-text") => Some(WebKind::Text),
            _ => None,
        }
    }

    /// The content-type of an answer, for a codec such as `+proto` (or none).
    pub fn push_content_type(self, codec: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            WebKind::Binary => b"application/grpc-web",
            WebKind::Text => b"application/grpc-web-text",
        });
        out.extend_from_slice(codec);
    }
}

/// Appends trailers as the message that ends a gRPC-Web body. `section`: their lines and the empty line, as
/// [`crate::h2::Trailers::section`] gives them.
pub fn push_web_trailers(out: &mut Vec<u8>, section: &[u8]) {
    const TRAILERS: u8 = 0x80;
    let lines = section.strip_suffix(b"\r\n").unwrap_or(section);
    out.push(TRAILERS);
    // A section is bounded far below 4 GiB.
    out.extend_from_slice(&(lines.len() as u32).to_be_bytes());
    out.extend_from_slice(lines);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes a body as it passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base64Encoder {
    kept: [u8; 2],
    count: u8,
}

impl Base64Encoder {
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            match (self.count, self.kept) {
                (2, [first, second]) => {
                    out.extend_from_slice(&quad([first, second, *byte]));
                    self.count = 0;
                }
                (1, [first, _]) => (self.kept, self.count) = ([first, *byte], 2),
                _ => (self.kept, self.count) = ([*byte, 0], 1),
            }
        }
    }

    /// The end, padded.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let [first, second] = self.kept;
        match std::mem::take(&mut self.count) {
            1 => {
                let [a, b, ..] = quad([first, 0, 0]);
                out.extend_from_slice(&[a, b, b'=', b'=']);
            }
            2 => {
                let [a, b, c, _] = quad([first, second, 0]);
                out.extend_from_slice(&[a, b, c, b'=']);
            }
            _ => {}
        }
    }
}

fn quad([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

/// Decodes a body as it passes. Padding may stand within it: clients encode message by message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base64Decoder {
    bits: u32,
    digits: u8,
    padding: u8,
}

impl Base64Decoder {
    /// `None` for what is no base64.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for byte in text {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.digits >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return None,
            };
            if *byte != b'=' && self.padding > 0 {
                return None;
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.digits += 1;
            if self.digits == 4 {
                let [_, bytes @ ..] = self.bits.to_be_bytes();
                out.extend_from_slice(bytes.get(..3 - usize::from(self.padding))?);
                *self = Base64Decoder::default();
            }
        }
        Some(())
    }

    /// Whether the text may end here.
    pub fn is_whole(&self) -> bool {
        self.digits == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(WebKind::of(b"application/grpc-web"), Some(WebKind::Binary));
        assert_eq!(WebKind::of(b"application/grpc-web+proto; x=y"), Some(WebKind::Binary));
        assert_eq!(WebKind::of(b"application/grpc-web-text+proto"), Some(WebKind::Text));
        assert_eq!(WebKind::of(b"application/grpc"), None);
        let mut out = vec![];
        WebKind::Text.push_content_type(b"+proto", &mut out);
        assert_eq!(out, b"application/grpc-web-text+proto");
    }

    #[test]
    fn trailers() {
        let mut out = vec![];
        push_web_trailers(&mut out, b"grpc-status: 0\r\n\r\n");
        assert_eq!(out, b"\x80\0\0\0\x10grpc-status: 0\r\n");
    }

    #[test]
    fn base64_under_any_split() {
        for (text, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar!\u{ff}", "Zm9vYmFyIcO/")]
        {
            for split in 1..10 {
                let (mut encoder, mut out) = (Base64Encoder::default(), vec![]);
                text.as_bytes().chunks(split).for_each(|part| encoder.push(part, &mut out));
                encoder.finish(&mut out);
                assert_eq!(out, coded.as_bytes());
                let (mut decoder, mut back) = (Base64Decoder::default(), vec![]);
                for part in out.chunks(split) {
                    decoder.push(part, &mut back).unwrap();
                }
                assert!(decoder.is_whole());
                assert_eq!(back, text.as_bytes());
            }
        }
        let mut out = vec![];
        assert_eq!(Base64Decoder::default().push(b"Zg==Zm8=", &mut out), Some(()));
        assert_eq!(out, b"ffo");
        for bad in [&b"Z==="[..], b"Zg=A", b"=", b"Z g=", b"Zg-_"] {
            assert_eq!(Base64Decoder::default().push(bad, &mut vec![]), None);
        }
    }
}
