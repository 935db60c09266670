//! HTTP connection managers: Istio's fields and Istio's order of filters (`control-plane` §1.4).

use api::mesh_config::PathNormalization;
use xds::alpn::filter_config::{AlpnOverride, Protocol as AlpnProtocol};
use xds::core::{Http1ProtocolOptions, HttpProtocolOptions};
use xds::hcm::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
    SetCurrentClientCertDetails, UpgradeConfig,
};
use xds::hcm::{HttpConnectionManager, HttpFilter, Rds, RequestIdExtension, http_filter};
use xds::http_filters::{cors, fault, grpc_stats, grpc_web, router};
use xds::route::RouteConfiguration;
use xds::{Name, listener, peer_metadata, stats, uuid_request_id};

use super::access_log;
use super::context::Context;
use super::values::{ads, network_filter, seconds};

pub const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
pub const FAULT: &str = "envoy.filters.http.fault";
pub const CORS: &str = "envoy.filters.http.cors";
pub const ROUTER: &str = "envoy.filters.http.router";

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Outbound,
    Inbound,
    Gateway,
}

/// Where its routes are.
pub enum Routes {
    Fetched(String),
    Inline(Box<RouteConfiguration>),
}

pub struct Http {
    pub class: Class,
    pub routes: Routes,
    pub stat_prefix: String,
    /// Requests may name their target in full, as to a proxy.
    pub absolute_url: bool,
    pub http2: bool,
    pub grpc_web: bool,
}

pub fn filter(context: &Context<'_>, http: Http) -> listener::Filter {
    network_filter(HTTP_CONNECTION_MANAGER, &manager(context, http))
}

fn manager(context: &Context<'_>, http: Http) -> HttpConnectionManager {
    let class = http.class;
    let mut manager = HttpConnectionManager {
        codec_type: CodecType::Auto as i32,
        // Istio delimits prefixes with ';' so that statistics can be told apart.
        stat_prefix: format!("{};", http.stat_prefix),
        http_filters: filters(context, class, http.grpc_web),
        access_log: access_log::logs(context),
        use_remote_address: Some(class == Class::Gateway),
        stream_idle_timeout: Some(seconds(0)),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), enabled: None }],
        proxy_100_continue: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged as i32,
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(xds::pack(&uuid_request_id::UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(true),
                ..Default::default()
            })),
        }),
        ..Default::default()
    };
    manager.route_specifier = Some(match http.routes {
        Routes::Fetched(name) => {
            RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: name })
        }
        Routes::Inline(routes) => RouteSpecifier::RouteConfig(*routes),
    });
    match context.mesh().path_normalization.normalization {
        PathNormalization::None => manager.normalize_path = Some(false),
        PathNormalization::Default | PathNormalization::Base => manager.normalize_path = Some(true),
        PathNormalization::MergeSlashes => {
            manager.normalize_path = Some(true);
            manager.merge_slashes = true;
        }
        PathNormalization::DecodeAndMergeSlashes => {
            manager.normalize_path = Some(true);
            manager.merge_slashes = true;
            manager.path_with_escaped_slashes_action =
                PathWithEscapedSlashesAction::UnescapeAndForward as i32;
        }
    }
    if let Some(idle) = context.idle_timeout() {
        manager.common_http_protocol_options =
            Some(HttpProtocolOptions { idle_timeout: Some(idle), ..Default::default() });
    }
    if context.http10() || http.absolute_url {
        manager.http_protocol_options = Some(Http1ProtocolOptions {
            accept_http_10: context.http10(),
            allow_absolute_url: http.absolute_url.then_some(true),
            ..Default::default()
        });
    }
    if http.http2 && class == Class::Inbound {
        manager.http2_protocol_options = Some(Default::default());
    }
    identity_headers(context, &mut manager, class);
    manager
}

/// Who a client is, told to the application in `x-forwarded-client-cert`; and who answers.
fn identity_headers(context: &Context<'_>, manager: &mut HttpConnectionManager, class: Class) {
    let details = match class {
        // Outbound has Envoy's own server name, "envoy"; the other two say istio-envoy.
        Class::Outbound => return,
        Class::Inbound => {
            manager.forward_client_cert_details = ForwardClientCertDetails::AppendForward as i32;
            SetCurrentClientCertDetails { subject: Some(true), uri: true, dns: true, ..Default::default() }
        }
        Class::Gateway => {
            let topology = context.mesh().default_config.gateway_topology.as_ref();
            manager.xff_num_trusted_hops = topology.map_or(0, |topology| topology.num_trusted_proxies);
            manager.forward_client_cert_details = ForwardClientCertDetails::SanitizeSet as i32;
            SetCurrentClientCertDetails {
                subject: Some(true),
                cert: true,
                uri: true,
                dns: true,
                ..Default::default()
            }
        }
    };
    manager.server_name = "istio-envoy".into();
    manager.set_current_client_cert_details = Some(details);
}

fn filters(context: &Context<'_>, class: Class, web: bool) -> Vec<HttpFilter> {
    let istio = context.has_istio_filters();
    let mut filters = Vec::new();
    if istio {
        filters.push(filter_of("istio.metadata_exchange", &metadata_exchange(class)));
    }
    if web {
        filters.push(filter_of("envoy.filters.http.grpc_web", &grpc_web::v3::GrpcWeb {}));
    }
    filters.push(filter_of(
        "envoy.filters.http.grpc_stats",
        &grpc_stats::v3::FilterConfig {
            emit_filter_state: true,
            per_method_stat_specifier: Some(
                grpc_stats::v3::filter_config::PerMethodStatSpecifier::StatsForAllMethods(false),
            ),
            ..Default::default()
        },
    ));
    if istio && class != Class::Inbound {
        filters.push(filter_of("istio.alpn", &alpn()));
    }
    filters.push(filter_of(FAULT, &fault::v3::HttpFault::default()));
    filters.push(filter_of(CORS, &cors::v3::Cors::default()));
    if istio {
        filters.push(filter_of("istio.stats", &statistics(class)));
    }
    filters.push(filter_of(ROUTER, &router::v3::Router::default()));
    filters
}

pub fn filter_of<M: Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(xds::pack(config))),
        ..Default::default()
    }
}

/// Standard metrics; the Host header names the destination only where a client inside the mesh wrote it.
pub fn statistics(class: Class) -> stats::PluginConfig {
    stats::PluginConfig { disable_host_header_fallback: class != Class::Outbound, ..Default::default() }
}

fn metadata_exchange(class: Class) -> peer_metadata::Config {
    use peer_metadata::config::{
        DiscoveryMethod, IstioHeaders, PropagationMethod, discovery_method, propagation_method,
    };
    let discover = DiscoveryMethod {
        method_specifier: Some(discovery_method::MethodSpecifier::IstioHeaders(IstioHeaders::default())),
    };
    let propagate = PropagationMethod {
        method_specifier: Some(propagation_method::MethodSpecifier::IstioHeaders(IstioHeaders::default())),
    };
    match class {
        Class::Inbound => peer_metadata::Config {
            downstream_discovery: vec![discover],
            downstream_propagation: vec![propagate],
            ..Default::default()
        },
        Class::Outbound | Class::Gateway => peer_metadata::Config {
            upstream_discovery: vec![discover],
            upstream_propagation: vec![propagate],
            ..Default::default()
        },
    }
}

/// What the far side's sniffing reads (`istio-behaviour` rule 44).
fn alpn() -> xds::alpn::FilterConfig {
    let offer = |protocol: AlpnProtocol, names: &[&str]| AlpnOverride {
        upstream_protocol: protocol as i32,
        alpn_override: names.iter().map(ToString::to_string).collect(),
    };
    xds::alpn::FilterConfig {
        alpn_override: vec![
            offer(AlpnProtocol::Http10, &["istio-http/1.0", "istio", "http/1.0"]),
            offer(AlpnProtocol::Http11, &["istio-http/1.1", "istio", "http/1.1"]),
            offer(AlpnProtocol::Http2, &["istio-h2", "istio", "h2"]),
        ],
    }
}
