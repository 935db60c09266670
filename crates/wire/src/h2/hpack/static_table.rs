//! The static table (RFC 7541 appendix A).

use super::name::{Name, Pseudo};
use crate::HeaderId;

/// An entry as a field line: `name: value` and CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: Name,
    pub name_length: usize,
    pub line: &'static [u8],
}

/// How many entries there are; dynamic ones are counted on from here.
pub const COUNT: usize = 61;

/// The entry at an index counted from 1.
#[inline]
pub fn entry(index: usize) -> Option<&'static Entry> {
    ENTRIES.get(index.checked_sub(1)?)
}

/// The index of the first entry of this name (in lower case); 0 if there is none.
#[inline]
pub fn index_of(id: HeaderId, name: &[u8]) -> u8 {
    match id {
        HeaderId::Other => index_of_other(name),
        id => BY_ID.get(id as usize).copied().unwrap_or(0),
    }
}

/// The index of the entry for this status, else 0.
#[inline]
pub fn index_of_status(status: u16) -> u8 {
    match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => 0,
    }
}

/// Names of the table that are no [`HeaderId`].
fn index_of_other(name: &[u8]) -> u8 {
    match name {
        b"accept-charset" => 15,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"age" => 21,
        b"allow" => 22,
        b"content-disposition" => 25,
        b"content-language" => 27,
        b"content-location" => 29,
        b"content-range" => 30,
        b"etag" => 34,
        b"expires" => 36,
        b"from" => 37,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"max-forwards" => 47,
        b"range" => 50,
        b"refresh" => 52,
        b"strict-transport-security" => 56,
        b"www-authenticate" => 61,
        _ => 0,
    }
}

static BY_ID: [u8; HeaderId::COUNT] = by_id();

const fn by_id() -> [u8; HeaderId::COUNT] {
    let mut index = [0; HeaderId::COUNT];
    let mut at = COUNT;
    while at > 0 {
        if let Name::Field(id) = ENTRIES_CONST[at - 1].name
            && !matches!(id, HeaderId::Other)
        {
            index[id as usize] = at as u8;
        }
        at -= 1;
    }
    index
}

static ENTRIES: [Entry; COUNT] = ENTRIES_CONST;

const fn pseudo(pseudo: Pseudo, line: &'static str) -> Entry {
    let name_length = pseudo.name().len();
    Entry { name: Name::Pseudo(pseudo), name_length, line: line.as_bytes() }
}

const fn field(id: HeaderId, name_length: usize, line: &'static str) -> Entry {
    Entry { name: Name::Field(id), name_length, line: line.as_bytes() }
}

const ENTRIES_CONST: [Entry; COUNT] = [
    pseudo(Pseudo::Authority, ":authority: \r\n"),
    pseudo(Pseudo::Method, ":method: GET\r\n"),
    pseudo(Pseudo::Method, ":method: POST\r\n"),
    pseudo(Pseudo::Path, ":path: /\r\n"),
    pseudo(Pseudo::Path, ":path: /index.html\r\n"),
    pseudo(Pseudo::Scheme, ":scheme: http\r\n"),
    pseudo(Pseudo::Scheme, ":scheme: https\r\n"),
    pseudo(Pseudo::Status, ":status: 200\r\n"),
    pseudo(Pseudo::Status, ":status: 204\r\n"),
    pseudo(Pseudo::Status, ":status: 206\r\n"),
    pseudo(Pseudo::Status, ":status: 304\r\n"),
    pseudo(Pseudo::Status, ":status: 400\r\n"),
    pseudo(Pseudo::Status, ":status: 404\r\n"),
    pseudo(Pseudo::Status, ":status: 500\r\n"),
    field(HeaderId::Other, 14, "accept-charset: \r\n"),
    field(HeaderId::AcceptEncoding, 15, "accept-encoding: gzip, deflate\r\n"),
    field(HeaderId::Other, 15, "accept-language: \r\n"),
    field(HeaderId::Other, 13, "accept-ranges: \r\n"),
    field(HeaderId::Accept, 6, "accept: \r\n"),
    field(HeaderId::AccessControlAllowOrigin, 27, "access-control-allow-origin: \r\n"),
    field(HeaderId::Other, 3, "age: \r\n"),
    field(HeaderId::Other, 5, "allow: \r\n"),
    field(HeaderId::Authorization, 13, "authorization: \r\n"),
    field(HeaderId::CacheControl, 13, "cache-control: \r\n"),
    field(HeaderId::Other, 19, "content-disposition: \r\n"),
    field(HeaderId::ContentEncoding, 16, "content-encoding: \r\n"),
    field(HeaderId::Other, 16, "content-language: \r\n"),
    field(HeaderId::ContentLength, 14, "content-length: \r\n"),
    field(HeaderId::Other, 16, "content-location: \r\n"),
    field(HeaderId::Other, 13, "content-range: \r\n"),
    field(HeaderId::ContentType, 12, "content-type: \r\n"),
    field(HeaderId::Cookie, 6, "cookie: \r\n"),
    field(HeaderId::Date, 4, "date: \r\n"),
    field(HeaderId::Other, 4, "etag: \r\n"),
    field(HeaderId::Expect, 6, "expect: \r\n"),
    field(HeaderId::Other, 7, "expires: \r\n"),
    field(HeaderId::Other, 4, "from: \r\n"),
    field(HeaderId::Host, 4, "host: \r\n"),
    field(HeaderId::Other, 8, "if-match: \r\n"),
    field(HeaderId::Other, 17, "if-modified-since: \r\n"),
    field(HeaderId::Other, 13, "if-none-match: \r\n"),
    field(HeaderId::Other, 8, "if-range: \r\n"),
    field(HeaderId::Other, 19, "if-unmodified-since: \r\n"),
    field(HeaderId::Other, 13, "last-modified: \r\n"),
    field(HeaderId::Other, 4, "link: \r\n"),
    field(HeaderId::Location, 8, "location: \r\n"),
    field(HeaderId::Other, 12, "max-forwards: \r\n"),
    field(HeaderId::ProxyAuthenticate, 18, "proxy-authenticate: \r\n"),
    field(HeaderId::ProxyAuthorization, 19, "proxy-authorization: \r\n"),
    field(HeaderId::Other, 5, "range: \r\n"),
    field(HeaderId::Referer, 7, "referer: \r\n"),
    field(HeaderId::Other, 7, "refresh: \r\n"),
    field(HeaderId::RetryAfter, 11, "retry-after: \r\n"),
    field(HeaderId::Server, 6, "server: \r\n"),
    field(HeaderId::SetCookie, 10, "set-cookie: \r\n"),
    field(HeaderId::Other, 25, "strict-transport-security: \r\n"),
    field(HeaderId::TransferEncoding, 17, "transfer-encoding: \r\n"),
    field(HeaderId::UserAgent, 10, "user-agent: \r\n"),
    field(HeaderId::Vary, 4, "vary: \r\n"),
    field(HeaderId::Via, 3, "via: \r\n"),
    field(HeaderId::Other, 16, "www-authenticate: \r\n"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lines_agree() {
        for index in 1..=COUNT {
            let entry = entry(index).unwrap();
            let (name, rest) = entry.line.split_at(entry.name_length);
            assert!(rest.starts_with(b": ") && rest.ends_with(b"\r\n"));
            match entry.name {
                Name::Pseudo(pseudo) => assert_eq!(pseudo.name().as_bytes(), name),
                Name::Field(id) => {
                    assert_eq!(id, HeaderId::of(name), "{}", name.escape_ascii());
                    assert_eq!(usize::from(index_of(id, name)), index);
                }
            }
        }
        assert!(entry(0).is_none() && entry(COUNT + 1).is_none());
        assert_eq!(index_of(HeaderId::XRequestId, b"x-request-id"), 0);
        assert_eq!(index_of(HeaderId::Other, b"x-unheard-of"), 0);
    }
}
