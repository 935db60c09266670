//! Outlier detection: a host that fails several times in a row takes no requests for a while.
//!
//! Envoy's consecutive 5xx and consecutive gateway failures, counted per worker. Success rate and failure percentage are
//! not judged.

use std::cell::Cell;

use model::cluster::OutlierDetection;
use telemetry::Shard;
use telemetry::envoy::ClusterStats;

use super::HostRef;
use crate::clock::Time;

/// The ejected hosts of a cluster.
#[derive(Default)]
pub struct Ejections {
    /// When the next one ends.
    next_end: Cell<Time>,
    active: Cell<u32>,
    changed: Cell<bool>,
}

impl Ejections {
    /// Whether hosts must be looked at again: one was ejected, or one's time is over.
    pub fn changed(&self, now: Time) -> bool {
        self.changed.replace(false) || (self.active.get() > 0 && self.next_end.get() <= now)
    }

    /// Counts who is left out now.
    pub fn recount<'h>(&self, hosts: impl Iterator<Item = &'h HostRef>, now: Time) {
        let mut active = 0;
        let mut next = Time::NEVER;
        for until in hosts.map(|host| host.ejected_until.get()).filter(|until| *until > now) {
            active += 1;
            next = next.min(until);
        }
        self.active.set(active);
        self.next_end.set(next);
    }

    /// One attempt ended with this status; failures of our own count as Envoy maps them (503 no connection, 504 timeout).
    #[allow(clippy::too_many_arguments)]
    pub fn observe(
        &self,
        settings: &OutlierDetection,
        host: &HostRef,
        status: u16,
        hosts: usize,
        now: Time,
        shard: &Shard,
        stats: &ClusterStats,
    ) {
        if !(500..600).contains(&status) {
            host.consecutive_5xx.set(0);
            host.consecutive_gateway.set(0);
            return;
        }
        let failures = host.consecutive_5xx.get() + 1;
        host.consecutive_5xx.set(failures);
        let mut eject = settings.consecutive_5xx > 0
            && settings.enforcing_consecutive_5xx > 0
            && failures >= settings.consecutive_5xx;
        if (502..=504).contains(&status) {
            let failures = host.consecutive_gateway.get() + 1;
            host.consecutive_gateway.set(failures);
            eject |= settings.consecutive_gateway_failure > 0
                && settings.enforcing_consecutive_gateway_failure > 0
                && failures >= settings.consecutive_gateway_failure;
        } else {
            host.consecutive_gateway.set(0);
        }
        if !eject || host.ejected_until.get() > now {
            return;
        }
        let active = self.active.get();
        let share = 100.0 * f64::from(active + 1) / hosts.max(1) as f64;
        let first = active == 0 && settings.always_eject_one_host;
        if !first && share > f64::from(settings.max_ejection_percent) {
            shard.inc(stats.outlier_detection_ejections_overflow);
            return;
        }
        let times = host.ejections.get() + 1;
        host.ejections.set(times);
        host.consecutive_5xx.set(0);
        host.consecutive_gateway.set(0);
        let time = settings.base_ejection_time.saturating_mul(times).min(settings.max_ejection_time);
        let until = now.after(time);
        host.ejected_until.set(until);
        // The others are recounted with the new plan.
        self.active.set(active + 1);
        self.changed.set(true);
        shard.inc(stats.outlier_detection_ejections_total);
    }
}
