//! Connections that are not HTTP: two sockets and the bytes between them.

mod report;
pub mod session;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use model::ClusterRef;
use model::cluster::ClusterKind;
use model::route::Priority;
use telemetry::Flags;

use crate::client::origin::Origin;
use crate::clock::Time;
use crate::net::failure::failure_text;
use crate::net::sockets::{Key, high_water};
use crate::request::chain::TcpChain;
use crate::tcp::report::TcpLog;
use crate::tcp::session::TcpSession;
use crate::upstream::breaker::Limited;
use crate::upstream::host::bump;
use crate::upstream::outlier::Fared;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    pub(crate) fn start_tcp(&mut self, key: Key, origin: Origin, tcp: Rc<TcpChain>, bytes: &[u8]) {
        self.telemetry.shard.inc(tcp.stats.downstream_cx_total);
        let (cluster, _) = tcp.settings.cluster(self.random.next_u64());
        let cluster: ClusterRef = cluster.clone();
        let session = TcpSession {
            origin,
            tcp,
            up: None,
            cluster: None,
            cluster_name: cluster.name.clone(),
            host: None,
            tried: vec![],
            attempts: 0,
            connecting: false,
            deadline: Time::NEVER,
            connect_deadline: Time::NEVER,
            client_ended: false,
            host_ended: false,
            received: bytes.len() as u64,
            sent: 0,
            reported: (0, 0),
            next_report: Time::NEVER,
            slot: None,
            local: None,
            flags: Flags::NONE,
            failure: None,
            details: "",
            series: None,
            early: bytes.to_vec(),
        };
        self.budget.keep(bytes.len());
        self.put(key, Conn::TcpDownstream(Box::new(session)));
        if self.is_out_of_memory() {
            if let Some(session) = self.session(key) {
                session.flags.insert(Flags::OVERLOAD_MANAGER_TERMINATED);
            }
            self.finish_tcp(key, true);
            return;
        }
        // As Envoy: until its host is connected to, a client is not read on. What it sends ahead stays in the kernel's buffers.
        self.sockets.pause(key);
        let snapshot = self.snapshot.clone();
        let state = self.clusters.get(&snapshot, cluster.id, self.now);
        let Some(state) = state else {
            if let Some(session) = self.session(key) {
                let stats = session.tcp.stats.clone();
                session.flags.insert(Flags::NO_CLUSTER_FOUND);
                self.telemetry.shard.inc(stats.downstream_cx_no_route);
            }
            self.finish_tcp(key, true);
            return;
        };
        if let Some(session) = self.session(key) {
            session.cluster = Some(state);
        }
        self.connect_tcp(key);
    }

    pub(crate) fn session(&mut self, key: Key) -> Option<&mut TcpSession> {
        match self.conns.get_mut(key) {
            Some(Conn::TcpDownstream(session)) => Some(session),
            _ => None,
        }
    }

    /// Picks a host and connects to it.
    fn connect_tcp(&mut self, key: Key) {
        let now = self.now;
        let Some(Conn::TcpDownstream(session)) = self.conns.get_mut(key) else { return };
        let Some(cluster) = session.cluster.clone() else { return };
        let config = cluster.config.borrow().clone();
        let host = if config.kind == ClusterKind::OriginalDst {
            let port = config.original_dst.port;
            let address = session.origin.destination();
            let address = address.map(|a| SocketAddr::new(a.ip(), port.unwrap_or(a.port())));
            address.map(|address| self.clusters.original(&cluster, address))
        } else {
            let random = &mut self.random;
            cluster.pick(&session.tried, 3, &[], || random.next_u64()).ok()
        };
        let Some(host) = host else {
            session.flags.insert(Flags::NO_HEALTHY_UPSTREAM);
            self.telemetry.shard.inc(cluster.stats.upstream_cx_none_healthy);
            self.finish_tcp(key, true);
            return;
        };
        let limit = config.breakers(Priority::Default).max_connections;
        let Some(slot) = cluster.counts.take(Priority::Default, Limited::Connections, limit) else {
            session.flags.insert(Flags::UPSTREAM_OVERFLOW);
            self.telemetry.shard.inc(cluster.stats.upstream_cx_overflow);
            self.finish_tcp(key, true);
            return;
        };
        session.attempts += 1;
        session.host = Some(host.clone());
        match self.connect_to(&config, &host, slot) {
            Ok((up, slot)) => {
                bump(&host.total_requests, 1);
                self.put(up, Conn::TcpUpstream(key));
                let connecting = self.sockets.is_connecting(up);
                let Some(session) = self.session(key) else { return };
                session.up = Some(up);
                session.slot = Some(slot);
                session.connecting = connecting;
                session.connect_deadline = now.after(config.connect_timeout);
                let deadline = session.connect_deadline;
                if connecting {
                    self.sockets.set_deadline(up, deadline);
                } else {
                    self.tcp_connected(key, up);
                }
            }
            Err(error) => {
                if let Some(session) = self.session(key) {
                    session.failure = Some(format!(
                        "immediate connect error: {}",
                        failure_text(error.kind(), Some(&error))
                    ));
                }
                self.tcp_connect_failed(key);
            }
        }
    }

    pub(crate) fn tcp_connected(&mut self, down: Key, up: Key) {
        let local = self.sockets.local_address(up);
        self.sockets.set_deadline(up, Time::NEVER);
        let now = self.now;
        let Some(session) = self.session(down) else { return };
        session.connecting = false;
        session.local = local;
        session.failure = None;
        session.tried = vec![];
        session.next_report = now.after(session.tcp.reporting);
        let early = std::mem::take(&mut session.early);
        let ended = session.client_ended;
        self.sockets.send(up, &early, &[]);
        if ended {
            self.sockets.shutdown_write(up);
        }
        self.observe_tcp(down, Fared::Served);
        self.open_series(down);
        self.touch_tcp(down);
        self.drained(up);
    }

    /// Tells outlier detection whether the host could be connected to: all there is to judge it by (Envoy:
    /// `TcpProxy::Filter::onUpstreamEvent`).
    fn observe_tcp(&mut self, key: Key, fared: Fared) {
        let Some(session) = self.session(key) else { return };
        let (Some(cluster), Some(host)) = (session.cluster.clone(), session.host.clone()) else { return };
        self.clusters.observe(&cluster, &host, fared, self.now);
    }

    fn tcp_connect_failed(&mut self, key: Key) {
        self.drop_tcp_upstream(key);
        self.observe_tcp(key, Fared::Failed);
        let Some(session) = self.session(key) else { return };
        let again = session.attempts < session.tcp.settings.max_connect_attempts;
        if let Some(host) = session.host.clone() {
            bump(&host.failed_connects, 1);
            session.tried.push(host);
        }
        let stats = session.cluster.as_ref().map(|cluster| cluster.stats.clone());
        if !again {
            session.flags.insert(Flags::UPSTREAM_CONNECTION_FAILURE);
            session.flags.insert(Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        }
        if let Some(stats) = stats {
            self.telemetry.shard.inc(stats.upstream_cx_connect_fail);
        }
        if again {
            self.connect_tcp(key);
        } else {
            self.finish_tcp(key, true);
        }
    }

    pub(crate) fn tcp_connect_timeout(&mut self, down: Key, up: Key) {
        let now = self.now;
        let Some(session) = self.session(down) else {
            self.sockets.close(up);
            return;
        };
        if session.connecting && session.connect_deadline <= now {
            if let Some(stats) = session.cluster.as_ref().map(|cluster| cluster.stats.clone()) {
                self.telemetry.shard.inc(stats.upstream_cx_connect_timeout);
            }
            self.tcp_connect_failed(down);
        }
    }

    pub(crate) fn tcp_from_client(&mut self, key: Key, bytes: &[u8]) {
        let Some(session) = self.session(key) else { return };
        session.received += bytes.len() as u64;
        let bound = high_water(session.cluster.as_ref().and_then(|c| c.config.borrow().buffer_limit));
        let waiting = match session.up {
            Some(up) if !session.connecting => {
                self.sockets.send(up, bytes, &[]);
                self.sockets.backlog(up)
            }
            _ => {
                let before = session.early.capacity();
                session.early.extend_from_slice(bytes);
                let (kept, length) = (session.early.capacity() - before, session.early.len());
                self.budget.keep(kept);
                length
            }
        };
        if waiting > self.ration().min(bound) {
            self.sockets.pause(key);
        }
        self.touch_tcp(key);
    }

    pub(crate) fn tcp_from_host(&mut self, down: Key, up: Key, bytes: &[u8]) {
        let Some(session) = self.session(down) else { return };
        session.sent += bytes.len() as u64;
        let bound = high_water(session.origin.listener.buffer_limit);
        self.sockets.send(down, bytes, &[]);
        if self.sockets.backlog(down) > self.ration().min(bound) {
            self.sockets.pause(up);
        }
        self.touch_tcp(down);
    }

    /// The client has no more to say; the host may have.
    pub(crate) fn tcp_client_ended(&mut self, key: Key) {
        let Some(session) = self.session(key) else { return };
        session.client_ended = true;
        let (up, connecting, over) = (session.up, session.connecting, session.host_ended);
        if over {
            self.finish_tcp(key, false);
        } else if let Some(up) = up
            && !connecting
        {
            self.sockets.shutdown_write(up);
        }
    }

    pub(crate) fn tcp_host_ended(&mut self, down: Key, up: Key) {
        let Some(session) = self.session(down) else {
            self.sockets.close(up);
            return;
        };
        session.host_ended = true;
        let over = session.client_ended;
        self.sockets.shutdown_write(down);
        if over {
            self.finish_tcp(down, false);
        }
    }

    /// The client's connection broke.
    pub(crate) fn tcp_broken(&mut self, key: Key) {
        let Some(session) = self.session(key) else { return };
        session.flags.insert(Flags::DOWNSTREAM_CONNECTION_TERMINATION);
        self.finish_tcp(key, true);
    }

    pub(crate) fn tcp_host_broken(&mut self, down: Key, up: Key, error: io::ErrorKind) {
        let Some(session) = self.session(down) else {
            self.sockets.close(up);
            return;
        };
        if session.connecting {
            session.failure = Some(format!("delayed connect error: {}", failure_text(error, None)));
            self.tcp_connect_failed(down);
        } else {
            session.flags.insert(Flags::UPSTREAM_CONNECTION_TERMINATION);
            self.finish_tcp(down, true);
        }
    }

    /// Ends what is connected to hosts that have failed, where the cluster wants it (Envoy:
    /// `close_connections_on_host_health_failure`, which is for connections that are not HTTP).
    pub(crate) fn close_failed_sessions(&mut self) {
        let now = self.now;
        let failed = |conn: &Conn| match conn {
            Conn::TcpDownstream(session) if session.up.is_some() => {
                session.cluster.as_ref().zip(session.host.as_ref()).is_some_and(|(cluster, host)| {
                    cluster.config.borrow().close_connections_on_host_health_failure
                        && cluster.failed(host.address, now)
                })
            }
            _ => false,
        };
        let keys: Vec<Key> = self.conns.iter().filter(|(_, conn)| failed(conn)).map(|(key, _)| key).collect();
        for key in keys {
            self.finish_tcp(key, false);
        }
    }

    fn touch_tcp(&mut self, key: Key) {
        let now = self.now;
        let Some(session) = self.session(key) else { return };
        let idle = session.tcp.settings.idle_timeout.map_or(Time::NEVER, |idle| now.after(idle));
        let longest = session.tcp.settings.max_connection_duration;
        let longest = longest.map_or(Time::NEVER, |longest| session.origin.started.after(longest));
        session.deadline = idle.min(longest);
        let next = session.deadline.min(session.next_report);
        self.sockets.set_deadline(key, next);
    }

    pub(crate) fn tcp_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(session) = self.session(key) else { return };
        if session.deadline <= now {
            let stats = session.tcp.stats.clone();
            let longest = session.tcp.settings.max_connection_duration;
            if longest.is_some_and(|longest| session.origin.started.after(longest) <= now) {
                session.flags.insert(Flags::DURATION_TIMEOUT);
                session.details = "duration_timeout";
                self.telemetry.shard.inc(stats.max_downstream_connection_duration);
            } else {
                self.telemetry.shard.inc(stats.idle_timeout);
            }
            self.finish_tcp(key, true);
            return;
        }
        session.next_report = now.after(session.tcp.reporting);
        let next = session.deadline.min(session.next_report);
        self.report_tcp(key);
        self.sockets.set_deadline(key, next);
    }

    fn drop_tcp_upstream(&mut self, key: Key) {
        let Some(session) = self.session(key) else { return };
        session.connecting = false;
        session.slot = None;
        if let Some(up) = session.up.take() {
            self.close_written(up);
        }
    }

    /// The session is over. `broken`: the client shall see that it did not end well.
    fn finish_tcp(&mut self, key: Key, broken: bool) {
        self.report_tcp(key);
        self.drop_tcp_upstream(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Conn::TcpDownstream(session) = std::mem::take(conn) else { return };
        let shard = &self.telemetry.shard;
        let stats = &session.tcp.stats;
        shard.add(stats.downstream_cx_rx_bytes_total, session.received);
        shard.add(stats.downstream_cx_tx_bytes_total, session.sent);
        shard.inc(session.tcp.listener.downstream_cx_destroy);
        shard.shift(session.tcp.listener.downstream_cx_active, -1);
        if let Some(series) = session.series {
            series.closed(shard);
        }
        let line = TcpLog { session: &session, clock: &self.clock, now: self.now };
        for log in &session.tcp.logs {
            self.telemetry.line(log, &line, self.now);
        }
        if broken && session.flags.contains(Flags::UPSTREAM_CONNECTION_TERMINATION) {
            // What the client has is not all there was.
            self.sockets.reset(key);
        } else if broken {
            self.sockets.close(key);
        } else {
            self.close_written(key);
        }
    }
}
