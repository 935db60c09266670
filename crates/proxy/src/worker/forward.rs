//! Bodies on their way, both directions, never more of them in memory than the slower side allows.
//!
//! A body comes as its sender frames it (HTTP/1), or without framing (HTTP/2), and is framed anew only where the
//! receiver frames otherwise.

use wire::BodyFraming;
use wire::h1::{LAST_CHUNK, push_chunk_header};
use wire::h2::{ErrorCode, Trailers};

use super::Worker;
use super::connection::Conn;
use super::exchange::{Exchange, ExchangeId, Framing, Phase};
use super::route::Routed;
use crate::net::sockets::{HIGH_WATER, Key};

impl Worker {
    /// More of a request's body: as framed by an HTTP/1 client with its trailers in `tail`, or payload and the trailer
    /// section of an HTTP/2 request.
    pub(super) fn forward_request(&mut self, id: ExchangeId, body: &[u8], tail: &[u8]) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        let decoded = match self.decode_web(&mut exchange, body, tail) {
            Ok(decoded) => decoded,
            Err(bad) => return self.refuse_web(id, exchange, bad),
        };
        let came = body.len();
        let (body, tail) = match &decoded {
            None => (body, tail),
            Some(decoded) if exchange.stream.is_none() => (decoded.as_slice(), &[][..]),
            Some(decoded) => (decoded.as_slice(), tail),
        };
        self.keep_for_mirrors(&mut exchange, body, tail);
        self.keep_for_replay(&mut exchange, body, tail);
        if exchange.phase == Phase::Attempt || exchange.phase == Phase::Response {
            let end = exchange.request_done;
            self.send_body(&mut exchange, body, tail, end);
            self.touch(&mut exchange);
        }
        self.hold_back(&mut exchange, came);
        self.exchanges.put_back(id, exchange);
    }

    /// Sends body bytes on the attempt's connection. `end`: nothing follows them.
    pub(super) fn send_body(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8], end: bool) {
        let Some(up) = exchange.up else { return };
        if exchange.up_stream.is_some() {
            self.send_body_h2(up, exchange, body, tail, end);
        } else if exchange.stream.is_none() || exchange.tunnel {
            self.sockets.send(up, body, tail);
        } else if exchange.body_framing() == BodyFraming::Chunked {
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            frame_chunk(body, tail, end, &mut out);
            self.sockets.send_soon(up, &out, b"");
            self.out = out;
        } else {
            self.sockets.send_soon(up, body, b"");
        }
    }

    fn send_body_h2(&mut self, up: Key, exchange: &mut Exchange, body: &[u8], tail: &[u8], end: bool) {
        let (Some(Conn::UpstreamH2(conn)), Some(stream)) = (self.conns.get_mut(up), exchange.up_stream)
        else {
            return;
        };
        // A stream that is gone is told of by an event of its own.
        let codec = &mut conn.codec;
        match exchange.unframe.as_mut().filter(|_| !exchange.tunnel) {
            None => {
                if !body.is_empty() || end && tail.is_empty() {
                    let _ = codec.data(stream, body, end && tail.is_empty());
                }
                if !tail.is_empty() {
                    let _ = codec.trailers(stream, &Trailers::from_section(tail));
                }
            }
            Some(reader) => {
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
        }
        self.flush_later(up);
    }

    /// Keeps what may have to be sent (again) later.
    pub(super) fn keep_for_replay(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8]) {
        if !exchange.replayable {
            return;
        }
        let waiting = !matches!(exchange.phase, Phase::Attempt | Phase::Response);
        let length = exchange.replay.len() + body.len() + tail.len();
        if !waiting && (exchange.response_started || length > self.replay_limit(exchange)) {
            return self.give_up_replay(exchange);
        }
        exchange.replay.extend_from_slice(body);
        match exchange.stream {
            None => exchange.replay.extend_from_slice(tail),
            Some(_) => exchange.trailers.extend_from_slice(tail),
        }
    }

    /// How much of a body that was sent is kept, to be sent again: less while the worker's budget is spent.
    pub(super) fn replay_limit(&self, exchange: &Exchange) -> usize {
        let limit = exchange.route.as_ref().map_or(0, |routed| routed.replay_limit);
        match self.ration() {
            HIGH_WATER => limit,
            short => limit.min(short),
        }
    }

    /// The body is too long to be sent twice. Envoy counts it where it would have been tried again.
    pub(super) fn give_up_replay(&mut self, exchange: &mut Exchange) {
        exchange.replay = Vec::new();
        let asked = exchange.route.as_ref().and_then(Routed::forward).is_some_and(|to| to.retry.is_some());
        if std::mem::take(&mut exchange.replayable)
            && asked
            && !exchange.response_started
            && let Some(cluster) = &exchange.counted.cluster
        {
            self.telemetry.shard.inc(cluster.stats.retry_or_shadow_abandoned);
        }
    }

    /// So many bytes of a request's body were dealt with. Whether the client may send more now, or the host does not
    /// keep up.
    pub(super) fn hold_back(&mut self, exchange: &mut Exchange, bytes: usize) {
        let waiting = self.backlog_to_host(exchange);
        if exchange.stream.is_some() {
            exchange.held += bytes;
        }
        if waiting > self.ration().min(exchange.bound_up) {
            if exchange.stream.is_none() {
                self.sockets.pause(exchange.down);
            }
        } else if exchange.held > 0 {
            self.read_client_on(exchange);
        }
    }

    /// Bytes of a request's body that wait for the host.
    pub(super) fn backlog_to_host(&self, exchange: &Exchange) -> usize {
        match (exchange.up, exchange.up_stream) {
            (Some(up), Some(stream)) => match self.conns.get(up) {
                Some(Conn::UpstreamH2(up)) => up.codec.send_state(stream).map_or(0, |state| state.queued),
                _ => 0,
            },
            (Some(up), None) if exchange.phase != Phase::Queued => self.sockets.backlog(up),
            _ => exchange.replay.len(),
        }
    }

    /// The client may send more.
    pub(super) fn read_client_on(&mut self, exchange: &mut Exchange) {
        let down = exchange.down;
        match exchange.stream {
            Some(stream) => {
                let held = std::mem::take(&mut exchange.held);
                if held > 0
                    && let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(down)
                {
                    conn.codec.consume(stream, held);
                    self.flush_later(down);
                }
            }
            None => self.read_on(down),
        }
    }

    /// The host may send more.
    pub(super) fn read_host_on(&mut self, exchange: &mut Exchange) {
        let Some(up) = exchange.up else { return };
        match exchange.up_stream {
            Some(stream) => {
                let held = std::mem::take(&mut exchange.held_up);
                if held > 0
                    && let Some(Conn::UpstreamH2(conn)) = self.conns.get_mut(up)
                {
                    conn.codec.consume(stream, held);
                    self.flush_later(up);
                }
            }
            None => self.read_on(up),
        }
    }

    pub(super) fn read_on(&mut self, key: Key) {
        if self.sockets.is_paused(key) && self.sockets.resume(key) {
            self.read_later(key);
        }
    }

    /// Part of a response for an HTTP/1 client: the head in `self.out` if it has one, and body bytes already framed for
    /// it.
    pub(super) fn forward_response(&mut self, exchange: &mut Exchange, head: &[u8], body: &[u8]) {
        let down = exchange.down;
        if exchange.up_stream.is_some() {
            self.sockets.send_soon(down, head, body);
        } else {
            self.sockets.send(down, head, body);
        }
        if let Some(up) = exchange.up
            && exchange.up_stream.is_none()
            && self.sockets.backlog(down) > self.ration().min(exchange.bound_down)
        {
            self.sockets.pause(up);
        }
    }

    /// Part of a response's body for a client that speaks HTTP/2. `end`: nothing follows it.
    /// So is any client's of gRPC-Web.
    pub(super) fn forward_payload(&mut self, exchange: &mut Exchange, payload: &[u8], end: bool) {
        match exchange.web {
            None => self.pass_payload(exchange, payload, end),
            Some(_) => self.forward_web(exchange, payload, end),
        }
    }

    pub(super) fn pass_payload(&mut self, exchange: &mut Exchange, payload: &[u8], end: bool) {
        let Some(stream) = exchange.stream else { return };
        let down = exchange.down;
        let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(down) else { return };
        let queued = if payload.is_empty() && !end {
            0
        } else {
            match conn.codec.data(stream, payload, end) {
                Ok(queued) => queued,
                Err(wire::h2::SendError::Full) => {
                    // Bounded by what is read while the client is slow, so never met; nothing may be lost silently.
                    conn.codec.reset(stream, ErrorCode::ENHANCE_YOUR_CALM);
                    0
                }
                Err(_) => 0,
            }
        };
        if queued > self.ration().min(exchange.bound_down)
            && exchange.up_stream.is_none()
            && let Some(up) = exchange.up
        {
            self.sockets.pause(up);
        }
        self.flush_later(down);
    }

    /// Whether the client does not keep up with the response.
    pub(super) fn client_is_behind(&self, exchange: &Exchange) -> bool {
        let waiting = match (exchange.stream, self.conns.get(exchange.down)) {
            (Some(stream), Some(Conn::DownstreamH2(conn))) => {
                conn.codec.send_state(stream).map_or(0, |state| state.queued)
            }
            _ => self.sockets.backlog(exchange.down),
        };
        waiting > self.ration().min(exchange.bound_down)
    }

    /// Frames payload anew where the two sides frame differently.
    pub(super) fn reframe(framing: Framing, payload: &[u8], done: bool, out: &mut Vec<u8>) {
        match framing {
            Framing::Same | Framing::Unchunk => out.extend_from_slice(payload),
            Framing::Chunk => frame_chunk(payload, &[], done, out),
        }
    }

    /// What was kept for `key` has gone: its peer may be read again.
    pub(super) fn drained(&mut self, key: Key) {
        match self.conns.get(key) {
            Some(Conn::Downstream(down)) => {
                let Some(id) = down.exchange else { return self.read_client_next(key) };
                if let Some(mut exchange) = self.exchanges.take(id) {
                    self.read_host_on(&mut exchange);
                    self.exchanges.put_back(id, exchange);
                }
            }
            Some(Conn::Upstream(up)) => {
                if let Some(id) = up.exchange
                    && let Some(mut exchange) = self.exchanges.take(id)
                {
                    self.read_client_on(&mut exchange);
                    self.exchanges.put_back(id, exchange);
                }
            }
            Some(Conn::TcpDownstream(session)) => {
                if let Some(up) = session.up {
                    self.read_on(up);
                }
            }
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.read_on(down);
            }
            Some(Conn::DownstreamH2(_) | Conn::UpstreamH2(_)) => self.flush(key),
            _ => {}
        }
    }
}

/// Payload as a chunk; at the end, the last chunk and what trailers there are.
pub(super) fn frame_chunk(payload: &[u8], trailers: &[u8], end: bool, out: &mut Vec<u8>) {
    if !payload.is_empty() {
        push_chunk_header(out, payload.len() as u64);
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
    if end && trailers.is_empty() {
        out.extend_from_slice(LAST_CHUNK);
    } else if end {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers);
    }
}
