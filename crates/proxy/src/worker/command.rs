//! What a worker does that is told something from outside.

use std::rc::Rc;
use std::sync::Arc;

use crate::snapshot::Current;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Reading};
use crate::worker::mailbox::Command;

impl Worker {
    /// Does what came by the queue.
    pub(crate) fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Configure(snapshot, done) => {
                    self.configure(snapshot);
                    let _ = done.send(self.index);
                }
                Command::Listen(listen) => {
                    if let Err(error) = self.listen(listen) {
                        (self.shared.log)(&format!("can not watch a listening socket: {error}"));
                    }
                }
                Command::Unlisten(name) => self.unlisten(name.as_deref()),
                Command::Accepted(all) => self.take_accepted(all),
                // Clusters look at the resolver's version when they are used.
                Command::Resolved => self.take_up_checks(),
                Command::HealthChanged => self.close_failed_sessions(),
                Command::Lent(key) => self.lent(key),
                Command::Withdrawn(cluster, address) => self.check_withdrawn(&cluster, address),
                Command::Drain => self.drain(),
                Command::Report(answer) => {
                    let reports = self.clusters.all().flat_map(|cluster| {
                        let hosts = cluster.hosts();
                        hosts.into_iter().map(|host| host.report(self.now)).collect::<Vec<_>>()
                    });
                    let _ = answer.send(reports.collect());
                }
                Command::Active(answer) => {
                    let _ = answer.send(self.undelivered());
                }
                Command::Flush(answer) => {
                    self.telemetry.flush();
                    let _ = answer.send(());
                }
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// Uses another configuration from now on. Exchanges under way keep the one they began with.
    fn configure(&mut self, snapshot: Arc<model::Snapshot>) {
        self.snapshot = Rc::new(Current(snapshot));
        self.chains.sweep();
        let snapshot = self.snapshot.clone();
        let taken_up = self.clusters.take_up(&snapshot, self.now);
        if taken_up.changed {
            // Hosts and chains are described anew under new numbers, but what a cluster says of its service is not.
            self.telemetry.forget_series();
        }
        for key in taken_up.useless {
            match self.conns.get_mut(key) {
                Some(Conn::UpstreamH2(up)) => {
                    up.retiring = true;
                    self.flush(key);
                }
                _ => self.discard_upstream(key),
            }
        }
        let wanted = |cluster: &std::rc::Rc<crate::upstream::cluster::ClusterState>| {
            cluster.config.borrow().close_connections_on_host_health_failure
        };
        if taken_up.changed && self.clusters.all().any(wanted) {
            self.close_failed_sessions();
        }
        self.take_up_checks();
    }

    /// Kept-alive connections without a request are closed; the others end with their answer.
    fn drain(&mut self) {
        self.draining = true;
        for key in self.conns.keys() {
            let idle = match self.conns.get(key) {
                Some(Conn::Downstream(down)) => {
                    down.exchange.is_none() && down.state == Reading::Head && down.head_began.is_none()
                }
                Some(Conn::DownstreamH2(_)) => {
                    self.drain_h2(key);
                    continue;
                }
                _ => false,
            };
            if idle {
                if let Some(client) = self.client(key) {
                    let stats = client.http.stats.clone();
                    self.telemetry.shard.inc(stats.downstream_cx_drain_close);
                }
                self.end_downstream(key);
            }
        }
    }
}
