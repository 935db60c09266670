//! One connection: HTTP/2 by the data path's codec over a socket, with its streams, as one task.
//!
//! A task for each connection and no more: what wakes a stream, wakes the connection, which reads what has come, lets each
//! stream say what it has to say at that moment, and writes all of it at once. What an idle connection holds is some
//! 3 KiB (a heap profile of 1,000); hyper's server kept 28 of buffers alone.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use wire::h1::RequestHead;
use wire::h2::{self, Config, ErrorCode, Event, Scratch, Stream, Trailers};
use xds::delta_server::frame::Frame;
use xds::limits::{
    HEADER_BYTES, OUTPUT_BYTES, PING_EVERY, PING_TIMEOUT, STREAM_WINDOW, STREAMS_PER_CONNECTION,
};

use super::connections::{Admitted, Limits};
use super::protocol::Protocol;
use super::stream::{AdsStream, Output};
use super::{DELTA, STATE_OF_THE_WORLD, Server, grpc};

/// Read at a time.
const READ_BYTES: usize = 32 << 10;

/// A piece of a response that leaves without being gathered with others.
const LARGE: usize = 4 << 10;

/// What a turn needs and no connection keeps.
struct Workspace {
    read: Box<[u8]>,
    /// Small pieces of a response, which leave as one frame.
    gathered: Box<[u8]>,
    scratch: Scratch,
}

impl Workspace {
    fn new() -> Self {
        let of = |bytes| vec![0; bytes].into();
        Self { read: of(READ_BYTES), gathered: of(OUTPUT_BYTES), scratch: Scratch::new() }
    }
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> =
        RefCell::new(Workspace::new());
}

/// HTTP/2 as it is spoken to every peer.
pub(super) fn http2(limits: &Limits) -> Arc<Config> {
    let config = Config {
        max_concurrent_streams: STREAMS_PER_CONNECTION,
        stream_window: STREAM_WINDOW,
        connection_window: STREAM_WINDOW * 2,
        max_head: HEADER_BYTES,
        // A stream has one head; a table would be kept for nothing.
        encoder_table_size: 0,
        extended_connect: false,
        output_high_water: OUTPUT_BYTES,
        preface_timeout: limits.first_word,
        keepalive_interval: Some(PING_EVERY),
        keepalive_timeout: PING_TIMEOUT,
        ..Config::default()
    };
    Arc::new(config.bounded())
}

/// Ends when the connection has ended.
pub(super) struct Connection {
    socket: TcpStream,
    server: Arc<Server>,
    http2: h2::Connection,
    streams: Vec<Open>,
    /// Since when there is no stream; it is not ended while there is one.
    idle_since: Option<Instant>,
    /// Whether there ever was one.
    used: bool,
    /// It is over as soon as the output has left, and then at the latest.
    ending: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    _admitted: Admitted,
}

/// A stream that is open.
struct Open {
    id: Stream,
    ads: AdsStream,
    /// Of a response, what the peer's window or the socket has not let out yet.
    sending: Frame,
    /// Bytes that came and of which the peer was not told that it may send as many more.
    unconsumed: usize,
}

/// The other side is gone, or nothing can be said to it any more.
struct Lost;

impl Connection {
    pub(super) fn new(socket: TcpStream, server: Arc<Server>, admitted: Admitted) -> Self {
        let http2 = h2::Connection::server(server.http2.clone(), server.began.elapsed());
        Self {
            socket,
            server,
            http2,
            streams: Vec::new(),
            idle_since: Some(Instant::now()),
            used: false,
            ending: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            _admitted: admitted,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        loop {
            let read = WORKSPACE.with_borrow_mut(|workspace| self.read(cx, workspace))?;
            self.time();
            WORKSPACE.with_borrow_mut(|workspace| self.answer(cx, workspace));
            let wrote = self.write(cx)?;
            let late = |until: Instant| until <= Instant::now();
            if self.ending.is_some_and(|until| self.http2.output().is_empty() || late(until)) {
                return Err(Lost);
            }
            if !read && !wrote {
                return Ok(());
            }
        }
    }

    /// Takes in what has come, unless the peer does not take what it is sent. Whether something came.
    fn read(&mut self, cx: &mut Context<'_>, workspace: &mut Workspace) -> Result<bool, Lost> {
        if self.ending.is_some() || self.http2.output().len() > OUTPUT_BYTES {
            return Ok(false);
        }
        let mut buffer = ReadBuf::new(&mut workspace.read);
        let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, &mut buffer) else {
            return Ok(false);
        };
        if read.is_err() || buffer.filled().is_empty() {
            return Err(Lost);
        }
        self.received(buffer.filled(), &mut workspace.scratch);
        Ok(true)
    }

    /// Acts on what has come.
    fn received(&mut self, mut input: &[u8], scratch: &mut Scratch) {
        let now = self.server.began.elapsed();
        loop {
            match self.http2.next(&mut input, scratch, now) {
                Ok(Some(Event::Request { stream, head, end })) => self.request(stream, &head, end),
                Ok(Some(Event::Data { stream, bytes, end, .. })) => self.data(stream, bytes, end),
                Ok(Some(Event::Trailers { stream, .. })) => self.data(stream, &[], true),
                Ok(Some(Event::Reset { stream, .. })) => self.streams.retain(|open| open.id != stream),
                Ok(Some(_)) => {}
                Ok(None) => return,
                // The output says why.
                Err(_) => return self.end(),
            }
        }
    }

    fn request(&mut self, id: Stream, head: &RequestHead<'_>, end: bool) {
        self.used = true;
        let protocol = match head.path() {
            _ if head.method() != b"POST" => None,
            path if path == DELTA.as_bytes() => Some(Protocol::delta()),
            path if path == STATE_OF_THE_WORLD.as_bytes() => Some(Protocol::state_of_the_world()),
            _ => None,
        };
        let Some(protocol) = protocol else {
            let (status, lines) = match head.method() {
                b"POST" => {
                    (200, grpc::ended(grpc::code::UNIMPLEMENTED, "no such method; this is an xDS server"))
                }
                _ => (405, String::new()),
            };
            // A peer that has given the stream up already needs no answer.
            let _ = self.http2.respond_parts(id, status, lines.as_bytes(), true);
            self.http2.finish(id);
            return;
        };
        if self.http2.respond_parts(id, 200, grpc::HEAD.as_bytes(), false).is_err() {
            return;
        }
        let mut ads = AdsStream::new(self.server.clone(), protocol);
        if end {
            ads.close();
        }
        self.streams.push(Open { id, ads, sending: Frame::default(), unconsumed: 0 });
    }

    fn data(&mut self, id: Stream, bytes: &[u8], end: bool) {
        match self.streams.iter_mut().find(|open| open.id == id) {
            Some(open) => {
                open.ads.push(bytes);
                open.unconsumed += bytes.len();
                if end {
                    open.ads.close();
                }
            }
            // What is still sent on a stream that was answered is for nobody.
            None => self.http2.consume(id, bytes.len()),
        }
    }

    /// What time has brought.
    fn time(&mut self) {
        if self.http2.poll_timeouts(self.server.began.elapsed()).is_err() {
            self.end();
        }
        let unused = self.unused_at().is_some_and(|at| at <= Instant::now());
        if unused || self.http2.is_drained() {
            self.http2.leave_now(ErrorCode::NO_ERROR);
            self.end();
        }
    }

    fn end(&mut self) {
        self.ending.get_or_insert_with(|| Instant::now() + PING_TIMEOUT);
    }

    /// When it is ended for want of a stream.
    fn unused_at(&self) -> Option<Instant> {
        let limits = self.server.connections.limits();
        let patience = if self.used { limits.without_stream } else { limits.first_word };
        self.idle_since.map(|since| since + patience)
    }

    /// Lets every stream say what it has to say, as far as the peer takes it.
    fn answer(&mut self, cx: &mut Context<'_>, workspace: &mut Workspace) {
        let Self { streams, http2, .. } = self;
        streams.retain_mut(|open| open.answer(http2, &mut workspace.gathered, cx));
        match (self.streams.is_empty(), self.idle_since) {
            (true, None) => self.idle_since = Some(Instant::now()),
            (false, Some(_)) => self.idle_since = None,
            _ => {}
        }
    }

    /// Whether something was written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut any = false;
        while !self.http2.output().is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, self.http2.output()) {
                Poll::Pending => break,
                Poll::Ready(Ok(many)) if many > 0 => {
                    any = true;
                    self.http2.sent(many);
                }
                Poll::Ready(_) => return Err(Lost),
            }
        }
        Ok(any)
    }

    /// Has the task woken when something becomes due. A timer that fires too early costs less than one set anew each time.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let due = self.streams.iter().filter_map(|open| open.ads.due()).min();
        let http2 = self.http2.deadline().map(|at| self.server.began + at);
        let Some(next) = [due, http2, self.unused_at(), self.ending].into_iter().flatten().min() else {
            return;
        };
        if self.armed.is_none_or(|armed| next < armed) {
            self.timer.as_mut().reset(next.into());
            self.armed = Some(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(next.max(Instant::now() + Duration::from_millis(1)).into());
            self.armed = Some(next);
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        if connection.turn(cx).is_err() {
            return Poll::Ready(());
        }
        connection.http2.release_memory();
        connection.arm(cx);
        Poll::Pending
    }
}

impl Open {
    /// `false`: the stream has ended.
    fn answer(&mut self, http2: &mut h2::Connection, gathered: &mut [u8], cx: &mut Context<'_>) -> bool {
        loop {
            while !self.sending.is_empty() {
                let room = http2.send_capacity(self.id).min(gathered.len());
                if room == 0 {
                    break;
                }
                let chunk = self.sending.chunk();
                let sent = if chunk.len() >= LARGE {
                    let many = room.min(chunk.len());
                    let sent = http2.data(self.id, chunk.get(..many).unwrap_or_default(), false);
                    self.sending.advance(many);
                    sent
                } else {
                    let many = self.sending.fill(gathered.get_mut(..room).unwrap_or_default());
                    http2.data(self.id, gathered.get(..many).unwrap_or_default(), false)
                };
                if sent.is_err() {
                    return false;
                }
            }
            // A slow reader holds one response at most; what it gets next is the newest there is then.
            let said = if self.sending.is_empty() { self.ads.poll(cx) } else { None };
            if self.unconsumed > 0 && self.ads.takes_more() {
                http2.consume(self.id, std::mem::take(&mut self.unconsumed));
            }
            match said {
                Some(Output::Response(frame)) => self.sending = frame,
                Some(Output::End(code, reason)) => {
                    let lines = format!("{}\r\n", grpc::status(code, &reason));
                    let _ = http2.trailers(self.id, &Trailers::from_section(lines.as_bytes()));
                    http2.finish(self.id);
                    return false;
                }
                None => return true,
            }
        }
    }
}
