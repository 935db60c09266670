//! The mesh configuration.

use std::time::Duration;

use super::http_route::check_retry;
use super::rules::Rules;
use super::{export_to, names, traffic_policy, values};
use crate::mesh_config::{
    ConnectionSettings, KeyAccelerator, MeshConfig, PrivateKeyProvider, ProxyConfig, Tracing,
};
use crate::yaml::shorten;

pub(super) fn check(mesh: &MeshConfig, rules: &mut Rules<'_, '_>) {
    rules.require_field("trustDomain", trust_domain(&mesh.trust_domain));
    rules.items("trustDomainAliases", &mesh.trust_domain_aliases, |rules, alias| {
        rules.require(trust_domain(alias))
    });
    values::optional_duration("connectTimeout", mesh.connect_timeout, rules);
    values::duration_or_zero("protocolDetectionTimeout", mesh.protocol_detection_timeout, rules);
    rules.field("defaultConfig", |rules| check_proxy(&mesh.default_config, rules));
    rules.optional("defaultTrafficPolicy", mesh.default_traffic_policy.as_ref(), |rules, policy| {
        rules.optional(
            "connectionPool",
            policy.connection_pool.as_ref(),
            traffic_policy::check_connection_pool,
        );
        rules.optional("outlierDetection", policy.outlier_detection.as_ref(), traffic_policy::check_outlier);
    });
    rules.optional("defaultHttpRetryPolicy", mesh.default_http_retry_policy.as_ref(), check_retry);
    rules.optional(
        "defaultInboundHttpRetryPolicy",
        mesh.default_inbound_http_retry_policy.as_ref(),
        |rules, policy| {
            check_retry(rules, policy);
            for (name, set) in [
                ("perTryTimeout", policy.per_try_timeout.is_some()),
                ("retryRemoteLocalities", policy.retry_remote_localities.is_some()),
            ] {
                if set {
                    rules.field(name, |rules| rules.warning("has no effect on inbound retries"));
                }
            }
        },
    );
    rules.optional("localityLbSetting", mesh.locality_lb_setting.as_ref(), |rules, setting| {
        traffic_policy::check_mesh_locality(setting, rules);
    });
    rules.items("serviceSettings", &mesh.service_settings, |rules, settings| {
        rules.items("hosts", &settings.hosts, |rules, host| rules.require(names::wildcard_domain(host)));
    });
    for (name, list) in [
        ("defaultServiceExportTo", &mesh.default_service_export_to),
        ("defaultVirtualServiceExportTo", &mesh.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", &mesh.default_destination_rule_export_to),
    ] {
        rules.items(name, list, |rules, entry| rules.require(export_to::default_entry(entry)));
    }
}

/// A SPIFFE trust domain's name.
fn trust_domain(name: &str) -> Result<(), String> {
    let labels = name.strip_suffix('.').unwrap_or(name);
    if name.len() <= 255 && labels.split('.').all(names::is_dns_label) {
        return Ok(());
    }
    Err(format!("{:?} is not a trust domain: its parts must be DNS labels", shorten(name)))
}

fn check_proxy(proxy: &ProxyConfig, rules: &mut Rules<'_, '_>) {
    for (name, text) in [
        ("configPath", &proxy.config_path),
        ("binaryPath", &proxy.binary_path),
        ("serviceCluster", &proxy.service_cluster),
    ] {
        if text.is_empty() {
            rules.field_error(name, "must not be empty");
        }
    }
    rules.require_field("discoveryAddress", names::host_port(&proxy.discovery_address));
    for (name, number) in [("proxyAdminPort", proxy.proxy_admin_port), ("statusPort", proxy.status_port)] {
        rules.require_field(
            name,
            u32::try_from(number).map_err(|_| negative_port(number)).and_then(values::port),
        );
    }
    for (name, value) in [
        ("drainDuration", proxy.drain_duration),
        ("terminationDrainDuration", proxy.termination_drain_duration),
    ] {
        values::optional_duration(name, value, rules);
    }
    if !proxy.statsd_udp_address.is_empty() {
        rules.require_field("statsdUdpAddress", names::host_port(&proxy.statsd_udp_address));
    }
    for (name, service) in [
        ("envoyAccessLogService", &proxy.envoy_access_log_service),
        ("envoyMetricsService", &proxy.envoy_metrics_service),
    ] {
        if let Some(service) = service.as_ref().filter(|service| !service.address.is_empty()) {
            rules.field(name, |rules| rules.require_field("address", names::host_port(&service.address)));
        }
    }
    rules.optional("tracing", proxy.tracing.as_ref(), check_tracing);
    rules.optional("privateKeyProvider", proxy.private_key_provider.as_ref(), check_private_key_provider);
    rules.optional("connectionSettings", proxy.connection_settings.as_ref(), check_connection_settings);
    rules.entries("proxyMetadata", &proxy.proxy_metadata, |rules, name, _| {
        if name == "ISTIO_META_DNS_AUTO_ALLOCATE" {
            rules.warning("is deprecated: addresses are allocated to every ServiceEntry without one");
        }
    });
}

fn negative_port(number: i32) -> String {
    format!("the port must be from 1 to 65535, not {number}")
}

fn check_tracing(rules: &mut Rules<'_, '_>, tracing: &Tracing) {
    if tracing.sampling.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        rules.field_error("sampling", "must be from 0 to 100");
    }
    for (name, collector) in [("zipkin", &tracing.zipkin), ("datadog", &tracing.datadog)] {
        rules.optional(name, collector.as_ref(), |rules, collector| {
            rules.require_field("address", names::host_port(&collector.address));
        });
    }
    rules.optional("lightstep", tracing.lightstep.as_ref(), |rules, collector| {
        rules.require_field("address", names::host_port(&collector.address));
        if collector.access_token.is_empty() {
            rules.field_error("accessToken", "is required but missing");
        }
    });
    rules.entries("customTags", &tracing.custom_tags, |rules, name, tag| {
        let filled = [
            tag.literal.as_ref().map(|literal| literal.value.is_empty()),
            tag.environment.as_ref().map(|variable| variable.name.is_empty()),
            tag.header.as_ref().map(|header| header.name.is_empty()),
        ];
        if name.is_empty() {
            rules.error("a tag's name must not be empty");
        }
        if filled.iter().flatten().count() != 1 {
            rules.error("exactly one of literal, environment and header is required");
        } else if filled.contains(&Some(true)) {
            rules.error("must not be empty");
        }
    });
}

fn check_private_key_provider(rules: &mut Rules<'_, '_>, provider: &PrivateKeyProvider) {
    if provider.cryptomb.is_none() && provider.qat.is_none() {
        rules.error("one of cryptomb and qat is required");
    }
    let delay = |rules: &mut Rules<'_, '_>, accelerator: &KeyAccelerator| match accelerator.poll_delay {
        None => rules.field_error("pollDelay", "is required but missing"),
        Some(Duration::ZERO) => rules.field_error("pollDelay", "must not be 0"),
        Some(_) => {}
    };
    rules.optional("cryptomb", provider.cryptomb.as_ref(), delay);
    rules.optional("qat", provider.qat.as_ref(), delay);
}

fn check_connection_settings(rules: &mut Rules<'_, '_>, settings: &ConnectionSettings) {
    // RFC 9113 §6.9.2: windows start at 65535 and can only be made larger here.
    const SMALLEST_WINDOW: i64 = 65_535;
    for (name, value, least) in [
        ("listenerPerConnectionBufferLimitBytes", settings.listener_per_connection_buffer_limit_bytes, 0),
        ("httpMaxConcurrentStreams", settings.http_max_concurrent_streams, 1),
        ("http2InitialStreamWindowSize", settings.http2_initial_stream_window_size, SMALLEST_WINDOW),
        ("http2InitialConnectionWindowSize", settings.http2_initial_connection_window_size, SMALLEST_WINDOW),
    ] {
        if let Some(value) = value.filter(|value| *value < least) {
            rules.field_error(name, format!("must be at least {least}, not {value}"));
        }
    }
}
