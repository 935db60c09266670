//! Bodies on their way, both directions, never more of them in memory than the slower side allows.

use wire::h1::{LAST_CHUNK, push_chunk_header};

use super::Worker;
use super::connection::Conn;
use super::exchange::{Exchange, ExchangeId, Framing, Phase};
use crate::net::sockets::{HIGH_WATER, Key};

impl Worker {
    /// More of a request's body, as framed.
    pub(super) fn forward_request(&mut self, id: ExchangeId, body: &[u8], tail: &[u8]) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.keep_for_replay(&mut exchange, body, tail);
        if exchange.phase == Phase::Attempt || exchange.phase == Phase::Response {
            if let Some(up) = exchange.up {
                self.sockets.send(up, body, tail);
            }
            self.touch(&mut exchange);
        }
        self.hold_back(&exchange);
        self.exchanges.put_back(id, exchange);
    }

    /// Keeps what may have to be sent (again) later.
    pub(super) fn keep_for_replay(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8]) {
        if !exchange.replayable {
            return;
        }
        let waiting = !matches!(exchange.phase, Phase::Attempt | Phase::Response);
        let limit = exchange.route.as_ref().map_or(0, |routed| routed.replay_limit);
        if !waiting && (exchange.response_started || exchange.replay.len() + body.len() + tail.len() > limit)
        {
            exchange.replayable = false;
            exchange.replay = Vec::new();
            return;
        }
        exchange.replay.extend_from_slice(body);
        exchange.replay.extend_from_slice(tail);
    }

    /// Part of a response for the client: the head in `self.out` if it has one, and body bytes already framed for it.
    pub(super) fn forward_response(&mut self, exchange: &mut Exchange, head: &[u8], body: &[u8]) {
        let down = exchange.down;
        self.sockets.send(down, head, body);
        if let Some(up) = exchange.up
            && self.sockets.backlog(down) > HIGH_WATER
        {
            self.sockets.pause(up);
        }
    }

    /// Frames payload anew where the two sides frame differently.
    pub(super) fn reframe(framing: Framing, payload: &[u8], done: bool, out: &mut Vec<u8>) {
        match framing {
            Framing::Same | Framing::Unchunk => out.extend_from_slice(payload),
            Framing::Chunk => {
                if !payload.is_empty() {
                    push_chunk_header(out, payload.len() as u64);
                    out.extend_from_slice(payload);
                    out.extend_from_slice(b"\r\n");
                }
                if done {
                    out.extend_from_slice(LAST_CHUNK);
                }
            }
        }
    }

    /// What was kept for `key` has gone: its peer may be read again.
    pub(super) fn drained(&mut self, key: Key) {
        let peer = match self.conns.get(key) {
            Some(Conn::Downstream(down)) => {
                down.exchange.and_then(|id| self.exchanges.get(id)).and_then(|exchange| exchange.up)
            }
            Some(Conn::Upstream(up)) => {
                up.exchange.and_then(|id| self.exchanges.get(id)).map(|exchange| exchange.down)
            }
            Some(Conn::TcpDownstream(session)) => session.up,
            Some(Conn::TcpUpstream(down)) => Some(*down),
            _ => None,
        };
        if let Some(peer) = peer
            && self.sockets.is_paused(peer)
            && self.sockets.resume(peer)
        {
            self.again.push(peer);
        }
    }
}
