//! The blocks of a traffic policy, wherever they stand.

mod locality;

use std::collections::BTreeSet;

use super::rules::Rules;
use super::{names, tls, values};
use crate::networking::{
    ConnectionPoolSettings, ConsistentHash, H2UpgradePolicy, HttpSettings, LoadBalancerSettings,
    LocalityLoadBalancerSetting, OutlierDetection, PortTrafficPolicy, RetryBudget, TcpSettings,
    TrafficPolicy, TunnelSettings,
};
use crate::yaml::shorten;

pub(super) fn check(rules: &mut Rules<'_, '_>, policy: &TrafficPolicy) {
    if *policy == TrafficPolicy::default() {
        rules.error("is empty: at least one block is required");
    }
    rules.optional("outlierDetection", policy.outlier_detection.as_ref(), check_outlier);
    rules.optional("connectionPool", policy.connection_pool.as_ref(), check_connection_pool);
    let outlier = policy.outlier_detection.is_some();
    rules.optional("loadBalancer", policy.load_balancer.as_ref(), |rules, balancer| {
        check_load_balancer(balancer, outlier, rules);
    });
    rules.optional("tls", policy.tls.as_ref(), tls::check_client);
    if policy.port_level_settings.len() > 4096 {
        rules.field_error("portLevelSettings", "must not have more than 4096 entries");
    }
    rules.items("portLevelSettings", &policy.port_level_settings, check_port);
    rules.optional("tunnel", policy.tunnel.as_ref(), check_tunnel);
    rules.optional("retryBudget", policy.retry_budget.as_ref(), check_retry_budget);
}

/// In the mesh configuration, where there is no outlier detection beside it to ask for.
pub(super) fn check_mesh_locality(setting: &LocalityLoadBalancerSetting, rules: &mut Rules<'_, '_>) {
    locality::check(setting, true, rules);
}

fn check_port(rules: &mut Rules<'_, '_>, policy: &PortTrafficPolicy) {
    match &policy.port {
        Some(port) => rules.field("port", |rules| values::port_selector(port, rules)),
        None => rules.field_error("port", "is required but missing"),
    }
    let blocks = PortTrafficPolicy { port: None, ..policy.clone() };
    if blocks == PortTrafficPolicy::default() {
        rules.error("is empty: at least one block besides the port is required");
    }
    rules.optional("outlierDetection", policy.outlier_detection.as_ref(), check_outlier);
    rules.optional("connectionPool", policy.connection_pool.as_ref(), check_connection_pool);
    let outlier = policy.outlier_detection.is_some();
    rules.optional("loadBalancer", policy.load_balancer.as_ref(), |rules, balancer| {
        check_load_balancer(balancer, outlier, rules);
    });
    rules.optional("tls", policy.tls.as_ref(), tls::check_client);
}

pub(super) fn check_outlier(rules: &mut Rules<'_, '_>, outlier: &OutlierDetection) {
    values::optional_duration("interval", outlier.interval, rules);
    values::optional_duration("baseEjectionTime", outlier.base_ejection_time, rules);
    if outlier.consecutive_errors != 0 {
        rules.field("consecutiveErrors", |rules| {
            rules.warning("is deprecated; use consecutiveGatewayErrors or consecutive5xxErrors");
        });
    }
    if !outlier.split_external_local_origin_errors
        && outlier.consecutive_local_origin_failures.unwrap_or(0) > 0
    {
        rules
            .field_error("consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors to be true");
    }
    rules.require_field("maxEjectionPercent", values::whole_percent(outlier.max_ejection_percent));
    rules.require_field("minHealthPercent", values::whole_percent(outlier.min_health_percent));
    rules.items(
        "outlierDetectionHttpErrorCodes",
        &outlier.outlier_detection_http_error_codes,
        |rules, status| {
            if !(100..=599).contains(status) {
                rules.error(format!("the HTTP status must be from 100 to 599, not {status}"));
            }
        },
    );
}

pub(super) fn check_connection_pool(rules: &mut Rules<'_, '_>, pool: &ConnectionPoolSettings) {
    if pool.tcp.is_none() && pool.http.is_none() {
        rules.error("is empty: one of tcp and http is required");
    }
    rules.optional("tcp", pool.tcp.as_ref(), check_tcp);
    rules.optional("http", pool.http.as_ref(), check_http);
}

fn check_tcp(rules: &mut Rules<'_, '_>, tcp: &TcpSettings) {
    values::not_negative("maxConnections", tcp.max_connections, rules);
    values::optional_duration("connectTimeout", tcp.connect_timeout, rules);
    values::optional_duration("maxConnectionDuration", tcp.max_connection_duration, rules);
    values::duration_or_zero("idleTimeout", tcp.idle_timeout, rules);
    rules.optional("tcpKeepalive", tcp.tcp_keepalive.as_ref(), |rules, keepalive| {
        values::optional_duration("time", keepalive.time, rules);
        values::optional_duration("interval", keepalive.interval, rules);
    });
}

fn check_http(rules: &mut Rules<'_, '_>, http: &HttpSettings) {
    for (name, value) in [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ] {
        values::not_negative(name, value, rules);
    }
    values::optional_duration("idleTimeout", http.idle_timeout, rules);
    if http.use_client_protocol && http.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
        rules.field_error("useClientProtocol", "contradicts h2UpgradePolicy UPGRADE");
    }
    rules.optional("http2KeepAlive", http.http2_keep_alive.as_ref(), |rules, keepalive| {
        for (name, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            match value {
                Some(value) => rules.require_field(name, values::duration(value)),
                None => rules.field_error(name, "is required but missing"),
            }
        }
    });
}

fn check_load_balancer(balancer: &LoadBalancerSettings, outlier: bool, rules: &mut Rules<'_, '_>) {
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        rules.error("only one of simple and consistentHash may be set");
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        rules.error("only one of localityLbSetting and zoneAwareLbSetting may be set");
    }
    rules.optional("consistentHash", balancer.consistent_hash.as_ref(), check_consistent_hash);
    rules.optional("localityLbSetting", balancer.locality_lb_setting.as_ref(), |rules, setting| {
        locality::check(setting, outlier, rules);
    });
    rules.optional("zoneAwareLbSetting", balancer.zone_aware_lb_setting.as_ref(), |rules, setting| {
        locality::check_zone_aware(setting, outlier, rules);
    });
    values::optional_duration("warmupDurationSecs", balancer.warmup_duration_secs, rules);
    rules.optional("warmup", balancer.warmup.as_ref(), |rules, warmup| {
        values::optional_duration("duration", warmup.duration, rules);
        if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            rules.field_error("minimumPercent", "must be from 0 to 100");
        }
        if warmup.aggression.is_some_and(|aggression| aggression.is_nan() || aggression < 1.0) {
            rules.field_error("aggression", "must be at least 1");
        }
    });
}

fn check_consistent_hash(rules: &mut Rules<'_, '_>, hash: &ConsistentHash) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.into_iter().filter(|set| *set).count() > 1 {
        rules.error(
            "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName may be set",
        );
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        rules.error("only one of ringHash and maglev may be set");
    }
    if hash.minimum_ring_size.is_some_and(|size| size != 0) {
        rules.field("minimumRingSize", |rules| rules.warning("is deprecated; use ringHash.minimumRingSize"));
    }
    rules.optional("httpCookie", hash.http_cookie.as_ref(), |rules, cookie| {
        if cookie.name.is_empty() {
            rules.field_error("name", "must not be empty");
        }
        let mut seen = BTreeSet::new();
        rules.items("attributes", &cookie.attributes, |rules, attribute| {
            if attribute.name.is_empty() {
                rules.field_error("name", "must not be empty");
            } else if !seen.insert(attribute.name.clone()) {
                rules.field_error("name", format!("{:?} is there twice", shorten(&attribute.name)));
            }
        });
    });
    rules.optional("maglev", hash.maglev.as_ref(), |rules, maglev| {
        // Envoy's limit, and its need for a prime.
        if maglev.table_size >= 5_000_011 {
            rules.field_error("tableSize", format!("must be less than 5000011, not {}", maglev.table_size));
        } else if maglev.table_size != 0 && !is_prime(maglev.table_size) {
            rules.field_error("tableSize", format!("must be a prime number, not {}", maglev.table_size));
        }
    });
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn check_tunnel(rules: &mut Rules<'_, '_>, tunnel: &TunnelSettings) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        rules
            .field_error("protocol", format!("must be CONNECT or POST, not {:?}", shorten(&tunnel.protocol)));
    }
    if !names::is_ip(&tunnel.target_host) {
        rules.require_field("targetHost", names::fqdn(&tunnel.target_host));
    }
    rules.require_field("targetPort", values::port(tunnel.target_port));
}

fn check_retry_budget(rules: &mut Rules<'_, '_>, budget: &RetryBudget) {
    if budget.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        rules.field_error("percent", "must be from 0 to 100");
    }
    values::duration_or_zero("budgetInterval", budget.budget_interval, rules);
}
