//! The verbs of an exchange towards its host, in which the host's protocols differ.

use wire::h1::{BodyReader, write_request};
use wire::h2::hop::shape_request;
use wire::h2::{Connection, Stream, Trailers};
use wire::{BodyFraming, HeaderId};

use crate::exchange::framing::frame_chunk;
use crate::exchange::sides::HostSide;
use crate::exchange::{Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// Sends the head of the request, and `body`, which has come and is not kept. False: the connection does not take it.
    pub(crate) fn send_head(&mut self, exchange: &mut Exchange, body: &[u8]) -> bool {
        match exchange.host_side {
            // Nothing is sent before the tunnel.
            HostSide::Raw(_) | HostSide::None => true,
            HostSide::H1(key) => {
                self.write_request_h1(key, exchange, body);
                true
            }
            HostSide::Unopened(key) | HostSide::H2(key, _) => {
                self.upgrade_waits(key, exchange) || self.open_stream(key, exchange, body)
            }
        }
    }

    /// Writes the head on a connection of HTTP/1, and what has come of the body.
    fn write_request_h1(&mut self, key: Key, exchange: &mut Exchange, body: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let head = exchange.head_storage.request(&exchange.head);
        if exchange.must_say_no_body() {
            exchange.edits.set_known(&head, HeaderId::ContentLength, b"0");
        }
        if head.is_connect()
            && let Some(host) = exchange.edits.replaced_host().map(<[u8]>::to_vec)
        {
            exchange.edits.target(&host);
        }
        let random = || (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
        exchange.give_websocket_key(random);
        let head = exchange.head_storage.request(&exchange.head);
        write_request(&head, &exchange.edits, &mut out);
        if exchange.client_side.is_h2() {
            // Payload without framing: what was kept and what came now.
            self.sockets.send_soon(key, &out, b"");
            self.out = out;
            self.send_kept(exchange, body);
            return;
        }
        if exchange.replay.is_empty() {
            self.sockets.send(key, &out, body);
            self.keep_for_replay(exchange, body, &[]);
        } else {
            let kept = std::mem::take(&mut exchange.replay);
            self.sockets.send(key, &out, &kept);
            self.sockets.send(key, body, &[]);
            self.keep_again(exchange, kept, body);
        }
        self.out = out;
    }

    /// Opens a stream for the request. False: the connection does not take it.
    pub(crate) fn open_stream(&mut self, key: Key, exchange: &mut Exchange, body: &[u8]) -> bool {
        let Some(Conn::UpstreamH2(up)) = self.conns.get_mut(key) else { return false };
        let head = exchange.head_storage.request(&exchange.head);
        let upgrade = exchange.asks_for_tunnel();
        let bare = exchange.replay.is_empty() && body.is_empty() && exchange.trailers.is_empty();
        let end = exchange.request.progress.is_whole() && bare && !upgrade;
        let scheme = exchange.request.scheme;
        let edits = &exchange.edits;
        self.shape.clear();
        if up.hop && exchange.web.is_none() {
            shape_request(&head, edits, &mut self.shape);
        }
        let opened = up.codec.open_with_hop(&head, edits, scheme, end, exchange.id.token(), &self.shape);
        let Ok(stream) = opened else { return false };
        exchange.host_side = HostSide::H2(key, stream);
        exchange.request.unframe = (!exchange.client_side.is_h2()
            && exchange.body_framing() == BodyFraming::Chunked)
            .then(|| Box::new(BodyReader::request(BodyFraming::Chunked, &self.shared.upstream_limits)));
        if !end && !upgrade {
            self.send_kept(exchange, body);
        }
        self.flush_later(key);
        true
    }

    /// Sends what was kept of a body, and what came now.
    fn send_kept(&mut self, exchange: &mut Exchange, body: &[u8]) {
        let kept = std::mem::take(&mut exchange.replay);
        let trailers = std::mem::take(&mut exchange.trailers);
        let end = exchange.request.progress.is_whole();
        // Kept as framed, trailers and all, if the client frames in the text.
        let section: &[u8] = if exchange.client_side.is_h2() { &trailers } else { &[] };
        if body.is_empty() {
            self.send_body(exchange, &kept, section, end);
        } else {
            self.send_body(exchange, &kept, &[], false);
            self.send_body(exchange, body, section, end);
        }
        exchange.trailers = trailers;
        self.keep_again(exchange, kept, body);
    }

    /// Sends body bytes on the attempt's connection, framed as the host's side frames them. `tail`: the end of an HTTP/1
    /// body with its trailers, or the trailer section of an HTTP/2 request. `end`: nothing follows.
    pub(crate) fn send_body(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8], end: bool) {
        match exchange.host_side {
            HostSide::None | HostSide::Unopened(_) => {}
            HostSide::H2(key, stream) => {
                if let Some(Conn::UpstreamH2(conn)) = self.conns.get_mut(key) {
                    let reader =
                        exchange.request.unframe.as_deref_mut().filter(|_| !exchange.tunnel.is_open());
                    send_data(&mut conn.codec, stream, reader, [body, tail], end);
                    self.flush_later(key);
                }
            }
            // Framed already, or a tunnel's.
            HostSide::H1(key) | HostSide::Raw(key)
                if !exchange.client_side.is_h2() || exchange.tunnel.is_open() =>
            {
                self.sockets.send(key, body, tail);
            }
            HostSide::H1(key) | HostSide::Raw(key) => {
                if exchange.body_framing() == BodyFraming::Chunked {
                    let mut out = std::mem::take(&mut self.out);
                    out.clear();
                    frame_chunk(body, tail, end, &mut out);
                    self.sockets.send_soon(key, &out, b"");
                    self.out = out;
                } else {
                    self.sockets.send_soon(key, body, b"");
                }
            }
        }
    }

    /// Ends our direction of a tunnel.
    pub(crate) fn end_to_host(&mut self, side: HostSide) {
        match side {
            HostSide::None | HostSide::Unopened(_) => {}
            HostSide::H1(key) | HostSide::Raw(key) => self.sockets.shutdown_write(key),
            HostSide::H2(key, stream) => {
                if let Some(conn) = self.h2_host(key) {
                    // Refused if the end went with the last bytes.
                    let _ = conn.codec.data(stream, b"", true);
                    self.flush_later(key);
                }
            }
        }
    }

    /// Bytes of a request's body that wait for the host.
    pub(crate) fn backlog_to_host(&self, exchange: &Exchange) -> usize {
        match exchange.host_side {
            HostSide::H2(key, stream) => match self.conns.get(key) {
                Some(Conn::UpstreamH2(up)) => up.codec.send_state(stream).map_or(0, |state| state.queued),
                _ => 0,
            },
            HostSide::H1(key) | HostSide::Raw(key) if exchange.phase != Phase::Queued => {
                self.sockets.backlog(key)
            }
            _ => exchange.replay.len(),
        }
    }

    /// So much waits for the client. While that is too much, an HTTP/1 host is not read; an HTTP/2 host has its window.
    pub(crate) fn pause_host(&mut self, exchange: &Exchange, waiting: usize) {
        if let Some(key) = exchange.host_side.own()
            && waiting > self.ration().min(exchange.response.bound.0)
        {
            self.sockets.pause(key);
        }
    }

    /// The host may send more of its response.
    pub(crate) fn resume_host(&mut self, exchange: &mut Exchange) {
        match exchange.host_side {
            HostSide::None | HostSide::Unopened(_) => {}
            HostSide::H1(key) | HostSide::Raw(key) => self.resume(key),
            HostSide::H2(key, stream) => {
                let held = std::mem::take(&mut exchange.response.held);
                if held > 0
                    && let Some(Conn::UpstreamH2(conn)) = self.conns.get_mut(key)
                {
                    conn.codec.consume(stream, held);
                    self.flush_later(key);
                }
            }
        }
    }

    /// Leaves the attempt's connection in the middle of a message: a stream is reset, a connection of HTTP/1 closed.
    pub(crate) fn abort_host(&mut self, id: ExchangeId, exchange: &mut Exchange) {
        match std::mem::take(&mut exchange.host_side) {
            HostSide::None => {}
            HostSide::H2(key, stream) => self.forget_stream(key, stream, false),
            HostSide::Unopened(key) => self.forget_upgrade(key, id),
            HostSide::H1(key) | HostSide::Raw(key) => {
                if self.upstream(key).is_none_or(|up| up.exchange == Some(id)) {
                    self.discard_upstream(key);
                }
            }
        }
    }

    /// Leaves a tunnel whose two directions have ended as they should: what is still on its way to the host gets there.
    pub(crate) fn end_host(&mut self, id: ExchangeId, exchange: &mut Exchange) {
        match exchange.host_side {
            HostSide::None | HostSide::Unopened(_) => self.abort_host(id, exchange),
            side @ HostSide::H2(key, stream) => {
                exchange.host_side = HostSide::None;
                // The stream goes when its queue has. The exchange and its deadlines end before: what the host's window keeps
                // back has a deadline of its own.
                self.end_to_host(side);
                let by = exchange.times.idle_timeout.map(|idle| self.now.after(idle).as_duration());
                let Some(conn) = self.h2_host(key) else { return };
                let armed = by.is_some_and(|by| conn.codec.flush_by(stream, by));
                let host = conn.host.clone();
                if armed {
                    self.arm_h2_host(key);
                }
                self.leave_room(host);
            }
            HostSide::H1(key) | HostSide::Raw(key) => {
                exchange.host_side = HostSide::None;
                self.end_upstream(key);
            }
        }
    }
}

/// Sends body bytes on a stream; `reader` takes the framing off an HTTP/1 body. A stream that is gone is told of by an
/// event of its own.
fn send_data(
    codec: &mut Connection,
    stream: Stream,
    reader: Option<&mut BodyReader>,
    [body, tail]: [&[u8]; 2],
    end: bool,
) {
    let Some(reader) = reader else {
        if !body.is_empty() || end && tail.is_empty() {
            let _ = codec.data(stream, body, end && tail.is_empty());
        }
        if !tail.is_empty() {
            let _ = codec.trailers(stream, &Trailers::from_section(tail));
        }
        return;
    };
    for mut part in [body, tail] {
        // Framing was checked when it came.
        while let Ok(decoded) = reader.decode(part) {
            if !decoded.payload.is_empty() {
                let _ = codec.data(stream, decoded.payload, false);
            }
            part = part.get(decoded.consumed..).unwrap_or_default();
            if decoded.done || decoded.consumed == 0 {
                break;
            }
        }
    }
    if end {
        let _ = match reader.tail() {
            [] => codec.data(stream, b"", true).map(|_| ()),
            section => codec.trailers(stream, &Trailers::from_section(section)),
        };
    }
}
