//! Against Envoy's documentation of outlier detection (`arch_overview/upstream/outlier`) and its `DetectorImpl`.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use model::cluster::{FailurePercentage, OutlierDetection, SuccessRate};
use telemetry::Registry;
use telemetry::envoy::EnvoyStats;

use super::*;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::health::Outliers;

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

/// A cluster as several workers have it.
struct Rig {
    health: Arc<ClusterHealth>,
    workers: Vec<Rc<ClusterCore>>,
    hosts: Vec<Arc<HostHealth>>,
    registry: Registry,
    settings: OutlierDetection,
    dice: u64,
    held: RefCell<Vec<Ejection>>,
}

/// A cluster of this name with outlier detection, and a worker's part in it.
fn core(registry: &Registry, envoy: &EnvoyStats, health: &Arc<ClusterHealth>) -> Rc<ClusterCore> {
    let bootstrap = serde_json::json!({ "static_resources": { "clusters": [
        { "name": "c", "type": "STATIC", "connect_timeout": "1s", "outlier_detection": {} }] } });
    let bootstrap = xds::json::from_json(&bootstrap).unwrap();
    let snapshot = model::bootstrap::from_bootstrap(&bootstrap).unwrap().config.snapshot();
    let (id, entry) = snapshot.clusters().next().unwrap();
    let codes = envoy.cluster_codes("c");
    let config = ClusterConfig::new(entry.cluster.clone(), &wire::h1::Limits::default());
    Rc::new(ClusterCore {
        id,
        name: "c".into(),
        config: config.into(),
        stats: codes.cluster().clone(),
        codes,
        shard: Rc::new(registry.shard()),
        counts: Arc::default(),
        active: Cell::new(0),
        health: health.clone(),
    })
}

impl Rig {
    fn new(hosts: u16, settings: OutlierDetection) -> Rig {
        Rig::with_workers(1, hosts, settings)
    }

    fn with_workers(workers: usize, hosts: u16, settings: OutlierDetection) -> Rig {
        let registry = Registry::new(Default::default());
        let envoy = EnvoyStats::new(&registry);
        let health = Outliers::default().cluster(&"c".into());
        Rig {
            workers: (0..workers).map(|_| core(&registry, &envoy, &health)).collect(),
            hosts: (0..hosts).map(|host| health.host(([127, 0, 0, 1], host).into())).collect(),
            health,
            registry,
            settings,
            dice: 0,
            held: RefCell::default(),
        }
    }

    /// An attempt of one of the workers has ended.
    fn observe(&self, at: u64, worker: usize, host: usize, fared: Fared) {
        let now = Time(at * SECOND);
        self.held.borrow_mut().retain(|ejection| ejection.until > now);
        let judge = || Judge {
            settings: &self.settings,
            hosts: self.hosts.clone(),
            cluster: &self.workers[worker],
            now,
        };
        let host = &self.hosts[host];
        let ejected = self.health.observe(&self.settings, now, host, fared, judge, || self.dice);
        self.held.borrow_mut().extend(ejected);
    }

    /// Requests to a host, so many of them failed with this status; the workers take turns.
    fn fare(&self, at: u64, host: usize, requests: u32, failed: u32, status: u16) {
        for number in 0..requests {
            // Failures apart from one another, so that none come in a row where there are successes.
            let failing = u64::from(number) * u64::from(failed) / u64::from(requests)
                != u64::from(number + 1) * u64::from(failed) / u64::from(requests);
            let fared = Fared::Answered(if failing { status } else { 200 });
            self.observe(at, number as usize % self.workers.len(), host, fared);
        }
    }

    fn ejected(&self, at: u64) -> Vec<usize> {
        let out = |host: &Arc<HostHealth>| host.ejected(Time(at * SECOND));
        (0..self.hosts.len()).filter(|index| out(&self.hosts[*index])).collect()
    }

    /// A statistic of outlier detection, over all workers.
    fn count(&self, name: &str) -> i64 {
        let mut out = vec![];
        telemetry::metrics::prometheus(&self.registry, &Default::default(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let name = format!("envoy_cluster_outlier_detection_{name}{{");
        let line = text.lines().find(|line| line.starts_with(&name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
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
        let rig = Rig::new(failed.len() as u16, settings);
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
    let host = &rig.hosts[1];
    // Long after: forgiven.
    rig.fare(1000, 0, 1, 0, 500);
    assert_eq!(host.ejections.load(Relaxed), 0);
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

/// envoyproxy/envoy#40697: three failures are three, whichever workers saw them; all of them leave the host out.
#[test]
fn failures_in_a_row_are_counted_over_all_workers() {
    for workers in [1, 2, 4, 8] {
        let mut settings = settings();
        settings.consecutive_5xx = 3;
        let rig = Rig::with_workers(workers, 2, settings);
        let before = rig.health.version();
        rig.fare(1, 1, 2, 2, 500);
        assert_eq!((rig.ejected(1), rig.health.version()), (vec![], before));
        rig.observe(1, workers - 1, 1, Fared::Answered(500));
        assert_eq!(rig.ejected(1), [1], "{workers} workers");
        assert_ne!(rig.health.version(), before, "the others see it");
        // What was under way to it meanwhile ejects nobody twice.
        rig.fare(2, 1, 10, 10, 500);
        for (name, expected) in [
            ("ejections_enforced_total", 1),
            ("ejections_enforced_consecutive_5xx", 1),
            ("ejections_detected_consecutive_5xx", 1),
            ("ejections_total", 1),
            ("ejections_active", 1),
        ] {
            assert_eq!(rig.count(name), expected, "{name}, {workers} workers");
        }
        // Back after its time, whoever looks.
        let version = rig.health.version();
        rig.observe(40, 0, 0, Fared::Answered(200));
        assert_eq!((rig.ejected(40), rig.count("ejections_active")), (vec![], 0));
        assert_ne!(rig.health.version(), version);
    }
}

/// The limit of hosts left out is the proxy's, not each worker's.
#[test]
fn the_share_of_hosts_left_out_is_the_proxys() {
    let mut settings = settings();
    settings.max_ejection_percent = 50;
    let rig = Rig::with_workers(4, 4, settings);
    for host in 0..4 {
        for _ in 0..5 {
            rig.observe(1, host, host, Fared::Answered(500));
        }
    }
    assert_eq!(rig.ejected(2), [0, 1]);
    assert_eq!(rig.count("ejections_overflow"), 2);
}

/// Envoy: `resultToHttpCode` and, with `split_external_local_origin_errors`, failures of our own apart.
#[test]
fn what_did_not_come_from_the_host_counts_as_configured() {
    use Fared::{Answered, Connected, Failed, Served, TimedOut};
    type Case<'a> = (bool, &'a [Fared], &'a str);
    let cases: [Case<'_>; 9] = [
        (false, &[Failed; 5], "consecutive_5xx"),
        (false, &[TimedOut; 5], "consecutive_5xx"),
        (false, &[Failed, Connected, Failed, Connected, Failed, Failed, Failed], "consecutive_5xx"),
        (false, &[Failed, Failed, Served, Failed, Failed, Failed], ""),
        (true, &[Failed; 5], "consecutive_local_origin_failure"),
        (true, &[TimedOut; 5], "consecutive_local_origin_failure"),
        (true, &[Failed, Failed, Failed, Connected, Failed, Failed], ""),
        (true, &[Failed, Failed, Answered(500), Answered(500), Answered(500), Failed], ""),
        (true, &[Answered(500); 5], "consecutive_5xx"),
    ];
    for (split, fared, why) in cases {
        let mut settings = settings();
        settings.split_local_origin = split;
        let rig = Rig::new(2, settings);
        fared.iter().for_each(|fared| rig.observe(1, 0, 1, *fared));
        assert_eq!(rig.ejected(1) == [1], !why.is_empty(), "{split} {fared:?}");
        for kind in ["consecutive_5xx", "consecutive_local_origin_failure"] {
            let enforced = rig.count(&format!("ejections_enforced_{kind}"));
            assert_eq!(enforced, i64::from(kind == why), "{split} {fared:?} {kind}");
        }
    }
}
