//! Connection pools: limits, timeouts, keepalive.

use api::networking::{ConnectionPoolSettings, RetryBudget, TcpKeepalive};
use xds::cluster::CircuitBreakers;
use xds::cluster::circuit_breakers::Thresholds;
use xds::cluster::circuit_breakers::thresholds::RetryBudget as EnvoyRetryBudget;
use xds::core::{
    Http2ProtocolOptions, HttpProtocolOptions, KeepaliveSettings, TcpKeepalive as EnvoyKeepalive,
};
use xds::types::Percent;

use crate::translate::context::Context;
use crate::translate::values::duration;

/// No limit, which is Istio's default for every one of them.
const UNLIMITED: u32 = u32::MAX;

pub fn connect_timeout(
    context: &Context<'_>,
    pool: Option<&ConnectionPoolSettings>,
) -> Option<xds::Duration> {
    let own = pool.and_then(|pool| pool.tcp.as_ref()?.connect_timeout);
    own.or(context.mesh().connect_timeout).map(duration)
}

pub fn circuit_breakers(
    pool: Option<&ConnectionPoolSettings>,
    budget: Option<&RetryBudget>,
) -> CircuitBreakers {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    // 0 means the default everywhere.
    let limit = |value: Option<i32>| {
        let value = value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0);
        Some(value.unwrap_or(UNLIMITED))
    };
    let thresholds = Thresholds {
        max_connections: limit(tcp.map(|tcp| tcp.max_connections)),
        max_pending_requests: limit(http.map(|http| http.http1_max_pending_requests)),
        max_requests: limit(http.map(|http| http.http2_max_requests)),
        max_retries: limit(http.map(|http| http.max_retries)),
        track_remaining: true,
        retry_budget: budget.map(|budget| EnvoyRetryBudget {
            budget_percent: Some(Percent { value: budget.percent.unwrap_or(20.0) }),
            min_retry_concurrency: Some(match budget.min_retry_concurrency {
                0 => 3,
                written => written,
            }),
        }),
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds] }
}

/// `None` if nothing differs from Envoy's defaults.
pub fn common_http(pool: Option<&ConnectionPoolSettings>) -> Option<HttpProtocolOptions> {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let idle = http.and_then(|http| http.idle_timeout).or_else(|| tcp.and_then(|tcp| tcp.idle_timeout));
    let requests = http.and_then(|http| u32::try_from(http.max_requests_per_connection).ok());
    let options = HttpProtocolOptions {
        idle_timeout: idle.map(duration),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).map(duration),
        max_requests_per_connection: requests.filter(|requests| *requests > 0),
        ..Default::default()
    };
    (options != HttpProtocolOptions::default()).then_some(options)
}

pub fn http2(pool: Option<&ConnectionPoolSettings>) -> Http2ProtocolOptions {
    let http = pool.and_then(|pool| pool.http.as_ref());
    let streams = http.and_then(|http| u32::try_from(http.max_concurrent_streams).ok());
    let keepalive = http.and_then(|http| http.http2_keep_alive.as_ref());
    Http2ProtocolOptions {
        max_concurrent_streams: streams.filter(|streams| *streams > 0),
        connection_keepalive: keepalive.map(|keepalive| KeepaliveSettings {
            interval: keepalive.interval.map(duration),
            timeout: keepalive.timeout.map(duration),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn keepalive(context: &Context<'_>, pool: Option<&ConnectionPoolSettings>) -> Option<EnvoyKeepalive> {
    let own = pool.and_then(|pool| pool.tcp.as_ref()?.tcp_keepalive.as_ref());
    let settings: &TcpKeepalive = own.or(context.mesh().tcp_keepalive.as_ref())?;
    let seconds = |value: Option<std::time::Duration>| {
        value.map(|value| u32::try_from(value.as_secs()).unwrap_or(u32::MAX))
    };
    Some(EnvoyKeepalive {
        keepalive_probes: (settings.probes > 0).then_some(settings.probes),
        keepalive_time: seconds(settings.time),
        keepalive_interval: seconds(settings.interval),
    })
}
