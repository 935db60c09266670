//! Our HTTP/2 connection to a host: its frames cut into responses, and its end.

use std::io;

use model::cluster::UpstreamProtocol;
use model::retry::Outcome;
use wire::HeaderId;
use wire::h1::ResponseTo;
use wire::h2::{By, Connection, ConnectionError, ErrorCode, Event, Scratch, Stream, hop};

use crate::clock::Time;
use crate::exchange::sides::HostSide;
use crate::exchange::{ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::response::head::Judged;
use crate::response::reply::Reset;
use crate::response::retry::Unprocessed;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::counted::ConnectionSlot;
use crate::upstream::host::{HostRef, bump};
use crate::worker::Worker;
use crate::worker::connection::{Conn, UpstreamH2};
use crate::worker::h2_timers::{Due, H2Limits, H2Timers};

impl Worker {
    pub(crate) fn h2_host(&mut self, key: Key) -> Option<&mut UpstreamH2> {
        match self.conns.get_mut(key) {
            Some(Conn::UpstreamH2(up)) => Some(up),
            _ => None,
        }
    }

    /// A new connection's state.
    pub(crate) fn start_h2_host(
        &mut self,
        key: Key,
        host: &HostRef,
        config: &ClusterConfig,
        connecting: bool,
        slot: ConnectionSlot,
    ) {
        let local = (!connecting).then(|| self.local_address(key)).flatten();
        let up = UpstreamH2 {
            host: host.clone(),
            codec: Connection::client(config.h2.clone(), self.now.as_duration()),
            connecting,
            connect_deadline: if connecting { self.now.after(config.connect_timeout) } else { Time::NEVER },
            requests: 0,
            local,
            timers: H2Timers::new(self.now),
            heard: self.now,
            _slot: slot,
            introduced: false,
            hop: host.key.hop && config.protocol != UpstreamProtocol::Http2,
            retiring: false,
            upgrades: vec![],
            flush: false,
        };
        self.put(key, Conn::UpstreamH2(Box::new(up)));
        self.arm_h2_host(key);
    }

    pub(crate) fn h2_host_bytes(&mut self, key: Key, bytes: &[u8]) {
        let now = self.now;
        if let Some(up) = self.h2_host(key) {
            up.heard = now;
        }
        self.h2_host_events(key, bytes);
        self.flush_later(key);
    }

    /// Goes through what happened on the connection, and in `bytes`.
    pub(crate) fn h2_host_events(&mut self, key: Key, mut bytes: &[u8]) {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let now = self.now.as_duration();
        while let Some(Conn::UpstreamH2(up)) = self.conns.get_mut(key) {
            let event = match up.codec.next(&mut bytes, &mut scratch, now) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.h2_host_failed(key, &error);
                    break;
                }
            };
            match event {
                Event::Response { stream, token, end, .. } => match self.of_stream(key, stream, token) {
                    Some(id) => self.h2_response(key, id, end, &mut scratch),
                    None => self.reset_stream(key, stream, ErrorCode::CANCEL),
                },
                Event::Data { stream, token, bytes, end } => match self.of_stream(key, stream, token) {
                    Some(id) => self.h2_response_body(key, id, stream, bytes, end),
                    None => up_consume(self, key, stream, bytes.len()),
                },
                Event::Trailers { stream, token, trailers } => {
                    if let Some(id) = self.of_stream(key, stream, token) {
                        self.h2_response_trailers(key, id, trailers.section());
                    }
                }
                Event::Reset { stream, token, code, by } => {
                    if let Some(id) = self.of_stream(key, stream, token) {
                        self.h2_attempt_reset(key, id, code, by);
                    }
                }
                Event::Writable { stream, token } => {
                    if let Some(id) = self.of_stream(key, stream, token)
                        && let Some(mut exchange) = self.exchanges.take(id)
                    {
                        self.resume_client(&mut exchange);
                        self.exchanges.put_back(id, exchange);
                    }
                }
                Event::GoAway { .. } => up.retiring = true,
                // More streams may fit now, or fewer.
                Event::Settings => {
                    let host = up.host.clone();
                    let waiting = host.queue.borrow().len();
                    (0..waiting).for_each(|_| self.leave_room(host.clone()));
                    self.upgrades_decided(key);
                }
                Event::Pong | Event::Request { .. } | Event::Refused { .. } => {}
            }
        }
        self.sockets.uncork();
        self.scratch = Some(scratch);
    }

    /// The exchange a stream belongs to, if it still does.
    fn of_stream(&self, key: Key, stream: Stream, token: u64) -> Option<ExchangeId> {
        let id = ExchangeId::of_token(token)?;
        let exchange = self.exchanges.get(id)?;
        (exchange.host_side == HostSide::H2(key, stream)).then_some(id)
    }

    pub(crate) fn reset_stream(&mut self, key: Key, stream: Stream, code: ErrorCode) {
        if let Some(up) = self.h2_host(key) {
            up.codec.reset(stream, code);
            self.flush_later(key);
        }
    }

    fn h2_response(&mut self, key: Key, id: ExchangeId, end: bool, scratch: &mut Scratch) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        let mut text = std::mem::take(&mut self.response_text);
        scratch.take_head(&mut text, &mut self.response);
        if self.h2_host(key).is_some_and(|up| up.hop) {
            let to = ResponseTo::request(&exchange.head_view());
            hop::restore_response(&mut text, &mut self.response, to);
        } else {
            hop::strip(&mut self.response);
        }
        let judged = self.judge_head(id, &mut exchange, &text);
        if let Judged::Answer = judged {
            self.note_head(&mut exchange, &text);
            if !end {
                exchange.await_web_trailers(&self.response.response(&text));
            }
            self.pass_head(&mut exchange, &text, end);
        }
        self.exchanges.put_back(id, exchange);
        match judged {
            Judged::Answer if end => self.response_complete(key, id),
            Judged::TooMany => self.response_refused(key, id),
            Judged::Answer | Judged::Interim | Judged::Again => {}
        }
        self.response_text = text;
    }

    fn h2_response_body(&mut self, key: Key, id: ExchangeId, stream: Stream, bytes: &[u8], end: bool) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.response.sent += bytes.len() as u64;
        if let Some(call) = &mut exchange.call {
            call.keep(bytes);
        }
        self.touch(&mut exchange);
        let tunnel = exchange.tunnel.is_open();
        self.pass_payload(&mut exchange, bytes, end && !tunnel);
        if self.client_is_behind(&exchange) {
            exchange.response.held += bytes.len();
        } else {
            up_consume(self, key, stream, bytes.len());
        }
        self.exchanges.put_back(id, exchange);
        match end {
            true if tunnel => self.host_half_closed(id),
            true => self.response_complete(key, id),
            false => {}
        }
    }

    fn h2_response_trailers(&mut self, key: Key, id: ExchangeId, section: &[u8]) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.pass_trailers(&mut exchange, section);
        self.exchanges.put_back(id, exchange);
        self.response_complete(key, id);
    }

    /// The stream of an attempt was reset.
    fn h2_attempt_reset(&mut self, key: Key, id: ExchangeId, code: ErrorCode, by: By) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (phase, tunnel) = (exchange.phase, exchange.tunnel.is_open());
        if let Some(Conn::UpstreamH2(up)) = self.conns.get(key) {
            let (shard, stats) = (&self.telemetry.shard, &up.host.cluster.stats);
            match by {
                By::Here(_) => {
                    shard.inc(stats.upstream_cx_protocol_error);
                    shard.inc(stats.upstream_rq_tx_reset);
                }
                By::Peer | By::GoAway => shard.inc(stats.upstream_rq_rx_reset),
            }
        }
        if let By::Here(_) = by {
            self.response_refused(key, id);
        } else if tunnel || phase == Phase::Response {
            self.response_cut_short(id, true);
        } else if by == By::GoAway || code == ErrorCode::REFUSED_STREAM {
            // The host says that it has done nothing for it.
            if !self.send_elsewhere(id, Unprocessed::Surely) {
                self.attempt_failed(key, id, Reset::refused_stream(), Outcome::RefusedStream);
            }
        } else {
            self.attempt_failed(key, id, Reset::remote_reset(), Outcome::Reset { request_sent: true });
        }
    }

    /// The connection is made; what was asked on it in the meantime goes out.
    pub(crate) fn h2_host_connected(&mut self, key: Key) {
        let local = self.local_address(key);
        let Some(up) = self.h2_host(key) else { return };
        up.connecting = false;
        up.local = local;
        for id in up.exchanges() {
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.response.upstream_local = local;
            }
            self.attempt_connected(id);
        }
        self.arm_h2_host(key);
        self.flush_later(key);
    }

    /// The connection can not go on: it does not speak HTTP/2 as it must.
    fn h2_host_failed(&mut self, key: Key, error: &ConnectionError) {
        let Some(up) = self.h2_host(key) else { return };
        let cluster = up.host.cluster.clone();
        // Its last words, as far as they go.
        let length = up.codec.output().len();
        let output = up.codec.output().get(..length).unwrap_or_default().to_vec();
        self.sockets.try_send(key, &output);
        let broken = error.code != ErrorCode::NO_ERROR;
        if broken {
            self.telemetry.shard.inc(cluster.stats.upstream_cx_protocol_error);
        }
        let reset = if broken { Some(Reset::protocol_error()) } else { None };
        self.h2_host_lost(key, None, reset);
    }

    /// The host has closed the connection (`error`: or it broke, or never was).
    pub(crate) fn h2_host_gone(&mut self, key: Key, error: Option<io::ErrorKind>) {
        self.h2_host_lost(key, error, None);
    }

    /// Every request on the connection is answered for; `reset`: in these words.
    fn h2_host_lost(&mut self, key: Key, error: Option<io::ErrorKind>, reset: Option<Reset>) {
        let Some(up) = self.h2_host(key) else { return };
        let (host, connecting, heard, requests) = (up.host.clone(), up.connecting, up.heard, up.requests);
        up.retiring = true;
        let ids: Vec<ExchangeId> = up
            .exchanges()
            .into_iter()
            .filter(|id| {
                self.exchanges.get(*id).is_some_and(|exchange| exchange.host_side.key() == Some(key))
            })
            .collect();
        if connecting {
            bump(&host.failed_connects, 1);
        }
        let (shard, stats) = (&self.telemetry.shard, &host.cluster.stats);
        if connecting {
            shard.inc(stats.upstream_cx_connect_fail);
        } else if !ids.is_empty() {
            shard.inc(stats.upstream_cx_destroy_remote_with_active_rq);
        }
        for id in ids {
            let Some(exchange) = self.exchanges.get(id) else { continue };
            if exchange.tunnel.is_open() || exchange.phase == Phase::Response {
                self.response_cut_short(id, reset.is_some());
            } else if connecting {
                self.attempt_failed(key, id, Reset::could_not_connect(error), Outcome::ConnectFailure);
            } else if let Some(reset) = &reset {
                self.attempt_failed(key, id, reset.clone(), Outcome::Reset { request_sent: true });
            } else if heard >= exchange.times.attempt_started
                || requests < 2
                || !self.send_elsewhere(id, Unprocessed::Maybe)
            {
                self.attempt_failed(key, id, Reset::termination(), Outcome::Reset { request_sent: true });
            }
        }
        self.discard_h2_host(key);
    }

    /// What had to be sent has been, or as much as goes now.
    pub(crate) fn h2_host_flushed(&mut self, key: Key) {
        let now = self.now;
        let Some(up) = self.h2_host(key) else { return };
        let busy = up.codec.open_streams() + up.upgrades.len();
        up.timers.streams(now, busy);
        if busy > 0 {
            return;
        }
        let over = up.codec.is_drained() || up.retiring || up.host.gone.get();
        if over && up.codec.output().is_empty() {
            self.discard_h2_host(key);
        } else {
            self.arm_h2_host(key);
        }
    }

    pub(crate) fn arm_h2_host(&mut self, key: Key) {
        let Some(up) = self.h2_host(key) else { return };
        let deadline = match up.connecting {
            true => up.connect_deadline,
            false => {
                let codec = up.codec.deadline().map_or(Time::NEVER, |at| Time::default().after(at));
                codec.min(up.timers.deadline(limits(up)))
            }
        };
        self.sockets.set_deadline(key, deadline);
    }

    pub(crate) fn h2_host_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(up) = self.h2_host(key) else { return };
        let cluster = up.host.cluster.clone();
        if up.connecting {
            if up.connect_deadline > now {
                return self.arm_h2_host(key);
            }
            self.telemetry.shard.inc(cluster.stats.upstream_cx_connect_timeout);
            self.h2_connect_timeout(key);
            return;
        }
        if let Err(error) = up.codec.poll_timeouts(now.as_duration()) {
            return self.h2_host_failed(key, &error);
        }
        let unflushed = up.codec.take_unflushed();
        self.telemetry.shard.add(cluster.stats.upstream_rq_tx_reset, unflushed);
        let Some(Conn::UpstreamH2(up)) = self.conns.get_mut(key) else { return };
        while let Some(due) = up.timers.due(now, limits(up)) {
            match due {
                Due::Release => {
                    let before = up.codec.memory();
                    up.codec.release_memory();
                    self.stirred.freed(before.saturating_sub(up.codec.memory()));
                }
                Due::TooOld => up.retiring = true,
                Due::Idle => {
                    self.telemetry.shard.inc(cluster.stats.upstream_cx_idle_timeout);
                    return self.discard_h2_host(key);
                }
            }
        }
        if up.retiring && up.codec.open_streams() == 0 && up.upgrades.is_empty() {
            return self.discard_h2_host(key);
        }
        self.flush_later(key);
        self.arm_h2_host(key);
    }

    fn h2_connect_timeout(&mut self, key: Key) {
        let Some(up) = self.h2_host(key) else { return };
        let (cluster, ids) = (up.host.cluster.clone(), up.exchanges());
        self.telemetry.shard.inc(cluster.stats.upstream_cx_connect_fail);
        for id in ids {
            if self.exchanges.get(id).is_some_and(|exchange| exchange.host_side.key() == Some(key)) {
                self.attempt_failed(key, id, Reset::connection_timeout(), Outcome::ConnectFailure);
            }
        }
        self.discard_h2_host(key);
    }

    pub(crate) fn local_address(&self, key: Key) -> Option<std::net::SocketAddr> {
        self.sockets.local_address(key)
    }

    /// What a trailer section says that is counted and logged.
    pub(crate) fn note_trailers(exchange: &mut crate::exchange::Exchange, section: &[u8]) {
        let trailers = wire::h2::Trailers::from_section(section);
        if let Some(status) = trailers.header(HeaderId::GrpcStatus.name().as_bytes()) {
            exchange.response.grpc_status =
                wire::text::parse_decimal(status).and_then(|status| u8::try_from(status).ok());
        }
    }

    /// The exchange is done with its stream. `whole`: the response was complete.
    pub(crate) fn forget_stream(&mut self, key: Key, stream: Stream, whole: bool) {
        if let Some(up) = self.h2_host(key) {
            // A stream ended on both sides is gone already.
            up.codec.reset(stream, if whole { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL });
            let host = up.host.clone();
            self.flush_later(key);
            self.leave_room(host);
        }
    }
}

fn limits(up: &UpstreamH2) -> H2Limits {
    let config = up.host.cluster.config.borrow();
    H2Limits { idle: config.idle_timeout, longest: config.max_connection_duration }
}

fn up_consume(worker: &mut Worker, key: Key, stream: Stream, bytes: usize) {
    if let Some(up) = worker.h2_host(key) {
        up.codec.consume(stream, bytes);
    }
}
