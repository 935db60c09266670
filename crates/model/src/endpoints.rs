//! The hosts of a cluster, by priority and locality.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use xds::endpoint::lb_endpoint::HostIdentifier;

use crate::proto::{self, Place};
use crate::refusal::{At, Compiled};

/// A `ClusterLoadAssignment`, compiled. Hosts stand in one list, by priority, then locality.
#[derive(Debug, Default, Serialize)]
pub struct Endpoints {
    pub hosts: Vec<Host>,
    pub localities: Vec<LocalityGroup>,
    /// Hosts of each priority, none left out in between.
    pub priorities: Vec<Range<u32>>,
    /// Percent; Envoy's default 140: 72 % of the hosts carry all of the traffic.
    pub overprovisioning: u32,
    /// Parts of a million of all requests dropped (`drop_overloads`), by category.
    pub drops: Vec<(Arc<str>, crate::Fraction)>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LocalityGroup {
    pub region: Arc<str>,
    pub zone: Arc<str>,
    pub sub_zone: Arc<str>,
    pub priority: u32,
    /// 0 = none given: takes no traffic where localities are weighed.
    pub weight: u32,
    pub hosts: Range<u32>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Host {
    pub address: HostAddress,
    /// For `auto_host_rewrite` and health checks; often empty.
    pub hostname: Arc<str>,
    /// At least 1.
    pub weight: u32,
    pub health: HostHealth,
    /// How it is asked by health checks.
    pub check: HostCheck,
    pub locality: u32,
    pub priority: u32,
    /// A filamesh proxy is there that takes all requests over shared HTTP/2 connections (`filamesh.hop` is `h2`);
    /// whether it gets them so is [`crate::Cluster::hop`]'s to say.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hop: bool,
    /// `istio.workload`, for the labels of metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Arc<WorkloadLabels>>,
    /// `envoy.transport_socket_match`.
    pub(crate) transport_metadata: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAddress {
    Ip(SocketAddr),
    /// To be resolved (DNS clusters).
    Name(Arc<str>, u16),
    Pipe(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHealth {
    /// Healthy, unknown or degraded: takes traffic.
    Healthy,
    /// Unhealthy, timed out or draining: takes none.
    Unhealthy,
}

/// Envoy's `Endpoint.HealthCheckConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostCheck {
    /// Not checked; taken for healthy.
    pub disabled: bool,
    /// Asked at this port of its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Asked here instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Asked by this name; empty: as the health check says.
    pub hostname: Arc<str>,
}

/// What Istio says of a workload in `istio.workload`: `name;namespace;canonical name;revision;cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadLabels {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
    pub cluster: Arc<str>,
}

impl HostCheck {
    /// Where a host at `address` is asked.
    pub fn target(&self, address: SocketAddr) -> SocketAddr {
        let mut target = self.address.unwrap_or(address);
        if let Some(port) = self.port {
            target.set_port(port);
        }
        target
    }
}

impl Host {
    /// Istio's `tlsMode` of the host: `istio` or absent.
    pub fn tls_mode(&self) -> Option<&str> {
        self.transport_metadata.get("tlsMode")?.as_str()
    }
}

impl WorkloadLabels {
    pub fn parse(text: &str) -> Option<WorkloadLabels> {
        let mut parts = text.split(';').map(Arc::from);
        let mut next = || parts.next();
        Some(WorkloadLabels {
            name: next()?,
            namespace: next()?,
            canonical_name: next()?,
            canonical_revision: next()?,
            cluster: next()?,
        })
    }
}

/// How the hosts of a cluster may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By addresses: nobody looks up names for EDS and static clusters. Envoy refuses them too ("malformed IP address").
    Addresses,
    /// Also by names, which are looked up.
    Names,
}

impl Endpoints {
    pub(crate) fn compile(
        message: &xds::endpoint::ClusterLoadAssignment,
        naming: Naming,
    ) -> Compiled<Endpoints> {
        if !message.named_endpoints.is_empty() {
            return refuse!("is not supported").at("named_endpoints");
        }
        let policy = message.policy.clone().unwrap_or_default();
        if policy.weighted_priority_health {
            return refuse!("is not supported").at("policy.weighted_priority_health");
        }
        let overprovisioning = policy.overprovisioning_factor.unwrap_or(140);
        if overprovisioning == 0 {
            return refuse!("must be above 0").at("policy.overprovisioning_factor");
        }
        let mut groups: Vec<(usize, &xds::endpoint::LocalityLbEndpoints)> =
            message.endpoints.iter().enumerate().collect();
        groups.sort_by_key(|(_, group)| group.priority);
        let mut built = Endpoints { overprovisioning, ..Endpoints::default() };
        for (index, group) in groups {
            built.add(group, naming).at_index("endpoints", index)?;
        }
        for drop in &policy.drop_overloads {
            let fraction =
                drop.drop_percentage.as_ref().map_or(crate::Fraction { per_million: 0 }, proto::fraction);
            built.drops.push((drop.category.as_str().into(), fraction));
        }
        Ok(built)
    }

    /// The hosts of a DNS cluster with their names resolved: each host becomes one per address `lookup` gives (the
    /// first alone with `first_only`), and none while its name is not resolved.
    pub fn resolved(
        &self,
        first_only: bool,
        lookup: impl Fn(&Arc<str>) -> Option<Vec<std::net::IpAddr>>,
    ) -> Endpoints {
        let mut hosts: Vec<Host> = Vec::new();
        let mut starts = Vec::with_capacity(self.hosts.len() + 1);
        for host in &self.hosts {
            starts.push(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
            match &host.address {
                HostAddress::Name(name, port) => {
                    let found = lookup(name).unwrap_or_default();
                    let most = if first_only { 1 } else { usize::MAX };
                    hosts.extend(found.iter().take(most).map(|ip| Host {
                        address: HostAddress::Ip(SocketAddr::new(*ip, *port)),
                        // Envoy rewrites the host of a DNS cluster to the name it resolved.
                        hostname: if host.hostname.is_empty() { name.clone() } else { host.hostname.clone() },
                        ..host.clone()
                    }));
                }
                HostAddress::Ip(_) | HostAddress::Pipe(_) => hosts.push(host.clone()),
            }
        }
        starts.push(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
        let at = |index: u32| starts.get(index as usize).copied().unwrap_or(0);
        let moved = |range: &Range<u32>| at(range.start)..at(range.end);
        Endpoints {
            localities: self
                .localities
                .iter()
                .map(|group| LocalityGroup { hosts: moved(&group.hosts), ..group.clone() })
                .collect(),
            priorities: self.priorities.iter().map(moved).collect(),
            overprovisioning: self.overprovisioning,
            drops: self.drops.clone(),
            hosts,
        }
    }

    fn add(&mut self, group: &xds::endpoint::LocalityLbEndpoints, naming: Naming) -> Compiled<()> {
        // Envoy: at most 128 priorities, and no gap is worth more memory than this.
        if group.priority > 128 {
            return refuse!("{} is above 128", group.priority).at("priority");
        }
        let locality = u32::try_from(self.localities.len()).unwrap_or(u32::MAX);
        let start = self.end()?;
        for (i, endpoint) in group.lb_endpoints.iter().enumerate() {
            let host = host(endpoint, locality, group.priority, naming).at_index("lb_endpoints", i)?;
            self.hosts.push(host);
        }
        let hosts = start..self.end()?;
        while self.priorities.len() <= group.priority as usize {
            self.priorities.push(start..start);
        }
        if let Some(priority) = self.priorities.get_mut(group.priority as usize) {
            priority.end = hosts.end;
        }
        let place = group.locality.clone().unwrap_or_default();
        self.localities.push(LocalityGroup {
            region: place.region.into(),
            zone: place.zone.into(),
            sub_zone: place.sub_zone.into(),
            priority: group.priority,
            weight: group.load_balancing_weight.unwrap_or(0),
            hosts,
        });
        Ok(())
    }

    fn end(&self) -> Compiled<u32> {
        match u32::try_from(self.hosts.len()) {
            Ok(end) => Ok(end),
            Err(_) => refuse!("too many hosts"),
        }
    }
}

fn host(message: &xds::endpoint::LbEndpoint, locality: u32, priority: u32, naming: Naming) -> Compiled<Host> {
    use xds::core::HealthStatus as H;
    let endpoint = match message.host_identifier.as_ref() {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => return refuse!("is not supported").at("endpoint_name"),
        None => return refuse!("endpoint is required"),
    };
    let metadata = message.metadata.as_ref();
    let section = |name: &str| metadata.and_then(|m| m.filter_metadata.get(name));
    let workload = section("istio")
        .and_then(|m| m.fields.get("workload"))
        .and_then(proto::string_value)
        .and_then(WorkloadLabels::parse);
    let transport = section("envoy.transport_socket_match").map(|m| &m.fields);
    let hop = section(xds::node::HOP_NAMESPACE)
        .and_then(|m| m.fields.get(xds::node::HOP_KEY))
        .and_then(proto::string_value);
    let weight = message.load_balancing_weight.unwrap_or(1);
    if weight == 0 {
        return refuse!("must be at least 1").at("load_balancing_weight");
    }
    Ok(Host {
        address: match proto::place(endpoint.address.as_ref()).at("endpoint.address")? {
            Place::Ip(address) => HostAddress::Ip(address),
            Place::Name(name, _) if naming == Naming::Addresses => {
                return refuse!("{name:?} is no IP address, names need type STRICT_DNS or LOGICAL_DNS")
                    .at("endpoint.address");
            }
            Place::Name(name, port) => HostAddress::Name(name, port),
            Place::Pipe(path) => HostAddress::Pipe(path),
        },
        hostname: endpoint.hostname.as_str().into(),
        weight,
        health: match message.health_status() {
            H::Unknown | H::Healthy | H::Degraded => HostHealth::Healthy,
            H::Unhealthy | H::Draining | H::Timeout => HostHealth::Unhealthy,
        },
        check: check(endpoint.health_check_config.as_ref()).at("endpoint.health_check_config")?,
        locality,
        priority,
        hop: hop == Some(xds::node::HOP_H2),
        workload: workload.map(Arc::new),
        transport_metadata: transport
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), proto::json(value)))
            .collect(),
    })
}

fn check(message: Option<&xds::endpoint::endpoint::HealthCheckConfig>) -> Compiled<HostCheck> {
    let Some(message) = message else { return Ok(HostCheck::default()) };
    let Ok(port) = u16::try_from(message.port_value) else {
        return refuse!("{} is no port", message.port_value).at("port_value");
    };
    let address = match &message.address {
        None => None,
        Some(address) => match proto::place(Some(address)).at("address")? {
            Place::Ip(address) => Some(address),
            Place::Name(..) | Place::Pipe(_) => return refuse!("must be an IP address").at("address"),
        },
    };
    Ok(HostCheck {
        disabled: message.disable_active_health_check,
        port: Some(port).filter(|port| *port != 0),
        address,
        hostname: message.hostname.as_str().into(),
    })
}
