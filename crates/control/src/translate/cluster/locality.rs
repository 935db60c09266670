//! In which order localities are used, and with which weights (`istio-behaviour` rules 58 to 61).

use std::collections::BTreeMap;

use api::networking::{LocalityDistribute, LocalityLoadBalancerSetting};
use xds::core::Locality as EnvoyLocality;
use xds::endpoint::{LbEndpoint, LocalityLbEndpoints};

use super::policy::Policy;
use crate::translate::context::Context;
use crate::world::Locality;
use crate::world::service::{Endpoint, Service};

/// Priorities that localities can have among themselves: same subzone, zone, region, other, other than the one to fail
/// over to.
const STEPS: u32 = 5;

pub fn arrange(
    context: &Context<'_>,
    service: &Service,
    policy: &Policy<'_>,
    endpoints: Vec<(&Endpoint, LbEndpoint)>,
) -> Vec<LocalityLbEndpoints> {
    let own = Locality::parse(&context.facts.locality());
    let written = policy.balancer.and_then(|settings| settings.locality_lb_setting.as_ref());
    let setting = written
        .or(context.mesh().locality_lb_setting.as_ref())
        .filter(|setting| setting.enabled != Some(false));
    // Failing over needs somebody to notice that hosts are bad, or a service that asks for nearness itself.
    let near = !service.traffic_distribution.is_empty() && written.is_none();
    let fails_over = policy.outlier.is_some() || near;
    let setting = setting.filter(|_| !own.is_empty());
    let distribute = setting.map(|setting| setting.distribute.as_slice()).unwrap_or_default();
    if let Some(rule) = distribute.iter().find(|rule| covers(&rule.from, &own)) {
        return distributed(rule, group(endpoints, |_| 0));
    }
    match setting.filter(|_| fails_over) {
        None => finish(group(endpoints, |_| 0), false),
        Some(setting) => {
            finish(group(endpoints, |endpoint| priority(context, setting, &own, endpoint)), true)
        }
    }
}

type Groups = BTreeMap<(u32, Locality), Vec<LbEndpoint>>;

fn group(endpoints: Vec<(&Endpoint, LbEndpoint)>, priority: impl Fn(&Endpoint) -> u32) -> Groups {
    let mut groups = Groups::new();
    for (endpoint, made) in endpoints {
        groups.entry((priority(endpoint), endpoint.locality.clone())).or_default().push(made);
    }
    groups
}

/// Priorities must follow each other without gaps.
fn finish(groups: Groups, prioritised: bool) -> Vec<LocalityLbEndpoints> {
    let mut made = Vec::with_capacity(groups.len());
    let mut last = None;
    let mut compact = 0;
    for ((priority, locality), endpoints) in groups {
        if last.is_some_and(|last| last != priority) {
            compact += 1;
        }
        last = Some(priority);
        let weight = weight_of(&endpoints);
        made.push(locality_endpoints(&locality, endpoints, weight, if prioritised { compact } else { 0 }));
    }
    made
}

fn weight_of(endpoints: &[LbEndpoint]) -> u32 {
    endpoints
        .iter()
        .fold(0, |sum: u32, endpoint| sum.saturating_add(endpoint.load_balancing_weight.unwrap_or(1)))
}

fn locality_endpoints(
    locality: &Locality,
    lb_endpoints: Vec<LbEndpoint>,
    weight: u32,
    priority: u32,
) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(EnvoyLocality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.subzone.clone(),
        }),
        lb_endpoints,
        load_balancing_weight: Some(weight),
        priority,
        ..Default::default()
    }
}

/// Each target's share goes to its localities by their own weights; localities that are no target get nothing.
fn distributed(rule: &LocalityDistribute, groups: Groups) -> Vec<LocalityLbEndpoints> {
    let mut left: Vec<(Locality, Vec<LbEndpoint>)> =
        groups.into_iter().map(|((_, locality), endpoints)| (locality, endpoints)).collect();
    // The longest pattern first, so that `region/zone1/*` takes its own from `region/*`.
    let mut targets: Vec<(&String, u32)> = rule.to.iter().map(|(to, share)| (to, *share)).collect();
    targets.sort_by_key(|(to, _)| std::cmp::Reverse(to.len()));
    let mut made = Vec::new();
    for (target, share) in targets {
        let (mine, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(locality, _)| covers(target, locality));
        left = rest;
        let total: u64 = mine.iter().map(|(_, endpoints)| u64::from(weight_of(endpoints))).sum();
        for (locality, endpoints) in mine {
            let part = u64::from(weight_of(&endpoints)) * u64::from(share);
            let weight = u32::try_from(part.div_ceil(total.max(1))).unwrap_or(u32::MAX);
            if weight > 0 {
                made.push(locality_endpoints(&locality, endpoints, weight, 0));
            }
        }
    }
    made.sort_by(|left, right| key(left).cmp(&key(right)));
    made
}

fn key(endpoints: &LocalityLbEndpoints) -> Option<(&str, &str, &str)> {
    let locality = endpoints.locality.as_ref()?;
    Some((&locality.region, &locality.zone, &locality.sub_zone))
}

fn priority(
    context: &Context<'_>,
    setting: &LocalityLoadBalancerSetting,
    own: &Locality,
    endpoint: &Endpoint,
) -> u32 {
    let by_labels = label_priority(context, &setting.failover_priority, endpoint);
    if !setting.failover_priority.is_empty() && setting.failover.is_empty() {
        return by_labels * STEPS;
    }
    by_labels * STEPS + locality_priority(setting, own, &endpoint.locality)
}

fn locality_priority(setting: &LocalityLoadBalancerSetting, own: &Locality, other: &Locality) -> u32 {
    if own.region != other.region {
        let target = setting.failover.iter().find(|failover| failover.from == own.region);
        return match target {
            Some(failover) if failover.to != other.region => 4,
            _ => 3,
        };
    }
    match (own.zone == other.zone, own.subzone == other.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// How many labels from the first that differs on (rule 59).
fn label_priority(context: &Context<'_>, labels: &[String], endpoint: &Endpoint) -> u32 {
    let matching = labels.iter().take_while(|label| {
        let (key, wanted) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (label.as_str(), context.facts.label(label)),
        };
        endpoint.labels.get(key) == wanted.as_ref()
    });
    let matching = matching.count();
    u32::try_from(labels.len() - matching).unwrap_or(u32::MAX / STEPS)
}

/// Whether `region/zone/*` (or `region`, or `*`) covers a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let own = [&locality.region, &locality.zone, &locality.subzone];
    pattern.splitn(3, '/').zip(own).all(|(part, own)| part == "*" || part == own)
}
