//! Connections to hosts that say only when they are made which HTTP they speak (ALPN, Envoy: `auto_config`).
//!
//! Requests wait in the queue of their host meanwhile, pending. A host that spoke HTTP/2 last, or is met for the first time,
//! gets one connection for all of them, one that spoke HTTP/1 one for each. What it says this time decides what becomes of
//! the connection. If it can not be made, all that waits fails with it (Envoy: `purgePendingStreams`).

use std::io;

use model::retry::Outcome;
use model::route::Priority;

use crate::exchange::{Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::response::reply::Reset;
use crate::upstream::breaker::Taken;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::host::{HostRef, bump};
use crate::upstream::outlier::Fared;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Undecided};

impl Worker {
    /// Whether the connections being made are enough for the requests that wait for them and `more`.
    pub(crate) fn enough_undecided(&self, host: &HostRef, more: usize) -> bool {
        let waiting = host.queue.borrow().len() + more;
        let needed = if host.said_http1.get() { waiting } else { waiting.min(1) };
        host.undecided.borrow().len() >= needed
    }

    pub(crate) fn connect_undecided(
        &mut self,
        config: &ClusterConfig,
        host: &HostRef,
        slot: Taken,
    ) -> io::Result<()> {
        let (key, slot) = self.connect_to(config, host, slot)?;
        self.sockets.set_deadline(key, self.now.after(config.connect_timeout));
        self.put(key, Conn::Undecided(Box::new(Undecided { host: host.clone(), slot })));
        host.undecided.borrow_mut().push(key);
        Ok(())
    }

    /// The connection is made, and the host has said what it speaks. Without a word it is HTTP/1.
    pub(crate) fn undecided_connected(&mut self, key: Key) {
        let http2 = self.sockets.agreed(key).is_some_and(|agreed| agreed.is_http2());
        let Some(Undecided { host, slot }) = self.take_undecided(key) else { return };
        let config = host.cluster.config.borrow().clone();
        host.said_http1.set(!http2);
        let stats = &host.cluster.stats;
        if http2 {
            self.telemetry.shard.inc(stats.upstream_cx_http2_total);
            self.start_h2_host(key, &host, &config, false, slot);
            host.shared.borrow_mut().push(key);
            self.send_all_waiting(&host, &config);
            self.flush_later(key);
        } else {
            self.telemetry.shard.inc(stats.upstream_cx_http1_total);
            self.start_h1_host(key, &host, &config, false, slot);
            match self.next_waiting(&host) {
                // Whatever speaks against keeping it: it was made for this one.
                Some((id, exchange)) => self.send_waiting(id, exchange, key),
                None => self.pool_upstream(key),
            }
            self.connect_for_waiting(&host, &config);
        }
    }

    /// The requests that wait, on connections that take as many as they may.
    fn send_all_waiting(&mut self, host: &HostRef, config: &ClusterConfig) {
        while let Some(key) = self.shared_connection(host, config) {
            let Some((id, exchange)) = self.next_waiting(host) else { return };
            self.send_waiting(id, exchange, key);
        }
    }

    /// The first request that waits for a connection to this host, no longer in its queue.
    pub(crate) fn next_waiting(&mut self, host: &HostRef) -> Option<(ExchangeId, Box<Exchange>)> {
        loop {
            let id = host.queue.borrow_mut().pop_front()?;
            match self.exchanges.take(id) {
                Some(exchange) if exchange.phase == Phase::Queued => return Some((id, exchange)),
                Some(exchange) => self.exchanges.put_back(id, exchange),
                None => {}
            }
        }
    }

    /// A request that has waited for a connection gets this one.
    pub(crate) fn send_waiting(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, key: Key) {
        exchange.counted.pending = None;
        self.observe(&exchange, Fared::Connected);
        self.send_request(id, exchange, key, &[]);
    }

    /// The host turned out to speak HTTP/1: a connection for each request that waits, as far as breakers let.
    fn connect_for_waiting(&mut self, host: &HostRef, config: &ClusterConfig) {
        let most = config.breakers(Priority::Default).max_connections;
        while !self.enough_undecided(host, 0) {
            let Some(slot) = self.connection_slot(host, most) else { return };
            if self.connect_undecided(config, host, slot).is_err() {
                return self.fail_waiting(host, &Reset::could_not_connect(None));
            }
        }
    }

    /// The connection could not be made.
    pub(crate) fn undecided_gone(&mut self, key: Key, error: Option<io::ErrorKind>) {
        self.undecided_failed(key, &Reset::could_not_connect(error));
    }

    pub(crate) fn undecided_timeout(&mut self, key: Key) {
        if let Some(Conn::Undecided(undecided)) = self.conns.get(key) {
            self.telemetry.shard.inc(undecided.host.cluster.stats.upstream_cx_connect_timeout);
        }
        self.undecided_failed(key, &Reset::connection_timeout());
    }

    fn undecided_failed(&mut self, key: Key, reset: &Reset) {
        let Some(Undecided { host, .. }) = self.take_undecided(key) else { return };
        self.sockets.close(key);
        bump(&host.failed_connects, 1);
        self.telemetry.shard.inc(host.cluster.stats.upstream_cx_connect_fail);
        self.fail_waiting(&host, reset);
    }

    fn fail_waiting(&mut self, host: &HostRef, reset: &Reset) {
        let waiting = std::mem::take(&mut *host.queue.borrow_mut());
        for id in waiting {
            if let Some(exchange) =
                self.exchanges.get_mut(id).filter(|exchange| exchange.phase == Phase::Queued)
            {
                exchange.counted.pending = None;
                self.attempt_over(id, reset.clone(), Outcome::ConnectFailure);
            }
        }
    }

    fn take_undecided(&mut self, key: Key) -> Option<Undecided> {
        let conn = self.conns.get_mut(key).filter(|conn| matches!(conn, Conn::Undecided(_)))?;
        let Conn::Undecided(undecided) = std::mem::take(conn) else { return None };
        undecided.host.undecided.borrow_mut().retain(|other| *other != key);
        Some(*undecided)
    }
}
