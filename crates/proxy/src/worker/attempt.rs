//! Step 6: one attempt: a host, a connection to it, the request on its way.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use model::cluster::{ClusterKind, UpstreamProtocol};
use model::retry::Outcome;
use model::route::Priority;
use telemetry::Flags;
use wire::h1::{BodyReader, Scheme, Version, write_request};
use wire::h2::hop::shape_request;
use wire::{BodyFraming, HeaderId};

use super::Worker;
use super::connection::{Conn, Reading};
use super::exchange::{Deadline, Exchange, ExchangeId, Phase};
use super::local_reply::{Reply, Reset};
use super::request_edits::set_host;
use super::route::Routed;
use crate::net::sockets::{Key, high_water};
use crate::upstream::breaker::{give_back, take, take_anyway};
use crate::upstream::{ClusterConfig, ClusterState, HostRef, bump};

/// Where an attempt's connection comes from.
enum Place {
    /// A kept-alive one.
    Kept(Key),
    New(Key),
    /// The limit of connections is reached: wait for one.
    Queue,
}

impl Worker {
    /// Starts an attempt. `body`: what has come of the request's body and is not kept for replay.
    pub(super) fn attempt(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        let now = self.now;
        let Some(routed) = exchange.route.as_ref() else { return self.no_cluster(id, exchange) };
        let snapshot = routed.snapshot().clone();
        let Some(cluster_id) = routed.cluster().map(|cluster| cluster.id) else {
            return self.no_cluster(id, exchange);
        };
        // The newest configuration decides on the hosts, the exchange's own on all else.
        let newest = self.snapshot.clone();
        let cluster = self
            .clusters
            .get(&newest, cluster_id, now)
            .or_else(|| self.clusters.get(&snapshot, cluster_id, now));
        let Some(cluster) = cluster else { return self.no_cluster(id, exchange) };
        let config = cluster.config.borrow().clone();
        let Some(priority) = routed.forward().map(|forward| forward.priority) else {
            return self.no_cluster(id, exchange);
        };
        let limits = *config.breakers(priority);
        let counters = cluster.counts.of(priority);
        // A connection serves requests of either priority in its time, so it counts once.
        let connections = cluster.counts.of(Priority::Default);

        if !exchange.counted.active {
            let random = &mut self.random;
            if let Some(all) = cluster.drops(|| random.next_u64()) {
                return self.dropped(id, exchange, &cluster, all);
            }
        }
        let host = match self.pick_host(&cluster, &config, &exchange) {
            Ok(host) => host,
            Err(()) => {
                self.telemetry.shard.inc(cluster.stats.upstream_cx_none_healthy);
                let reply = Reply::new(
                    503,
                    b"no healthy upstream",
                    Flags::NO_HEALTHY_UPSTREAM,
                    "no_healthy_upstream",
                );
                self.reply(id, exchange, &reply);
                return;
            }
        };
        exchange.bound_up = high_water(config.buffer_limit);
        if let Some(client) = self.client(exchange.down) {
            exchange.bound_down = high_water(client.origin.listener.buffer_limit);
        }
        exchange.host = Some(host.clone());
        exchange.upstream_remote = Some(host.address);
        if !exchange.counted.active {
            match take(&counters.requests, limits.max_requests) {
                Some(taken) => exchange.counted.request = taken,
                None => {
                    self.telemetry.shard.inc(cluster.stats.upstream_rq_pending_overflow);
                    return self.overflow(id, exchange);
                }
            }
            exchange.counted.active = true;
            exchange.counted.priority = priority;
            exchange.counted.cluster = Some(cluster.clone());
            bump(&cluster.active, 1);
        }
        let http2 = !exchange.terminates && speaks_http2(&config, &host, &exchange);
        let kept = match http2 {
            _ if exchange.terminates => None,
            true => self.shared_connection(&host, &config),
            false => self.kept_connection(&host),
        };
        let place = match kept {
            Some(key) => Place::Kept(key),
            None => {
                match take(&counters.pending, limits.max_pending_requests) {
                    Some(taken) => exchange.counted.pending = taken,
                    None => {
                        self.telemetry.shard.inc(cluster.stats.upstream_rq_pending_overflow);
                        return self.overflow(id, exchange);
                    }
                }
                self.telemetry.shard.inc(cluster.stats.upstream_rq_pending_total);
                let slot = match take(&connections.connections, limits.max_connections) {
                    // A burst at a host met for the first time does not become a burst of connections.
                    Some(mut taken) if http2 && self.shared_is_young(&host) => {
                        give_back(&connections.connections, &mut taken);
                        None
                    }
                    Some(taken) => Some(taken),
                    None => {
                        self.telemetry.shard.inc(cluster.stats.upstream_cx_overflow);
                        // Envoy: a host without any connection gets one all the same.
                        (host.connections.get() == 0)
                            .then(|| take_anyway(&connections.connections, limits.max_connections))
                    }
                };
                match slot {
                    // The connections that come free have carried HTTP.
                    None if exchange.terminates => return self.overflow(id, exchange),
                    None => Place::Queue,
                    Some(taken) => match self.new_connection(&cluster, &config, &host, http2, taken) {
                        Ok(key) => Place::New(key),
                        Err((error, mut taken)) => {
                            give_back(&connections.connections, &mut taken);
                            self.could_not_connect(id, exchange, &host, &error);
                            return;
                        }
                    },
                }
            }
        };
        match place {
            Place::New(key) if !self.sockets.is_connecting(key) => exchange.counted.end_pending(),
            Place::Kept(key) if self.sockets.is_connecting(key) => {
                // As Envoy: what waits for a connection is pending, also beside others.
                match take(&counters.pending, limits.max_pending_requests) {
                    Some(taken) => exchange.counted.pending = taken,
                    None => {
                        self.telemetry.shard.inc(cluster.stats.upstream_rq_pending_overflow);
                        return self.overflow(id, exchange);
                    }
                }
            }
            _ => {}
        }
        exchange.attempts += 1;
        self.arm(&mut exchange);
        match place {
            Place::Kept(key) | Place::New(key) => self.send_request(id, exchange, key, body),
            Place::Queue => {
                exchange.phase = Phase::Queued;
                self.keep_for_replay(&mut exchange, body, &[]);
                self.hold_back(&mut exchange, 0);
                host.queue.borrow_mut().push_back(id);
                self.exchanges.put_back(id, exchange);
            }
        }
    }

    /// Sends the request on a connection: its head as this attempt has it, and what has come of its body.
    pub(super) fn send_request(
        &mut self,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        key: Key,
        body: &[u8],
    ) {
        let now = self.now;
        exchange.up = Some(key);
        exchange.phase = Phase::Attempt;
        exchange.attempt_started = now;
        exchange.interim = 0;
        let (host, introduce) = match self.conns.get_mut(key) {
            Some(Conn::Upstream(up)) => {
                up.exchange = Some(id);
                up.reading = Reading::Head;
                up.requests += 1;
                up.answered = false;
                exchange.upstream_local = up.local;
                exchange.upstream_version = Some(Version::Http11);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            Some(Conn::UpstreamH2(up)) => {
                up.requests += 1;
                up.used = now;
                if let Some(cluster) = &exchange.counted.cluster {
                    let most = cluster.config.borrow().max_requests_per_connection;
                    if most.is_some_and(|most| up.requests >= most) {
                        up.retiring = true;
                        self.telemetry.shard.inc(cluster.stats.upstream_cx_max_requests);
                    }
                }
                exchange.upstream_local = up.local;
                exchange.upstream_version = Some(Version::Http2);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            _ => {
                self.exchanges.put_back(id, exchange);
                return;
            }
        };
        bump(&host.active, 1);
        bump(&host.total_requests, 1);
        exchange.counted.host = true;
        if let Some(cluster) = &exchange.counted.cluster {
            let shard = &self.telemetry.shard;
            shard.inc(cluster.stats.upstream_rq_total);
            shard.shift(cluster.stats.upstream_rq_active, 1);
        }
        self.edit_for_attempt(&mut exchange, &host, introduce && host.mesh);
        let terminates = exchange.terminates;
        if terminates {
            // Nothing to send before the tunnel.
        } else if matches!(self.conns.get(key), Some(Conn::UpstreamH2(_))) {
            if !self.upgrade_waits(key, &exchange) && !self.open_stream(key, &mut exchange, body) {
                self.exchanges.put_back(id, exchange);
                self.attempt_failed(key, id, Reset::refused_stream(), Outcome::RefusedStream);
                return;
            }
        } else {
            self.write_request_h1(key, &mut exchange, body);
        }
        let longest = host.cluster.upgrade().and_then(|cluster| cluster.config.borrow().max_stream_duration);
        exchange.try_end = longest.map_or(Deadline::NEVER, |longest| Deadline(now.after(longest)));
        self.start_try_timeout(&mut exchange);
        self.arm(&mut exchange);
        self.hold_back(&mut exchange, 0);
        let down = exchange.down;
        let may_read = exchange.stream.is_none() && self.backlog_to_host(&exchange) == 0;
        self.exchanges.put_back(id, exchange);
        if may_read && self.sockets.is_paused(down) && self.sockets.resume(down) {
            self.again.push(down);
        }
        if terminates && !self.sockets.is_connecting(key) {
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
        let head = exchange.request.request(&exchange.head);
        if head.version() == Version::Http2
            && head.framing() == BodyFraming::None
            && !matches!(head.method(), b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"CONNECT")
            && head.known(HeaderId::ContentLength).is_none()
        {
            // HTTP/2 says by itself that there is no body; HTTP/1 where one is to be expected (RFC 9110 §8.6).
            exchange.edits.set_known(&head, HeaderId::ContentLength, b"0");
        }
        if head.is_connect()
            && let Some(host) = exchange.edits.replaced_host().map(<[u8]>::to_vec)
        {
            exchange.edits.target(&host);
        }
        let random = || (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
        exchange.give_websocket_key(random);
        let head = exchange.request.request(&exchange.head);
        write_request(&head, &exchange.edits, &mut out);
        if exchange.stream.is_some() {
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
        let head = exchange.request.request(&exchange.head);
        let upgrade = exchange.asks_for_tunnel();
        let bare = exchange.replay.is_empty() && body.is_empty() && exchange.trailers.is_empty();
        let end = exchange.request_done && bare && !upgrade;
        let scheme = head.scheme().unwrap_or(Scheme::Http);
        let edits = &exchange.edits;
        self.shape.clear();
        if up.hop && exchange.web.is_none() {
            shape_request(&head, edits, &mut self.shape);
        }
        let opened = up.codec.open_with_hop(&head, edits, scheme, end, exchange.id.token(), &self.shape);
        let Ok(stream) = opened else { return false };
        exchange.up_stream = Some(stream);
        exchange.unframe = (exchange.stream.is_none() && exchange.body_framing() == BodyFraming::Chunked)
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
        let end = exchange.request_done;
        if exchange.stream.is_none() {
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
        let limit = exchange.route.as_ref().map_or(0, |routed| routed.replay_limit);
        exchange.replayable &= kept.len() + body.len() <= limit;
        if exchange.replayable {
            exchange.replay = kept;
            exchange.replay.extend_from_slice(body);
        }
    }

    /// What differs from attempt to attempt.
    fn edit_for_attempt(&mut self, exchange: &mut Exchange, host: &HostRef, introduce: bool) {
        let Some(routed) = &exchange.route else { return };
        let count = routed.virtual_host().is_some_and(|host| host.attempt_count_in_request);
        let tell = routed.http.peer_metadata.is_some_and(|config| config.to_upstream) && introduce;
        let suppress = routed.http.settings.router.suppress_envoy_headers;
        let forwarded_host = routed.forward().is_some_and(|forward| forward.append_x_forwarded_host);
        if exchange.auto_host && !host.hostname.is_empty() {
            set_host(exchange, host.hostname.as_bytes(), forwarded_host, suppress);
        }
        let head = exchange.request.request(&exchange.head);
        if count {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyAttemptCount);
            exchange.edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.attempts.into());
        }
        if exchange.attempts > 1 {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadata);
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadataId);
        }
        if let (true, Some(introduction)) = (tell, &self.shared.introduction) {
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadata, introduction.metadata.as_bytes());
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadataId, introduction.id.as_bytes());
        }
    }

    fn pick_host(
        &mut self,
        cluster: &Rc<ClusterState>,
        config: &model::Cluster,
        exchange: &Exchange,
    ) -> Result<HostRef, ()> {
        if config.kind == ClusterKind::OriginalDst {
            let address = self.original_destination(config, exchange).ok_or(())?;
            return Ok(self.clusters.original(cluster, address));
        }
        let policy =
            exchange.route.as_ref().and_then(Routed::forward).and_then(|forward| forward.retry.as_ref());
        let (tried, picks) = match policy {
            Some(policy) if policy.avoid_previous_hosts => {
                (exchange.tried.as_slice(), policy.host_selection_attempts)
            }
            _ => (&[][..], 0),
        };
        // Usually nothing was tried, and nothing is allocated for it.
        let priorities = policy
            .and_then(|policy| policy.previous_priorities)
            .map_or_else(Vec::new, |every| cluster.tried_priorities(&exchange.tried, every));
        let random = &mut self.random;
        cluster.pick(tried, picks, &priorities, || random.next_u64()).map_err(|_| ())
    }

    /// Where the client wanted to go.
    fn original_destination(&mut self, config: &model::Cluster, exchange: &Exchange) -> Option<SocketAddr> {
        let told = config.original_dst.header.as_ref().and_then(|name| {
            let head = exchange.head_view();
            std::str::from_utf8(exchange.edits.value(&head, name.as_bytes())?).ok()?.parse().ok()
        });
        let mut address = match told {
            Some(address) => address,
            None => self.client(exchange.down)?.origin.destination?,
        };
        if let Some(port) = config.original_dst.port {
            address.set_port(port);
        }
        Some(address)
    }

    /// Connecting failed at once.
    fn could_not_connect(
        &mut self,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        host: &HostRef,
        error: &io::Error,
    ) {
        exchange.attempts += 1;
        if let Some(cluster) = host.cluster.upgrade() {
            self.telemetry.shard.inc(cluster.stats.upstream_cx_connect_fail);
        }
        bump(&host.failed_connects, 1);
        self.leave_room(host.clone());
        self.exchanges.put_back(id, exchange);
        let reset = Reset::connection_failure(Some(format!(
            "immediate connect error: {}",
            failure_text(error.kind(), Some(error))
        )));
        self.attempt_over(id, reset, Outcome::ConnectFailure);
    }

    fn no_cluster(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        let status = exchange
            .route
            .as_ref()
            .and_then(Routed::forward)
            .map_or(503, |forward| forward.cluster_not_found);
        self.reply(id, exchange, &Reply::new(status, b"", Flags::NO_CLUSTER_FOUND, "cluster_not_found"));
    }

    /// Envoy: `drop_overloads` of the endpoints, before a host is looked for. `all`: every request is dropped.
    fn dropped(&mut self, id: ExchangeId, exchange: Box<Exchange>, cluster: &Rc<ClusterState>, all: bool) {
        cluster.codes.response(&self.telemetry.shard, 503);
        let suppress =
            exchange.route.as_ref().is_some_and(|routed| routed.http.settings.router.suppress_envoy_headers);
        let (flags, body, details, header) = match all {
            true => (
                Flags::UNCONDITIONAL_DROP_OVERLOAD,
                "unconditional drop overload",
                "unconditional_drop_overload",
                "x-envoy-unconditional-drop-overload",
            ),
            false => (Flags::DROP_OVERLOAD, "drop overload", "drop_overload", "x-envoy-drop-overload"),
        };
        let headers: [(&str, &[u8]); 1] = [(header, b"true")];
        let headers = if suppress { &[][..] } else { &headers[..] };
        let reply = Reply { headers, ..Reply::new(503, body.as_bytes(), flags, details) };
        self.reply(id, exchange, &reply);
    }

    fn overflow(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        let mut text = vec![];
        let reply = Reply::reset(&Reset::overflow(), &mut text);
        self.reply(id, exchange, &reply);
    }

    /// The connection an attempt waits for is made.
    pub(super) fn attempt_connected(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.counted.end_pending();
    }

    /// The attempt is given up: its connection is closed, for half a message can not be taken back.
    pub(super) fn abandon_attempt(&mut self, id: ExchangeId, exchange: &mut Exchange) {
        if exchange.phase == Phase::Queued
            && let Some(host) = &exchange.host
        {
            host.queue.borrow_mut().retain(|waiting| *waiting != id);
        }
        self.release_host(exchange);
        if let Some(key) = exchange.up.take() {
            match exchange.up_stream.take() {
                Some(stream) => self.forget_stream(key, stream, false),
                None if self.forget_upgrade(key, id) => {}
                None => self.discard_upstream(key),
            }
        }
    }

    /// The host has one request less.
    pub(super) fn release_host(&mut self, exchange: &mut Exchange) {
        if !std::mem::take(&mut exchange.counted.host) {
            return;
        }
        if let Some(host) = &exchange.host {
            host.active.set(host.active.get().saturating_sub(1));
        }
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.shift(cluster.stats.upstream_rq_active, -1);
        }
    }

    /// Gives back all that the exchange took from breakers.
    pub(super) fn release(&mut self, exchange: &mut Exchange) {
        self.release_host(exchange);
        let counted = &mut exchange.counted;
        if let Some(cluster) = &counted.cluster {
            let counters = cluster.counts.of(counted.priority);
            give_back(&counters.pending, &mut counted.pending);
            give_back(&counters.requests, &mut counted.request);
            give_back(&counters.retries, &mut counted.retry);
        }
        if std::mem::take(&mut counted.active)
            && let Some(cluster) = &counted.cluster
        {
            cluster.active.set(cluster.active.get().saturating_sub(1));
        }
        counted.cluster = None;
    }
}

/// Whether a request goes to its host by HTTP/2.
fn speaks_http2(config: &ClusterConfig, host: &HostRef, exchange: &Exchange) -> bool {
    match config.protocol {
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::SameAsDownstream => exchange.head_view().version() == Version::Http2 || host.hop,
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto => host.hop,
    }
}

/// An error in the words of the system, as Envoy prints them.
pub fn failure_text(kind: io::ErrorKind, error: Option<&io::Error>) -> String {
    let text = match kind {
        io::ErrorKind::ConnectionRefused => "Connection refused",
        io::ErrorKind::ConnectionReset => "Connection reset by peer",
        io::ErrorKind::HostUnreachable => "No route to host",
        io::ErrorKind::NetworkUnreachable => "Network is unreachable",
        io::ErrorKind::TimedOut => "Connection timed out",
        io::ErrorKind::AddrNotAvailable => "Cannot assign requested address",
        _ => return error.map_or_else(|| kind.to_string(), io::Error::to_string),
    };
    text.to_owned()
}
