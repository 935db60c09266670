//! A client that speaks HTTP/2 by prior knowledge, one connection, blocking.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::h1::{HeadStorage, Limits, Scheme, parse_request};
use wire::h2::{Config, Connection, Event, RequestParts, Scratch, Stream};

pub struct H2Client {
    socket: TcpStream,
    codec: Connection,
    scratch: Scratch,
    answers: HashMap<Stream, Said>,
}

/// What came on a stream so far.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub status: u16,
    pub lines: String,
    pub body: Vec<u8>,
    pub end: bool,
    pub reset: bool,
}

impl Said {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.lines.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

impl H2Client {
    pub fn connect(address: SocketAddr) -> H2Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let codec = Connection::client(Arc::new(Config::default()), Duration::ZERO);
        H2Client { socket, codec, scratch: Scratch::new(), answers: HashMap::new() }
    }

    /// `lines`: fields, each ended by CRLF. CONNECT has its authority in `path`.
    pub fn open(&mut self, method: &str, path: &str, lines: &str, end: bool) -> Stream {
        let authority = if method == "CONNECT" { path } else { "x" };
        let parts = RequestParts {
            method: method.as_bytes(),
            scheme: Scheme::Http,
            authority: authority.as_bytes(),
            path: path.as_bytes(),
            lines: lines.as_bytes(),
        };
        let stream = self.codec.open_parts(&parts, end, 1).unwrap();
        self.answers.insert(stream, Said::default());
        self.flush();
        stream
    }

    /// An HTTP/1 upgrade as an extended CONNECT (RFC 8441), once the peer has said that it takes one.
    pub fn upgrade(&mut self, text: &str) -> Stream {
        let mut storage = HeadStorage::new();
        parse_request(text.as_bytes(), &mut storage, &Limits::default()).unwrap().unwrap();
        let head = storage.request(text.as_bytes());
        loop {
            match self.codec.open(&head, &wire::h1::Edits::new(), Scheme::Http, false, 1) {
                Ok(stream) => {
                    self.answers.insert(stream, Said::default());
                    self.flush();
                    return stream;
                }
                Err(_) => self.turn(),
            }
        }
    }

    pub fn send(&mut self, stream: Stream, bytes: &[u8], end: bool) {
        self.codec.data(stream, bytes, end).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        while !self.codec.output().is_empty() {
            self.socket.write_all(self.codec.output()).unwrap();
            let length = self.codec.output().len();
            self.codec.sent(length);
        }
    }

    /// All of an answer.
    pub fn answer(&mut self, stream: Stream) -> Said {
        self.until(stream, |said| said.end || said.reset)
    }

    /// What came of an answer when `enough` holds.
    pub fn until(&mut self, stream: Stream, enough: impl Fn(&Said) -> bool) -> Said {
        let until = Instant::now() + Duration::from_secs(10);
        while !enough(&self.answers[&stream]) {
            assert!(Instant::now() < until, "no more than {:?}", self.answers[&stream]);
            self.turn();
        }
        self.answers[&stream].clone()
    }

    fn turn(&mut self) {
        self.flush();
        let mut buffer = vec![0; 65536];
        let length = self.socket.read(&mut buffer).expect("something to read");
        assert!(length > 0, "the connection ended");
        let mut bytes = &buffer[..length];
        while let Some(event) = self.codec.next(&mut bytes, &mut self.scratch, Duration::ZERO).unwrap() {
            let mut consumed = None;
            match event {
                Event::Response { stream, head, end, .. } => {
                    let said = self.answers.entry(stream).or_default();
                    said.status = head.status();
                    for field in head.fields() {
                        said.lines += &format!(
                            "{}: {}\n",
                            String::from_utf8_lossy(field.name),
                            String::from_utf8_lossy(field.value)
                        );
                    }
                    said.end = end;
                }
                Event::Data { stream, bytes, end, .. } => {
                    let said = self.answers.entry(stream).or_default();
                    said.body.extend_from_slice(bytes);
                    said.end = end;
                    consumed = Some((stream, bytes.len()));
                }
                Event::Trailers { stream, .. } => self.answers.entry(stream).or_default().end = true,
                Event::Reset { stream, .. } => self.answers.entry(stream).or_default().reset = true,
                _ => {}
            }
            if let Some((stream, length)) = consumed {
                self.codec.consume(stream, length);
            }
        }
        self.flush();
    }
}
