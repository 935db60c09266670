//! What a proxy of ours does not do is taken out of its clusters and said by name: it would refuse the whole cluster
//! otherwise, and with it every request to the service.

use xds::cluster::Cluster;
use xds::cluster::cluster::{LbConfig, LbPolicy};
use xds::node::Feature;

use crate::translate::context::Context;
use crate::world::{DestinationRule, NotDone, Note, Reason};

pub fn leave_out_missing(context: &Context<'_>, rule: Option<&DestinationRule>, cluster: &mut Cluster) {
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
    if hashed && !context.does(Feature::ConsistentHash) {
        cluster.lb_policy = LbPolicy::LeastRequest as i32;
        cluster.lb_config = None;
        note("consistentHash", NotDone::ConsistentHash);
    }
    let warms_up = match &cluster.lb_config {
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.is_some(),
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.is_some(),
        _ => false,
    };
    if warms_up && !context.does(Feature::WarmUp) {
        cluster.lb_config = None;
        note("warmup", NotDone::WarmUp);
    }
}
