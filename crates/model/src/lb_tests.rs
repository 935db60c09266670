use std::sync::Arc;

use super::*;

/// The tables of Envoy's `load_balancing/priority` and `panic_threshold` pages: percent healthy of 100 hosts
/// in P0 and P1, traffic to each, whether each panics. Overprovisioning 1.4, threshold 50.
#[test]
fn loads_are_those_of_envoys_tables() {
    let cases = [
        ((100, 100), (100, 0), (false, false)),
        ((72, 72), (100, 0), (false, false)),
        ((71, 71), (99, 1), (false, false)),
        ((50, 50), (70, 30), (false, false)),
        ((25, 100), (35, 65), (false, false)),
        ((25, 25), (50, 50), (true, true)),
        ((5, 65), (7, 93), (true, false)),
    ];
    for ((p0, p1), (l0, l1), (panic0, panic1)) in cases {
        let (loads, panics) = loads(&[(p0, 100), (p1, 100)], 140, 50.0);
        assert_eq!((loads, panics), (vec![l0, l1], vec![panic0, panic1]), "{p0} {p1}");
    }
}

/// Istio sends threshold 0 beside outlier detection: nothing healthy is 503 UH.
#[test]
fn without_panic_no_healthy_host_is_no_host() {
    assert_eq!(loads(&[(0, 4)], 140, 0.0), (vec![0], vec![false]));
    let (cluster, endpoints) = cluster("ROUND_ROBIN", &[(1, 4)], 0.0);
    let plan = HostPlan::new(&cluster, &endpoints, |_| false);
    let decision = pick(&plan, &mut plan.rotation(), Tried::default(), |_| 0, dice(1));
    assert_eq!(decision, HostDecision::NoHealthyHost);
    // With Envoy's default it would panic and take any.
    let (cluster, endpoints) = self::cluster("ROUND_ROBIN", &[(1, 4)], 50.0);
    let plan = HostPlan::new(&cluster, &endpoints, |_| false);
    let decision = pick(&plan, &mut plan.rotation(), Tried::default(), |_| 0, dice(1));
    assert!(matches!(decision, HostDecision::Host { why: Why::Panic, .. }), "{decision:?}");
}

/// Hosts of weight and number, one locality and priority each.
fn cluster(policy: &str, groups: &[(u32, u32)], panic: f64) -> (Cluster, Arc<Endpoints>) {
    let groups: Vec<serde_json::Value> = groups
        .iter()
        .enumerate()
        .map(|(priority, (weight, hosts))| {
            let hosts: Vec<serde_json::Value> = (0..*hosts)
                .map(|i| {
                    let address = serde_json::json!({"socketAddress": {"address": format!("10.0.{priority}.{i}"), "portValue": 80}});
                    serde_json::json!({"endpoint": {"address": address}, "loadBalancingWeight": if i == 0 { *weight } else { 1 }})
                })
                .collect();
            serde_json::json!({"priority": priority, "lbEndpoints": hosts})
        })
        .collect();
    let message =
        xds::json::from_json(&serde_json::json!({"name": "c", "type": "STATIC", "lbPolicy": policy,
        "commonLbConfig": {"healthyPanicThreshold": {"value": panic}},
        "loadAssignment": {"clusterName": "c", "endpoints": groups}}));
    let cluster = Cluster::compile(&message.unwrap()).unwrap();
    let endpoints = cluster.assignment.clone().unwrap();
    (cluster, endpoints)
}

/// A deterministic stream (splitmix64).
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn counts(policy: &str, weight: u32, picks: u32, active: impl Fn(u32) -> u32) -> Vec<u32> {
    let (cluster, endpoints) = cluster(policy, &[(weight, 4)], 50.0);
    let plan = HostPlan::new(&cluster, &endpoints, |_| true);
    let mut rotation = plan.rotation();
    let mut random = dice(3);
    let mut counts = vec![0; 4];
    for _ in 0..picks {
        match pick(&plan, &mut rotation, Tried::default(), &active, &mut random) {
            HostDecision::Host { host, why: Why::Healthy, .. } => counts[host as usize] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts
}

#[test]
fn each_policy_spreads_as_it_should() {
    assert_eq!(counts("ROUND_ROBIN", 1, 400, |_| 0), [100, 100, 100, 100]);
    assert_eq!(counts("ROUND_ROBIN", 5, 800, |_| 0), [500, 100, 100, 100]);
    let random = counts("RANDOM", 1, 4000, |_| 0);
    assert!(random.iter().all(|c| (850..1150).contains(c)), "{random:?}");
    let weighted = counts("RANDOM", 5, 8000, |_| 0);
    assert!((4700..5300).contains(&weighted[0]), "{weighted:?}");
    // Host 0 is busy: it is only picked when both choices are host 0, once in 16.
    let least = counts("LEAST_REQUEST", 1, 4000, |host| u32::from(host == 0));
    assert!((150..350).contains(&least[0]), "{least:?}");
}

#[test]
fn a_retry_keeps_away_from_what_was_tried() {
    let (cluster, endpoints) = cluster("RANDOM", &[(1, 2), (1, 2)], 50.0);
    let plan = HostPlan::new(&cluster, &endpoints, |_| true);
    let mut rotation = plan.rotation();
    let mut random = dice(5);
    let mut go = |tried: Tried<'_>| pick(&plan, &mut rotation, tried, |_| 0, &mut random);
    for _ in 0..50 {
        let tried = Tried { hosts: &[0], attempts: 30, priorities: &[] };
        assert!(matches!(go(tried), HostDecision::Host { host: 1, priority: 0, why: Why::Healthy, .. }));
    }
    let all = Tried { hosts: &[0, 1], attempts: 5, priorities: &[] };
    assert!(matches!(go(all), HostDecision::Host { why: Why::TriedBefore, .. }));
    // Priority 1 takes no traffic while priority 0 is healthy, but takes all when 0 is to be left alone (Envoy:
    // `PreviousPrioritiesRetryPriority::adjustForAttemptedPriorities`). Leaving both alone leaves nothing, so it is 0.
    let left = Tried { hosts: &[], attempts: 0, priorities: &[0] };
    assert!(matches!(go(left), HostDecision::Host { priority: 1, .. }));
    let left = Tried { hosts: &[], attempts: 0, priorities: &[0, 1] };
    assert!(matches!(go(left), HostDecision::Host { priority: 0, .. }));
}

/// Envoy's `locality_weight` page: weight scaled by overprovisioned health.
#[test]
fn localities_are_weighed_by_their_health() {
    assert_eq!(effective_weight(1, 100, 100, 140), 100);
    assert_eq!(effective_weight(2, 50, 100, 140), 140);
    assert_eq!(effective_weight(3, 0, 100, 140), 0);
    assert_eq!(effective_weight(3, 0, 0, 140), 0);
}
