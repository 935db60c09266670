//! Which host takes a request: priority, locality, host.
//!
//! [`HostPlan`] is what can be computed when hosts or their health change; [`Rotation`] the little state a
//! worker keeps; [`pick`] the choice itself.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;

use crate::cluster::{Cluster, LbPolicy};
use crate::endpoints::{Endpoints, HostHealth};

/// Loads of the priorities and the hosts that may be picked, for one set of hosts and their health.
#[derive(Debug, Clone)]
pub struct HostPlan {
    policy: LbPolicy,
    tiers: Vec<Tier>,
}

#[derive(Debug, Clone)]
struct Tier {
    /// Percent of the traffic.
    load: u32,
    /// Percent of the traffic it could carry.
    health: u64,
    /// Health is ignored here.
    panic: bool,
    pools: Vec<Pool>,
}

/// Hosts among which a request is balanced: those of a locality, or of a whole priority.
#[derive(Debug, Clone)]
struct Pool {
    locality: Option<u32>,
    /// Effective weight and those before it in the tier.
    sum: u64,
    hosts: Vec<u32>,
    /// Weights so far, this host's included; empty when all are equal.
    sums: Vec<u64>,
    /// Number of this pool in the whole plan.
    number: usize,
}

/// Steps a rotation over weighted hosts is moved on when it is made: each costs about as much as a pick.
const MOST_ADVANCED: usize = 1024;

/// A worker's place in the rotation over each pool.
#[derive(Debug, Default)]
pub struct Rotation {
    pools: Vec<PoolRotation>,
}

#[derive(Debug, Default, Clone)]
struct PoolRotation {
    next: usize,
    /// Earliest deadline first, for unequal weights: deadline, order of entry, position in the pool.
    deadlines: BinaryHeap<Reverse<(u64, u64, usize)>>,
    order: u64,
}

/// The host picked, with why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostDecision {
    Host {
        /// Index into [`Endpoints::hosts`].
        host: u32,
        priority: u32,
        /// Where localities are weighed: index into [`Endpoints::localities`].
        locality: Option<u32>,
        why: Why,
    },
    /// 503, flag UH.
    NoHealthyHost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Healthy,
    /// Too few healthy hosts in its priority: health was ignored.
    Panic,
    /// Tried before, for no other could be picked.
    TriedBefore,
}

/// What a retry must keep away from. Empty for a first attempt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried<'t> {
    pub hosts: &'t [u32],
    /// Times another host is picked when the picked one was tried (`host_selection_retry_max_attempts`).
    pub attempts: u32,
    /// Priorities to leave alone (`previous_priorities`).
    pub priorities: &'t [u32],
}

impl HostPlan {
    /// `available`: false for hosts ejected or failing health checks; asked once for each host that the
    /// control plane calls healthy.
    pub fn new(cluster: &Cluster, endpoints: &Endpoints, available: impl Fn(u32) -> bool) -> HostPlan {
        let healthy: Vec<bool> = (0u32..)
            .zip(&endpoints.hosts)
            .map(|(index, host)| host.health == HostHealth::Healthy && available(index))
            .collect();
        let is_healthy = |host: &u32| healthy.get(*host as usize).copied().unwrap_or(false);
        let counts: Vec<(u64, u64)> = endpoints
            .priorities
            .iter()
            .map(|hosts| (hosts.clone().filter(is_healthy).count() as u64, hosts.len() as u64))
            .collect();
        let overprovisioning = u64::from(endpoints.overprovisioning);
        let (loads, panics) = loads(&counts, overprovisioning, cluster.panic_threshold);
        let health = health(&counts, overprovisioning);
        let mut plan = HostPlan { policy: cluster.lb, tiers: Vec::new() };
        let mut number = 0;
        for (priority, (((load, panic), health), hosts)) in
            (0u32..).zip(loads.into_iter().zip(panics).zip(health).zip(&endpoints.priorities))
        {
            let usable = |host: &u32| panic || is_healthy(host);
            let mut pools = Vec::new();
            if cluster.locality_weighted {
                let mut sum = 0;
                let here = (0u32..).zip(&endpoints.localities).filter(|(_, l)| l.priority == priority);
                for (index, locality) in here {
                    let usable: Vec<u32> = locality.hosts.clone().filter(usable).collect();
                    sum += effective_weight(
                        locality.weight,
                        usable.len() as u64,
                        locality.hosts.len() as u64,
                        u64::from(endpoints.overprovisioning),
                    );
                    pools.push(Pool::new(Some(index), sum, usable, endpoints, &mut number));
                }
            }
            if pools.last().is_none_or(|p| p.sum == 0) {
                number -= pools.len();
                pools.clear();
                pools.push(Pool::new(
                    None,
                    1,
                    hosts.clone().filter(usable).collect(),
                    endpoints,
                    &mut number,
                ));
            }
            plan.tiers.push(Tier { load, health, panic, pools });
        }
        plan
    }

    pub fn rotation(&self) -> Rotation {
        let pools = self.tiers.iter().map(|t| t.pools.len()).sum();
        Rotation { pools: vec![PoolRotation::default(); pools] }
    }

    /// Each pool's rotation goes on where it was in `before`; that of a pool which was not there begins anywhere (Envoy
    /// seeds its rotations too): otherwise each of many proxies, and of their workers, would begin at the same host.
    pub fn rotation_after(&self, before: &Rotation, mut random: impl FnMut() -> u64) -> Rotation {
        let pools = self.tiers.iter().map(|t| t.pools.len()).sum();
        let pool = |number: usize| PoolRotation {
            next: match before.pools.get(number) {
                Some(known) => known.next,
                None => usize::from((random() >> 48) as u16),
            },
            ..PoolRotation::default()
        };
        Rotation { pools: (0..pools).map(pool).collect() }
    }

    /// Percent of the traffic and whether health is ignored, by priority.
    pub fn priorities(&self) -> impl Iterator<Item = (u32, bool)> {
        self.tiers.iter().map(|t| (t.load, t.panic))
    }

    fn tier(&self, random: u64, avoid: &[u32]) -> Option<(u32, &Tier)> {
        if !avoid.is_empty() {
            // Envoy's `PreviousPrioritiesRetryPriority`: the others share the traffic as if these had no host.
            let others =
                (0u32..).zip(&self.tiers).map(|(p, t)| if avoid.contains(&p) { 0 } else { t.health });
            let loads = share_out(&others.collect::<Vec<u64>>());
            return match self.by_loads(random, loads.iter().copied()) {
                // Every priority that could take traffic was tried: start over.
                None => self.tier(random, &[]),
                found => found,
            };
        }
        self.by_loads(random, self.tiers.iter().map(|tier| u64::from(tier.load)))
    }

    fn by_loads(&self, random: u64, loads: impl Iterator<Item = u64> + Clone) -> Option<(u32, &Tier)> {
        let total: u64 = loads.clone().sum();
        if total == 0 {
            return None;
        }
        let mut left = random % total;
        for ((priority, tier), load) in (0u32..).zip(&self.tiers).zip(loads) {
            if left < load {
                return Some((priority, tier));
            }
            left -= load;
        }
        None
    }
}

impl Pool {
    fn new(
        locality: Option<u32>,
        sum: u64,
        hosts: Vec<u32>,
        endpoints: &Endpoints,
        number: &mut usize,
    ) -> Pool {
        let weight = |host: &u32| endpoints.hosts.get(*host as usize).map_or(1, |h| u64::from(h.weight));
        let first = hosts.first().map_or(1, weight);
        let sums = match hosts.iter().all(|h| weight(h) == first) {
            true => Vec::new(),
            false => {
                let sums = hosts.iter().scan(0, |sum, host| {
                    *sum += weight(host);
                    Some(*sum)
                });
                sums.collect()
            }
        };
        let pool = Pool { locality, sum, hosts, sums, number: *number };
        *number += 1;
        pool
    }

    fn weight(&self, position: usize) -> u64 {
        let at = |position: usize| self.sums.get(position).copied().unwrap_or(0);
        at(position) - position.checked_sub(1).map_or(0, at)
    }

    fn random(&self, random: u64) -> usize {
        match self.sums.last() {
            Some(total) => self.sums.partition_point(|sum| *sum <= random % (*total).max(1)),
            None => usize::try_from(random % (self.hosts.len().max(1) as u64)).unwrap_or(0),
        }
    }

    fn next(&self, rotation: &mut PoolRotation) -> usize {
        if self.sums.is_empty() {
            let position = rotation.next % self.hosts.len().max(1);
            rotation.next = position + 1;
            return position;
        }
        // Deadlines in units that divide well by any weight.
        const UNIT: u64 = 1 << 32;
        let wait = |position: usize| UNIT / self.weight(position).max(1);
        let advance = |rotation: &mut PoolRotation| {
            let Some(Reverse((deadline, _, position))) = rotation.deadlines.pop() else { return 0 };
            let next = deadline.saturating_add(wait(position));
            rotation.deadlines.push(Reverse((next, rotation.order, position)));
            rotation.order += 1;
            position
        };
        if rotation.deadlines.is_empty() {
            for position in 0..self.hosts.len() {
                rotation.deadlines.push(Reverse((wait(position), rotation.order, position)));
                rotation.order += 1;
            }
            // Where the rotation before this one was, or anywhere.
            for _ in 0..rotation.next % self.hosts.len().clamp(1, MOST_ADVANCED) {
                advance(rotation);
            }
        }
        rotation.next = rotation.next.wrapping_add(1);
        advance(rotation)
    }
}

/// One host. `active`: requests in flight to a host; `random`: a dice, thrown a few times.
pub fn pick(
    plan: &HostPlan,
    rotation: &mut Rotation,
    tried: Tried<'_>,
    active: impl Fn(u32) -> u32,
    mut random: impl FnMut() -> u64,
) -> HostDecision {
    let mut fallback = HostDecision::NoHealthyHost;
    for _ in 0..tried.attempts.saturating_add(1) {
        let Some((priority, tier)) = plan.tier(random(), tried.priorities) else {
            return HostDecision::NoHealthyHost;
        };
        let total = tier.pools.last().map_or(0, |p| p.sum).max(1);
        let dice = if tier.pools.len() > 1 { random() % total } else { 0 };
        let Some(pool) = tier.pools.iter().find(|p| dice < p.sum) else { continue };
        if pool.hosts.is_empty() {
            continue;
        }
        let position = match plan.policy {
            LbPolicy::RoundRobin => match rotation.pools.get_mut(pool.number) {
                Some(rotation) => pool.next(rotation),
                None => pool.random(random()),
            },
            LbPolicy::Random | LbPolicy::ClusterProvided => pool.random(random()),
            LbPolicy::LeastRequest { choices } => least_loaded(pool, choices, &active, &mut random),
        };
        let Some(host) = pool.hosts.get(position).copied() else { continue };
        let why = if tier.panic { Why::Panic } else { Why::Healthy };
        if !tried.hosts.contains(&host) {
            return HostDecision::Host { host, priority, locality: pool.locality, why };
        }
        fallback = HostDecision::Host { host, priority, locality: pool.locality, why: Why::TriedBefore };
    }
    fallback
}

/// The least loaded of a few picked at random (power of two choices). Unequal weights weigh the picking:
/// a host of twice the weight is twice as often among the candidates.
fn least_loaded(
    pool: &Pool,
    choices: u32,
    active: impl Fn(u32) -> u32,
    mut random: impl FnMut() -> u64,
) -> usize {
    let load = |position: usize| pool.hosts.get(position).map_or(u32::MAX, |host| active(*host));
    let mut best = pool.random(random());
    for _ in 1..choices.max(2) {
        let other = pool.random(random());
        if load(other) < load(best) {
            best = other;
        }
    }
    best
}

/// Percent of the traffic of each priority, and whether it panics. Counts are (healthy, all).
///
/// Envoy: `LoadBalancerBase::recalculatePerPriorityState` and `...Panic`; the table in
/// `load_balancing/priority` and `panic_threshold` of its documentation is the test.
fn loads(counts: &[(u64, u64)], overprovisioning: u64, panic_threshold: f64) -> (Vec<u32>, Vec<bool>) {
    let health = health(counts, overprovisioning);
    let available = health.iter().sum::<u64>().min(100);
    let mut loads = share_out(&health);
    let mut panics = vec![false; counts.len()];
    if available < 100 && panic_threshold > 0.0 {
        for (panic, (healthy, all)) in panics.iter_mut().zip(counts) {
            let percent = if *all == 0 { 0.0 } else { 100.0 * *healthy as f64 / *all as f64 };
            *panic = percent < panic_threshold;
        }
        let all: u64 = counts.iter().map(|(_, all)| all).sum();
        if panics.iter().all(|p| *p) && all > 0 {
            // All priorities panic: by their numbers of hosts.
            for (load, (_, hosts)) in loads.iter_mut().zip(counts) {
                *load = 100 * hosts / all;
            }
            let left = 100 - loads.iter().sum::<u64>();
            if let Some((load, _)) = loads.iter_mut().zip(counts).find(|(_, (_, all))| *all > 0) {
                *load += left;
            }
        }
    }
    // At most 100 each.
    (loads.into_iter().map(|l| u32::try_from(l).unwrap_or(100)).collect(), panics)
}

/// Percent of the traffic that the hosts of each priority could carry.
fn health(counts: &[(u64, u64)], overprovisioning: u64) -> Vec<u64> {
    let percent = |(healthy, all): &(u64, u64)| (overprovisioning * healthy).checked_div(*all).unwrap_or(0);
    counts.iter().map(|counts| percent(counts).min(100)).collect()
}

/// All of the traffic to the priorities in their order, each as much as it could carry of what all together could.
fn share_out(health: &[u64]) -> Vec<u64> {
    let available = health.iter().sum::<u64>().min(100);
    let mut loads = vec![0u64; health.len()];
    if available > 0 {
        let mut left = 100;
        for (load, health) in loads.iter_mut().zip(health) {
            // To the nearest, as the documented table has it.
            *load = (health * 100 + available / 2).checked_div(available).unwrap_or(0).min(left);
            left -= *load;
        }
        // What rounding left goes to the first priority that has any health.
        if let Some((load, _)) = loads.iter_mut().zip(health).find(|(_, h)| **h > 0) {
            *load += left;
        }
    }
    loads
}

/// A locality's weight scaled by its health, overprovisioned (Envoy: `effectiveLocalityWeight`).
fn effective_weight(weight: u32, healthy: u64, all: u64, overprovisioning: u64) -> u64 {
    let health = (overprovisioning * healthy).checked_div(all).unwrap_or(0).min(100);
    u64::from(weight) * health
}

#[cfg(test)]
#[path = "lb_tests.rs"]
mod tests;
