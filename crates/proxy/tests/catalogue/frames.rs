//! HTTP/2 by hand: frames as right or wrong as a test wants them.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a frame may be waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A field block of literals that touch no table.
pub fn block<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    let mut out = vec![];
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name.as_ref());
        text(&mut out, value.as_ref());
    }
    out
}

pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend(text);
}

pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
pub const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];

pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block(fields))
}

/// A GET with more fields.
pub fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, END_STREAM, &[GET, more].concat())
}

/// The head of a POST, its body to follow.
pub fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, 0, &[POST, more].concat())
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The fields of a HEADERS frame that touches no dynamic table.
    pub fn fields(&self) -> Vec<(String, String)> {
        fields(&self.payload)
    }

    /// Nothing follows that belongs to it: no CONTINUATION after this one.
    pub fn ends_block(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    pub fn status(&self) -> u16 {
        let fields = self.fields();
        fields.iter().find(|(name, _)| name == ":status").map_or(0, |(_, value)| value.parse().unwrap())
    }
}

/// One side of a connection.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

impl Peer {
    pub fn over(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, buffer: vec![], at: 0 }
    }

    /// A client that has sent its preface with these settings, and asks for no compression table.
    pub fn client(address: SocketAddr, settings: &[u8]) -> Peer {
        let mut peer = Peer::over(TcpStream::connect(address).unwrap());
        let first = frame(SETTINGS, 0, 0, [&setting(1, 0), settings].concat());
        peer.say([PREFACE, &first, &frame(SETTINGS, ACK, 0, "")].concat());
        peer
    }

    /// Whether it could be written: who is cut off reads on.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    fn fill(&mut self, length: usize) -> bool {
        while self.buffer.len() - self.at < length {
            if self.at > 1 << 20 {
                self.buffer.drain(..self.at);
                self.at = 0;
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(more) => self.buffer.extend_from_slice(&chunk[..more]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("nothing comes, and the connection is not closed: {error}"),
            }
        }
        true
    }

    /// Skips a client's preface.
    pub fn take_preface(&mut self) -> bool {
        let whole = self.fill(PREFACE.len());
        self.at += if whole { PREFACE.len() } else { 0 };
        whole
    }

    /// Nothing at the end of the connection.
    pub fn next(&mut self) -> Option<Frame> {
        if !self.fill(9) {
            return None;
        }
        let head: [u8; 9] = self.buffer[self.at..self.at + 9].try_into().unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if !self.fill(9 + length) {
            return None;
        }
        let payload = self.buffer[self.at + 9..self.at + 9 + length].to_vec();
        self.at += 9 + length;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// What has come so far, without waiting.
    pub fn arrived(&mut self) -> Vec<Frame> {
        let mut all = vec![];
        let mut chunk = [0; 65536];
        self.stream.set_nonblocking(true).unwrap();
        while let Ok(more @ 1..) = self.stream.read(&mut chunk) {
            self.buffer.extend_from_slice(&chunk[..more]);
        }
        self.stream.set_nonblocking(false).unwrap();
        while let Some([high, middle, low]) = self.buffer.get(self.at..self.at + 3) {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if self.buffer.len() - self.at < 9 + length {
                break;
            }
            all.extend(self.next());
        }
        all
    }

    /// All frames up to the end.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The first of those this is true for; nothing at the end.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| wanted(frame))
    }

    /// Whether the connection is in order: a request is answered.
    pub fn serves(&mut self, stream: u32) -> bool {
        self.say(get(stream, &[]));
        let answer =
            self.until(|frame| frame.kind == HEADERS && frame.stream == stream || frame.kind == GOAWAY);
        answer.is_some_and(|frame| frame.kind == HEADERS && frame.status() == 200)
    }
}

fn integer(bytes: &mut &[u8], bits: u32) -> usize {
    let most = (1usize << bits) - 1;
    let mut value = usize::from(bytes[0]) & most;
    *bytes = &bytes[1..];
    if value == most {
        let mut shift = 0;
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value += usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
    }
    value
}

fn string(bytes: &mut &[u8]) -> String {
    assert_eq!(bytes[0] & 128, 0, "no Huffman code is expected of this proxy");
    let length = integer(bytes, 7);
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    String::from_utf8_lossy(text).into_owned()
}

fn fields(block: &[u8]) -> Vec<(String, String)> {
    let mut rest = block;
    let mut all = vec![];
    while let Some(first) = rest.first().copied() {
        if first & 0x80 != 0 {
            let (name, value) = STATIC[integer(&mut rest, 7)];
            all.push((name.to_owned(), value.to_owned()));
        } else if first & 0xe0 == 0x20 {
            integer(&mut rest, 5);
        } else {
            let index = integer(&mut rest, if first & 0x40 != 0 { 6 } else { 4 });
            let name = if index == 0 { string(&mut rest) } else { STATIC[index].0.to_owned() };
            all.push((name, string(&mut rest)));
        }
    }
    all
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 62] = [
    ("", ""),
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
