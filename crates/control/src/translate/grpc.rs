//! What a proxyless gRPC client is sent (Istio's `grpcgen`; asked in the order of `control-plane` §2.1).
//!
//! It asks for a listener by the target it dials, `HOST:PORT`, follows the name of the routes there, and asks for the clusters
//! that these name. A gRPC client refuses a whole resource for one thing in it that it does not know, so what is made for a
//! sidecar is cut down to what gRPC takes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::hosts::is_wildcard;
use api::networking::SimpleLoadBalancer;
use api::protocol::Protocol;
use xds::cluster::CircuitBreakers;
use xds::cluster::Cluster;
use xds::cluster::circuit_breakers::Thresholds;
use xds::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, RingHashLbConfig};
use xds::core::address::Address as AddressKind;
use xds::endpoint::{ClusterLoadAssignment, LbEndpoint, lb_endpoint};
use xds::hcm::http_connection_manager::RouteSpecifier;
use xds::hcm::{HttpConnectionManager, Rds};
use xds::http_filters::{fault, router};
use xds::listener::{ApiListener, Listener};
use xds::route::route::Action;
use xds::route::{Route, RouteConfiguration};

use super::connection_manager::{FAULT, ROUTER, filter_of};
use super::context::Context;
use super::names;
use super::sidecar::virtual_hosts::PortHosts;
use super::values::ads;
use crate::scope::Scope;
use crate::world::service::{Port, Resolution, Service};
use crate::world::{DestinationRule, NotDone, Note, Reason};

/// A gRPC server asks for its listener under this and its address.
pub const SERVER_LISTENER: &str = "xds.istio.io/grpc/lds/inbound/";

/// The largest ring a gRPC client takes; it refuses a cluster that asks for more.
const LARGEST_RING: u64 = 8 * 1024 * 1024;
const RING: u64 = 1024;

/// A listener for every name by which a service can be dialled. The client asks for those it dials, and only these are sent.
pub fn listeners(context: &Context<'_>, scope: &Scope) -> Vec<Listener> {
    let hosts: HashSet<&str> = scope.services.iter().map(|service| service.host.as_str()).collect();
    let domain = context.dns_domain();
    let mut taken = HashSet::new();
    let mut listeners = Vec::new();
    for service in dialled(scope) {
        let short = short_names(&service.host, context.facts.namespace(), &domain);
        // A short name that is some service's full name is that service's.
        let short: Vec<String> = short.into_iter().filter(|name| !hosts.contains(name.as_str())).collect();
        for port in ports(service) {
            let routes = names::outbound(port.number, "", &service.host);
            let manager = manager(routes);
            for name in std::iter::once(&service.host).chain(&short) {
                let name = format!("{name}:{}", port.number);
                if taken.insert(name.clone()) {
                    let api_listener = Some(ApiListener { api_listener: Some(manager.clone()) });
                    listeners.push(Listener { name, api_listener, ..Default::default() });
                }
            }
        }
    }
    listeners
}

/// The routes of every service and port: those a sidecar has for it, whatever name it was dialled by.
pub fn routes(context: &Context<'_>, scope: &Scope) -> Vec<RouteConfiguration> {
    let mut by_port: HashMap<u32, Option<PortHosts>> = HashMap::new();
    let mut made = Vec::new();
    for service in dialled(scope) {
        for Port { number, .. } in ports(service) {
            let hosts = by_port.entry(*number).or_insert_with(|| {
                let listener = scope.egress_for(*number, "")?;
                Some(PortHosts::new(context, scope, listener, *number))
            });
            let Some(hosts) = hosts else { continue };
            let mut routes = hosts.only(&names::outbound(*number, "", &service.host), &service.host);
            for route in routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
                limit_route(route);
            }
            made.push(routes);
        }
    }
    made.sort_by(|left, right| left.name.cmp(&right.name));
    // A service with several addresses stands in the scope once for each.
    made.dedup_by(|left, right| left.name == right.name);
    made
}

/// What there are clusters of under a name that can be dialled.
fn dialled(scope: &Scope) -> impl Iterator<Item = &Arc<Service>> {
    scope.services.iter().filter(|service| {
        !matches!(service.resolution, Resolution::Alias | Resolution::DynamicDns)
            && !is_wildcard(&service.host)
    })
}

/// The ports that may speak HTTP/2: others have no routes.
fn ports(service: &Service) -> impl Iterator<Item = &Port> {
    let takes_http = |protocol: Protocol| protocol.is_http() || protocol.is_unknown();
    service.ports.iter().filter(move |port| takes_http(port.protocol))
}

/// How a service of the client's own namespace may be called: `web`, `web.default`, `web.default.svc`.
fn short_names(host: &str, namespace: &str, dns_domain: &str) -> Vec<String> {
    let name = host.strip_suffix(dns_domain).and_then(|name| name.strip_suffix('.'));
    match name.filter(|name| !name.contains('.')) {
        Some(name) => vec![name.to_owned(), format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")],
        None => Vec::new(),
    }
}

fn manager(routes: String) -> xds::Any {
    xds::pack(&HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes,
        })),
        http_filters: vec![
            filter_of(FAULT, &fault::v3::HttpFault::default()),
            filter_of(ROUTER, &router::v3::Router::default()),
        ],
        ..Default::default()
    })
}

/// Settings of filters that its listener does not have are refused with the whole table; the rest below would be ignored.
fn limit_route(route: &mut Route) {
    route.typed_per_filter_config.retain(|filter, _| filter == FAULT);
    route.decorator = None;
    if let Some(Action::Route(action)) = &mut route.action {
        action.request_mirror_policies.clear();
        if let Some(policy) = &mut action.retry_policy {
            policy.retry_host_predicate.clear();
            policy.retry_priority = None;
            policy.host_selection_retry_max_attempts = 0;
        }
    }
}

/// Cuts a cluster down to what gRPC takes. `false`: there is none it would take.
pub fn limit_cluster(
    context: &Context<'_>,
    service: &Service,
    rule: Option<&DestinationRule>,
    simple: Option<SimpleLoadBalancer>,
    cluster: &mut Cluster,
) -> bool {
    let note = |path: &str, what: NotDone| {
        if let Some(object) = rule.and_then(|rule| rule.objects.get(rule.policy_object)) {
            context.note(Note::on(object, format!("spec.trafficPolicy.{path}"), Reason::NotDone(what)));
        }
    };
    let dns = [DiscoveryType::StrictDns as i32, DiscoveryType::LogicalDns as i32];
    if let Some(ClusterDiscoveryType::Type(kind)) = cluster.cluster_discovery_type
        && dns.contains(&kind)
    {
        // gRPC resolves one name for a cluster.
        let endpoints = cluster.load_assignment.iter().flat_map(|all| &all.endpoints);
        if endpoints.flat_map(|locality| &locality.lb_endpoints).count() != 1 {
            if let Some(object) = &service.object {
                context.note(Note::about(object, "spec.endpoints", Reason::NotDone(NotDone::GrpcNames)));
            }
            return false;
        }
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::LogicalDns as i32));
    }
    let hashed = [LbPolicy::RingHash as i32, LbPolicy::Maglev as i32].contains(&cluster.lb_policy);
    let balancing = cluster.lb_policy;
    let lb_config = cluster.lb_config.take();
    if hashed {
        cluster.lb_policy = LbPolicy::RingHash as i32;
        cluster.lb_config = Some(LbConfig::RingHashLbConfig(ring(lb_config)));
    } else {
        // C-core refuses clusters of any other policy; where Istio's default is meant, nobody asked for another.
        cluster.lb_policy = LbPolicy::RoundRobin as i32;
        let asked = simple.is_some_and(|simple| simple != SimpleLoadBalancer::Unspecified);
        if asked && balancing != LbPolicy::RoundRobin as i32 {
            note("loadBalancer.simple", NotDone::GrpcBalancing);
        }
    }
    // It ejects by the share of failures, which no rule sets.
    if cluster.outlier_detection.is_some() {
        note("outlierDetection", NotDone::GrpcOutliers);
    }
    *cluster = Cluster {
        name: std::mem::take(&mut cluster.name),
        cluster_discovery_type: cluster.cluster_discovery_type.take(),
        eds_cluster_config: cluster.eds_cluster_config.take(),
        load_assignment: cluster.load_assignment.take(),
        connect_timeout: cluster.connect_timeout.take(),
        lb_policy: cluster.lb_policy,
        lb_config: cluster.lb_config.take(),
        circuit_breakers: cluster.circuit_breakers.take().map(|limits| requests_only(&limits)),
        outlier_detection: cluster.outlier_detection.take(),
        metadata: cluster.metadata.take(),
        ..Default::default()
    };
    true
}

fn ring(config: Option<LbConfig>) -> RingHashLbConfig {
    let written = match config {
        Some(LbConfig::RingHashLbConfig(written)) => written.minimum_ring_size,
        _ => None,
    };
    let size = written.unwrap_or(RING).min(LARGEST_RING);
    RingHashLbConfig { minimum_ring_size: Some(size), ..Default::default() }
}

/// Of the limits gRPC knows that of requests at a time.
fn requests_only(limits: &CircuitBreakers) -> CircuitBreakers {
    let of = |one: &Thresholds| Thresholds { max_requests: one.max_requests, ..Default::default() };
    CircuitBreakers { thresholds: limits.thresholds.iter().map(of).collect() }
}

/// One endpoint that is no address, and one address that comes twice, would have all of them refused.
pub fn limit_endpoints(assignment: &mut ClusterLoadAssignment) {
    let mut taken = HashSet::new();
    for locality in &mut assignment.endpoints {
        locality.lb_endpoints.retain(|endpoint| address_of(endpoint).is_some_and(|one| taken.insert(one)));
    }
}

fn address_of(endpoint: &LbEndpoint) -> Option<(IpAddr, u32)> {
    let Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        return None;
    };
    let Some(AddressKind::SocketAddress(address)) = endpoint.address.as_ref()?.address.as_ref() else {
        return None;
    };
    let port = match address.port_specifier.as_ref()? {
        xds::core::socket_address::PortSpecifier::PortValue(port) => *port,
        xds::core::socket_address::PortSpecifier::NamedPort(_) => return None,
    };
    Some((address.address.parse().ok()?, port))
}
