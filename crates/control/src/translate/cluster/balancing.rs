//! Load balancing.

use api::networking::{ConsistentHash, LoadBalancerSettings, SimpleLoadBalancer};
use xds::cluster::Cluster;
use xds::cluster::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
use xds::cluster::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig,
    RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use xds::core::RuntimeDouble;
use xds::types::Percent;

use super::policy::Policy;
use crate::translate::values::duration;

pub fn apply(cluster: &mut Cluster, policy: &Policy<'_>) {
    let original = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
    if cluster.cluster_discovery_type == original {
        cluster.lb_policy = LbPolicy::ClusterProvided as i32;
        return;
    }
    let settings = policy.balancer;
    weigh_localities(cluster, policy);
    match settings.and_then(|settings| settings.simple).unwrap_or_default() {
        SimpleLoadBalancer::Random => cluster.lb_policy = LbPolicy::Random as i32,
        SimpleLoadBalancer::RoundRobin => {
            cluster.lb_policy = LbPolicy::RoundRobin as i32;
            cluster.lb_config = slow_start(settings).map(|slow| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) })
            });
        }
        SimpleLoadBalancer::Passthrough => cluster.lb_policy = LbPolicy::ClusterProvided as i32,
        // Istio's default is the less busy of two.
        SimpleLoadBalancer::Unspecified
        | SimpleLoadBalancer::LeastConn
        | SimpleLoadBalancer::LeastRequest => {
            cluster.lb_policy = LbPolicy::LeastRequest as i32;
            cluster.lb_config = slow_start(settings).map(|slow| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow),
                    ..Default::default()
                })
            });
        }
    }
    if let Some(hash) = settings.and_then(|settings| settings.consistent_hash.as_ref()) {
        consistent_hash(cluster, hash);
    }
}

fn consistent_hash(cluster: &mut Cluster, hash: &ConsistentHash) {
    const RING: u64 = 1024;
    if let Some(maglev) = &hash.maglev {
        cluster.lb_policy = LbPolicy::Maglev as i32;
        let table_size = Some(maglev.table_size).filter(|size| *size > 0);
        cluster.lb_config = Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size }));
        return;
    }
    let size = hash.ring_hash.as_ref().map(|ring| ring.minimum_ring_size).or(hash.minimum_ring_size);
    let size = size.filter(|size| *size > 0).unwrap_or(RING);
    cluster.lb_policy = LbPolicy::RingHash as i32;
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
        minimum_ring_size: Some(size),
        ..Default::default()
    }));
}

fn slow_start(settings: Option<&LoadBalancerSettings>) -> Option<SlowStartConfig> {
    let settings = settings?;
    if let Some(warmup) = &settings.warmup {
        return Some(SlowStartConfig {
            slow_start_window: warmup.duration.map(duration),
            min_weight_percent: Some(Percent { value: warmup.minimum_percent.unwrap_or(10.0) }),
            aggression: warmup
                .aggression
                .map(|value| RuntimeDouble { default_value: value, runtime_key: String::new() }),
        });
    }
    settings
        .warmup_duration_secs
        .map(|window| SlowStartConfig { slow_start_window: Some(duration(window)), ..Default::default() })
}

/// Weights of localities count only where they were set on purpose; elsewhere they would bend the choice of hosts.
fn weigh_localities(cluster: &mut Cluster, policy: &Policy<'_>) {
    let Some(setting) = policy.balancer.and_then(|settings| settings.locality_lb_setting.as_ref()) else {
        return;
    };
    let fails_over =
        policy.outlier.is_some() && (!setting.failover.is_empty() || !setting.failover_priority.is_empty());
    if fails_over || !setting.distribute.is_empty() {
        let common = cluster.common_lb_config.get_or_insert_default();
        common.locality_config_specifier =
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}));
    }
}
