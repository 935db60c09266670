//! Step 6, second half: the request of an attempt on its way, as its host speaks.

use model::retry::Outcome;
use wire::h1::{BodyReader, Version, write_request};
use wire::h2::hop::shape_request;
use wire::{BodyFraming, HeaderId};

use super::Worker;
use super::client_side::ClientSide;
use super::connection::{Conn, Reading};
use super::exchange::{Deadline, Exchange, ExchangeId, Phase};
use super::host_side::HostSide;
use super::local_reply::Reset;
use super::request_edits::set_host;
use crate::net::sockets::Key;
use crate::upstream::counted::RequestAtHost;
use crate::upstream::{HostRef, bump};

impl Worker {
    /// Sends the request on a connection: its head as this attempt has it, and what has come of its body.
    pub(super) fn send_request(
        &mut self,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        key: Key,
        body: &[u8],
    ) {
        let now = self.now;
        exchange.phase = Phase::Attempt;
        exchange.times.attempt_started = now;
        exchange.response.interim = 0;
        let (host, introduce) = match self.conns.get_mut(key) {
            Some(Conn::Upstream(up)) => {
                exchange.host_side =
                    if exchange.tunnel.ends_here() { HostSide::Raw(key) } else { HostSide::H1(key) };
                up.exchange = Some(id);
                up.reading = Reading::Head;
                up.requests += 1;
                up.answered = false;
                up.sent_before = self.sockets.written(key);
                exchange.response.upstream_local = up.local;
                exchange.response.upstream_version = Some(Version::Http11);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            Some(Conn::UpstreamH2(up)) => {
                exchange.host_side = HostSide::Unopened(key);
                up.requests += 1;
                up.timers.stream_began(now);
                if let Some(cluster) = &exchange.counted.cluster {
                    let most = cluster.config.borrow().max_requests_per_connection;
                    if most.is_some_and(|most| up.requests >= most) {
                        up.retiring = true;
                        self.telemetry.shard.inc(cluster.stats.upstream_cx_max_requests);
                    }
                }
                exchange.response.upstream_local = up.local;
                exchange.response.upstream_version = Some(Version::Http2);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            _ => {
                self.exchanges.put_back(id, exchange);
                return;
            }
        };
        bump(&host.total_requests, 1);
        self.telemetry.shard.inc(host.cluster.stats.upstream_rq_total);
        exchange.counted.host = Some(RequestAtHost::new(&host.pool));
        self.edit_for_attempt(&mut exchange, &host, introduce && host.mesh);
        match exchange.host_side {
            // Nothing to send before the tunnel.
            HostSide::Raw(_) | HostSide::None => {}
            HostSide::H1(_) => self.write_request_h1(key, &mut exchange, body),
            HostSide::Unopened(_) | HostSide::H2(..) => {
                if !self.upgrade_waits(key, &exchange) && !self.open_stream(key, &mut exchange, body) {
                    self.exchanges.put_back(id, exchange);
                    self.attempt_failed(key, id, Reset::refused_stream(), Outcome::RefusedStream);
                    return;
                }
            }
        }
        let longest = host.cluster.config.borrow().max_stream_duration;
        exchange.times.try_end = longest.map_or(Deadline::NEVER, |longest| Deadline(now.after(longest)));
        self.start_try_timeout(&mut exchange);
        self.arm(&mut exchange);
        self.pace_client(&mut exchange, 0);
        let (client, host) = (exchange.client_side, exchange.host_side);
        let waits = self.backlog_to_host(&exchange) > 0;
        self.exchanges.put_back(id, exchange);
        if let (ClientSide::H1(client), false) = (client, waits) {
            self.resume(client);
        }
        if let HostSide::Raw(key) = host
            && !self.sockets.is_connecting(key)
        {
            self.answer_connect(key);
        }
    }

    /// A CONNECT that ends here is granted once its host is connected to: as if the host had said so.
    pub(super) fn answer_connect(&mut self, key: Key) {
        self.upstream_bytes(key, b"HTTP/1.1 200 OK\r\n\r\n");
    }

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
    pub(super) fn open_stream(&mut self, key: Key, exchange: &mut Exchange, body: &[u8]) -> bool {
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
        if !exchange.client_side.is_h2() {
            // Kept as framed, trailers and all.
            self.send_body(exchange, &kept, &[], end && body.is_empty());
            if !body.is_empty() {
                self.send_body(exchange, body, &[], end);
            }
        } else {
            self.send_body(
                exchange,
                &kept,
                if body.is_empty() { &trailers } else { &[] },
                end && body.is_empty(),
            );
            if !body.is_empty() {
                self.send_body(exchange, body, &trailers, end);
            }
        }
        exchange.trailers = trailers;
        self.keep_again(exchange, kept, body);
    }

    /// What was sent may have to be sent once more.
    fn keep_again(&mut self, exchange: &mut Exchange, kept: Vec<u8>, body: &[u8]) {
        if exchange.request.replayable && kept.len() + body.len() <= self.replay_limit(exchange) {
            exchange.replay = kept;
            exchange.replay.extend_from_slice(body);
        } else {
            self.give_up_replay(exchange);
        }
    }

    /// What differs from attempt to attempt.
    fn edit_for_attempt(&mut self, exchange: &mut Exchange, host: &HostRef, introduce: bool) {
        let Some(routed) = &exchange.target.route else { return };
        let count = routed.virtual_host().is_some_and(|host| host.attempt_count_in_request);
        let tell = routed.http.peer_metadata.is_some_and(|config| config.to_upstream) && introduce;
        let suppress = routed.http.settings.router.suppress_envoy_headers;
        let forwarded_host = routed.forward().is_some_and(|forward| forward.append_x_forwarded_host);
        if exchange.target.auto_host && !host.hostname.is_empty() {
            set_host(exchange, host.hostname.as_bytes(), forwarded_host, suppress);
        }
        self.tell_time_left(exchange);
        let head = exchange.head_storage.request(&exchange.head);
        if count {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyAttemptCount);
            exchange.edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.target.attempts.into());
        }
        if exchange.target.attempts > 1 {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadata);
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadataId);
        }
        if let (true, Some(introduction)) = (tell, &self.shared.introduction) {
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadata, introduction.metadata.as_bytes());
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadataId, introduction.id.as_bytes());
        }
    }
}
