//! Outlier detection: a host that fails takes no requests for a while.
//!
//! Envoy's consecutive 5xx, consecutive gateway and local-origin failures, success rate and failure percentage. All of it
//! is the proxy's: every worker counts in the one state of a host ([`crate::upstream::health`]), so that three failures are
//! three failures whichever workers saw them. Who is left out is decided under a lock, a few times a minute.
//!
//! The ejection itself is a guard ([`Ejection`]) that the worker which decided holds until its time is over.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use model::cluster::OutlierDetection;
use telemetry::Counter;

use crate::clock::Time;
use crate::upstream::cluster_core::ClusterCore;
use crate::upstream::health::{ClusterHealth, HostHealth, clear};

/// How an attempt ended (Envoy: `Outlier::Result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fared {
    /// The host answered with this status.
    Answered(u16),
    /// It could not be connected to, or it reset the request.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// It was connected to, and may answer yet.
    Connected,
    /// It was connected to, and nothing is known of what it answers: its connection is not HTTP.
    Served,
}

/// What a judgement is made by.
pub struct Judge<'a> {
    pub settings: &'a OutlierDetection,
    /// The cluster's hosts.
    pub hosts: Vec<Arc<HostHealth>>,
    pub cluster: &'a Rc<ClusterCore>,
    pub now: Time,
}

/// A host left out, until this is dropped.
pub struct Ejection {
    cluster: Rc<ClusterCore>,
    host: Arc<HostHealth>,
    pub until: Time,
}

impl Ejection {
    /// Neither the host nor the detection is in the configuration any more.
    pub fn is_stale(&self) -> bool {
        Arc::strong_count(&self.host) == 1 || self.cluster.config.borrow().outlier.is_none()
    }
}

impl Drop for Ejection {
    fn drop(&mut self) {
        let ClusterCore { health, shard, stats, .. } = &*self.cluster;
        self.host.back_since.store(self.until.0, Relaxed);
        // Envoy: whoever comes back is not left out again for what was counted before.
        clear(&self.host.consecutive_5xx);
        clear(&self.host.consecutive_gateway);
        clear(&self.host.consecutive_local);
        self.host.ejected_until.store(0, Relaxed);
        health.ejected.fetch_sub(1, Relaxed);
        health.version.fetch_add(1, Relaxed);
        shard.shift(stats.outlier_detection_ejections_active, -1);
    }
}

/// Why a host is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Consecutive5xx,
    ConsecutiveGateway,
    ConsecutiveLocal,
    SuccessRate,
    SuccessRateLocal,
    FailurePercentage,
    FailurePercentageLocal,
}

impl HostHealth {
    /// Counts an attempt; the kinds of failures in a row whose limit it reached.
    fn count(&self, settings: &OutlierDetection, fared: Fared) -> [Option<Kind>; 2] {
        let split = settings.split_local_origin;
        let status = match fared {
            Fared::Answered(status) => status,
            Fared::Connected | Fared::Served if split => {
                self.reached.count(true);
                clear(&self.consecutive_local);
                return [None; 2];
            }
            Fared::Connected => return [None; 2],
            Fared::Failed | Fared::TimedOut if split => {
                self.reached.count(false);
                let most = settings.consecutive_local_origin_failure;
                return [reaches(&self.consecutive_local, most).then_some(Kind::ConsecutiveLocal), None];
            }
            Fared::Served => 200,
            // What did not come from the host counts as the status its client gets (Envoy: `resultToHttpCode`).
            Fared::Failed => 503,
            Fared::TimedOut => 504,
        };
        let failed = (500..600).contains(&status);
        self.answers.count(!failed);
        if !failed {
            clear(&self.consecutive_5xx);
            clear(&self.consecutive_gateway);
            return [None; 2];
        }
        let gateway = if (502..=504).contains(&status) {
            reaches(&self.consecutive_gateway, settings.consecutive_gateway_failure)
        } else {
            clear(&self.consecutive_gateway);
            false
        };
        [
            reaches(&self.consecutive_5xx, settings.consecutive_5xx).then_some(Kind::Consecutive5xx),
            gateway.then_some(Kind::ConsecutiveGateway),
        ]
    }

    fn start_over(&self, kind: Kind) {
        match kind {
            Kind::Consecutive5xx => clear(&self.consecutive_5xx),
            Kind::ConsecutiveGateway => clear(&self.consecutive_gateway),
            Kind::ConsecutiveLocal => clear(&self.consecutive_local),
            _ => {}
        }
    }
}

/// One failure more; true at the last that is allowed.
fn reaches(failures: &AtomicU32, most: u32) -> bool {
    failures.fetch_add(1, Relaxed).wrapping_add(1) == most
}

impl ClusterHealth {
    /// An attempt at a host has ended. `judge` is asked only where somebody may be left out; `dice` where only a share
    /// is enforced.
    pub fn observe<'a>(
        &self,
        settings: &OutlierDetection,
        now: Time,
        host: &Arc<HostHealth>,
        fared: Fared,
        judge: impl Fn() -> Judge<'a>,
        mut dice: impl FnMut() -> u64,
    ) -> Vec<Ejection> {
        let mut ejected = vec![];
        if let Some(last) = self.sweep_is_due(settings, now) {
            self.sweep(&judge(), last, &mut dice, &mut ejected);
        }
        for kind in host.count(settings, fared).into_iter().flatten() {
            let judge = judge();
            if !host.ejected(now) {
                ejected.extend(self.eject(&judge, host, kind, &mut dice));
            }
            // Counted anew, whether it is left out for it or not.
            host.start_over(kind);
        }
        ejected
    }

    /// When the hosts were last compared, if it is this caller that compares them now (Envoy:
    /// `DetectorImpl::onIntervalTimer`). Looked at when attempts end: without any there is nothing to compare.
    fn sweep_is_due(&self, settings: &OutlierDetection, now: Time) -> Option<Time> {
        let due = self.next_sweep.load(Relaxed);
        if due > now.0 {
            return None;
        }
        let next = now.after(settings.interval).0;
        let mine = self.next_sweep.compare_exchange(due, next, Relaxed, Relaxed).is_ok();
        let last = due.saturating_sub(Time::default().after(settings.interval).0);
        (mine && due != 0).then_some(Time(last))
    }

    fn sweep(
        &self,
        judge: &Judge<'_>,
        last: Time,
        dice: &mut impl FnMut() -> u64,
        ejected: &mut Vec<Ejection>,
    ) {
        let (now, settings) = (judge.now, judge.settings);
        let mut answers = vec![];
        let mut reached = vec![];
        for host in &judge.hosts {
            let (answered, connected) = (host.answers.take(), host.reached.take());
            if host.ejected(now) {
                continue;
            }
            // For each interval among the others it is forgiven one ejection.
            let there = now.since(last.max(Time(host.back_since.load(Relaxed))));
            let intervals = there.as_nanos() / settings.interval.as_nanos().max(1);
            let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
            let ejections = host.ejections.load(Relaxed);
            host.ejections.store(ejections.saturating_sub(intervals), Relaxed);
            answers.push((host, answered));
            reached.push((host, connected));
        }
        let rates = [
            (&answers, Kind::SuccessRate, Kind::FailurePercentage),
            (&reached, Kind::SuccessRateLocal, Kind::FailurePercentageLocal),
        ];
        for (fared, by_rate, by_share) in rates {
            let fits = |volume: u32| fared.iter().filter(move |(_, (all, _))| *all > 0 && *all >= volume);
            let enough = |count: usize, least: u32| count > 0 && count >= least as usize;
            let of_rate = settings.success_rate;
            let rates: Vec<f64> = fits(of_rate.request_volume).map(|(_, (_, rate))| *rate).collect();
            if enough(rates.len(), of_rate.minimum_hosts) {
                let threshold = success_rate_threshold(&rates, of_rate.stdev_factor);
                for (host, _) in fits(of_rate.request_volume).filter(|(_, (_, rate))| *rate < threshold) {
                    ejected.extend(self.eject(judge, host, by_rate, dice));
                }
            }
            let of_share = settings.failure_percentage;
            if enough(fits(of_share.request_volume).count(), of_share.minimum_hosts) {
                let threshold = f64::from(of_share.threshold);
                let failing =
                    fits(of_share.request_volume).filter(|(_, (_, rate))| 100.0 - rate >= threshold);
                for (host, _) in failing {
                    ejected.extend(self.eject(judge, host, by_share, dice));
                }
            }
        }
    }

    /// Leaves a host out, if as many may be, in as many of a hundred cases as are enforced (Envoy:
    /// `DetectorImpl::ejectHost`).
    fn eject(
        &self,
        judge: &Judge<'_>,
        host: &Arc<HostHealth>,
        kind: Kind,
        dice: &mut impl FnMut() -> u64,
    ) -> Option<Ejection> {
        let (settings, now, cluster) = (judge.settings, judge.now, judge.cluster);
        let (shard, stats) = (&cluster.shard, &cluster.stats);
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        if host.ejected(now) {
            return None;
        }
        let (detected, enforced) = kind.counters(cluster);
        shard.inc(detected);
        let active = self.ejected.load(Relaxed);
        let share = 100.0 * f64::from(active + 1) / judge.hosts.len().max(1) as f64;
        let first = active == 0 && settings.always_eject_one_host;
        if !first && share > f64::from(settings.max_ejection_percent) {
            shard.inc(stats.outlier_detection_ejections_overflow);
            return None;
        }
        if matches!(kind, Kind::Consecutive5xx | Kind::SuccessRate) {
            // Envoy's older name, kept by it for these two.
            shard.inc(stats.outlier_detection_ejections_total);
        }
        let enforcing = u64::from(kind.enforcing(settings));
        if enforcing == 0 || (enforcing < 100 && dice() % 100 >= enforcing) {
            return None;
        }
        let times = host.ejections.load(Relaxed).saturating_add(1);
        host.ejections.store(times, Relaxed);
        let time = settings.base_ejection_time.saturating_mul(times).min(settings.max_ejection_time);
        let jitter = u64::try_from(settings.max_ejection_time_jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = if jitter == 0 { 0 } else { dice() % jitter };
        let until = now.after(time.saturating_add(std::time::Duration::from_nanos(jitter)));
        host.ejected_until.store(until.0, Relaxed);
        self.ejected.fetch_add(1, Relaxed);
        self.version.fetch_add(1, Relaxed);
        shard.inc(enforced);
        shard.inc(stats.outlier_detection_ejections_enforced_total);
        shard.shift(stats.outlier_detection_ejections_active, 1);
        Some(Ejection { cluster: cluster.clone(), host: host.clone(), until })
    }
}

impl Kind {
    /// Of how many of a hundred cases something is made.
    fn enforcing(self, settings: &OutlierDetection) -> u32 {
        match self {
            Kind::Consecutive5xx => settings.enforcing_consecutive_5xx,
            Kind::ConsecutiveGateway => settings.enforcing_consecutive_gateway_failure,
            Kind::ConsecutiveLocal => settings.enforcing_consecutive_local_origin_failure,
            Kind::SuccessRate => settings.success_rate.enforcing,
            Kind::SuccessRateLocal => settings.success_rate.enforcing_local_origin,
            Kind::FailurePercentage => settings.failure_percentage.enforcing,
            Kind::FailurePercentageLocal => settings.failure_percentage.enforcing_local_origin,
        }
    }

    /// Detected, and enforced.
    fn counters(self, cluster: &ClusterCore) -> (Counter, Counter) {
        let stats = &cluster.stats;
        match self {
            Kind::Consecutive5xx => (
                stats.outlier_detection_ejections_detected_consecutive_5xx,
                stats.outlier_detection_ejections_enforced_consecutive_5xx,
            ),
            Kind::ConsecutiveGateway => (
                stats.outlier_detection_ejections_detected_consecutive_gateway_failure,
                stats.outlier_detection_ejections_enforced_consecutive_gateway_failure,
            ),
            Kind::ConsecutiveLocal => (
                stats.outlier_detection_ejections_detected_consecutive_local_origin_failure,
                stats.outlier_detection_ejections_enforced_consecutive_local_origin_failure,
            ),
            Kind::SuccessRate => (
                stats.outlier_detection_ejections_detected_success_rate,
                stats.outlier_detection_ejections_enforced_success_rate,
            ),
            Kind::SuccessRateLocal => (
                stats.outlier_detection_ejections_detected_local_origin_success_rate,
                stats.outlier_detection_ejections_enforced_local_origin_success_rate,
            ),
            Kind::FailurePercentage => (
                stats.outlier_detection_ejections_detected_failure_percentage,
                stats.outlier_detection_ejections_enforced_failure_percentage,
            ),
            Kind::FailurePercentageLocal => (
                stats.outlier_detection_ejections_detected_failure_percentage_local_origin,
                stats.outlier_detection_ejections_enforced_failure_percentage_local_origin,
            ),
        }
    }
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
