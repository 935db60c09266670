//! HTTP/1 messages as the generator and the upstream need them: where one ends, and its status. Bodies have a
//! `content-length`; a chunked one is refused by name, for its cost would not compare.

use memchr::memchr;

/// A head longer than this is not one of ours.
const HEAD_LIMIT: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Reply,
}

/// Why bytes are not the messages expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    HeadTooLong,
    StatusLine,
    ContentLength,
    NoContentLength,
    Chunked,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Malformed::HeadTooLong => "a head beyond 64 KiB",
            Malformed::StatusLine => "a reply that does not start with an HTTP/1.1 status line",
            Malformed::ContentLength => "a content-length that is not a number",
            Malformed::NoContentLength => "a reply without content-length",
            Malformed::Chunked => "a chunked body",
        })
    }
}

impl std::error::Error for Malformed {}

/// What is read of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// With the empty line.
    pub length: usize,
    /// 0 in a request.
    pub status: u16,
    pub content_length: Option<u64>,
    pub chunked: bool,
}

/// Reads the head at the start of `data`; `None` while its end is missing.
pub fn head(data: &[u8], kind: Kind) -> Result<Option<Head>, Malformed> {
    let mut head = Head { length: 0, status: 0, content_length: None, chunked: false };
    let mut rest = data;
    let mut first = true;
    while let Some(end) = memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        rest = after.get(1..).unwrap_or_default();
        head.length += end + 1;
        if line.is_empty() {
            return Ok(Some(head));
        }
        if first {
            if kind == Kind::Reply {
                head.status = status(line)?;
            }
            first = false;
        } else if let Some(value) = value_of(line, b"content-length:") {
            head.content_length = Some(number(value)?);
        } else if let Some(value) = value_of(line, b"transfer-encoding:") {
            head.chunked |= !value.trim_ascii().eq_ignore_ascii_case(b"identity");
        }
    }
    if data.len() > HEAD_LIMIT { Err(Malformed::HeadTooLong) } else { Ok(None) }
}

/// Follows one connection's messages through whatever pieces they come in.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    /// A head whose end has not come yet. Empty nearly always: it allocates nothing then.
    partial: Vec<u8>,
    body_left: u64,
    status: u16,
}

/// Messages that ended in the bytes given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    pub messages: u32,
    /// Of the last one.
    pub status: u16,
}

impl Reader {
    pub fn new(kind: Kind) -> Reader {
        Reader { kind, partial: Vec::new(), body_left: 0, status: 0 }
    }

    /// Whether a message has begun and not ended.
    pub fn within(&self) -> bool {
        self.body_left > 0 || !self.partial.is_empty()
    }

    pub fn feed(&mut self, data: &[u8]) -> Result<Ended, Malformed> {
        if self.partial.is_empty() {
            return self.follow(data);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(data);
        self.follow(&whole)
    }

    fn follow(&mut self, mut data: &[u8]) -> Result<Ended, Malformed> {
        let mut ended = Ended::default();
        while !data.is_empty() {
            if self.body_left == 0 {
                let Some(head) = head(data, self.kind)? else {
                    self.partial.extend_from_slice(data);
                    break;
                };
                if head.chunked {
                    return Err(Malformed::Chunked);
                }
                self.body_left = match (head.content_length, self.kind) {
                    (Some(length), _) => length,
                    (None, Kind::Request) => 0,
                    (None, Kind::Reply) => return Err(Malformed::NoContentLength),
                };
                self.status = head.status;
                data = data.get(head.length..).unwrap_or_default();
            }
            let taken = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(data.len());
            self.body_left -= taken as u64;
            data = data.get(taken..).unwrap_or_default();
            if self.body_left == 0 {
                ended.messages += 1;
                ended.status = self.status;
            }
        }
        Ok(ended)
    }
}

fn status(line: &[u8]) -> Result<u16, Malformed> {
    let code = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or(Malformed::StatusLine)?;
    number(code).ok().and_then(|code| u16::try_from(code).ok()).ok_or(Malformed::StatusLine)
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // The first byte decides nearly always: this runs for every line of every reply.
    if line.first()? | 0x20 != *name.first()? {
        return None;
    }
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

fn number(text: &[u8]) -> Result<u64, Malformed> {
    let text = text.trim_ascii();
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    Ok(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REPLIES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nserver: x\r\n\r\nabc\
        HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length:5\r\n\r\n12345";

    type Case = (&'static [u8], Kind, Result<Option<Head>, Malformed>);

    #[test]
    fn heads() {
        let table: [Case; 8] = [
            (b"GET / HTTP/1.1\r\nhost: a\r\n", Kind::Request, Ok(None)),
            (
                b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest",
                Kind::Request,
                Ok(Some(Head { length: 27, status: 0, content_length: None, chunked: false })),
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  17 \r\n\r\n",
                Kind::Reply,
                Ok(Some(Head { length: 41, status: 200, content_length: Some(17), chunked: false })),
            ),
            (
                b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                Kind::Reply,
                Ok(Some(Head { length: 47, status: 204, content_length: None, chunked: true })),
            ),
            (b"HTTP/1.0 200 OK\r\n\r\n", Kind::Reply, Err(Malformed::StatusLine)),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Kind::Reply, Err(Malformed::StatusLine)),
            (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Kind::Reply, Err(Malformed::ContentLength)),
            (b"\xff\xfe", Kind::Reply, Ok(None)),
        ];
        for (data, kind, expected) in table {
            assert_eq!(head(data, kind), expected, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn replies_that_do_not_compare_are_refused() {
        let mut reader = Reader::new(Kind::Reply);
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Malformed::NoContentLength));
        let mut reader = Reader::new(Kind::Reply);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(reader.feed(chunked), Err(Malformed::Chunked));
    }

    #[test]
    fn a_head_without_end_is_not_kept_for_ever() {
        let mut reader = Reader::new(Kind::Reply);
        let refused = (0..100).find_map(|_| reader.feed(&[b'a'; 1024]).err());
        assert_eq!(refused, Some(Malformed::HeadTooLong));
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(cuts in prop::collection::vec(0..REPLIES.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, REPLIES.len()]);
            cuts.sort_unstable();
            let mut reader = Reader::new(Kind::Reply);
            let mut ended = 0;
            for pair in cuts.windows(2) {
                ended += reader.feed(&REPLIES[pair[0]..pair[1]]).unwrap().messages;
            }
            prop_assert_eq!(ended, 3);
            prop_assert!(!reader.within());
        }

        #[test]
        fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(Kind::Reply).feed(&data);
            let _ = Reader::new(Kind::Request).feed(&data);
        }
    }
}
