//! How connections to a destination are made, shared and given up: the blocks of a DestinationRule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PortSelector;
use crate::decode::{message, names};

message! {
    pub struct TrafficPolicy {
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
        /// Each replaces the policy above for its port; nothing is inherited.
        port_level_settings: Vec<PortTrafficPolicy>,
        tunnel: Option<TunnelSettings>,
        proxy_protocol: Option<ProxyProtocol>,
        retry_budget: Option<RetryBudget>,
    }
}

message! {
    pub struct PortTrafficPolicy {
        port: Option<PortSelector>,
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
    }
}

message! {
    pub struct LoadBalancerSettings {
        simple: Option<SimpleLoadBalancer>,
        consistent_hash: Option<ConsistentHash>,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        /// Deprecated: `warmup.duration`.
        warmup_duration_secs: Option<Duration>,
        warmup: Option<WarmupConfiguration>,
    }
}

names! {
    pub enum SimpleLoadBalancer {
        /// The mesh's choice: least requests.
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of `LEAST_REQUEST`.
        LeastConn = "LEAST_CONN",
        Random = "RANDOM",
        Passthrough = "PASSTHROUGH",
        RoundRobin = "ROUND_ROBIN",
        LeastRequest = "LEAST_REQUEST",
    }
}

message! {
    pub struct ConsistentHash {
        http_header_name: Option<String>,
        http_cookie: Option<HttpCookie>,
        use_source_ip: Option<bool>,
        http_query_parameter_name: Option<String>,
        ring_hash: Option<RingHash>,
        maglev: Option<Maglev>,
        /// Deprecated: `ringHash.minimumRingSize`.
        minimum_ring_size: Option<u64>,
    }
}

message! {
    pub struct HttpCookie {
        name @required: String,
        path: String,
        /// Absent: the cookie is never set by the proxy; 0: a session cookie.
        ttl: Option<Duration>,
        attributes: Vec<CookieAttribute>,
    }
}

message! {
    pub struct CookieAttribute {
        name @required: String,
        value: String,
    }
}

message! {
    pub struct RingHash {
        /// 0 means 1024.
        minimum_ring_size: u64,
    }
}

message! {
    pub struct Maglev {
        /// 0 means 65537.
        table_size: u64,
    }
}

message! {
    pub struct LocalityLoadBalancerSetting {
        distribute: Vec<LocalityDistribute>,
        failover: Vec<LocalityFailover>,
        failover_priority: Vec<String>,
        enabled: Option<bool>,
    }
}

message! {
    pub struct LocalityDistribute {
        from: String,
        /// Locality to percent; they sum to 100.
        to: BTreeMap<String, u32>,
    }
}

message! {
    pub struct LocalityFailover {
        from: String,
        to: String,
    }
}

message! {
    pub struct ZoneAwareLoadBalancerSetting {
        enabled: Option<bool>,
        min_cluster_size: Option<u64>,
        failover: Vec<LocalityFailover>,
        failover_priority: Vec<String>,
    }
}

message! {
    pub struct WarmupConfiguration {
        duration @required: Option<Duration>,
        /// 10 if absent.
        minimum_percent: Option<f64>,
        /// 1.0 if absent.
        aggression: Option<f64>,
    }
}

message! {
    pub struct ConnectionPoolSettings {
        tcp: Option<TcpSettings>,
        http: Option<HttpSettings>,
    }
}

message! {
    /// 0 means the default everywhere.
    pub struct TcpSettings {
        max_connections: i32,
        connect_timeout: Option<Duration>,
        tcp_keepalive: Option<TcpKeepalive>,
        max_connection_duration: Option<Duration>,
        idle_timeout: Option<Duration>,
    }
}

message! {
    pub struct TcpKeepalive {
        probes: u32,
        time: Option<Duration>,
        interval: Option<Duration>,
    }
}

message! {
    /// 0 means the default everywhere.
    pub struct HttpSettings {
        http1_max_pending_requests: i32,
        http2_max_requests: i32,
        max_requests_per_connection: i32,
        max_retries: i32,
        idle_timeout: Option<Duration>,
        h2_upgrade_policy: H2UpgradePolicy,
        use_client_protocol: bool,
        max_concurrent_streams: i32,
        http2_keep_alive: Option<Http2KeepAlive>,
    }
}

names! {
    pub enum H2UpgradePolicy {
        Default = "DEFAULT",
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }
}

message! {
    pub struct Http2KeepAlive {
        interval: Option<Duration>,
        timeout: Option<Duration>,
    }
}

message! {
    pub struct OutlierDetection {
        /// Deprecated: `consecutive5xxErrors`.
        consecutive_errors: i32,
        split_external_local_origin_errors: bool,
        consecutive_local_origin_failures: Option<u32>,
        consecutive_gateway_errors: Option<u32>,
        consecutive_5xx_errors: Option<u32>,
        interval: Option<Duration>,
        base_ejection_time: Option<Duration>,
        max_ejection_percent: i32,
        min_health_percent: i32,
        outlier_detection_http_error_codes: Vec<u32>,
    }
}

message! {
    pub struct ClientTlsSettings {
        mode: ClientTlsMode,
        client_certificate: String,
        private_key: String,
        ca_certificates: String,
        credential_name: String,
        subject_alt_names: Vec<String>,
        sni: String,
        insecure_skip_verify: Option<bool>,
        ca_crl: String,
    }
}

names! {
    pub enum ClientTlsMode {
        Disable = "DISABLE",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        IstioMutual = "ISTIO_MUTUAL",
    }
}

message! {
    pub struct TunnelSettings {
        /// `CONNECT` (if empty) or `POST`.
        protocol: String,
        target_host @required: String,
        target_port @required: u32,
    }
}

message! {
    pub struct ProxyProtocol {
        version: ProxyProtocolVersion,
    }
}

names! {
    pub enum ProxyProtocolVersion {
        V1 = "V1",
        V2 = "V2",
    }
}

message! {
    pub struct RetryBudget {
        /// 20 if absent.
        percent: Option<f64>,
        /// 0 means 3.
        min_retry_concurrency: u32,
        budget_interval: Option<Duration>,
    }
}
