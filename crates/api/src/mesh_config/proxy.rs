//! ProxyConfig: settings of the proxies (`defaultConfig`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::{names, partial};

partial! {
    @base(ProxyConfig::istio_default)
    pub struct ProxyConfig {
        config_path: String,
        binary_path: String,
        service_cluster: String,
        drain_duration: Option<Duration>,
        termination_drain_duration: Option<Duration>,
        discovery_address: String,
        control_plane_auth_policy: AuthenticationPolicy,
        statsd_udp_address: String,
        proxy_admin_port: i32,
        status_port: i32,
        /// Worker threads; 0 means one per core.
        concurrency: Option<i32>,
        tracing: Option<Tracing>,
        envoy_access_log_service: Option<RemoteService>,
        envoy_metrics_service: Option<RemoteService>,
        proxy_metadata: BTreeMap<String, String>,
        extra_stat_tags: Vec<String>,
        gateway_topology: Option<Topology>,
        hold_application_until_proxy_starts: Option<bool>,
        private_key_provider: Option<PrivateKeyProvider>,
        connection_settings: Option<ConnectionSettings>,
        interception_mode: InterceptionMode,
    }
}

impl ProxyConfig {
    pub(crate) fn istio_default() -> Self {
        Self {
            config_path: "./etc/istio/proxy".into(),
            binary_path: "/usr/local/bin/envoy".into(),
            service_cluster: "istio-proxy".into(),
            drain_duration: Some(Duration::from_secs(45)),
            termination_drain_duration: Some(Duration::from_secs(5)),
            discovery_address: "istiod.istio-system.svc:15012".into(),
            control_plane_auth_policy: AuthenticationPolicy::MutualTls,
            proxy_admin_port: 15000,
            status_port: 15020,
            hold_application_until_proxy_starts: Some(false),
            ..Default::default()
        }
    }
}

names! {
    pub enum AuthenticationPolicy {
        None = "NONE",
        MutualTls = "MUTUAL_TLS",
        Inherit = "INHERIT",
    }
}

names! {
    pub enum InterceptionMode {
        Redirect = "REDIRECT",
        Tproxy = "TPROXY",
        None = "NONE",
    }
}

partial! {
    pub struct RemoteService {
        address: String,
    }
}

partial! {
    pub struct Topology {
        num_trusted_proxies: u32,
        forward_client_cert_details: String,
    }
}

partial! {
    pub struct Tracing {
        /// Percent of requests; 1 if absent.
        sampling: Option<f64>,
        max_path_tag_length: u32,
        zipkin: Option<TracingAddress>,
        datadog: Option<TracingAddress>,
        lightstep: Option<Lightstep>,
        custom_tags: BTreeMap<String, CustomTag>,
    }
}

partial! {
    pub struct TracingAddress {
        address: String,
    }
}

partial! {
    pub struct Lightstep {
        address: String,
        access_token: String,
    }
}

partial! {
    pub struct CustomTag {
        literal: Option<LiteralTag>,
        environment: Option<NamedTag>,
        header: Option<NamedTag>,
    }
}

partial! {
    pub struct LiteralTag {
        value: String,
    }
}

partial! {
    pub struct NamedTag {
        name: String,
        default_value: String,
    }
}

partial! {
    pub struct PrivateKeyProvider {
        cryptomb: Option<KeyAccelerator>,
        qat: Option<KeyAccelerator>,
    }
}

partial! {
    pub struct KeyAccelerator {
        poll_delay: Option<Duration>,
        fallback: Option<bool>,
    }
}

partial! {
    pub struct ConnectionSettings {
        profile: String,
        listener_per_connection_buffer_limit_bytes: Option<i64>,
        http_max_concurrent_streams: Option<i64>,
        http_idle_timeout: Option<Duration>,
        http2_initial_stream_window_size: Option<i64>,
        http2_initial_connection_window_size: Option<i64>,
    }
}
