//! The clusters of a sidecar's own application.

use api::mesh_config::InboundMode;
use xds::cluster::Cluster;
use xds::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use xds::core::BindConfig;
use xds::endpoint::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint};
use xds::upstream_http::HttpProtocolOptions;
use xds::upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
use xds::upstream_http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};

use super::{original_destination, pool, set_options, use_downstream};
use crate::scope;
use crate::translate::context::Context;
use crate::translate::sidecar::inbound::{Inbound, ServedPort};
use crate::translate::{names, values};

/// Connections to the application come from here, so that they are not captured again (`istio-behaviour` rule 38).
const SOURCE: &str = "127.0.0.6";
const SOURCE_V6: &str = "::6";

pub fn clusters(context: &Context<'_>, inbound: &Inbound) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = inbound.ports.iter().map(|port| cluster(context, port)).collect();
    let mut passthrough = original_destination(context, names::INBOUND_PASSTHROUGH);
    passthrough.upstream_bind_config = Some(source(context));
    clusters.push(passthrough);
    clusters
}

fn cluster(context: &Context<'_>, port: &ServedPort) -> Cluster {
    let name = names::inbound(port.target_port);
    let localhost = context.mesh().inbound_traffic_policy.mode == InboundMode::Localhost;
    let fixed = match port.default_endpoint.as_deref() {
        Some(endpoint) => endpoint_address(context, endpoint, port.target_port),
        None if localhost => Some(values::address(context.loopback(), port.target_port)),
        None => None,
    };
    let pool = connection_pool(context, port.target_port);
    let mut cluster = match fixed {
        Some(address) => Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
            lb_policy: LbPolicy::RoundRobin as i32,
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: name.clone(),
                endpoints: vec![LocalityLbEndpoints {
                    lb_endpoints: vec![LbEndpoint {
                        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                            address: Some(address),
                            ..Default::default()
                        })),
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        },
        None => {
            Cluster { upstream_bind_config: Some(source(context)), ..original_destination(context, &name) }
        }
    };
    cluster.name.clone_from(&name);
    cluster.alt_stat_name = format!("{name};");
    cluster.connect_timeout = pool::connect_timeout(context, pool.as_ref());
    cluster.circuit_breakers = Some(pool::circuit_breakers(pool.as_ref(), None));
    let mut options = if port.protocol.is_http2() {
        HttpProtocolOptions {
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                ExplicitHttpConfig {
                    protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(pool::http2(pool.as_ref()))),
                },
            )),
            ..Default::default()
        }
    } else if port.protocol.is_unknown() {
        use_downstream()
    } else {
        HttpProtocolOptions::default()
    };
    options.common_http_protocol_options = pool::common_http(pool.as_ref());
    cluster.typed_extension_protocol_options.clear();
    set_options(&mut cluster, options);
    cluster
}

/// What a Sidecar says about connections to the application on this port.
fn connection_pool(context: &Context<'_>, port: u32) -> Option<api::networking::ConnectionPoolSettings> {
    let sidecar = context.sidecar()?;
    let spec = scope::spec_of(&sidecar)?;
    let own = spec
        .ingress
        .iter()
        .filter(|listener| listener.port.as_ref().is_some_and(|own| own.number == port))
        .find_map(|listener| listener.connection_pool.clone());
    own.or_else(|| spec.inbound_connection_pool.clone())
}

/// `127.0.0.1:PORT`, `0.0.0.0:PORT` (the workload's own address), `unix:///PATH`, or nothing: where it was going.
fn endpoint_address(context: &Context<'_>, endpoint: &str, port: u32) -> Option<xds::core::Address> {
    if endpoint.is_empty() {
        return None;
    }
    if endpoint.starts_with("unix://") {
        return Some(values::address(endpoint, 0));
    }
    let (host, number) = endpoint.rsplit_once(':')?;
    let number = number.parse().unwrap_or(port);
    let host = match host.trim_matches(['[', ']']) {
        "0.0.0.0" | "::" => context.facts.address(),
        host => host.to_owned(),
    };
    Some(values::address(&host, number))
}

fn source(context: &Context<'_>) -> BindConfig {
    let address = if context.is_ipv6() { SOURCE_V6 } else { SOURCE };
    BindConfig {
        source_address: Some(xds::core::SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(xds::core::socket_address::PortSpecifier::PortValue(0)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
