//! Frames by hand, and one side of a connection that writes down what it is told.

use std::{sync::Arc, time::Duration};

use wire::h2::{By, Config, Connection, ConnectionError, ErrorCode, Event, PREFACE, Scratch, Stream};

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
pub const PRIO: u8 = 0x20;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A field block of literals that touch no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![];
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend(text.bytes());
        }
    }
    out
}

fn integer(out: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block(fields))
}

/// `GET /` with more fields.
pub fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, END_STREAM, &[GET, more].concat())
}

/// The head of a `POST /` with a body to follow.
pub fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, 0, &[POST, more].concat())
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// One end of a connection, and all that happened at it.
pub struct End {
    pub connection: Connection,
    pub scratch: Scratch,
    pub log: Vec<String>,
    pub streams: Vec<Stream>,
    pub now: Duration,
    pub consume: bool,
}

impl End {
    /// A server whose client has said its preface and settings, its own first output read.
    pub fn server(config: Config) -> End {
        let mut end = End::raw_server(config);
        end.feed(&[&PREFACE[..], &frame(SETTINGS, 0, 0, []), &frame(SETTINGS, ACK, 0, [])].concat()).unwrap();
        end.said();
        end.log.clear();
        end
    }

    pub fn raw_server(config: Config) -> End {
        End::new(Connection::server(Arc::new(config), Duration::ZERO))
    }

    /// A client whose server has said its settings.
    pub fn client(config: Config) -> End {
        let mut end = End::raw_client(config);
        let settings = [setting(3, 1000), setting(8, 1)].concat();
        end.feed(&[frame(SETTINGS, 0, 0, settings), frame(SETTINGS, ACK, 0, [])].concat()).unwrap();
        end.said();
        end.log.clear();
        end
    }

    pub fn raw_client(config: Config) -> End {
        End::new(Connection::client(Arc::new(config), Duration::ZERO))
    }

    fn new(connection: Connection) -> End {
        End {
            connection,
            scratch: Scratch::new(),
            log: vec![],
            streams: vec![],
            now: Duration::ZERO,
            consume: true,
        }
    }

    /// What came of some bytes, appended to the log.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut input = bytes;
        loop {
            let event = match self.connection.next(&mut input, &mut self.scratch, self.now) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    assert!(input.is_empty(), "all input is taken");
                    return Ok(());
                }
                Err(error) => {
                    self.log.push(format!("closed {}", error.code));
                    return Err(error);
                }
            };
            self.log.push(spell(&event));
            match event {
                Event::Request { stream, .. } => self.streams.push(stream),
                Event::Data { stream, bytes, .. } if self.consume => {
                    self.connection.consume(stream, bytes.len())
                }
                _ => {}
            }
        }
    }

    /// The events of some bytes alone.
    pub fn events(&mut self, bytes: &[u8]) -> Vec<String> {
        self.log.clear();
        let _ = self.feed(bytes);
        std::mem::take(&mut self.log)
    }

    /// The frames in the output, which counts as sent.
    pub fn said(&mut self) -> Vec<String> {
        let out = self.connection.output().to_vec();
        self.connection.sent(out.len());
        frames(&out)
    }

    pub fn stream(&self, id: u32) -> Stream {
        *self.streams.iter().find(|stream| stream.id() == id).unwrap()
    }
}

fn spell(event: &Event<'_>) -> String {
    let end = |end: bool| if end { " end" } else { "" };
    match event {
        Event::Request { stream, head, end: ended } => format!(
            "request {} {} {} {} {:?}{}{}",
            stream.id(),
            head.method().escape_ascii(),
            head.path().escape_ascii(),
            head.authority().escape_ascii(),
            head.framing(),
            fields(head),
            end(*ended),
        ),
        Event::Response { stream, head, end: ended, .. } => format!(
            "response {} {} {:?}{}{}",
            stream.id(),
            head.status(),
            head.framing(),
            fields(head),
            end(*ended)
        ),
        Event::Data { stream, bytes, end: ended, .. } => {
            format!("data {} {}{}", stream.id(), bytes.escape_ascii(), end(*ended))
        }
        Event::Trailers { stream, trailers, .. } => {
            format!("trailers {} {}", stream.id(), trailers.section().escape_ascii())
        }
        Event::Reset { stream, code, by, .. } => {
            let by = match by {
                By::Peer => "peer",
                By::GoAway => "goaway",
                By::Here(_) => "here",
            };
            format!("reset {} {code} {by}", stream.id())
        }
        Event::Refused { id, reject } => format!("refused {id} {} {}", reject.status, reject.details),
        Event::Writable { stream, .. } => format!("writable {}", stream.id()),
        Event::Settings => "settings".to_owned(),
        Event::GoAway { last, code } => format!("goaway {last} {code}"),
        Event::Pong => "pong".to_owned(),
    }
}

fn fields(head: &wire::h1::Head<'_>) -> String {
    head.fields()
        .map(|field| format!(" {}={}", field.name.escape_ascii(), field.value.escape_ascii()))
        .collect()
}

/// Frames taken apart.
pub fn split(mut out: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    if let Some(rest) = out.strip_prefix(PREFACE) {
        out = rest;
    }
    let mut frames = vec![];
    while !out.is_empty() {
        let length = u32::from_be_bytes([0, out[0], out[1], out[2]]) as usize;
        let stream = u32::from_be_bytes([out[5], out[6], out[7], out[8]]);
        frames.push((out[3], out[4], stream, out[9..9 + length].to_vec()));
        out = &out[9 + length..];
    }
    frames
}

/// Frames in words.
pub fn frames(out: &[u8]) -> Vec<String> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    split(out)
        .into_iter()
        .map(|(kind, flags, stream, payload)| match kind {
            DATA => format!("DATA {stream} {}{}", payload.len(), if flags & 1 != 0 { " end" } else { "" }),
            HEADERS => format!("HEADERS {stream}{}", if flags & 1 != 0 { " end" } else { "" }),
            RST_STREAM => format!("RST_STREAM {stream} {}", ErrorCode(word(&payload))),
            SETTINGS if flags & 1 != 0 => "SETTINGS ack".to_owned(),
            SETTINGS => "SETTINGS".to_owned(),
            PING if flags & 1 != 0 => "PING ack".to_owned(),
            PING => "PING".to_owned(),
            GOAWAY => format!("GOAWAY {} {}", word(&payload), ErrorCode(word(&payload[4..]))),
            WINDOW_UPDATE => format!("WINDOW_UPDATE {stream} {}", word(&payload)),
            CONTINUATION => "CONTINUATION".to_owned(),
            other => panic!("a frame of type {other}"),
        })
        .collect()
}
