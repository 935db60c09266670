//! What filamesh's own proxy does not do yet, taken out of what it is sent and said by name: it would refuse the whole
//! cluster otherwise, and with it every request to the service. The one place to change when it does more.

use xds::cluster::Cluster;
use xds::cluster::cluster::{LbConfig, LbPolicy};

use super::context::Context;
use crate::world::{DestinationRule, NotDone, Note, Reason};

pub fn limit_cluster(context: &Context<'_>, rule: Option<&DestinationRule>, cluster: &mut Cluster) {
    if !context.is_live() {
        return;
    }
    let note = |path: &str, what: NotDone| {
        if let Some(object) = rule.and_then(|rule| rule.objects.get(rule.policy_object)) {
            context.note(Note::on(
                object,
                format!("spec.trafficPolicy.loadBalancer.{path}"),
                Reason::NotDone(what),
            ));
        }
    };
    let hashed = [LbPolicy::RingHash as i32, LbPolicy::Maglev as i32].contains(&cluster.lb_policy);
    if hashed {
        cluster.lb_policy = LbPolicy::LeastRequest as i32;
        cluster.lb_config = None;
        note("consistentHash", NotDone::ConsistentHash);
    }
    let warms_up = match &cluster.lb_config {
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.is_some(),
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.is_some(),
        _ => false,
    };
    if warms_up {
        cluster.lb_config = None;
        note("warmup", NotDone::WarmUp);
    }
}

/// Connections by their source: said where the cluster's policy is.
pub fn hashes_connections(context: &Context<'_>) -> bool {
    !context.is_live()
}
