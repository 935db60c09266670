//! Chains of network filters that end in a TCP proxy.

use api::networking::{RouteDestination, TunnelSettings};
use xds::listener::Filter;
use xds::node::Feature;
use xds::tcp_proxy::TcpProxy;
use xds::tcp_proxy::tcp_proxy::weighted_cluster::ClusterWeight;
use xds::tcp_proxy::tcp_proxy::{ClusterSpecifier, TunnelingConfig, WeightedCluster};
use xds::types::{HashPolicy, hash_policy};

use super::access_log;
use super::connection_manager::{Class, statistics};
use super::context::{Context, destination_cluster};
use super::values::{duration, network_filter};
use crate::scope::Scope;
use crate::world::{Connections, NotDone, Note, Reason, VirtualService};

pub const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Everything to one cluster.
pub fn to_cluster(context: &Context<'_>, class: Class, cluster: &str) -> Vec<Filter> {
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: context.idle_timeout(),
        access_log: access_log::logs(context),
        ..Default::default()
    };
    finish(context, class, proxy)
}

/// Refuses every connection; nothing is logged.
pub fn black_hole(context: &Context<'_>, class: Class) -> Vec<Filter> {
    let proxy = TcpProxy {
        stat_prefix: super::names::BLACK_HOLE.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(super::names::BLACK_HOLE.to_owned())),
        ..Default::default()
    };
    finish(context, class, proxy)
}

/// To a service nobody wrote a rule for.
pub fn to_service(
    context: &Context<'_>,
    scope: &Scope,
    class: Class,
    host: &str,
    cluster: &str,
    subset: &str,
) -> Vec<Filter> {
    let mut proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    apply_rule(context, &mut proxy, context.connections(scope, host), subset);
    proxy.access_log = access_log::logs(context);
    finish(context, class, proxy)
}

/// Where a rule's `route` sends a connection.
pub fn to_destinations(
    context: &Context<'_>,
    scope: &Scope,
    class: Class,
    rule: &VirtualService,
    routes: &[RouteDestination],
    port: u32,
) -> Vec<Filter> {
    let Some(first) = routes.first() else { return black_hole(context, class) };
    let service = scope.service(&first.destination.host);
    let policies = service.and_then(|service| context.connections(scope, &service.host));
    let mut proxy = TcpProxy::default();
    if routes.len() == 1 {
        let cluster = destination_cluster(&first.destination, service.map(|service| &**service), port);
        proxy.stat_prefix.clone_from(&cluster);
        proxy.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
        apply_rule(context, &mut proxy, policies, &first.destination.subset);
    } else {
        let weighted = routes.iter().filter(|route| route.weight > 0).map(|route| {
            let service = scope.service(&route.destination.host);
            ClusterWeight {
                name: destination_cluster(&route.destination, service.map(|service| &**service), port),
                weight: u32::try_from(route.weight).unwrap_or_default(),
            }
        });
        proxy.stat_prefix = format!("{}.{}", rule.name(), rule.namespace());
        proxy.cluster_specifier =
            Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: weighted.collect() }));
        apply_rule(context, &mut proxy, policies, "");
    }
    proxy.access_log = access_log::logs(context);
    finish(context, class, proxy)
}

fn finish(context: &Context<'_>, class: Class, proxy: TcpProxy) -> Vec<Filter> {
    let mut filters = Vec::new();
    if context.has_istio_filters() {
        filters.push(network_filter("istio.stats", &statistics(class)));
    }
    filters.push(network_filter(TCP_PROXY, &proxy));
    filters
}

fn apply_rule(context: &Context<'_>, proxy: &mut TcpProxy, rule: Option<&Connections>, subset: &str) {
    let idle_timeout = rule.and_then(|rule| rule.idle_timeout);
    proxy.idle_timeout = idle_timeout.map(duration).or_else(|| context.idle_timeout());
    let Some(rule) = rule else { return };
    proxy.max_downstream_connection_duration = rule.max_duration.map(duration);
    let way = rule.to_subset(subset);
    // Of all keys a connection has only its source.
    if way.by_source && context.does(Feature::ConnectionHash) {
        proxy.hash_policy = vec![HashPolicy {
            policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
        }];
    }
    if let Some(tunnel) = &way.tunnel {
        if context.does(Feature::Tunnel) {
            proxy.tunneling_config = Some(tunneling(tunnel));
        } else if let Some(object) = &rule.tunnel_object {
            context.note(Note::on(object, "spec.trafficPolicy.tunnel", Reason::NotDone(NotDone::Tunnel)));
        }
    }
}

fn tunneling(tunnel: &TunnelSettings) -> TunnelingConfig {
    let host = if tunnel.target_host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{}]:{}", tunnel.target_host, tunnel.target_port)
    } else {
        format!("{}:{}", tunnel.target_host, tunnel.target_port)
    };
    TunnelingConfig {
        hostname: host,
        use_post: tunnel.protocol.eq_ignore_ascii_case("POST"),
        ..Default::default()
    }
}
