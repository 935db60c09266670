//! Active health checks: the hosts of clusters with `health_checks` are asked in turn whether they are well.
//!
//! One worker, the first, asks for the whole process. What it finds is kept with the host's other health
//! ([`crate::upstream::health`]), where every worker's plan of hosts reads it. HTTP and gRPC checks are calls
//! ([`crate::call`]) to a host of their own, so that neither their connections nor their counts mix with those of
//! requests; TCP checks are in [`crate::call::tcp_check`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::cluster::ClusterKind;
use model::health_check::{CheckResult, Judgement, Probe, Transition};

use crate::call::check_request;
use crate::call::checks::{HostCheck, TcpCheck};
use crate::call::state::{Answer, CallEnd, CallRequest, CallTo, CheckId};
use crate::exchange::Exchange;
use crate::upstream::cluster::ClusterState;
use crate::upstream::health::HostHealth;
use crate::upstream::host::HostRef;
use crate::worker::Worker;
use crate::worker::connection::Conn;
use crate::worker::mailbox::Command;

impl Worker {
    /// Checks the hosts there are now, and no others.
    pub(crate) fn take_up_checks(&mut self) {
        if self.index != 0 {
            return;
        }
        let snapshot = self.snapshot.clone();
        let mut there = BTreeSet::new();
        for id in snapshot.checked_clusters().iter().copied() {
            if snapshot.cluster(id).is_none_or(|entry| entry.cluster.kind == ClusterKind::OriginalDst) {
                continue;
            }
            let Some(cluster) = self.clusters.get(&snapshot, id, self.now) else { continue };
            for (address, health, told) in cluster.checked_hosts() {
                there.insert(self.take_up_check(&cluster, address, health, &told));
            }
        }
        let gone: Vec<CheckId> = self.checks.hosts.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in gone {
            self.end_checks(id);
        }
    }

    fn take_up_check(
        &mut self,
        cluster: &Rc<ClusterState>,
        address: SocketAddr,
        health: Arc<HostHealth>,
        told: &model::Host,
    ) -> CheckId {
        let config = cluster.config.borrow().clone();
        let key = (cluster.name.clone(), address);
        let known = self.checks.by_address.get(&key).copied();
        if let Some(id) = known
            && let Some(host) = self.checks.hosts.get_mut(&id)
        {
            if !Rc::ptr_eq(&host.config, &config) || host.told != told.check {
                let target = self.clusters.check_target(cluster, &config, told, address);
                let old = std::mem::replace(&mut host.target, target);
                host.config = config;
                host.told = told.check.clone();
                self.drop_check_connections(&old);
            }
            return id;
        }
        let id = self.checks.next;
        self.checks.next += 1;
        health.set_passed_check(false);
        let target = self.clusters.check_target(cluster, &config, told, address);
        let first = config.health_check.as_ref().map(|check| check.first_wait(self.random.next_u64()));
        let awaited = first.is_some_and(|first| first.is_zero());
        if awaited {
            self.shared.first_checks.begin();
        }
        let host = HostCheck {
            cluster: cluster.clone(),
            config,
            address,
            told: told.check.clone(),
            health,
            target,
            judgement: Judgement::default(),
            due: None,
            awaited,
            tcp: TcpCheck::default(),
        };
        self.checks.hosts.insert(id, host);
        self.checks.by_address.insert(key, id);
        self.checks.schedule(id, self.now.after(first.unwrap_or_default()));
        id
    }

    /// The host is not checked any more.
    fn end_checks(&mut self, id: CheckId) {
        let Some(host) = self.checks.hosts.remove(&id) else { return };
        self.checks.by_address.remove(&(host.cluster.name.clone(), host.address));
        if let Some(due) = host.due {
            self.checks.due.remove(&(due, id));
        }
        if host.awaited {
            self.shared.first_checks.end();
        }
        if host.judgement.is_healthy() {
            self.telemetry.shard.shift(host.cluster.stats.health_check_healthy, -1);
        }
        if let Some(key) = host.tcp.connection {
            self.sockets.close(key);
        }
        self.drop_check_connections(&host.target);
    }

    /// Asks the hosts whose time has come.
    pub(crate) fn run_checks(&mut self) {
        while let Some(id) = self.checks.take_due(self.now) {
            let Some(host) = self.checks.hosts.get(&id) else { continue };
            self.telemetry.shard.inc(host.cluster.stats.health_check_attempt);
            let Some(check) = host.config.health_check.as_ref() else { continue };
            let request = match &check.probe {
                Probe::Tcp { .. } => {
                    self.begin_tcp_check(id);
                    continue;
                }
                Probe::Http(probe) => check_request::http(probe, &host.told, &host.target),
                Probe::Grpc(probe) => check_request::grpc(probe, &host.told, &host.target, check.timeout),
            };
            let call = CallRequest {
                to: CallTo::Host(host.target.clone()),
                head: request.head,
                body: request.body,
                timeout: check.timeout,
                end: CallEnd::Check(id),
            };
            self.call_later(call);
        }
        self.settle();
    }

    /// A call that was a check has ended.
    pub(crate) fn check_answered(&mut self, id: CheckId, answer: &Answer) {
        let Some(host) = self.checks.hosts.get(&id) else { return };
        let result = match (host.check().map(|check| &check.probe), answer.status) {
            (Some(Probe::Http(probe)), Some(status)) => check_request::http_result(probe, status),
            (Some(Probe::Grpc(_)), Some(_)) => check_request::grpc_result(answer),
            _ => CheckResult::Network,
        };
        self.check_ended(id, result);
    }

    /// A host has been asked, and this came of it.
    pub(crate) fn check_ended(&mut self, id: CheckId, result: CheckResult) {
        let Some(host) = self.checks.hosts.get_mut(&id) else { return };
        let (config, cluster) = (host.config.clone(), host.cluster.clone());
        let Some(check) = &config.health_check else { return };
        let transition = host.judgement.judge(check, result);
        let healthy = host.judgement.is_healthy();
        let (address, target) = (host.address, host.target.clone());
        let awaited = std::mem::take(&mut host.awaited);
        let passed = result == CheckResult::Passed;
        let shard = &self.telemetry.shard;
        shard.inc(if passed {
            cluster.stats.health_check_success
        } else {
            cluster.stats.health_check_failure
        });
        if result == CheckResult::Network {
            shard.inc(cluster.stats.health_check_network_failure);
        }
        let changed = transition == Transition::Changed;
        if changed || (passed && check.log_successes) || (!passed && check.log_failures) {
            let state = if healthy { "healthy" } else { "unhealthy" };
            let name = &cluster.name;
            (self.shared.log)(&format!("health check: {address} of cluster {name} is {state}: {result}"));
        }
        if changed {
            self.host_changed(id, healthy);
        }
        if !check.reuse_connection {
            self.drop_check_connections(&target);
        }
        let dice = [self.random.next_u64(), self.random.next_u64()];
        let wait = check.wait(passed, transition, cluster.health.is_used(), dice);
        self.checks.schedule(id, self.now.after(wait));
        if awaited {
            // Whoever waits for it finds all that it has changed.
            self.shared.first_checks.end();
        }
    }

    /// Notes a host's answer to a request that says `x-envoy-immediate-health-check-fail`, whatever its value: the host has
    /// failed its checks at once, and comes back by them. The head lies in `self.response`, over `bytes`.
    #[inline]
    pub(crate) fn note_withdrawal(&mut self, exchange: &Exchange, bytes: &[u8]) {
        if let Some(host) = exchange.target.host.as_ref().filter(|host| host.is_checked())
            && self.response.response(bytes).header(b"x-envoy-immediate-health-check-fail").is_some()
            && let Some(checker) = self.shared.workers.first()
        {
            // Who checks finds out, and tells all.
            checker.send(Command::Withdrawn(host.cluster.name.clone(), host.address));
        }
    }

    /// A host has said in its answer to a request that it takes no more.
    pub(crate) fn check_withdrawn(&mut self, cluster: &Arc<str>, address: SocketAddr) {
        let Some(id) = self.checks.by_address.get(&(cluster.clone(), address)).copied() else { return };
        let Some(host) = self.checks.hosts.get_mut(&id) else { return };
        if host.judgement.withdraw() {
            (self.shared.log)(&format!(
                "health check: {address} of cluster {cluster} is unhealthy: it says so in an answer"
            ));
            self.host_changed(id, false);
        }
    }

    /// A host has become healthy or unhealthy.
    fn host_changed(&mut self, id: CheckId, healthy: bool) {
        let Some(host) = self.checks.hosts.get(&id) else { return };
        let cluster = host.cluster.clone();
        host.health.set_passed_check(healthy);
        self.telemetry.shard.shift(cluster.stats.health_check_healthy, if healthy { 1 } else { -1 });
        self.health_changed(&cluster);
    }

    /// Every worker plans anew when it next looks at the cluster.
    fn health_changed(&mut self, cluster: &Rc<ClusterState>) {
        cluster.health.changed();
        let snapshot = self.snapshot.clone();
        self.clusters.get(&snapshot, cluster.id, self.now);
        if cluster.config.borrow().close_connections_on_host_health_failure {
            for worker in &self.shared.workers {
                worker.send(Command::HealthChanged);
            }
        }
    }

    /// Closes the connections kept for checks of a host; one that is about to be kept is not.
    fn drop_check_connections(&mut self, target: &HostRef) {
        target.drained.set(self.now.after(std::time::Duration::from_nanos(1)));
        let idle = std::mem::take(&mut *target.idle.borrow_mut());
        for key in idle {
            self.discard_upstream(key);
        }
        let shared = target.shared.borrow().clone();
        for key in shared {
            if let Some(Conn::UpstreamH2(up)) = self.conns.get_mut(key) {
                up.retiring = true;
                self.flush_later(key);
            }
        }
    }
}
