//! Outlier detection: a host that fails takes no requests for a while.
//!
//! Envoy's consecutive 5xx, consecutive gateway failures, success rate and failure percentage, counted per worker.
//! Local failures are told from the host's in none of them.

use std::cell::Cell;

use model::cluster::OutlierDetection;
use telemetry::Shard;
use telemetry::envoy::ClusterStats;

use super::{HostRef, bump};
use crate::clock::Time;

/// The ejected hosts of a cluster.
#[derive(Default)]
pub struct Ejections {
    /// When the next one ends.
    next_end: Cell<Time>,
    active: Cell<u32>,
    changed: Cell<bool>,
    /// When hosts are next compared with one another; 0 before the first request.
    next_sweep: Cell<Time>,
}

/// What a judgement is made by.
pub struct Judge<'a> {
    pub settings: &'a OutlierDetection,
    /// All hosts of the cluster; `None`: not usable.
    pub hosts: &'a [Option<HostRef>],
    pub now: Time,
    pub shard: &'a Shard,
    pub stats: &'a ClusterStats,
}

/// How a host fared since the last comparison.
#[derive(Default)]
pub struct Window {
    requests: Cell<u32>,
    good: Cell<u32>,
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
    /// True: a host was ejected. `dice`: thrown where only a share is enforced.
    pub fn observe(
        &self,
        judge: &Judge<'_>,
        host: &HostRef,
        status: u16,
        mut dice: impl FnMut() -> u64,
    ) -> bool {
        let settings = judge.settings;
        let mut ejected = self.sweep(judge, &mut dice);
        bump(&host.window.requests, 1);
        if !(500..600).contains(&status) {
            bump(&host.window.good, 1);
            host.consecutive_5xx.set(0);
            host.consecutive_gateway.set(0);
            return ejected;
        }
        if reached(&host.consecutive_5xx, settings.consecutive_5xx) {
            ejected |= self.eject(judge, host, settings.enforcing_consecutive_5xx, &mut dice);
        }
        if !(502..=504).contains(&status) {
            host.consecutive_gateway.set(0);
        } else if reached(&host.consecutive_gateway, settings.consecutive_gateway_failure) {
            ejected |= self.eject(judge, host, settings.enforcing_consecutive_gateway_failure, &mut dice);
        }
        ejected
    }

    /// Compares the hosts once an interval (Envoy: `DetectorImpl::onIntervalTimer`). Looked at when requests end: without
    /// any there is nothing to compare.
    fn sweep(&self, judge: &Judge<'_>, dice: &mut impl FnMut() -> u64) -> bool {
        let (due, now, interval) = (self.next_sweep.get(), judge.now, judge.settings.interval);
        if due == Time::default() {
            self.next_sweep.set(now.after(interval));
            return false;
        }
        if due > now {
            return false;
        }
        self.next_sweep.set(now.after(interval));
        let last = Time(due.0.saturating_sub(Time::default().after(interval).0));
        let fared: Vec<(&HostRef, u32, f64)> = judge
            .hosts
            .iter()
            .flatten()
            .filter(|host| host.ejected_until.get() <= now)
            .filter_map(|host| {
                // For each interval among the others it is forgiven one ejection.
                let there = now.since(last.max(host.ejected_until.get()));
                let intervals = there.as_nanos() / interval.as_nanos().max(1);
                let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
                host.ejections.set(host.ejections.get().saturating_sub(intervals));
                let (requests, good) = (host.window.requests.get(), host.window.good.get());
                (requests > 0).then(|| (host, requests, 100.0 * f64::from(good) / f64::from(requests)))
            })
            .collect();
        for host in judge.hosts.iter().flatten() {
            host.window.requests.set(0);
            host.window.good.set(0);
        }
        let of_volume = |volume: u32| fared.iter().filter(move |(_, requests, _)| *requests >= volume);
        let enough = |count: usize, least: u32| count > 0 && count >= least as usize;
        let mut ejected = false;

        let by_rate = judge.settings.success_rate;
        let rates: Vec<f64> = of_volume(by_rate.request_volume).map(|(_, _, rate)| *rate).collect();
        if enough(rates.len(), by_rate.minimum_hosts) {
            let threshold = success_rate_threshold(&rates, by_rate.stdev_factor);
            for (host, _, _) in of_volume(by_rate.request_volume).filter(|(_, _, rate)| *rate < threshold) {
                ejected |= self.eject(judge, host, by_rate.enforcing, dice);
            }
        }
        let by_share = judge.settings.failure_percentage;
        if enough(of_volume(by_share.request_volume).count(), by_share.minimum_hosts) {
            let threshold = f64::from(by_share.threshold);
            let failing = of_volume(by_share.request_volume).filter(|(_, _, rate)| 100.0 - rate >= threshold);
            for (host, _, _) in failing {
                ejected |= self.eject(judge, host, by_share.enforcing, dice);
            }
        }
        ejected
    }

    /// Leaves a host out, if as many may be, in `enforcing` of a hundred cases.
    fn eject(
        &self,
        judge: &Judge<'_>,
        host: &HostRef,
        enforcing: u32,
        dice: &mut impl FnMut() -> u64,
    ) -> bool {
        let (settings, now) = (judge.settings, judge.now);
        if host.ejected_until.get() > now || enforcing == 0 {
            return false;
        }
        let active = self.active.get();
        let share = 100.0 * f64::from(active + 1) / judge.hosts.len().max(1) as f64;
        let first = active == 0 && settings.always_eject_one_host;
        if !first && share > f64::from(settings.max_ejection_percent) {
            judge.shard.inc(judge.stats.outlier_detection_ejections_overflow);
            return false;
        }
        if enforcing < 100 && dice() % 100 >= u64::from(enforcing) {
            return false;
        }
        let times = host.ejections.get() + 1;
        host.ejections.set(times);
        host.consecutive_5xx.set(0);
        host.consecutive_gateway.set(0);
        let time = settings.base_ejection_time.saturating_mul(times).min(settings.max_ejection_time);
        let jitter = u64::try_from(settings.max_ejection_time_jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = if jitter == 0 { 0 } else { dice() % jitter };
        let until = now.after(time.saturating_add(std::time::Duration::from_nanos(jitter)));
        host.ejected_until.set(until);
        // The others are recounted with the new plan.
        self.active.set(active + 1);
        self.changed.set(true);
        judge.shard.inc(judge.stats.outlier_detection_ejections_total);
        true
    }
}

/// One failure more; true at the last that is allowed, from which counting begins anew (Envoy: whether the host is
/// ejected for it or not).
fn reached(failures: &Cell<u32>, most: u32) -> bool {
    failures.set(failures.get() + 1);
    let reached = most > 0 && failures.get() >= most;
    if reached {
        failures.set(0);
    }
    reached
}

/// The success rate in percent below which a host is an outlier: mean - standard deviation * factor / 1000 (Envoy's
/// documentation of outlier detection, "Success Rate"; the deviation is that of the whole population).
fn success_rate_threshold(rates: &[f64], stdev_factor: u32) -> f64 {
    let count = rates.len().max(1) as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - variance.sqrt() * f64::from(stdev_factor) / 1000.0
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
