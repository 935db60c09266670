//! A client's HTTP/2 connection: its frames cut into requests.

use model::http_connection::Codec;
use telemetry::Flags;
use wire::HeaderId;
use wire::h1::Version;
use wire::h2::{Connection, ConnectionError, ErrorCode, Event, Scratch, Stream, hop};
use wire::text::list_has;

use crate::clock::Time;
use crate::exchange::sides::ClientSide;
use crate::exchange::{Ending, Exchange, ExchangeId, Phase, Progress, Tunnel};
use crate::http2::{READ_AGAIN_MARK, UNREAD_MARK};
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::{Client, Conn, DownstreamH2};
use crate::worker::h2_timers::{Due, H2Limits, H2Timers, RELEASE_AFTER};

impl Worker {
    pub(crate) fn start_h2(&mut self, key: Key, client: Client) {
        let codec = Connection::server(client.http.h2.clone(), self.now.as_duration());
        self.serve_h2(key, client, codec);
    }

    fn serve_h2(&mut self, key: Key, client: Client, codec: Connection) {
        self.telemetry.shard.inc(client.http.stats.downstream_cx_http2_total);
        let timers = H2Timers::new(client.origin.started);
        let down = DownstreamH2 {
            client,
            codec,
            timers,
            held: vec![],
            flush: false,
            head_began: None,
            ending: false,
        };
        self.put(key, Conn::DownstreamH2(Box::new(down)));
        self.flush_later(key);
        self.arm_h2_client(key);
    }

    /// A whole HTTP/1 request that asks to go on by HTTP/2 (`Upgrade: h2c`, RFC 7540 §3.2) is granted that and becomes
    /// the first stream. Not over the edge of the mesh: a proxy before us would not see what follows.
    pub(crate) fn upgrade_to_h2(&mut self, key: Key, exchange: &mut Exchange) -> bool {
        let head = exchange.head_storage.request(&exchange.head);
        // RFC 9110 §7.8: a 1.0 client cannot have meant it.
        if head.version() != Version::Http11 || head.repeats(HeaderId::Upgrade) {
            return false;
        }
        let (Some(b"h2c"), Some(settings)) =
            (head.known(HeaderId::Upgrade), head.known(HeaderId::Http2Settings))
        else {
            return false;
        };
        let said = |option: &[u8]| head.all(b"connection").any(|value| list_has(value, option));
        let Some(Conn::Downstream(down)) = self.conns.get(key) else { return false };
        let http = down.client.http.clone();
        // What was answered before goes out first.
        let free = self.sockets.backlog(key) == 0;
        let wanted = free
            && head.keep_alive()
            && said(b"upgrade")
            && said(b"http2-settings")
            && !head.repeats(HeaderId::Http2Settings);
        if !wanted || http.settings.codec != Codec::Auto || http.settings.forwarded.use_remote_address {
            return false;
        }
        let now = self.now.as_duration();
        let upgraded = Connection::server_upgraded(http.h2.clone(), now, settings, head.method() == b"HEAD");
        let Some((codec, stream)) = upgraded else { return false };
        exchange.client_side = ClientSide::H2(key, stream);
        self.sockets.send(
            key,
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            b"",
        );
        if let Some(Conn::Downstream(down)) = self.conns.get_mut(key).map(std::mem::take) {
            self.serve_h2(key, down.client, codec);
        }
        true
    }

    fn h2_client(&mut self, key: Key) -> Option<&mut DownstreamH2> {
        match self.conns.get_mut(key) {
            Some(Conn::DownstreamH2(down)) => Some(down),
            _ => None,
        }
    }

    pub(crate) fn h2_client_bytes(&mut self, key: Key, bytes: &[u8]) {
        self.h2_client_events(key, bytes);
        let now = self.now;
        if let Some(down) = self.h2_client(key) {
            if !down.codec.is_mid_head() {
                down.head_began = None;
            } else if down.head_began.is_none() {
                down.head_began = Some(now);
                self.arm_h2_client(key);
            }
        }
        self.flush_later(key);
    }

    /// Goes through what happened on the connection, and in `bytes`. While too much waits for the client to read it, the
    /// bytes are kept and the socket is not read: nothing is begun whose answer would wait too. The same when the turn is
    /// used up.
    pub(crate) fn h2_client_events(&mut self, key: Key, mut bytes: &[u8]) {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let now = self.now.as_duration();
        loop {
            let used_up = !bytes.is_empty() && self.turn_is_used_up();
            let Some(Conn::DownstreamH2(down)) = self.conns.get_mut(key) else { break };
            let unread = !down.held.is_empty() || down.codec.output().len() > UNREAD_MARK;
            if !bytes.is_empty() && (unread || used_up) {
                down.held.extend_from_slice(bytes);
                bytes = &[];
                match unread {
                    true => self.sockets.pause(key),
                    false => self.read_later(key),
                }
                continue;
            }
            let event = match down.codec.next(&mut bytes, &mut scratch, now) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.h2_client_failed(key, &error);
                    break;
                }
            };
            match event {
                Event::Request { stream, end, .. } => self.h2_request(key, stream, end, &mut scratch),
                Event::Data { stream, token, bytes, end } => {
                    self.h2_request_body(key, stream, token, bytes, &[], end);
                }
                Event::Trailers { stream, token, trailers } => {
                    self.h2_request_body(key, stream, token, &[], trailers.section(), true);
                }
                Event::Reset { stream, token, .. } => {
                    if self.is_stream(key, stream, token)
                        && let Some(id) = ExchangeId::of_token(token)
                    {
                        self.h2_client_reset(key, id);
                    }
                }
                Event::Refused { reject, .. } => self.h2_refused(key, &reject),
                Event::Writable { stream, token } => {
                    if self.is_stream(key, stream, token)
                        && let Some(id) = ExchangeId::of_token(token)
                        && let Some(mut exchange) = self.exchanges.take(id)
                    {
                        self.resume_host(&mut exchange);
                        self.exchanges.put_back(id, exchange);
                    }
                }
                Event::Response { .. } | Event::Settings | Event::GoAway { .. } | Event::Pong => {}
            }
        }
        self.sockets.uncork();
        self.scratch = Some(scratch);
    }

    /// Whether a stream's token still names its exchange.
    fn is_stream(&self, key: Key, stream: Stream, token: u64) -> bool {
        let exchange = ExchangeId::of_token(token).and_then(|id| self.exchanges.get(id));
        exchange.is_some_and(|exchange| exchange.client_side == ClientSide::H2(key, stream))
    }

    fn h2_request(&mut self, key: Key, stream: Stream, end: bool, scratch: &mut Scratch) {
        let generation = self.snapshot.generation;
        if self.client(key).is_some_and(|client| client.generation != generation) {
            self.pick_chain_anew(key);
        }
        let now = self.now;
        let Some(down) = self.h2_client(key) else { return };
        down.timers.stream_began(now);
        down.client.begin_request();
        // Over the edge nobody is a proxy of ours.
        let mesh = !down.client.http.settings.forwarded.use_remote_address;
        let mut exchange = self.exchanges.blank(ClientSide::H2(key, stream), now);
        scratch.take_head(&mut exchange.head, &mut exchange.head_storage);
        if mesh {
            exchange.request.hop = hop::restore_request(&mut exchange.head, &mut exchange.head_storage);
        } else {
            hop::strip(&mut exchange.head_storage);
        }
        exchange.request.received_head = exchange.head.len() as u64;
        // What follows the head of an upgrade or a CONNECT belongs to the tunnel, if there will be one.
        exchange.tunnel = Tunnel::asked_by(&exchange.head_view());
        let tunnel = exchange.asks_for_tunnel();
        exchange.request.progress = Progress::of(end || tunnel);
        if end {
            exchange.tunnel.end_client();
        }
        self.request(key, exchange, &[]);
    }

    /// More of a request's body, or its end.
    fn h2_request_body(
        &mut self,
        key: Key,
        stream: Stream,
        token: u64,
        bytes: &[u8],
        trailers: &[u8],
        end: bool,
    ) {
        if !self.is_stream(key, stream, token) {
            // Answered already: what is still under way for it is read away.
            if let Some(down) = self.h2_client(key) {
                down.codec.consume(stream, bytes.len());
            }
            return;
        }
        let now = self.now;
        let Some(id) = ExchangeId::of_token(token) else { return };
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.request.received += bytes.len() as u64;
        if exchange.tunnel.is_open() {
            if end {
                exchange.tunnel.end_client();
            }
            self.forward_request(id, bytes, &[]);
            if end {
                self.client_half_closed(id);
            }
            return;
        }
        if exchange.asks_for_tunnel() {
            exchange.early.extend_from_slice(bytes);
            if end {
                exchange.tunnel.end_client();
            }
            exchange.request.held += bytes.len();
            return;
        }
        let held = exchange.phase == Phase::Unended;
        exchange.request.progress = Progress::of(end);
        if end {
            exchange.times.request_ended = now;
        }
        self.forward_request(id, bytes, trailers);
        if end {
            self.request_complete(id);
        }
        if end && held {
            self.wake(id);
        }
    }

    /// The codec refused a request and has answered it: counted and logged here.
    fn h2_refused(&mut self, key: Key, reject: &wire::Reject) {
        let mut exchange = self.exchanges.blank(ClientSide::Nobody, self.now);
        exchange.head.clear();
        let id = self.exchanges.reserve(&mut exchange);
        let Some(client) = self.client(key) else {
            self.exchanges.retire(id, exchange);
            return;
        };
        client.begin_request();
        let stats = client.http.stats.clone();
        let shard = &self.telemetry.shard;
        shard.inc(stats.downstream_rq_total);
        shard.inc(stats.downstream_rq_http2_total);
        shard.shift(stats.downstream_rq_active, 1);
        exchange.response.flags = Flags::from_short_names(reject.flag).unwrap_or(Flags::NONE);
        exchange.response.details = reject.details.into();
        exchange.response.status = reject.status;
        exchange.request.progress = Progress::Whole;
        self.report(key, &exchange);
        self.exchanges.retire(id, exchange);
    }

    /// The client wants no answer any more.
    fn h2_client_reset(&mut self, key: Key, id: ExchangeId) {
        if let Some(client) = self.client(key) {
            let stats = client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_rq_rx_reset);
        }
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.response.flags.insert(Flags::DOWNSTREAM_CONNECTION_TERMINATION);
        exchange.response.details = "downstream_remote_reset".into();
        self.abort_exchange(id, exchange);
    }

    /// The connection can not go on: its last words are said, what was asked on it is given up.
    fn h2_client_failed(&mut self, key: Key, error: &ConnectionError) {
        if let Some(client) = self.client(key) {
            let stats = client.http.stats.clone();
            if error.code != ErrorCode::NO_ERROR {
                self.telemetry.shard.inc(stats.downstream_cx_protocol_error);
            }
        }
        self.h2_give_up(key);
        self.sockets.pause(key);
        self.end_h2_client_by(key);
        self.flush_later(key);
    }

    /// The client is gone, and with it whatever it asked for.
    pub(crate) fn h2_client_gone(&mut self, key: Key) {
        self.h2_give_up(key);
        self.close_downstream(key);
    }

    fn h2_give_up(&mut self, key: Key) {
        let Some(down) = self.h2_client(key) else { return };
        let tokens: Vec<u64> = down.codec.streams().map(|(_, token)| token).collect();
        for id in tokens.into_iter().filter_map(ExchangeId::of_token) {
            if self.exchanges.get(id).is_some_and(|exchange| exchange.client_side.key() == key) {
                self.client_left(id);
            }
        }
    }

    /// What had to be sent has been, or as much as goes now.
    pub(crate) fn h2_client_flushed(&mut self, key: Key) {
        let now = self.now;
        let Some(down) = self.h2_client(key) else { return };
        let (waiting, open) = (down.codec.output().len(), down.codec.open_streams());
        if waiting == 0 && (down.ending || down.codec.is_drained()) {
            let http = down.client.http.clone();
            http.closed(&self.telemetry);
            return self.linger_for(key, http.settings.timeouts.delayed_close);
        }
        down.timers.streams(now, open);
        let held = !down.held.is_empty();
        if open == 0 {
            self.arm_h2_client(key);
        }
        if held && self.turn_is_used_up() {
            self.read_later(key);
        } else if held {
            self.h2_read_held(key);
        }
    }

    /// If the client has read what waited for it, what it sent meanwhile is handled, and more is read if it reads on.
    pub(crate) fn h2_read_held(&mut self, key: Key) {
        let Some(down) = self.h2_client(key) else { return };
        if down.ending || down.codec.output().len() > READ_AGAIN_MARK {
            return;
        }
        let held = std::mem::take(&mut down.held);
        self.h2_client_bytes(key, &held);
        if self.h2_client(key).is_some_and(|down| down.held.is_empty() && !down.ending) {
            self.resume(key);
        }
    }

    /// The connection closes once GOAWAY is sent, and after [`RELEASE_AFTER`] also if the client does not read it.
    fn end_h2_client_by(&mut self, key: Key) {
        if let Some(down) = self.h2_client(key) {
            down.ending = true;
            down.held = vec![];
        }
        self.sockets.set_deadline(key, self.now.after(RELEASE_AFTER));
    }

    /// No request is taken any more; those under way go on.
    pub(crate) fn drain_h2(&mut self, key: Key) {
        let Some(down) = self.h2_client(key) else { return };
        down.codec.shutdown();
        let stats = down.client.http.stats.clone();
        self.telemetry.shard.inc(stats.downstream_cx_drain_close);
        self.flush_later(key);
        self.arm_h2_client(key);
    }

    /// Sets the timer to the earliest thing that may end.
    fn arm_h2_client(&mut self, key: Key) {
        let Some(down) = self.h2_client(key) else { return };
        if down.ending {
            return;
        }
        let deadline = down.codec.deadline().map_or(Time::NEVER, |at| Time::default().after(at));
        let deadline = deadline.min(down.timers.deadline(down.limits())).min(down.head_deadline());
        self.sockets.set_deadline(key, deadline);
    }

    pub(crate) fn h2_client_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(Conn::DownstreamH2(down)) = self.conns.get_mut(key) else { return };
        if down.ending {
            self.close_downstream(key);
            return;
        }
        let http = down.client.http.clone();
        let polled = down.codec.poll_timeouts(now.as_duration());
        let shard = &self.telemetry.shard;
        // Envoy's tx_flush_timeout; here among the resets this side sends.
        shard.add(http.stats.downstream_rq_tx_reset, down.codec.take_unflushed());
        if let Err(error) = polled {
            self.h2_client_failed(key, &error);
            return;
        }
        if down.head_deadline() <= now {
            // Nothing else can be understood before the rest of it: the connection ends, not the request alone.
            down.codec.leave_now(ErrorCode::ENHANCE_YOUR_CALM);
            shard.inc(http.stats.downstream_rq_header_timeout);
            self.h2_give_up(key);
            self.sockets.pause(key);
            self.end_h2_client_by(key);
            self.flush_later(key);
            return;
        }
        down.timers.streams(now, down.codec.open_streams());
        let limits = down.limits();
        while let Some(due) = down.timers.due(now, limits) {
            match due {
                Due::Release => {
                    let before = down.codec.memory();
                    down.codec.release_memory();
                    self.stirred.freed(before.saturating_sub(down.codec.memory()));
                }
                Due::TooOld => {
                    down.codec.shutdown();
                    shard.inc(http.stats.downstream_cx_max_duration_reached);
                }
                Due::Idle => {
                    down.codec.leave_now(ErrorCode::NO_ERROR);
                    shard.inc(http.stats.downstream_cx_idle_timeout);
                    self.end_h2_client_by(key);
                    self.flush_later(key);
                    return;
                }
            }
        }
        self.flush_later(key);
        self.arm_h2_client(key);
    }

    /// The exchange of an HTTP/2 stream is over: what is left of the stream is closed, and maybe its connection.
    pub(crate) fn finish_stream(&mut self, key: Key, stream: Stream, exchange: &Exchange) {
        let (now, draining) = (self.now, self.draining);
        let Some(down) = self.h2_client(key) else { return };
        let mut armed = false;
        if exchange.ending == Ending::Broken {
            down.codec.reset(stream, ErrorCode::INTERNAL_ERROR);
        } else {
            down.codec.finish(stream);
            // The exchange and its deadlines end here; what the client's window keeps back has one of its own.
            if let Some(idle) = exchange.times.idle_timeout {
                armed = down.codec.flush_by(stream, now.after(idle).as_duration());
            }
        }
        if down.client.last || draining {
            down.codec.shutdown();
        }
        if armed {
            self.arm_h2_client(key);
        }
        self.flush_later(key);
    }
}

impl DownstreamH2 {
    fn limits(&self) -> H2Limits {
        let timeouts = &self.client.http.settings.timeouts;
        H2Limits { idle: timeouts.idle, longest: timeouts.max_connection_duration }
    }

    /// When the head being read must be complete.
    fn head_deadline(&self) -> Time {
        let timeouts = &self.client.http.settings.timeouts;
        let timeout = crate::exchange::timeout::shorter(timeouts.request_headers, timeouts.request);
        self.head_began.zip(timeout).map_or(Time::NEVER, |(began, timeout)| began.after(timeout))
    }
}
