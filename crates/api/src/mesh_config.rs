//! MeshConfig: Istio's settings of the whole mesh, read as proto3 JSON, and Istio's defaults.
//!
//! Fields given replace the defaults. Fields that nothing here acts on are accepted and named once, as warnings:
//! Istio itself ignores what it does not know in this one document.

mod provider;
mod proxy;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::{names, partial};
use crate::networking::{
    ClientTlsMode, ConnectionPoolSettings, HttpRetry, LocalityLoadBalancerSetting, OutlierDetection,
    TlsProtocol,
};
use crate::selector::LabelSelector;

pub use provider::*;
pub use proxy::*;

partial! {
    @base(MeshConfig::istio_default)
    pub struct MeshConfig {
        /// `cluster.local` by default.
        trust_domain: String,
        trust_domain_aliases: Vec<String>,
        /// `istio-system` by default.
        root_namespace: String,
        outbound_traffic_policy: MeshOutboundTrafficPolicy,
        inbound_traffic_policy: InboundTrafficPolicy,
        /// True by default.
        enable_auto_mtls: Option<bool>,
        /// Empty: no access log.
        access_log_file: String,
        /// Empty: Istio's format.
        access_log_format: String,
        access_log_encoding: AccessLogEncoding,
        disable_envoy_listener_log: bool,
        enable_envoy_access_log_service: bool,
        enable_tracing: bool,
        enable_prometheus_merge: Option<bool>,
        default_config: ProxyConfig,
        extension_providers: Vec<ExtensionProvider>,
        default_providers: DefaultProviders,
        /// Absent: 2 attempts on Istio's default conditions.
        default_http_retry_policy: Option<HttpRetry>,
        default_inbound_http_retry_policy: Option<HttpRetry>,
        default_service_export_to: Vec<String>,
        default_virtual_service_export_to: Vec<String>,
        default_destination_rule_export_to: Vec<String>,
        default_traffic_policy: Option<DefaultTrafficPolicy>,
        /// 0: wait for ever.
        protocol_detection_timeout: Option<Duration>,
        /// 10 s by default.
        connect_timeout: Option<Duration>,
        tcp_keepalive: Option<crate::networking::TcpKeepalive>,
        h2_upgrade_policy: MeshH2UpgradePolicy,
        path_normalization: ProxyPathNormalization,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        dns_refresh_rate: Option<Duration>,
        verify_certificate_at_client: Option<bool>,
        service_settings: Vec<ServiceSettings>,
        discovery_selectors: Vec<LabelSelector>,
        config_sources: Vec<ConfigSource>,
        ca_certificates: Vec<CertificateData>,
        mesh_mtls: Option<MeshTls> = "meshMTLS",
        tls_defaults: Option<MeshTls>,
        host_rewrites: BTreeMap<String, String>,
        ingress_class: String,
        ingress_service: String,
        ingress_selector: String,
        ingress_controller_mode: IngressControllerMode,
        proxy_listen_port: u32,
        proxy_inbound_listen_port: u32,
        proxy_http_port: u32,
        hbone_listen_port: u32,
    }
}

impl MeshConfig {
    /// Istio's settings when nothing is configured.
    pub fn istio_default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            outbound_traffic_policy: MeshOutboundTrafficPolicy { mode: MeshOutboundMode::AllowAny },
            inbound_traffic_policy: InboundTrafficPolicy { mode: InboundMode::Passthrough },
            enable_auto_mtls: Some(true),
            enable_tracing: true,
            enable_prometheus_merge: Some(true),
            default_config: ProxyConfig::istio_default(),
            default_service_export_to: vec!["*".into()],
            default_virtual_service_export_to: vec!["*".into()],
            default_destination_rule_export_to: vec!["*".into()],
            protocol_detection_timeout: Some(Duration::ZERO),
            connect_timeout: Some(Duration::from_secs(10)),
            locality_lb_setting: Some(LocalityLoadBalancerSetting {
                enabled: Some(true),
                ..Default::default()
            }),
            dns_refresh_rate: Some(Duration::from_secs(60)),
            ingress_class: "istio".into(),
            ingress_service: "istio-ingressgateway".into(),
            ingress_controller_mode: IngressControllerMode::Strict,
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            ..Default::default()
        }
    }
}

partial! {
    pub struct MeshOutboundTrafficPolicy {
        mode: MeshOutboundMode,
    }
}

names! {
    /// Proto3 JSON leaves out the first value, so `outboundTrafficPolicy: {}` means `REGISTRY_ONLY`.
    pub enum MeshOutboundMode {
        RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }
}

partial! {
    pub struct InboundTrafficPolicy {
        mode: InboundMode,
    }
}

names! {
    pub enum InboundMode {
        Passthrough = "PASSTHROUGH",
        Localhost = "LOCALHOST",
    }
}

names! {
    pub enum AccessLogEncoding {
        Text = "TEXT",
        Json = "JSON",
    }
}

names! {
    pub enum MeshH2UpgradePolicy {
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }
}

names! {
    pub enum IngressControllerMode {
        Unspecified = "UNSPECIFIED",
        Off = "OFF",
        Default = "DEFAULT",
        Strict = "STRICT",
    }
}

partial! {
    pub struct ProxyPathNormalization {
        normalization: PathNormalization,
    }
}

names! {
    pub enum PathNormalization {
        /// As `BASE`.
        Default = "DEFAULT",
        None = "NONE",
        Base = "BASE",
        MergeSlashes = "MERGE_SLASHES",
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }
}

partial! {
    pub struct DefaultProviders {
        access_logging: Vec<String>,
        tracing: Vec<String>,
        metrics: Vec<String>,
    }
}

partial! {
    /// For destinations without a DestinationRule.
    pub struct DefaultTrafficPolicy {
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
    }
}

partial! {
    pub struct ServiceSettings {
        settings: ServiceSettingsSettings,
        hosts: Vec<String>,
    }
}

partial! {
    pub struct ServiceSettingsSettings {
        cluster_local: bool,
    }
}

partial! {
    pub struct ConfigSource {
        address: String,
        tls_settings: Option<ConfigSourceTls>,
    }
}

partial! {
    pub struct ConfigSourceTls {
        mode: ClientTlsMode,
    }
}

partial! {
    pub struct CertificateData {
        pem: String,
        spiffe_bundle_url: String,
        trust_domains: Vec<String>,
        cert_signers: Vec<String>,
    }
}

partial! {
    pub struct MeshTls {
        min_protocol_version: TlsProtocol,
        ecdh_curves: Vec<String>,
        cipher_suites: Vec<String>,
    }
}
