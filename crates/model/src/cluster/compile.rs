//! A cluster compiled from its Envoy message; what cannot be honoured is refused by name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use xds::cluster::cluster as message;

use super::{
    Breakers, Cluster, ClusterKind, Dns, DnsFamily, FailurePercentage, Keepalive, LbPolicy, OriginalDst,
    OutlierDetection, RetryBudget, ServiceLabels, SuccessRate, TransportMatch, UpstreamProtocol,
};
use crate::endpoints::{Endpoints, Naming};
use crate::health_check::HealthCheck;
use crate::proto::{self, Place};
use crate::refusal::{At, Compiled};
use crate::transport::{self, UpstreamTransport};
use crate::upstream_protocol::{self, Protocol};

impl Cluster {
    pub(crate) fn compile(message: &xds::cluster::Cluster) -> Compiled<Cluster> {
        if message.name.is_empty() {
            return refuse!("is required").at("name");
        }
        unknown_filters(&message.filters)?;
        let kind = kind(message)?;
        let options = upstream_protocol::options(message)?;
        let common = options.common_http_protocol_options.unwrap_or_default();
        let upstream = options.upstream_http_protocol_options.clone().unwrap_or_default();
        let Protocol { protocol, http1, http2 } = Protocol::compile(message, &options)?;
        let max_requests_per_connection =
            common.max_requests_per_connection.or(message.max_requests_per_connection).filter(|n| *n > 0);
        let lb = message.common_lb_config.unwrap_or_default();
        let idle = proto::optional_duration(common.idle_timeout.as_ref()).at("idle_timeout")?;
        let connect = proto::optional_duration(message.connect_timeout.as_ref()).at("connect_timeout")?;
        if connect.is_some_and(|c| c.is_zero()) {
            return refuse!("must be above 0").at("connect_timeout");
        }
        let (transport, transport_matches) = transports(message, protocol)?;
        let assignment = assignment(message, kind).at("load_assignment")?;
        Ok(Cluster {
            name: message.name.as_str().into(),
            kind,
            eds_name: (kind == ClusterKind::Eds).then(|| {
                let service = message.eds_cluster_config.as_ref().map_or("", |c| c.service_name.as_str());
                Arc::from(if service.is_empty() { message.name.as_str() } else { service })
            }),
            connect_timeout: connect.unwrap_or(Duration::from_secs(5)),
            lb: lb_policy(message, kind)?,
            panic_threshold: lb.healthy_panic_threshold.map_or(50.0, |p| p.value).clamp(0.0, 100.0),
            locality_weighted: locality_weighted(&lb)?,
            close_connections_on_host_set_change: lb.close_connections_on_host_set_change,
            close_connections_on_host_health_failure: message.close_connections_on_host_health_failure,
            breakers: breakers(message.circuit_breakers.as_ref()),
            counts_connections: max_requests_per_connection.is_some()
                || upstream_protocol::limits_connections(message.circuit_breakers.as_ref()),
            outlier: message.outlier_detection.as_ref().map(outlier).transpose().at("outlier_detection")?,
            health_check: health_check(message, &lb)?,
            ignore_health_on_host_removal: message.ignore_health_on_host_removal,
            transport,
            transport_matches,
            protocol,
            http1,
            http2,
            max_requests_per_connection,
            idle_timeout: match idle {
                None => Some(Duration::from_secs(3600)),
                Some(idle) => Some(idle).filter(|d| !d.is_zero()),
            },
            max_connection_duration: proto::nonzero_duration(common.max_connection_duration.as_ref())
                .at("max_connection_duration")?,
            max_stream_duration: proto::nonzero_duration(common.max_stream_duration.as_ref())
                .at("max_stream_duration")?,
            max_headers_count: common.max_headers_count.unwrap_or(100),
            buffer_limit: message.per_connection_buffer_limit_bytes,
            auto_sni: upstream.auto_sni,
            auto_san_validation: upstream.auto_san_validation,
            bind: bind(message.upstream_bind_config.as_ref()).at("upstream_bind_config")?,
            keepalive: message
                .upstream_connection_options
                .as_ref()
                .and_then(|o| o.tcp_keepalive.as_ref())
                .map(|k| Keepalive {
                    probes: k.keepalive_probes,
                    time: k.keepalive_time,
                    interval: k.keepalive_interval,
                }),
            original_dst: original_dst(message)?,
            dns: dns(message)?,
            service: service(message.metadata.as_ref()),
            assignment,
        })
    }
}

/// How its hosts are spoken to: the transport of all, and those of hosts whose metadata matches.
fn transports(
    message: &xds::cluster::Cluster,
    protocol: UpstreamProtocol,
) -> Compiled<(UpstreamTransport, Vec<TransportMatch>)> {
    let mut matches = Vec::new();
    for (i, matcher) in message.transport_socket_matches.iter().enumerate() {
        matches.push(TransportMatch::compile(matcher).at_index("transport_socket_matches", i)?);
    }
    let transport = transport::upstream(message.transport_socket.as_ref()).at("transport_socket")?;
    upstream_protocol::check_alpn(protocol, matches.iter().map(|m| &m.transport).chain([&transport]))?;
    Ok((transport, matches))
}

/// Upstream network filters: Istio's metadata exchange only acts over mutual TLS, which there is none of yet.
fn unknown_filters(filters: &[xds::cluster::Filter]) -> Compiled<()> {
    for (i, filter) in filters.iter().enumerate() {
        let url = filter.typed_config.as_ref().map_or(filter.name.as_str(), |c| c.type_url.as_str());
        if !url.ends_with(".MetadataExchange") {
            return refuse!("{url} is not supported").at_index("filters", i);
        }
    }
    Ok(())
}

/// The hosts that stand in the cluster itself.
fn assignment(message: &xds::cluster::Cluster, kind: ClusterKind) -> Compiled<Option<Arc<Endpoints>>> {
    let Some(assignment) = &message.load_assignment else { return Ok(None) };
    let naming = match kind {
        ClusterKind::Eds => return refuse!("not with type EDS"),
        ClusterKind::StrictDns | ClusterKind::LogicalDns => Naming::Names,
        ClusterKind::Static | ClusterKind::OriginalDst => Naming::Addresses,
    };
    Ok(Some(Arc::new(Endpoints::compile(assignment, naming)?)))
}

fn kind(message: &xds::cluster::Cluster) -> Compiled<ClusterKind> {
    use message::{ClusterDiscoveryType, DiscoveryType};
    match message.cluster_discovery_type.as_ref() {
        None => Ok(ClusterKind::Static),
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let url = custom.typed_config.as_ref().map_or(custom.name.as_str(), |c| c.type_url.as_str());
            refuse!("{url} is not supported").at("cluster_type")
        }
        Some(ClusterDiscoveryType::Type(number)) => match DiscoveryType::try_from(*number) {
            Ok(DiscoveryType::Static) => Ok(ClusterKind::Static),
            Ok(DiscoveryType::StrictDns) => Ok(ClusterKind::StrictDns),
            Ok(DiscoveryType::LogicalDns) => Ok(ClusterKind::LogicalDns),
            Ok(DiscoveryType::Eds) => Ok(ClusterKind::Eds),
            Ok(DiscoveryType::OriginalDst) => Ok(ClusterKind::OriginalDst),
            Err(_) => refuse!("{number} is no discovery type").at("type"),
        },
    }
}

fn lb_policy(message: &xds::cluster::Cluster, kind: ClusterKind) -> Compiled<LbPolicy> {
    use message::{LbConfig, LbPolicy as L};
    if kind == ClusterKind::OriginalDst {
        // Envoy takes no other policy here, whatever the field says.
        return Ok(LbPolicy::ClusterProvided);
    }
    let slow_start = match &message.lb_config {
        Some(LbConfig::LeastRequestLbConfig(c)) if c.active_request_bias.is_some() => {
            return refuse!("is not supported").at("least_request_lb_config.active_request_bias");
        }
        Some(LbConfig::LeastRequestLbConfig(c)) => c.slow_start_config.is_some(),
        Some(LbConfig::RoundRobinLbConfig(c)) => c.slow_start_config.is_some(),
        _ => false,
    };
    if slow_start {
        return refuse!("is not supported").at("slow_start_config");
    }
    match message.lb_policy() {
        L::RoundRobin => Ok(LbPolicy::RoundRobin),
        L::Random => Ok(LbPolicy::Random),
        L::LeastRequest => {
            let choices = match &message.lb_config {
                Some(LbConfig::LeastRequestLbConfig(c)) => c.choice_count.unwrap_or(2),
                _ => 2,
            };
            Ok(LbPolicy::LeastRequest { choices: choices.clamp(2, 32) })
        }
        L::ClusterProvided => refuse!("CLUSTER_PROVIDED needs type ORIGINAL_DST").at("lb_policy"),
        other => refuse!("{} is not supported yet", other.as_str_name()).at("lb_policy"),
    }
}

fn locality_weighted(lb: &message::CommonLbConfig) -> Compiled<bool> {
    use message::common_lb_config::LocalityConfigSpecifier as S;
    match &lb.locality_config_specifier {
        None => Ok(false),
        Some(S::LocalityWeightedLbConfig(_)) => Ok(true),
        // Zone awareness needs a local cluster (cluster_manager.local_cluster_name), which is refused.
        Some(S::ZoneAwareLbConfig(_)) => Ok(false),
    }
}

fn breakers(message: Option<&xds::cluster::CircuitBreakers>) -> [Breakers; 2] {
    let of = |priority: xds::core::RoutingPriority| {
        let found = message.and_then(|m| m.thresholds.iter().find(|t| t.priority() == priority));
        let default = xds::cluster::circuit_breakers::Thresholds::default();
        let t = found.unwrap_or(&default);
        Breakers {
            max_connections: t.max_connections.unwrap_or(1024),
            max_pending_requests: t.max_pending_requests.unwrap_or(1024),
            max_requests: t.max_requests.unwrap_or(1024),
            max_retries: t.max_retries.unwrap_or(3),
            retry_budget: t.retry_budget.as_ref().map(|b| RetryBudget {
                percent: b.budget_percent.as_ref().map_or(20.0, |p| p.value).clamp(0.0, 100.0),
                min_concurrency: b.min_retry_concurrency.unwrap_or(3),
            }),
        }
    };
    [of(xds::core::RoutingPriority::Default), of(xds::core::RoutingPriority::High)]
}

fn outlier(m: &xds::cluster::OutlierDetection) -> Compiled<OutlierDetection> {
    let seconds = |d: Option<&xds::Duration>, default: u64| {
        Ok(proto::optional_duration(d)?.unwrap_or(Duration::from_secs(default)))
    };
    let base_ejection_time = seconds(m.base_ejection_time.as_ref(), 30).at("base_ejection_time")?;
    Ok(OutlierDetection {
        consecutive_5xx: m.consecutive_5xx.unwrap_or(5),
        enforcing_consecutive_5xx: m.enforcing_consecutive_5xx.unwrap_or(100),
        consecutive_gateway_failure: m.consecutive_gateway_failure.unwrap_or(5),
        enforcing_consecutive_gateway_failure: m.enforcing_consecutive_gateway_failure.unwrap_or(0),
        split_local_origin: m.split_external_local_origin_errors,
        consecutive_local_origin_failure: m.consecutive_local_origin_failure.unwrap_or(5),
        enforcing_consecutive_local_origin_failure: m
            .enforcing_consecutive_local_origin_failure
            .unwrap_or(100),
        interval: seconds(m.interval.as_ref(), 10).at("interval")?,
        base_ejection_time,
        max_ejection_time: seconds(m.max_ejection_time.as_ref(), 300)
            .at("max_ejection_time")?
            .max(base_ejection_time),
        max_ejection_time_jitter: seconds(m.max_ejection_time_jitter.as_ref(), 0)
            .at("max_ejection_time_jitter")?,
        max_ejection_percent: m.max_ejection_percent.unwrap_or(10).min(100),
        always_eject_one_host: m.always_eject_one_host.unwrap_or(false),
        success_rate: SuccessRate {
            enforcing: m.enforcing_success_rate.unwrap_or(100),
            enforcing_local_origin: m.enforcing_local_origin_success_rate.unwrap_or(100),
            minimum_hosts: m.success_rate_minimum_hosts.unwrap_or(5),
            request_volume: m.success_rate_request_volume.unwrap_or(100),
            stdev_factor: m.success_rate_stdev_factor.unwrap_or(1900),
        },
        failure_percentage: FailurePercentage {
            threshold: m.failure_percentage_threshold.unwrap_or(85),
            enforcing: m.enforcing_failure_percentage.unwrap_or(0),
            enforcing_local_origin: m.enforcing_failure_percentage_local_origin.unwrap_or(0),
            minimum_hosts: m.failure_percentage_minimum_hosts.unwrap_or(5),
            request_volume: m.failure_percentage_request_volume.unwrap_or(50),
        },
    })
}

fn health_check(
    message: &xds::cluster::Cluster,
    lb: &message::CommonLbConfig,
) -> Compiled<Option<HealthCheck>> {
    match message.health_checks.as_slice() {
        [] => Ok(None),
        [_] if lb.ignore_new_hosts_until_first_hc => {
            refuse!("is not supported").at("common_lb_config.ignore_new_hosts_until_first_hc")
        }
        [one] => HealthCheck::compile(one).at_index("health_checks", 0).map(Some),
        // As Envoy.
        _ => refuse!("a cluster has one health check at most").at("health_checks"),
    }
}

impl TransportMatch {
    fn compile(message: &message::TransportSocketMatch) -> Compiled<TransportMatch> {
        let criteria = message.r#match.as_ref().map(|m| &m.fields);
        Ok(TransportMatch {
            name: message.name.as_str().into(),
            criteria: criteria.into_iter().flatten().map(|(k, v)| (k.clone(), proto::json(v))).collect(),
            transport: transport::upstream(message.transport_socket.as_ref()).at("transport_socket")?,
        })
    }
}

fn bind(message: Option<&xds::core::BindConfig>) -> Compiled<Option<SocketAddr>> {
    let Some(source) = message.and_then(|m| m.source_address.as_ref()) else { return Ok(None) };
    match proto::socket_address(source).at("source_address")? {
        Place::Ip(address) => Ok(Some(address)),
        _ => refuse!("must be an IP address").at("source_address"),
    }
}

fn original_dst(message: &xds::cluster::Cluster) -> Compiled<OriginalDst> {
    let Some(message::LbConfig::OriginalDstLbConfig(config)) = &message.lb_config else {
        return Ok(OriginalDst::default());
    };
    let header = match config.http_header_name.as_str() {
        "" => "x-envoy-original-dst-host".to_owned(),
        name => name.to_ascii_lowercase(),
    };
    let port = match config.upstream_port_override.map(u16::try_from) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return refuse!("is no port").at("upstream_port_override"),
    };
    Ok(OriginalDst { header: config.use_http_header.then(|| header.into()), port })
}

fn dns(message: &xds::cluster::Cluster) -> Compiled<Dns> {
    use message::DnsLookupFamily as F;
    let refresh = proto::nonzero_duration(message.dns_refresh_rate.as_ref()).at("dns_refresh_rate")?;
    Ok(Dns {
        refresh: refresh.unwrap_or(Duration::from_secs(5)),
        respect_ttl: message.respect_dns_ttl,
        family: match message.dns_lookup_family() {
            F::Auto => DnsFamily::Auto,
            F::V4Only => DnsFamily::V4Only,
            F::V6Only => DnsFamily::V6Only,
            F::V4Preferred => DnsFamily::V4Preferred,
            F::All => DnsFamily::All,
        },
    })
}

fn service(metadata: Option<&xds::core::Metadata>) -> Option<ServiceLabels> {
    let services = metadata?.filter_metadata.get("istio")?.fields.get("services")?;
    let Some(xds::value::Kind::ListValue(list)) = &services.kind else { return None };
    let Some(xds::value::Kind::StructValue(first)) = &list.values.first()?.kind else { return None };
    let text = |key: &str| first.fields.get(key).and_then(proto::string_value).unwrap_or_default().into();
    Some(ServiceLabels { host: text("host"), name: text("name"), namespace: text("namespace") })
}
