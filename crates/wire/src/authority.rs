//! `host[:port]`: the one reading of who a request is for.

use std::net::Ipv6Addr;

use crate::text::parse_decimal;

/// A checked authority: a registered name, an IPv4 address, or an IPv6 address in brackets, and maybe a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As sent; an IPv6 address keeps its brackets. Compare without case.
    pub host: &'a [u8],
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `None` for anything but RFC 3986 `host [":" port]`: user information, lists, spaces, an empty host, an empty
    /// or too large port, a comma (which RFC 3986 allows in names and a list of hosts hides in).
    #[inline]
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let (host, port) = if text.first() == Some(&b'[') {
            let end = text.iter().position(|byte| *byte == b']')?;
            let address = std::str::from_utf8(text.get(1..end)?).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            let (host, rest) = text.split_at_checked(end + 1)?;
            match rest {
                [] => (host, None),
                [b':', port @ ..] => (host, Some(port)),
                _ => return None,
            }
        } else {
            let end = text.iter().position(|byte| !NAME_BYTE[*byte as usize]).unwrap_or(text.len());
            let (host, rest) = text.split_at_checked(end)?;
            match rest {
                [] => (host, None),
                [b':', port @ ..] => (host, Some(port)),
                _ => return None,
            }
        };
        if host.is_empty() {
            return None;
        }
        let port = match port {
            Some(port) => Some(parse_port(port)?),
            None => None,
        };
        Some(Authority { host, port })
    }
}

/// A port may have leading zeros (RFC 3986 §3.2.3: `1*DIGIT`), so `:080` is port 80 for everyone who asks here.
fn parse_port(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 {
        return None;
    }
    let significant = text.iter().position(|byte| *byte != b'0').unwrap_or(text.len() - 1);
    u16::try_from(parse_decimal(text.get(significant..)?)?).ok()
}

/// RFC 3986 `unreserved / pct-encoded / sub-delims` without the comma.
static NAME_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+;=";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, host, port) in [
            ("a", "a", None),
            ("reviews.default.svc.cluster.local:9080", "reviews.default.svc.cluster.local", Some(9080)),
            ("Secret.Com:080", "Secret.Com", Some(80)),
            ("a_b", "a_b", None),
            ("secret.com.", "secret.com.", None),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:0", "[2001:db8::1]", Some(0)),
        ] {
            let authority = Authority::parse(text.as_bytes()).unwrap();
            assert_eq!((authority.host, authority.port), (host.as_bytes(), port), "{text}");
        }
    }

    #[test]
    fn refused() {
        // bad-inputs H-30, and the spellings around them.
        for text in [
            "",
            "a,b",
            "a b",
            "[::1",
            "a:99999",
            "user@a",
            "a:",
            ":80",
            "a:b",
            "a:+80",
            "a:80:90",
            "[::1]x",
            "[]",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "::1",
            "a:000080",
            "b\u{fc}cher",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }
}
