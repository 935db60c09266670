//! The parts of DestinationRules that others than clusters are made from, so that routes and listeners are not made anew when
//! a rule says something else about connections to hosts.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::networking::{ConsistentHash, TrafficPolicy, TunnelSettings};

use super::DestinationRule;

/// What requests are hashed by: a subset's port, the subset, the port, the whole rule (`istio-behaviour` rule 33).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hashing {
    whole: Level,
    /// Subsets that say something of it.
    subsets: Vec<(String, Level)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Level {
    all: Option<ConsistentHash>,
    /// Ports that say something of it.
    ports: Vec<(u32, ConsistentHash)>,
}

impl Hashing {
    pub(super) fn of(rule: &DestinationRule) -> Self {
        let subsets = rule.subsets.iter().map(|subset| {
            (subset.name.clone(), subset.traffic_policy.as_ref().map(Level::of).unwrap_or_default())
        });
        Self {
            whole: rule.traffic_policy.as_ref().map(Level::of).unwrap_or_default(),
            subsets: subsets.filter(|(_, level)| *level != Level::default()).collect(),
        }
    }

    /// For requests that a rule sends to a subset (or none: empty), maybe of a port.
    pub fn of_destination(&self, subset: &str, port: Option<u32>) -> Option<&ConsistentHash> {
        let subset = self.subsets.iter().find(|(name, _)| name == subset).map(|(_, level)| level);
        subset
            .and_then(|level| level.at(port).or(level.all.as_ref()))
            .or_else(|| self.whole.at(port))
            .or(self.whole.all.as_ref())
    }
}

impl Level {
    fn of(policy: &TrafficPolicy) -> Self {
        let mut ports: Vec<(u32, Option<ConsistentHash>)> = Vec::new();
        for settings in &policy.port_level_settings {
            // Of two settings of one port the first counts.
            if let Some(port) = settings.port.as_ref().map(|port| port.number)
                && ports.iter().all(|(known, _)| *known != port)
            {
                let hash = settings.load_balancer.as_ref().and_then(|own| own.consistent_hash.clone());
                ports.push((port, hash));
            }
        }
        Self {
            all: policy.load_balancer.as_ref().and_then(|own| own.consistent_hash.clone()),
            ports: ports.into_iter().filter_map(|(port, hash)| Some((port, hash?))).collect(),
        }
    }

    fn at(&self, port: Option<u32>) -> Option<&ConsistentHash> {
        self.ports.iter().find(|(own, _)| Some(*own) == port).map(|(_, hash)| hash)
    }
}

/// What a rule says of connections that are forwarded whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Connections {
    pub idle_timeout: Option<Duration>,
    pub max_duration: Option<Duration>,
    whole: Way,
    /// Subsets that say something else.
    subsets: Vec<(String, Way)>,
    /// Whoever asks for a tunnel, if anybody does.
    pub tunnel_object: Option<Arc<Object>>,
}

/// Where a connection goes, and through what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Way {
    /// To the host that its source's address stands for.
    pub by_source: bool,
    pub tunnel: Option<TunnelSettings>,
}

impl Connections {
    pub(super) fn of(rule: &DestinationRule) -> Self {
        let policy = rule.traffic_policy.as_ref();
        let tcp = policy.and_then(|policy| policy.connection_pool.as_ref()?.tcp.as_ref());
        let whole = Way::of(None, policy);
        let subsets = rule
            .subsets
            .iter()
            .map(|subset| (subset.name.clone(), Way::of(subset.traffic_policy.as_ref(), policy)));
        let subsets: Vec<_> = subsets.filter(|(_, way)| *way != whole).collect();
        let tunnels = whole.tunnel.is_some() || subsets.iter().any(|(_, way)| way.tunnel.is_some());
        Self {
            idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout),
            max_duration: tcp.and_then(|tcp| tcp.max_connection_duration),
            whole,
            subsets,
            tunnel_object: rule.objects.get(rule.policy_object).filter(|_| tunnels).cloned(),
        }
    }

    pub fn to_subset(&self, subset: &str) -> &Way {
        self.subsets.iter().find(|(name, _)| name == subset).map_or(&self.whole, |(_, way)| way)
    }
}

impl Way {
    fn of(subset: Option<&TrafficPolicy>, whole: Option<&TrafficPolicy>) -> Self {
        let balancer = subset
            .and_then(|policy| policy.load_balancer.as_ref())
            .or_else(|| whole.and_then(|policy| policy.load_balancer.as_ref()));
        let tunnel = subset
            .and_then(|policy| policy.tunnel.as_ref())
            .or_else(|| whole.and_then(|policy| policy.tunnel.as_ref()));
        Self {
            by_source: balancer
                .and_then(|balancer| balancer.consistent_hash.as_ref())
                .is_some_and(|hash| hash.use_source_ip == Some(true)),
            tunnel: tunnel.cloned(),
        }
    }
}
