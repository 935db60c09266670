//! Connections lent among workers ([`crate::upstream::shelf`]).

use std::time::Duration;

use model::route::Priority;
use model::transport::UpstreamTransport;

use crate::clock::Time;
use crate::net::sockets::{Key, Side};
use crate::upstream::breaker::Limited;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::counted::ConnectionSlot;
use crate::upstream::host::HostRef;
use crate::upstream::shelf::{Carried, Offered};
use crate::worker::Worker;
use crate::worker::mailbox::Command;

/// A connection idle for so long is offered to the other workers.
const OFFERED_AFTER: Duration = Duration::from_millis(50);

impl Worker {
    /// When a connection that has become idle is offered.
    pub(crate) fn offers_at(&self, host: &HostRef) -> Time {
        let alone = self.shared.workers.len() < 2;
        // The state of a layer can not be lent.
        match alone || host.key.transport != UpstreamTransport::RawBuffer {
            true => Time::NEVER,
            false => self.now.after(OFFERED_AFTER),
        }
    }

    /// Offers an idle connection, once it has been idle for long enough.
    pub(crate) fn offer_upstream(&mut self, key: Key) {
        let (now, worker, draining) = (self.now, self.index, self.draining);
        let written = self.sockets.written(key);
        let Some(up) = self.upstream(key) else { return };
        let idle = up.exchange.is_none() && !up.connecting && up.inbox.is_empty();
        if !idle || draining || now.since(up.idle_since) < OFFERED_AFTER {
            return;
        }
        let host = up.host.clone();
        let state = Carried {
            opened: up.opened,
            idle_since: up.idle_since,
            requests: up.requests,
            written,
            local: up.local,
            introduced: up.introduced,
        };
        let Some(stream) = self.sockets.offer(key) else { return };
        let made = host.key.clone();
        let offered = Offered { address: host.address, made, worker, key, stream, state };
        self.shared.shelf.put(&host.cluster.name, offered);
    }

    /// A connection that another worker, or a pool of former configuration, has offered.
    pub(crate) fn borrowed_connection(
        &mut self,
        host: &HostRef,
        config: &ClusterConfig,
        most: u32,
    ) -> Option<Key> {
        if self.shared.workers.len() < 2 {
            return None;
        }
        loop {
            let offered = self.shared.shelf.take(&host.cluster.name, host.address, &host.key)?;
            // Its worker lets go of it, whatever becomes of it here.
            if let Some(worker) = self.shared.workers.get(offered.worker) {
                worker.send(Command::Lent(offered.key));
            }
            let key = self.sockets.add(offered.stream, Side::Host { connecting: false }).ok()?;
            let slot = host.cluster.counts.take_over(Priority::Default, Limited::Connections, most);
            self.start_h1_host(key, host, config, false, ConnectionSlot::new(host, slot));
            self.sockets.set_written(key, offered.state.written);
            let carried = offered.state;
            if let Some(up) = self.upstream(key) {
                up.opened = carried.opened;
                up.idle_since = carried.idle_since;
                up.requests = carried.requests;
                up.local = carried.local;
                up.introduced = carried.introduced;
            }
            let used_up = config.max_requests_per_connection.is_some_and(|most| carried.requests >= most);
            let too_old = carried.opened < host.drained.get();
            if !used_up && !too_old && self.is_fit(key, host) && self.sockets.is_quiet(key) {
                return Some(key);
            }
            self.discard_upstream(key);
        }
    }

    /// Whether a connection is this worker's alone (again): it was not offered, or nobody has taken it.
    pub(crate) fn take_back(&mut self, key: Key) -> bool {
        if !self.sockets.is_offered(key) {
            return true;
        }
        let worker = self.index;
        let Some(up) = self.upstream(key) else { return false };
        let cluster = up.host.cluster.name.clone();
        let taken_back = self.shared.shelf.take_back(&cluster, worker, key).is_some();
        if taken_back {
            self.sockets.not_offered(key);
        }
        taken_back
    }

    /// Something has come on an offered connection: it is for whoever has it.
    #[cold]
    pub(crate) fn offered_event(&mut self, key: Key) {
        match self.take_back(key) {
            true => self.read_later(key),
            false => self.discard_upstream(key),
        }
    }

    /// Another worker has taken this connection.
    pub(crate) fn lent(&mut self, key: Key) {
        if self.sockets.is_offered(key) {
            self.discard_upstream(key);
        }
    }
}
