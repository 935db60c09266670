//! A client's HTTP/1 connection: its bytes cut into messages.

use model::http_connection::Codec;
use wire::h1::{BodyFraming, BodyReader, Limits, PartialHead, parse_request};
use wire::h2::PREFACE;

use crate::exchange::sides::ClientSide;
use crate::exchange::{Ending, Exchange, Progress, Tunnel};
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::{Client, Conn, Downstream, Reading};
use crate::worker::inbox::Inbox;

/// Requests sent ahead of their turn are kept up to this many bytes; then the client is not read.
const AHEAD_LIMIT: usize = 64 * 1024;

impl Worker {
    /// A client's connection that speaks HTTP/1 until it says otherwise.
    pub(crate) fn start_h1(&mut self, key: Key, client: Client) {
        let down = Downstream {
            body: BodyReader::request(BodyFraming::None, &client.http.limits),
            client,
            state: Reading::Head,
            exchange: None,
            inbox: Inbox::default(),
            partial: PartialHead::default(),
            head_began: None,
        };
        self.put(key, Conn::Downstream(Box::new(down)));
        self.arm_downstream(key);
    }

    /// Bytes came (none: kept ones may be read on).
    pub(crate) fn downstream_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(down) = self.downstream(key) else { return };
        let mut kept = std::mem::take(&mut down.inbox);
        if kept.is_empty() {
            let used = self.cut(key, bytes);
            kept.push(bytes.get(used..).unwrap_or_default());
        } else {
            kept.push(bytes);
            let used = self.cut(key, kept.rest());
            kept.take(used);
        }
        let Some(down) = self.downstream(key) else { return };
        down.inbox = kept;
        if self.client_must_wait(key) {
            self.sockets.pause(key);
        }
    }

    /// Whether a client of HTTP/1 is not to be read: it is far ahead of its answers, or does not read them.
    pub(crate) fn client_must_wait(&self, key: Key) -> bool {
        let ahead = matches!(self.conns.get(key), Some(Conn::Downstream(down)) if down.reading_ahead());
        ahead || self.client_is_unread(key)
    }

    /// More waits for the client than it may: no next request is begun, whose answer would wait too, until it has read
    /// ([`Worker::drained`]).
    fn client_is_unread(&self, key: Key) -> bool {
        match self.conns.get(key) {
            Some(Conn::Downstream(down)) if down.state == Reading::Head => {
                self.sockets.backlog(key) > self.ration().min(down.client.bound())
            }
            _ => false,
        }
    }

    /// Goes through the bytes message by message and says how many it is done with.
    fn cut(&mut self, key: Key, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(down) = self.downstream(key) else { return bytes.len() };
            let state = down.state;
            match state {
                Reading::Head if self.client_is_unread(key) => return at,
                Reading::Head if !rest.is_empty() && self.turn_is_used_up() => {
                    self.read_later(key);
                    return at;
                }
                Reading::Head => match self.cut_head(key, rest) {
                    0 => return at,
                    used => at += used,
                },
                Reading::Body if rest.is_empty() => return at,
                Reading::Body => at += self.cut_body(key, rest),
                Reading::Waiting => return at,
            }
        }
    }

    /// A head, and what of its body lies right behind it, so that both leave together. 0: not complete yet.
    fn cut_head(&mut self, key: Key, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let generation = self.snapshot.generation;
        if self.client(key).is_some_and(|client| client.generation != generation) {
            self.pick_chain_anew(key);
        }
        let Some(down) = self.downstream(key) else { return bytes.len() };
        if down.client.requests == 0 {
            match self.first_bytes(key, bytes) {
                First::Http1 => {}
                First::Http2 => return bytes.len(),
                First::Undecided => {
                    self.head_incomplete(key, PartialHead::default());
                    return 0;
                }
            }
        }
        let (mut exchange, length) = match self.read_head(key, bytes) {
            Ok(read) => read,
            Err(used) => return used,
        };
        let Some(limits) = self.client(key).map(|client| client.http.limits) else { return bytes.len() };
        exchange.request.received_head = length as u64;
        let head = exchange.head_storage.request(&exchange.head);
        // What follows a CONNECT or an upgrade waits for the tunnel, and no host sees it before it has granted that, whatever
        // its length was said to be (as Envoy). Without a tunnel it is never a request, for the client believed itself in the
        // tunnel (Envoy CVE-2025-64763, bad inputs U-04, nghttpx CVE-2026-58055).
        exchange.tunnel = Tunnel::asked_by(&head);
        let tunnel = exchange.tunnel != Tunnel::No;
        let framing = if tunnel { BodyFraming::None } else { head.framing() };
        let mut body = BodyReader::request(framing, &limits);
        let last = tunnel || !head.keep_alive();
        let rest = bytes.get(length..).unwrap_or_default();
        let advance = match body.advance(rest) {
            Ok(advance) => advance,
            Err(reject) => {
                self.refuse_head(key, exchange, &reject);
                return bytes.len();
            }
        };
        exchange.request.progress = Progress::of(advance.done);
        exchange.request.received = body.payload();
        let consumed = length + advance.consumed;
        let Some(down) = self.downstream(key) else { return bytes.len() };
        down.head_began = None;
        down.client.begin_request();
        if down.client.requests == 1 {
            let stats = down.client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_cx_http1_total);
        }
        let Some(down) = self.downstream(key) else { return bytes.len() };
        down.client.last |= last;
        down.body = body;
        down.state = if advance.done { Reading::Waiting } else { Reading::Body };
        // With a body there is no switch: HTTP/2 has no place for a body that came before it.
        if advance.done && advance.consumed == 0 && self.upgrade_to_h2(key, &mut exchange) {
            self.request(key, exchange, &[]);
            self.h2_client_bytes(key, bytes.get(consumed..).unwrap_or_default());
            return bytes.len();
        }
        let Some(down) = self.downstream(key) else { return bytes.len() };
        let first = rest.get(..advance.forward).unwrap_or_default();
        if advance.tail {
            let mut whole = first.to_vec();
            whole.extend_from_slice(down.body.tail());
            self.request(key, exchange, &whole);
        } else {
            self.request(key, exchange, first);
        }
        consumed
    }

    /// Reads a head into a new exchange, and says how long it is. An error: there is none, and so many bytes are done with.
    fn read_head(&mut self, key: Key, bytes: &[u8]) -> Result<(Box<Exchange>, usize), usize> {
        let now = self.now;
        let Some(down) = self.downstream(key) else { return Err(bytes.len()) };
        let (limits, began, mut partial) = (down.client.http.limits, down.head_began, down.partial);
        let mut exchange = self.exchanges.blank(ClientSide::H1(key), began.unwrap_or(now));
        let reject = match partial.request(bytes, &mut exchange.head_storage, &limits) {
            Ok(Some(length)) => {
                exchange.head.extend_from_slice(bytes.get(..length).unwrap_or_default());
                if let Some(down) = self.downstream(key) {
                    down.partial = partial;
                }
                return Ok((exchange, length));
            }
            Ok(None) => {
                self.exchanges.recycle(exchange);
                self.head_incomplete(key, partial);
                return Err(0);
            }
            Err(reject) => reject,
        };
        let client = self.conns.get(key).and_then(Conn::client);
        let host = client.and_then(|client| client.http.settings.http1.default_host_for_http_10.clone());
        if let Some(length) = host.and_then(|host| parse_with_host(bytes, &host, &limits, &mut exchange)) {
            if let Some(down) = self.downstream(key) {
                down.partial = partial;
            }
            return Ok((exchange, length));
        }
        if self.is_not_http(key, bytes) {
            exchange.ending = Ending::Broken;
        }
        self.refuse_head(key, exchange, &reject);
        Err(bytes.len())
    }

    /// Whether a connection that may speak either HTTP begins with a line as long as a request's that names no version of
    /// it: whoever sent it would not understand an answer in HTTP/1 (a mistaken preface, RFC 9113 §3.4; the header of
    /// the PROXY protocol).
    fn is_not_http(&mut self, key: Key, bytes: &[u8]) -> bool {
        // A line that is not whole may still name it.
        let Some(end) = memchr::memchr(b'\n', bytes) else { return false };
        let line = bytes.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = self
            .downstream(key)
            .is_some_and(|down| down.client.requests == 0 && down.client.http.settings.codec == Codec::Auto);
        first
            && line.iter().all(|byte| (b' '..=b'~').contains(byte))
            && memchr::memchr_iter(b' ', line).count() >= 2
            && !line.windows(5).any(|text| text.eq_ignore_ascii_case(b"HTTP/"))
    }

    /// What the first bytes of a connection speak; HTTP/2 goes on as such.
    fn first_bytes(&mut self, key: Key, bytes: &[u8]) -> First {
        let Some(down) = self.downstream(key) else { return First::Http2 };
        let http = down.client.http.clone();
        if http.settings.codec == Codec::Auto && bytes.first() == PREFACE.first() {
            let length = bytes.len().min(PREFACE.len());
            if bytes.get(..length) == PREFACE.get(..length) {
                if length < PREFACE.len() {
                    return First::Undecided;
                }
                let Some(conn) = self.conns.get_mut(key) else { return First::Http2 };
                if let Conn::Downstream(down) = std::mem::take(conn) {
                    self.start_h2(key, down.client);
                    self.h2_client_bytes(key, bytes);
                }
                return First::Http2;
            }
        }
        First::Http1
    }

    fn head_incomplete(&mut self, key: Key, partial: PartialHead) {
        let now = self.now;
        let Some(down) = self.downstream(key) else { return };
        down.partial = partial;
        if down.head_began.is_none() {
            down.head_began = Some(now);
            self.arm_downstream(key);
        }
    }

    /// More of a request's body.
    fn cut_body(&mut self, key: Key, bytes: &[u8]) -> usize {
        let now = self.now;
        let Some(down) = self.downstream(key) else { return bytes.len() };
        let Some(id) = down.exchange else { return bytes.len() };
        let advance = match down.body.advance(bytes) {
            Ok(advance) => advance,
            Err(reject) => {
                self.request_body_refused(key, id, &reject);
                return bytes.len();
            }
        };
        let tail = if advance.tail { down.body.tail().to_vec() } else { vec![] };
        let payload = down.body.payload();
        if advance.done {
            down.state = Reading::Waiting;
        }
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.request.received = payload;
            exchange.request.progress = Progress::of(advance.done);
            if advance.done {
                exchange.times.request_ended = now;
            }
        }
        self.forward_request(id, bytes.get(..advance.forward).unwrap_or_default(), &tail);
        if advance.done {
            self.request_complete(id);
        }
        if advance.consumed == 0 && !advance.done {
            // A reader that takes nothing of something would be asked for ever.
            self.downstream_gone(key);
            return bytes.len();
        }
        advance.consumed
    }

    /// The client has ended its direction. As Envoy does, an HTTP connection half closed is closed; only a tunnel may
    /// go on one way.
    pub(crate) fn downstream_ended(&mut self, key: Key) {
        let Some(down) = self.downstream(key) else { return };
        if let Some(id) = down.exchange
            && self.exchanges.get(id).is_some_and(|exchange| exchange.tunnel.is_open())
        {
            self.client_half_closed(id);
            return;
        }
        self.downstream_gone(key);
    }

    /// The client is gone; what it asked for is given up.
    pub(crate) fn downstream_gone(&mut self, key: Key) {
        let Some(down) = self.downstream(key) else { return };
        match down.exchange {
            Some(id) => self.client_left(id),
            None => self.close_downstream(key),
        }
    }

    /// The connection ends between two requests: closed as soon as the last answer is written.
    pub(crate) fn end_downstream(&mut self, key: Key) {
        if let Some(client) = self.conns.get(key).and_then(Conn::client) {
            client.http.closed(&self.telemetry);
        }
        self.close_written(key);
    }

    /// Closed now. Nothing stands at the socket any more, so that whatever comes to it in the same turn (a flush of what it
    /// had to say, the end of the peer's direction) can not close it, and count it closed, once more.
    pub(crate) fn close_downstream(&mut self, key: Key) {
        if let Some(client) = self.conns.get(key).and_then(Conn::client) {
            client.http.closed(&self.telemetry);
            self.stirred.connection();
            self.put(key, Conn::Vacant);
        }
        self.sockets.close(key);
    }

    /// The exchange is over and the connection lives on: the next request may be read.
    pub(crate) fn next_request(&mut self, key: Key) {
        let Some(down) = self.downstream(key) else { return };
        down.state = Reading::Head;
        down.exchange = None;
        self.arm_downstream(key);
        self.read_client_next(key);
    }

    /// The client's next request may be read, what was kept of it first, once the client has read what waits for it.
    pub(crate) fn read_client_next(&mut self, key: Key) {
        if self.client_is_unread(key) {
            self.sockets.pause(key);
            return;
        }
        if self.downstream(key).is_some_and(|down| !down.inbox.is_empty()) {
            self.continued.push(key);
        }
        self.resume(key);
    }
}

/// Reads an HTTP/1.0 request without Host as if it had named this one (Envoy: `default_host_for_http_10`): how much of the
/// bytes its head is. `None` if that is not what it lacks.
#[cold]
fn parse_with_host(bytes: &[u8], host: &str, limits: &Limits, exchange: &mut Exchange) -> Option<usize> {
    let line = memchr::memmem::find(bytes, b" HTTP/1.0\r\n")? + b" HTTP/1.0\r\n".len();
    let (line, rest) = bytes.split_at_checked(line)?;
    // Empty lines may come first (RFC 9112 §2.2).
    let blank = line.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if memchr::memchr(b'\n', line.get(blank..)?)? + blank + 1 != line.len() {
        return None;
    }
    let whole = [line, b"host: ", host.as_bytes(), b"\r\n", rest].concat();
    let length = parse_request(&whole, &mut exchange.head_storage, limits).ok()??;
    exchange.head.clear();
    exchange.head.extend_from_slice(whole.get(..length)?);
    length.checked_sub(whole.len() - bytes.len())
}

/// What a connection turns out to speak.
enum First {
    Http1,
    Http2,
    Undecided,
}

impl Downstream {
    fn reading_ahead(&self) -> bool {
        self.state == Reading::Waiting && self.inbox.len() > AHEAD_LIMIT
    }

    /// Bytes lie here that no request is made of yet.
    pub(crate) fn has_kept(&self) -> bool {
        self.state == Reading::Head && !self.inbox.is_empty()
    }
}
