//! One end of an HTTP/2 connection, with its socket, told what to do step by step.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::h1::{Edits, HeadStorage, Limits, Scheme, parse_request};
use wire::h2::{Config, Connection, ErrorCode, Event, OpenError, Scratch, Stream, Trailers};

use crate::common::{PATIENCE, eventually};

/// What the other end did. Fields as `name: value` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Request { stream: Stream, head: String, end: bool },
    Response { stream: Stream, status: u16, head: String, end: bool },
    Data { stream: Stream, bytes: Vec<u8>, end: bool },
    Trailers { stream: Stream, lines: String },
    Reset { stream: Stream, code: ErrorCode },
    GoAway(ErrorCode),
    Settings,
}

impl Seen {
    pub fn stream(&self) -> Stream {
        match self {
            Seen::Request { stream, .. }
            | Seen::Response { stream, .. }
            | Seen::Data { stream, .. }
            | Seen::Trailers { stream, .. }
            | Seen::Reset { stream, .. } => *stream,
            other => panic!("of no stream: {other:?}"),
        }
    }

    /// The head of a request or response.
    pub fn head(&self) -> &str {
        match self {
            Seen::Request { head, .. } | Seen::Response { head, .. } => head,
            other => panic!("no head: {other:?}"),
        }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head().lines().find_map(|line| line.strip_prefix(&prefix))
    }
}

pub struct Peer {
    socket: TcpStream,
    pub codec: Connection,
    scratch: Scratch,
    seen: VecDeque<Seen>,
    began: Instant,
    /// Bodies are read on as they come; off, the reader stalls.
    pub reads: bool,
    /// What a stalled reader has not taken.
    pub unread: usize,
    ended: bool,
}

/// An answer to a call: what a client gets to see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Peer {
        Peer::connect_with(address, Config::default())
    }

    pub fn connect_with(address: SocketAddr, config: Config) -> Peer {
        let socket = TcpStream::connect(address).unwrap();
        Peer::over(socket, Connection::client(Arc::new(config), Duration::ZERO))
    }

    /// The server's end of the next connection.
    pub fn accept(listener: &TcpListener, config: Config) -> Peer {
        listener.set_nonblocking(true).unwrap();
        let mut socket = None;
        eventually("a connection to the host", || {
            socket = listener.accept().ok().map(|(socket, _)| socket);
            socket.is_some()
        });
        let socket = socket.unwrap();
        socket.set_nonblocking(false).unwrap();
        Peer::over(socket, Connection::server(Arc::new(config), Duration::ZERO))
    }

    /// The server's end of a connection on which these bytes have come.
    pub fn serve(socket: TcpStream, came: &[u8], config: Config) -> Peer {
        let mut peer = Peer::over(socket, Connection::server(Arc::new(config), Duration::ZERO));
        peer.take(came);
        peer.flush();
        peer
    }

    fn over(socket: TcpStream, codec: Connection) -> Peer {
        socket.set_nodelay(true).unwrap();
        let mut peer = Peer {
            socket,
            codec,
            scratch: Scratch::new(),
            seen: VecDeque::new(),
            began: Instant::now(),
            reads: true,
            unread: 0,
            ended: false,
        };
        peer.flush();
        peer
    }

    /// Opens a stream for a request written as HTTP/1 has it.
    pub fn open(&mut self, head: &str, end: bool) -> Stream {
        self.try_open(head, end).unwrap()
    }

    pub fn try_open(&mut self, head: &str, end: bool) -> Result<Stream, OpenError> {
        let mut storage = HeadStorage::new();
        parse_request(head.as_bytes(), &mut storage, &Limits::default()).unwrap().unwrap();
        let head = storage.request(head.as_bytes());
        let stream = self.codec.open(&head, &Edits::new(), Scheme::Http, end, 0);
        self.flush();
        stream
    }

    pub fn respond(&mut self, stream: Stream, status: u16, lines: &str, end: bool) {
        self.codec.respond_parts(stream, status, lines.as_bytes(), end).unwrap();
        self.flush();
    }

    pub fn data(&mut self, stream: Stream, bytes: &[u8], end: bool) {
        self.codec.data(stream, bytes, end).unwrap();
        self.flush();
    }

    pub fn trailers(&mut self, stream: Stream, lines: &str) {
        let section = format!("{lines}\r\n");
        self.codec.trailers(stream, &Trailers::from_section(section.as_bytes())).unwrap();
        self.flush();
    }

    pub fn reset(&mut self, stream: Stream, code: ErrorCode) {
        self.codec.reset(stream, code);
        self.flush();
    }

    /// Sends all that may be sent; reading meanwhile if the other end does not.
    pub fn flush(&mut self) {
        while !self.codec.output().is_empty() {
            self.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            match self.socket.write(self.codec.output()) {
                Ok(sent) => self.codec.sent(sent),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.read(Duration::from_millis(1));
                }
                Err(_) => return,
            }
            self.take(&[]);
        }
    }

    /// What comes next of a stream; what comes of others stays.
    pub fn next_of(&mut self, of: Stream) -> Seen {
        self.first(|seen| !matches!(seen, Seen::GoAway(_) | Seen::Settings) && seen.stream() == of)
    }

    /// The next request.
    pub fn request(&mut self) -> Seen {
        self.first(|seen| matches!(seen, Seen::Request { .. }))
    }

    /// The connection ends, and no request comes before.
    pub fn end(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.ended {
            assert!(Instant::now() < until, "the connection does not end");
            self.poll(Duration::from_millis(20));
        }
        assert!(!self.seen.iter().any(|seen| matches!(seen, Seen::Request { .. })), "{:?}", self.seen);
    }

    fn first(&mut self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.iter().position(&wanted) {
                return self.seen.remove(at).unwrap();
            }
            assert!(!self.ended, "the connection ended; seen: {:?}", self.seen);
            assert!(Instant::now() < until, "it does not come; seen: {:?}", self.seen);
            self.read(Duration::from_millis(100));
            self.flush();
        }
    }

    /// Whatever has come up to now, without waiting for more than `wait`.
    pub fn poll(&mut self, wait: Duration) {
        self.read(wait);
        self.flush();
    }

    /// Body of a stream up to so many bytes, or its end.
    pub fn body(&mut self, stream: Stream, length: usize) -> Vec<u8> {
        let mut body = vec![];
        while body.len() < length {
            match self.next_of(stream) {
                Seen::Data { bytes, end, .. } => {
                    body.extend(bytes);
                    if end {
                        return body;
                    }
                }
                other => panic!("no body: {other:?}"),
            }
        }
        body
    }

    /// So many bytes of a stream's body; what comes beyond them stays.
    pub fn body_exactly(&mut self, stream: Stream, length: usize) -> Vec<u8> {
        let mut body = vec![];
        while body.len() < length {
            match self.next_of(stream) {
                Seen::Data { bytes, end, .. } => {
                    body.extend(bytes);
                    let rest = body.split_off(length.min(body.len()));
                    if !rest.is_empty() || end {
                        self.seen.push_front(Seen::Data { stream, bytes: rest, end });
                        assert_eq!(body.len(), length, "it ended early");
                    }
                }
                other => panic!("no body: {other:?}"),
            }
        }
        body
    }

    /// The bytes of body seen of a stream and not asked for.
    pub fn drain_seen(&mut self, of: Stream) -> usize {
        let mut count = 0;
        self.seen.retain(|seen| match seen {
            Seen::Data { stream, bytes, .. } if *stream == of => {
                count += bytes.len();
                false
            }
            _ => true,
        });
        count
    }

    /// The whole answer to a request.
    pub fn answer(&mut self, stream: Stream) -> Call {
        let mut call = Call::default();
        loop {
            match self.next_of(stream) {
                Seen::Response { status: 100..=199, .. } => {}
                Seen::Response { status, head, end, .. } => {
                    (call.status, call.head) = (status, head);
                    if end {
                        return call;
                    }
                }
                Seen::Data { bytes, end, .. } => {
                    call.body.extend(bytes);
                    if end {
                        return call;
                    }
                }
                Seen::Trailers { lines, .. } => {
                    call.trailers = lines;
                    return call;
                }
                other => panic!("no answer: {other:?}"),
            }
        }
    }

    fn read(&mut self, wait: Duration) {
        let mut buffer = vec![0; 64 * 1024];
        self.socket.set_read_timeout(Some(wait)).unwrap();
        match self.socket.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => self.take(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.ended = true,
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let event = match self.codec.next(&mut bytes, &mut self.scratch, self.began.elapsed()) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => panic!("the proxy breaks HTTP/2: {error}"),
            };
            let lines = |fields: wire::h1::Fields<'_>| {
                fields.fold(String::new(), |text, field| {
                    let (name, value) =
                        (String::from_utf8_lossy(field.name), String::from_utf8_lossy(field.value));
                    text + &format!("{name}: {value}\n")
                })
            };
            let seen = match event {
                Event::Request { stream, head, end } => {
                    let line = format!(
                        "{} {}\n",
                        String::from_utf8_lossy(head.method()),
                        String::from_utf8_lossy(head.path())
                    );
                    Seen::Request { stream, head: line + &lines(head.fields()), end }
                }
                Event::Response { stream, head, end, .. } => {
                    Seen::Response { stream, status: head.status(), head: lines(head.fields()), end }
                }
                Event::Data { stream, bytes, end, .. } => {
                    let bytes = bytes.to_vec();
                    if self.reads {
                        self.codec.consume(stream, bytes.len());
                    } else {
                        self.unread += bytes.len();
                    }
                    Seen::Data { stream, bytes, end }
                }
                Event::Trailers { stream, trailers, .. } => {
                    let text = String::from_utf8_lossy(trailers.section()).replace("\r\n", "\n");
                    Seen::Trailers { stream, lines: text.trim_end().to_owned() }
                }
                Event::Reset { stream, code, .. } => Seen::Reset { stream, code },
                Event::GoAway { code, .. } => Seen::GoAway(code),
                Event::Settings => Seen::Settings,
                Event::Refused { id, reject } => panic!("stream {id} is refused: {reject:?}"),
                Event::Writable { .. } | Event::Pong => continue,
            };
            self.seen.push_back(seen);
        }
    }
}
