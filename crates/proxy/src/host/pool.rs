//! The connections kept to hosts: taken, made, given back, closed.

use std::io;

use model::transport::UpstreamTransport;
use wire::h1::{BodyFraming, BodyReader, PartialHead};

use crate::clock::Time;
use crate::exchange::Phase;
use crate::net::sockets::{Key, Side};
use crate::upstream::breaker::Taken;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::connect;
use crate::upstream::counted::ConnectionSlot;
use crate::upstream::host::HostRef;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Reading, Upstream, UpstreamH2};

impl Worker {
    /// The most recently used idle connection, which is the least likely to have been closed by its host.
    pub(crate) fn kept_connection(&mut self, host: &HostRef) -> Option<Key> {
        loop {
            let key = host.idle.borrow_mut().pop()?;
            if self.is_fit(key, host) {
                self.sockets.set_deadline(key, Time::NEVER);
                return Some(key);
            }
            // It is of no use to anybody: closed here, so that it is not forgotten.
            self.discard_upstream(key);
        }
    }

    /// Whether a kept connection may carry a request: its host has not closed it, as far as can be known, and is not about
    /// to.
    pub(crate) fn is_fit(&mut self, key: Key, host: &HostRef) -> bool {
        if !self.take_back(key) || !self.sockets.is_open(key) || self.sockets.hung_up(key) {
            return false;
        }
        let Some(Conn::Upstream(up)) = self.conns.get(key) else { return false };
        if up.exchange.is_some() {
            return false;
        }
        let idle = self.now.since(up.idle_since);
        let limit = host.idle_limit.get();
        if limit.retire_after(self.now).is_some_and(|limit| idle >= limit) {
            return false;
        }
        !limit.look(idle) || self.sockets.is_quiet(key)
    }

    /// An HTTP/2 connection that takes one request more; also one not made yet, so that a host met for the first time is
    /// not stormed.
    pub(crate) fn shared_connection(&self, host: &HostRef, config: &ClusterConfig) -> Option<Key> {
        let most = usize::try_from(config.h2.max_concurrent_streams).unwrap_or(usize::MAX);
        self.shared_with(host, |up| up.codec.can_open().is_ok() && up.codec.open_streams() < most)
    }

    /// Whether a connection to the host may soon take more: it has not yet said how many.
    pub(crate) fn shared_is_young(&self, host: &HostRef) -> bool {
        self.shared_with(host, |up| !up.codec.is_established()).is_some()
    }

    fn shared_with(&self, host: &HostRef, fits: impl Fn(&UpstreamH2) -> bool) -> Option<Key> {
        let shared = host.shared.borrow();
        shared.iter().copied().find(|key| match self.conns.get(*key) {
            Some(Conn::UpstreamH2(up)) => {
                !up.retiring && fits(up) && self.sockets.is_open(*key) && !self.sockets.hung_up(*key)
            }
            _ => false,
        })
    }

    /// Begins a connection to a host, of HTTP or not. `slot`: its place in the breaker of connections.
    pub(crate) fn connect_to(
        &mut self,
        config: &ClusterConfig,
        host: &HostRef,
        slot: Taken,
    ) -> io::Result<(Key, ConnectionSlot)> {
        self.telemetry.shard.inc(host.cluster.stats.upstream_cx_total);
        host.cluster.health.note_used();
        let key = self.open_socket(config, host)?;
        Ok((key, ConnectionSlot::new(host, slot)))
    }

    /// A socket that connects to a host, with the layer of its transport.
    pub(crate) fn open_socket(&mut self, config: &ClusterConfig, host: &HostRef) -> io::Result<Key> {
        let layer = match &host.key.transport {
            UpstreamTransport::RawBuffer => None,
            UpstreamTransport::Tls(tls) => Some(self.layer_to(tls, config, host)?),
        };
        let network = self.sockets.network();
        let (stream, connecting) = connect::connect(network, &self.shared, config, host.address)?;
        let key = self.sockets.add(stream, Side::Host { connecting })?;
        if let Some(layer) = layer {
            self.sockets.put_layer(key, layer);
            if !connecting {
                self.read_later(key);
            }
        }
        Ok(key)
    }

    pub(crate) fn new_connection(
        &mut self,
        config: &ClusterConfig,
        host: &HostRef,
        http2: bool,
        slot: Taken,
    ) -> io::Result<Key> {
        let (key, slot) = self.connect_to(config, host, slot)?;
        let stats = &host.cluster.stats;
        self.telemetry.shard.inc(match http2 {
            true => stats.upstream_cx_http2_total,
            false => stats.upstream_cx_http1_total,
        });
        let connecting = self.sockets.is_connecting(key);
        if http2 {
            self.start_h2_host(key, host, config, connecting, slot);
            host.shared.borrow_mut().push(key);
            return Ok(key);
        }
        self.start_h1_host(key, host, config, connecting, slot);
        Ok(key)
    }

    /// A new connection's state.
    pub(crate) fn start_h1_host(
        &mut self,
        key: Key,
        host: &HostRef,
        config: &ClusterConfig,
        connecting: bool,
        slot: ConnectionSlot,
    ) {
        let local = (!connecting).then(|| self.local_address(key)).flatten();
        let deadline = if connecting { self.now.after(config.connect_timeout) } else { Time::NEVER };
        self.sockets.set_deadline(key, deadline);
        let up = Upstream {
            host: host.clone(),
            exchange: None,
            reading: Reading::Head,
            body: BodyReader::response(BodyFraming::None, &self.shared.upstream_limits),
            inbox: vec![],
            connecting,
            requests: 0,
            local,
            answered: false,
            deadline,
            sent_before: 0,
            idle_since: self.now,
            partial: PartialHead::default(),
            introduced: false,
            keep_alive: true,
            opened: self.now,
            slot,
        };
        self.put(key, Conn::Upstream(Box::new(up)));
    }

    /// A connection without a request: for who waits, or kept.
    pub(crate) fn pool_upstream(&mut self, key: Key) {
        let draining = self.draining;
        let now = self.now;
        let Some(up) = self.upstream(key) else { return };
        let host = up.host.clone();
        let config = host.cluster.config.borrow().clone();
        let used_up = config.max_requests_per_connection.is_some_and(|most| up.requests >= most);
        let closed_with_it = host.idle_limit.get().is_used_up(now, up.requests);
        let too_old = up.opened < host.drained.get()
            || config.max_connection_duration.is_some_and(|longest| now.since(up.opened) >= longest);
        if used_up {
            self.telemetry.shard.inc(host.cluster.stats.upstream_cx_max_requests);
        }
        let over = used_up || too_old || closed_with_it;
        if over || draining || host.gone.get() || self.sockets.hung_up(key) {
            self.discard_upstream(key);
            return;
        }
        // The client of its last answer may not have kept up: the next one's shall not wait for that.
        self.resume(key);
        if let Some((id, exchange)) = self.next_waiting(&host) {
            return self.send_waiting(id, exchange, key);
        }
        let idle = config.idle_timeout.into_iter().chain(host.idle_limit.get().retire_after(now)).min();
        let deadline = idle.map_or(Time::NEVER, |idle| now.after(idle));
        if let Some(up) = self.upstream(key) {
            up.idle_since = now;
            up.deadline = deadline;
            up.reading = Reading::Head;
        }
        let offered = self.offers_at(&host);
        self.sockets.set_deadline(key, deadline.min(offered));
        host.idle.borrow_mut().push(key);
    }

    /// Closes a connection to a host. Who waits for one may open another.
    pub(crate) fn discard_upstream(&mut self, key: Key) {
        self.take_upstream(key, false);
    }

    /// Closes a connection to a host once all that waits on it is sent.
    pub(crate) fn end_upstream(&mut self, key: Key) {
        self.take_upstream(key, true);
    }

    fn take_upstream(&mut self, key: Key, linger: bool) {
        let lent = !self.take_back(key);
        let Some(Conn::Upstream(up)) = self.conns.get_mut(key) else {
            self.sockets.close(key);
            return;
        };
        let host = up.host.clone();
        let busy = up.exchange.take().is_some();
        if lent {
            up.slot.lend();
        }
        host.idle.borrow_mut().retain(|idle| *idle != key);
        if linger {
            self.linger(key);
        } else {
            self.put(key, Conn::Vacant);
            self.sockets.close(key);
        }
        self.closed_by_us(host, busy);
    }

    /// Closes an HTTP/2 connection to a host, whose requests are all answered for.
    pub(crate) fn discard_h2_host(&mut self, key: Key) {
        let Some(up) = self.h2_host(key) else { return };
        let host = up.host.clone();
        let busy = up.codec.open_streams() > 0;
        host.shared.borrow_mut().retain(|shared| *shared != key);
        self.put(key, Conn::Vacant);
        self.sockets.close(key);
        self.closed_by_us(host, busy);
    }

    fn closed_by_us(&mut self, host: HostRef, busy: bool) {
        if busy {
            self.telemetry.shard.inc(host.cluster.stats.upstream_cx_destroy_local_with_active_rq);
        }
        self.leave_room(host);
    }

    /// There is room for a connection to this host. The first request of its queue gets it at the end of this event
    /// ([`Worker::settle`]), not here: the caller stands in the middle of another request's end.
    pub(crate) fn leave_room(&mut self, host: HostRef) {
        if !host.queue.borrow().is_empty() {
            self.roomy.push(host);
        }
    }

    /// A connection less: the first that waits starts its attempt anew.
    pub(crate) fn serve_queue(&mut self, host: &HostRef) {
        let next = host.queue.borrow_mut().pop_front();
        if let Some(id) = next
            && let Some(mut exchange) = self.exchanges.take(id)
        {
            if exchange.phase == Phase::Queued {
                exchange.counted.pending = None;
                exchange.target.attempts = exchange.target.attempts.saturating_sub(1);
                self.attempt(id, exchange, &[]);
            } else {
                self.exchanges.put_back(id, exchange);
            }
        }
    }
}
