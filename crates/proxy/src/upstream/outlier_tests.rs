//! Against Envoy's documentation of outlier detection (`arch_overview/upstream/outlier`) and its `DetectorImpl`.

use std::rc::{Rc, Weak};
use std::time::Duration;

use model::cluster::{FailurePercentage, OutlierDetection, SuccessRate};
use telemetry::Registry;
use telemetry::envoy::EnvoyStats;

use super::super::Host;
use super::*;

const SECOND: u64 = 1_000_000_000;

/// Envoy's defaults, but for a limit of hosts left out that is not in the way.
fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        enforcing_consecutive_5xx: 100,
        consecutive_gateway_failure: 5,
        enforcing_consecutive_gateway_failure: 0,
        split_local_origin: false,
        consecutive_local_origin_failure: 5,
        enforcing_consecutive_local_origin_failure: 100,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 100,
        always_eject_one_host: false,
        success_rate: SuccessRate {
            enforcing: 100,
            enforcing_local_origin: 100,
            minimum_hosts: 5,
            request_volume: 100,
            stdev_factor: 1900,
        },
        failure_percentage: FailurePercentage {
            threshold: 85,
            enforcing: 0,
            enforcing_local_origin: 0,
            minimum_hosts: 5,
            request_volume: 50,
        },
    }
}

struct Rig {
    hosts: Vec<Option<HostRef>>,
    ejections: Ejections,
    registry: Registry,
    settings: OutlierDetection,
    dice: u64,
}

impl Rig {
    fn new(hosts: u64, settings: OutlierDetection) -> Rig {
        let host = |_| {
            let address = "127.0.0.1:1".parse().unwrap();
            Some(Rc::new(Host::unknown(Weak::new(), address)))
        };
        let registry = Registry::new(Default::default());
        Rig {
            hosts: (0..hosts).map(host).collect(),
            ejections: Ejections::default(),
            registry,
            settings,
            dice: 0,
        }
    }

    /// Requests to a host, so many of them failed with this status.
    fn fare(&self, at: u64, host: usize, requests: u32, failed: u32, status: u16) {
        if self.ejections.changed(Time(at * SECOND)) {
            self.ejections.recount(self.hosts.iter().flatten(), Time(at * SECOND));
        }
        let shard = self.registry.shard();
        let codes = EnvoyStats::new(&self.registry).cluster_codes("c");
        let judge = Judge {
            settings: &self.settings,
            hosts: &self.hosts,
            now: Time(at * SECOND),
            shard: &shard,
            stats: codes.cluster(),
        };
        let host = self.hosts[host].as_ref().unwrap();
        for number in 0..requests {
            // Failures apart from one another, so that none come in a row where there are successes.
            let failing = u64::from(number) * u64::from(failed) / u64::from(requests)
                != u64::from(number + 1) * u64::from(failed) / u64::from(requests);
            self.ejections.observe(&judge, host, if failing { status } else { 200 }, || self.dice);
        }
    }

    fn ejected(&self, at: u64) -> Vec<usize> {
        let out = |host: &Option<HostRef>| {
            host.as_ref().is_some_and(|host| host.ejected_until.get() > Time(at * SECOND))
        };
        (0..self.hosts.len()).filter(|index| out(&self.hosts[*index])).collect()
    }
}

/// The threshold of Envoy's own formula, worked out by hand.
#[test]
fn the_threshold_of_success_rates() {
    for (rates, factor, expected) in [
        // Mean 80, deviation 40.
        (&[100.0, 100.0, 100.0, 100.0, 0.0][..], 1900, 4.0),
        (&[100.0, 100.0, 100.0, 100.0, 0.0], 1000, 40.0),
        (&[50.0; 5], 1900, 50.0),
        // Mean 90, deviation 10.
        (&[80.0, 100.0], 500, 85.0),
        (&[], 1900, 0.0),
    ] {
        assert!((success_rate_threshold(rates, factor) - expected).abs() < 1e-9, "{rates:?} {factor}");
    }
}

#[test]
fn hosts_are_compared_once_an_interval() {
    // (failed of 100 at each host, volume asked for, hosts asked for, who is left out)
    let cases: [(&[u32], u32, u32, &[usize]); 6] = [
        // 80 - 1.9 * 40 = 4: only a host that nearly always fails.
        (&[0, 0, 0, 0, 100], 100, 5, &[4]),
        (&[0, 0, 0, 0, 0], 100, 5, &[]),
        // All are alike bad: nobody is an outlier.
        (&[50, 50, 50, 50, 50], 100, 5, &[]),
        (&[0, 0, 0, 0, 100], 101, 5, &[]),
        (&[0, 0, 0, 0, 100], 100, 6, &[]),
        (&[5, 5, 5, 5, 5, 5, 90], 100, 5, &[6]),
    ];
    for (failed, volume, minimum, expected) in cases {
        let mut settings = settings();
        settings.consecutive_5xx = 0;
        settings.success_rate.request_volume = volume;
        settings.success_rate.minimum_hosts = minimum;
        let rig = Rig::new(failed.len() as u64, settings);
        for (host, failed) in failed.iter().enumerate() {
            rig.fare(1, host, 100, *failed, 500);
        }
        assert_eq!(rig.ejected(5), [0usize; 0], "{failed:?}: before the interval is over");
        rig.fare(11, 0, 1, 0, 500);
        assert_eq!(rig.ejected(12), expected, "{failed:?} {volume} {minimum}");
        assert_eq!(rig.ejected(42), [0usize; 0], "{failed:?}: for the base time");
        // What is counted anew says nothing yet.
        rig.fare(22, 0, 1, 0, 500);
        assert_eq!(rig.ejected(42), [0usize; 0], "{failed:?}");
    }
}

#[test]
fn a_share_of_failures_is_enough_where_that_is_enforced() {
    for (failed, enforcing, expected) in
        [([0, 84, 85, 100, 0], 100, &[2, 3][..]), ([0, 84, 85, 100, 0], 0, &[]), ([0; 5], 100, &[])]
    {
        let mut settings = settings();
        settings.consecutive_5xx = 0;
        settings.success_rate.enforcing = 0;
        settings.failure_percentage.enforcing = enforcing;
        let rig = Rig::new(5, settings);
        for (host, failed) in failed.into_iter().enumerate() {
            rig.fare(1, host, 100, failed, 503);
        }
        rig.fare(11, 0, 1, 0, 500);
        assert_eq!(rig.ejected(12), expected, "{failed:?} {enforcing}");
    }
}

#[test]
fn failures_in_a_row() {
    // (status, failures, share enforced of 5xx and of gateway failures, dice, left out)
    for (status, failures, enforced, dice, out) in [
        (500, 4, (100, 100), 0, false),
        (500, 5, (100, 100), 0, true),
        (500, 5, (0, 100), 0, false),
        (502, 5, (0, 100), 0, true),
        (504, 5, (0, 0), 0, false),
        (500, 5, (30, 0), 29, true),
        (500, 5, (30, 0), 30, false),
        // Counted anew after those that were let pass.
        (500, 9, (30, 0), 30, false),
    ] {
        let mut settings = settings();
        settings.enforcing_consecutive_5xx = enforced.0;
        settings.enforcing_consecutive_gateway_failure = enforced.1;
        let rig = Rig { dice, ..Rig::new(2, settings) };
        rig.fare(1, 1, failures, failures, status);
        assert_eq!(rig.ejected(2) == [1], out, "{status} {failures} {enforced:?} {dice}");
    }
}

/// Envoy: `base_ejection_time` times the number of ejections, at most `max_ejection_time`; one less for each interval
/// in which the host is there.
#[test]
fn who_fails_again_stays_out_longer() {
    let rig = Rig::new(2, settings());
    rig.fare(1, 1, 5, 5, 500);
    assert_eq!((rig.ejected(30), rig.ejected(32)), (vec![1], vec![]));
    rig.fare(32, 1, 5, 5, 500);
    assert_eq!(rig.ejected(61), [1]);
    assert_eq!((rig.ejected(91), rig.ejected(93)), (vec![1], vec![]));
    let host = rig.hosts[1].as_ref().unwrap();
    // Long after: forgiven.
    rig.fare(1000, 0, 1, 0, 500);
    assert_eq!(host.ejections.get(), 0);
    rig.fare(1001, 1, 5, 5, 500);
    assert_eq!((rig.ejected(1030), rig.ejected(1032)), (vec![1], vec![]));
}

#[test]
fn not_more_hosts_than_may_be_are_left_out() {
    for (most, always, expected) in
        [(100, false, &[0, 1, 2, 3][..]), (50, false, &[0, 1]), (10, false, &[]), (10, true, &[0])]
    {
        let mut settings = settings();
        settings.max_ejection_percent = most;
        settings.always_eject_one_host = always;
        let rig = Rig::new(4, settings);
        for host in 0..4 {
            rig.fare(1, host, 5, 5, 500);
        }
        assert_eq!(rig.ejected(2), expected, "{most} {always}");
    }
}
