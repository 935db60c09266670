//! Step 6: one attempt: a host, a connection to it, the request on its way.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use model::cluster::{ClusterKind, UpstreamProtocol};
use model::retry::Outcome;
use model::route::Priority;
use model::transport::UpstreamTransport;
use telemetry::Flags;
use wire::h1::Version;

use crate::exchange::{Exchange, ExchangeId, Phase};
use crate::net::failure::failure_text;
use crate::net::sockets::{Key, high_water};
use crate::request::routed::Routed;
use crate::response::reply::{Reply, Reset};
use crate::upstream::breaker::{Limited, Taken};
use crate::upstream::cluster::{ClusterState, NoHost};
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::counted::{PendingSlot, RequestSlot};
use crate::upstream::host::{HostRef, bump};
use crate::upstream::outlier::Fared;
use crate::worker::Worker;

/// Where an attempt goes, as the configuration has it now.
struct Target {
    cluster: Rc<ClusterState>,
    config: Rc<ClusterConfig>,
    priority: Priority,
}

/// The connection of an attempt.
enum Place {
    /// One that was there, or was made for this attempt.
    On(Key),
    /// The limit of connections is reached: wait for one.
    Queue,
}

/// Why an attempt is not made.
enum Refused {
    NoHost,
    /// A circuit breaker.
    Overflow,
    Connect(io::Error),
}

impl Target {
    fn limits(&self) -> &model::cluster::Breakers {
        self.config.breakers(self.priority)
    }
}

impl Worker {
    /// Starts an attempt: a host is picked, the breakers admit it, it finds a connection, the request goes. `body`: what
    /// has come of the request's body and is not kept for replay.
    pub(crate) fn attempt(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        let Some(target) = self.target(&exchange) else { return self.no_cluster(id, exchange) };
        if exchange.counted.request.is_none() {
            let random = &mut self.random;
            if let Some(all) = target.cluster.drops(|| random.next_u64()) {
                return self.dropped(id, exchange, &target.cluster, all);
            }
        }
        let host = match self.pick_host(&target.cluster, &target.config, &exchange) {
            Ok(host) => host,
            Err(NoHost) => return self.refuse_attempt(id, exchange, Refused::NoHost),
        };
        exchange.request.bound.0 = high_water(target.config.buffer_limit);
        if let Some(client) = self.client(exchange.client_side.key()) {
            exchange.response.bound.0 = high_water(client.origin.listener.buffer_limit);
        }
        exchange.response.upstream_remote = Some(host.address);
        exchange.target.host = Some(host.clone());
        let placed = self
            .admit_attempt(&mut exchange, &target)
            .and_then(|()| self.place(&mut exchange, &target, &host));
        exchange.target.attempts += u32::from(!matches!(placed, Err(Refused::Overflow | Refused::NoHost)));
        match placed {
            Ok(place) => self.go(id, exchange, &host, &place, body),
            Err(refused) => {
                // What came of the body goes with the next attempt, if there is one.
                self.keep_for_replay(&mut exchange, body, &[]);
                self.refuse_attempt(id, exchange, refused);
            }
        }
    }

    /// The newest configuration decides on the hosts, the exchange's own on all else.
    fn target(&mut self, exchange: &Exchange) -> Option<Target> {
        let routed = exchange.target.route.as_ref()?;
        let cluster = routed.cluster()?.id;
        let priority = routed.priority()?;
        let newest = self.snapshot.clone();
        let cluster = self
            .clusters
            .get(&newest, cluster, self.now)
            .or_else(|| self.clusters.get(routed.snapshot(), cluster, self.now))?;
        let config = cluster.config.borrow().clone();
        Some(Target { cluster, config, priority })
    }

    /// The breaker of requests, once for all attempts.
    fn admit_attempt(&mut self, exchange: &mut Exchange, target: &Target) -> Result<(), Refused> {
        let counted = &mut exchange.counted;
        if counted.request.is_some() {
            return Ok(());
        }
        let slot = RequestSlot::take(&target.cluster.core, target.priority, target.limits().max_requests);
        let Some(slot) = slot else {
            self.telemetry.shard.inc(target.cluster.stats.upstream_rq_pending_overflow);
            return Err(Refused::Overflow);
        };
        counted.request = Some(slot);
        counted.priority = target.priority;
        counted.cluster = Some(target.cluster.clone());
        Ok(())
    }

    /// A connection that is there, a new one, or a place in the queue.
    fn place(&mut self, exchange: &mut Exchange, target: &Target, host: &HostRef) -> Result<Place, Refused> {
        // Only once the former attempt's is given back: it must not stand in the way of its own retry.
        exchange.counted.pending = None;
        let speaks = speaks(host, exchange);
        let kept = match speaks {
            _ if exchange.tunnel.ends_here() => None,
            Speaks::Http1 => self
                .kept_connection(host)
                .or_else(|| self.borrowed_connection(host, &target.config, target.limits().max_connections)),
            Speaks::Http2 => self.shared_connection(host, &target.config),
            Speaks::Either => {
                self.shared_connection(host, &target.config).or_else(|| self.kept_connection(host))
            }
        };
        if let Some(key) = kept {
            if self.sockets.is_connecting(key) {
                // As Envoy: what waits for a connection is pending, also beside others.
                exchange.counted.pending = Some(self.pend(target)?);
            }
            return Ok(Place::On(key));
        }
        let pending = self.pend(target)?;
        self.telemetry.shard.inc(target.cluster.stats.upstream_rq_pending_total);
        // A burst at a host met for the first time does not become a burst of connections.
        let wait = match speaks {
            Speaks::Http1 => false,
            Speaks::Http2 => self.shared_is_young(host),
            Speaks::Either => self.shared_is_young(host) || self.enough_undecided(host, 1),
        };
        let most = target.limits().max_connections;
        let Some(slot) = (if wait { None } else { self.connection_slot(host, most) }) else {
            if exchange.tunnel.ends_here() {
                // The connections that come free have carried HTTP.
                return Err(Refused::Overflow);
            }
            exchange.counted.pending = Some(pending);
            return Ok(Place::Queue);
        };
        if speaks == Speaks::Either {
            self.connect_undecided(&target.config, host, slot).map_err(Refused::Connect)?;
            exchange.counted.pending = Some(pending);
            return Ok(Place::Queue);
        }
        let http2 = speaks == Speaks::Http2;
        let key = self.new_connection(&target.config, host, http2, slot).map_err(Refused::Connect)?;
        if self.sockets.is_connecting(key) {
            exchange.counted.pending = Some(pending);
        }
        Ok(Place::On(key))
    }

    /// A place among those that wait for a connection.
    fn pend(&mut self, target: &Target) -> Result<PendingSlot, Refused> {
        let most = target.limits().max_pending_requests;
        PendingSlot::take(&target.cluster.core, target.priority, most).ok_or_else(|| {
            self.telemetry.shard.inc(target.cluster.stats.upstream_rq_pending_overflow);
            Refused::Overflow
        })
    }

    /// A place for one connection more. Connections serve requests of either priority in their time, so they count once.
    pub(crate) fn connection_slot(&mut self, host: &HostRef, most: u32) -> Option<Taken> {
        let counts = &host.cluster.counts;
        let slot = counts.take(Priority::Default, Limited::Connections, most);
        if slot.is_none() {
            self.telemetry.shard.inc(host.cluster.stats.upstream_cx_overflow);
            if host.connections.get() == 0 {
                // Envoy: a host without any connection gets one all the same.
                return Some(counts.take_over(Priority::Default, Limited::Connections, most));
            }
        }
        slot
    }

    /// The request is on its way, or waits.
    fn go(
        &mut self,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        host: &HostRef,
        place: &Place,
        body: &[u8],
    ) {
        self.arm(&mut exchange);
        match *place {
            Place::On(key) => {
                if !self.sockets.is_connecting(key) {
                    self.observe(&exchange, Fared::Connected);
                }
                self.send_request(id, exchange, key, body);
            }
            Place::Queue => {
                exchange.phase = Phase::Queued;
                self.keep_for_replay(&mut exchange, body, &[]);
                self.pace_client(&mut exchange, 0);
                host.queue.borrow_mut().push_back(id);
                self.exchanges.put_back(id, exchange);
            }
        }
    }

    fn refuse_attempt(&mut self, id: ExchangeId, exchange: Box<Exchange>, refused: Refused) {
        match refused {
            Refused::NoHost => {
                if let Some(target) = self.target(&exchange) {
                    self.telemetry.shard.inc(target.cluster.stats.upstream_cx_none_healthy);
                }
                let flags = Flags::NO_HEALTHY_UPSTREAM;
                let reply = Reply::new(503, b"no healthy upstream", flags, "no_healthy_upstream");
                self.reply(id, exchange, &reply);
            }
            Refused::Overflow => {
                let mut text = vec![];
                let reply = Reply::reset(&Reset::overflow(), &mut text);
                self.reply(id, exchange, &reply);
            }
            Refused::Connect(error) => self.could_not_connect(id, exchange, &error),
        }
    }

    fn pick_host(
        &mut self,
        cluster: &Rc<ClusterState>,
        config: &model::Cluster,
        exchange: &Exchange,
    ) -> Result<HostRef, NoHost> {
        if config.kind == ClusterKind::OriginalDst {
            let address = self.original_destination(config, exchange).ok_or(NoHost)?;
            return Ok(self.clusters.original(cluster, address));
        }
        let policy = exchange
            .target
            .route
            .as_ref()
            .and_then(Routed::forward)
            .and_then(|forward| forward.retry.as_ref());
        let (tried, picks) = match policy {
            Some(policy) if policy.avoid_previous_hosts => {
                (exchange.target.tried.as_slice(), policy.host_selection_attempts)
            }
            _ => (&[][..], 0),
        };
        // Usually nothing was tried, and nothing is allocated for it.
        let priorities = policy
            .and_then(|policy| policy.previous_priorities)
            .map_or_else(Vec::new, |every| cluster.tried_priorities(&exchange.target.tried, every));
        let random = &mut self.random;
        cluster.pick(tried, picks, &priorities, || random.next_u64())
    }

    /// Where the client wanted to go.
    fn original_destination(&mut self, config: &model::Cluster, exchange: &Exchange) -> Option<SocketAddr> {
        let told = config.original_dst.header.as_ref().and_then(|name| {
            let head = exchange.head_view();
            let text = std::str::from_utf8(exchange.edits.value(&head, name.as_bytes())?).ok()?;
            // A scope is this machine's alone; nobody else can mean it.
            text.parse().ok().filter(|_| !text.contains('%'))
        });
        let mut address = match told {
            Some(address) => address,
            None => self.client(exchange.client_side.key())?.origin.destination()?,
        };
        if let Some(port) = config.original_dst.port {
            address.set_port(port);
        }
        Some(address)
    }

    /// Connecting failed at once.
    fn could_not_connect(&mut self, id: ExchangeId, exchange: Box<Exchange>, error: &io::Error) {
        if let Some(host) = &exchange.target.host {
            self.telemetry.shard.inc(host.cluster.stats.upstream_cx_connect_fail);
            bump(&host.failed_connects, 1);
            self.leave_room(host.clone());
        }
        self.exchanges.put_back(id, exchange);
        let reset = Reset::connection_failure(Some(format!(
            "immediate connect error: {}",
            failure_text(error.kind(), Some(error))
        )));
        self.attempt_over(id, reset, Outcome::ConnectFailure);
    }

    fn no_cluster(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        let status = exchange
            .target
            .route
            .as_ref()
            .and_then(Routed::forward)
            .map_or(503, |forward| forward.cluster_not_found);
        self.reply(id, exchange, &Reply::new(status, b"", Flags::NO_CLUSTER_FOUND, "cluster_not_found"));
    }

    /// Envoy: `drop_overloads` of the endpoints, before a host is looked for. `all`: every request is dropped.
    fn dropped(&mut self, id: ExchangeId, exchange: Box<Exchange>, cluster: &Rc<ClusterState>, all: bool) {
        cluster.codes.response(&self.telemetry.shard, 503);
        let suppress = exchange
            .target
            .route
            .as_ref()
            .is_some_and(|routed| routed.http.settings.router.suppress_envoy_headers);
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

    /// The connection an attempt waits for is made.
    pub(crate) fn attempt_connected(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.counted.pending = None;
        self.observe(&exchange, Fared::Connected);
        self.exchanges.put_back(id, exchange);
    }

    /// The attempt is given up: its connection is closed, for half a message can not be taken back.
    pub(crate) fn abandon_attempt(&mut self, id: ExchangeId, exchange: &mut Exchange) {
        let was_pending = exchange.counted.pending.take().is_some();
        if exchange.phase == Phase::Queued
            && let Some(host) = &exchange.target.host
        {
            host.queue.borrow_mut().retain(|waiting| *waiting != id);
            if was_pending {
                self.telemetry.shard.inc(host.cluster.stats.upstream_rq_cancelled);
            }
        }
        exchange.counted.host = None;
        self.abort_host(id, exchange);
    }
}

/// What a host is spoken to in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    /// The host says so when the connection is made.
    Either,
}

fn speaks(host: &HostRef, exchange: &Exchange) -> Speaks {
    let http2 = match host.key.protocol {
        // What becomes a tunnel at once is spoken to in neither.
        _ if exchange.tunnel.ends_here() => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::SameAsDownstream => {
            exchange.head_view().version() == Version::Http2 || host.key.hop
        }
        UpstreamProtocol::Http1 => host.key.hop,
        // Without a handshake nobody says (and configuration that asks for it is refused).
        UpstreamProtocol::Auto if host.key.transport == UpstreamTransport::RawBuffer => false,
        UpstreamProtocol::Auto => return Speaks::Either,
    };
    if http2 { Speaks::Http2 } else { Speaks::Http1 }
}
