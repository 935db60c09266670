//! Step 6: one attempt: a host, a connection to it, the request on its way.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use model::cluster::{ClusterKind, UpstreamProtocol};
use model::retry::Outcome;
use model::route::Priority;
use telemetry::Flags;
use wire::h1::Version;

use super::Worker;
use super::exchange::{Exchange, ExchangeId, Phase};
use super::local_reply::{Reply, Reset};
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
