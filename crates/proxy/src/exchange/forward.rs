//! Bodies on their way, both directions, never more of them in memory than the slower side allows.
//!
//! A body comes as its sender frames it (HTTP/1), or without framing (HTTP/2), and is framed anew only where the
//! receiver frames otherwise.

use crate::exchange::sides::ClientSide;
use crate::exchange::{Exchange, ExchangeId, Phase};
use crate::net::sockets::{HIGH_WATER, Key};
use crate::request::routed::Routed;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// More of a request's body: as framed by an HTTP/1 client with its trailers in `tail`, or payload and the trailer
    /// section of an HTTP/2 request.
    pub(crate) fn forward_request(&mut self, id: ExchangeId, body: &[u8], tail: &[u8]) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        let decoded = match self.decode_web(&mut exchange, body, tail) {
            Ok(decoded) => decoded,
            Err(bad) => return self.refuse_web(id, exchange, bad),
        };
        let came = body.len();
        let (body, tail) = match &decoded {
            None => (body, tail),
            Some(decoded) if !exchange.client_side.is_h2() => (decoded.as_slice(), &[][..]),
            Some(decoded) => (decoded.as_slice(), tail),
        };
        self.keep_for_mirrors(&mut exchange, body, tail);
        self.keep_for_replay(&mut exchange, body, tail);
        if exchange.phase == Phase::Attempt || exchange.phase == Phase::Response {
            let end = exchange.client_has_ended();
            self.send_body(&mut exchange, body, tail, end);
            self.touch(&mut exchange);
        }
        self.pace_client(&mut exchange, came);
        self.exchanges.put_back(id, exchange);
    }

    /// Keeps what may have to be sent (again) later.
    pub(crate) fn keep_for_replay(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8]) {
        if !exchange.request.replayable {
            return;
        }
        let waiting = !matches!(exchange.phase, Phase::Attempt | Phase::Response);
        let length = exchange.replay.len() + body.len() + tail.len();
        if !waiting && (exchange.response_began() || length > self.replay_limit(exchange)) {
            return self.give_up_replay(exchange);
        }
        exchange.replay.extend_from_slice(body);
        match exchange.client_side {
            ClientSide::H2(..) => exchange.trailers.extend_from_slice(tail),
            ClientSide::H1(_) | ClientSide::Nobody => exchange.replay.extend_from_slice(tail),
        }
    }

    /// How much of a body that was sent is kept, to be sent again: less while the worker's budget is spent.
    pub(crate) fn replay_limit(&self, exchange: &Exchange) -> usize {
        let limit = exchange.target.route.as_ref().map_or(0, |routed| routed.replay_limit);
        match self.ration() {
            HIGH_WATER => limit,
            short => limit.min(short),
        }
    }

    /// The body is too long to be sent twice. Envoy counts it where it would have been tried again.
    pub(crate) fn give_up_replay(&mut self, exchange: &mut Exchange) {
        exchange.replay = Vec::new();
        let asked =
            exchange.target.route.as_ref().and_then(Routed::forward).is_some_and(|to| to.retry.is_some());
        if std::mem::take(&mut exchange.request.replayable)
            && asked
            && !exchange.response_began()
            && let Some(cluster) = &exchange.counted.cluster
        {
            self.telemetry.shard.inc(cluster.stats.retry_or_shadow_abandoned);
        }
    }

    /// So many bytes of a request's body were dealt with. Whether the client may send more now, or the host does not
    /// keep up.
    pub(crate) fn pace_client(&mut self, exchange: &mut Exchange, bytes: usize) {
        let behind = self.backlog_to_host(exchange) > self.ration().min(exchange.request.bound.0);
        match exchange.client_side {
            ClientSide::Nobody => {}
            ClientSide::H1(key) if behind => self.sockets.pause(key),
            ClientSide::H1(_) => {}
            ClientSide::H2(..) => {
                exchange.request.held += bytes;
                if !behind && exchange.request.held > 0 {
                    self.resume_client(exchange);
                }
            }
        }
    }

    /// Reads a socket again that was paused, unless there is another reason not to read it: whoever finds that one reason
    /// is over (the host has taken what waited, its connection is made) does not know of the others.
    pub(crate) fn resume(&mut self, key: Key) {
        if self.sockets.is_paused(key) && !self.client_must_wait(key) && self.sockets.resume(key) {
            self.read_later(key);
        }
    }

    /// What was kept for `key` has gone: its peer may be read again.
    pub(crate) fn drained(&mut self, key: Key) {
        match self.conns.get(key) {
            Some(Conn::Downstream(down)) => {
                let Some(id) = down.exchange else { return self.read_client_next(key) };
                if let Some(mut exchange) = self.exchanges.take(id) {
                    self.resume_host(&mut exchange);
                    self.exchanges.put_back(id, exchange);
                }
            }
            Some(Conn::Upstream(up)) => {
                if let Some(id) = up.exchange
                    && let Some(mut exchange) = self.exchanges.take(id)
                {
                    self.resume_client(&mut exchange);
                    self.exchanges.put_back(id, exchange);
                }
            }
            Some(Conn::TcpDownstream(session)) => {
                if let Some(up) = session.up {
                    self.resume(up);
                }
            }
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.resume(down);
            }
            Some(Conn::DownstreamH2(_) | Conn::UpstreamH2(_)) => self.flush(key),
            _ => {}
        }
    }
}
