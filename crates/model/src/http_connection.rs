//! The HTTP connection manager of a chain, as data with Envoy's defaults filled in.
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::hcm::http_connection_manager as message;

use crate::access_log::AccessLog;
use crate::config::Names;
use crate::filter::{Filter, Router};
use crate::filter_chain::Network;
pub use crate::http1::{HeaderCase, Http1};
use crate::http2::Http2Settings;
use crate::proto;
use crate::refusal::{At, Compiled, each};
use crate::route_table::{RouteTable, RouteTableId};
use crate::upgrade;
use crate::view::ForwardedProto;

#[derive(Debug, Serialize)]
pub struct HttpConnection {
    pub stat_prefix: Arc<str>,
    pub codec: Codec,
    pub routes: RouteSource,
    /// In their order, the router left out (it is always the last).
    pub filters: Vec<Filter>,
    pub router: Router,
    pub access_logs: Vec<AccessLog>,
    pub tracing: Option<Tracing>,
    pub request_id: RequestId,
    pub forwarded: Forwarded,
    pub path: PathNormalization,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub http1: Http1,
    pub http2: Http2Settings,
    pub server_header: ServerHeader,
    /// Upgrades taken unless a route says otherwise ([`HttpConnection::upgrade`]), lower case (`websocket`).
    pub upgrades: Vec<Arc<str>>,
    /// Pass `100-continue` on instead of answering it.
    pub proxy_100_continue: bool,
    pub strip_port: StripPort,
    pub strip_trailing_host_dot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    Auto,
    Http1,
    Http2,
}

/// Where the routes of a connection are.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteSource {
    Inline(#[serde(skip)] Arc<RouteTable>),
    /// By name over RDS; the table is the snapshot's [`crate::Snapshot::route_table`].
    Rds {
        name: Arc<str>,
        id: RouteTableId,
    },
}

/// Percentages of [`proto::Fraction`].
#[derive(Debug, Clone, Serialize)]
pub struct Tracing {
    pub client: crate::Fraction,
    pub random: crate::Fraction,
    pub overall: crate::Fraction,
    pub max_path_tag_length: u32,
}

#[derive(Debug, Clone, Serialize)]
pub struct RequestId {
    pub generate: bool,
    pub preserve_external: bool,
    pub in_response: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Forwarded {
    /// The peer is the client: trust no X-Forwarded-For.
    pub use_remote_address: bool,
    pub trusted_hops: u32,
    pub skip_append: bool,
    pub append_port: bool,
    pub via: Option<Arc<str>>,
    pub client_certificate: ForwardClientCertificate,
    pub client_certificate_details: ClientCertificateDetails,
    #[serde(skip)]
    internal_networks: Vec<Network>,
}

impl Forwarded {
    /// Whether any address at all counts as internal.
    pub fn may_be_internal(&self) -> bool {
        !self.internal_networks.is_empty()
    }

    /// Whether an address counts as internal: those of `internal_address_config`, none without it (Envoy since 1.33
    /// takes no address for internal that it was not told of).
    pub fn is_internal(&self, ip: std::net::IpAddr) -> bool {
        self.internal_networks.iter().any(|network| network.contains(ip))
    }
}

impl Forwarded {
    /// Whether an `x-forwarded-proto` that came with a request is believed: somebody before us is trusted (Envoy's
    /// `ConnectionManagerUtility::mutateRequestHeaders`).
    pub fn trusts_proto(&self) -> bool {
        !self.use_remote_address || self.trusted_hops > 0
    }

    /// The scheme of a request whose target or `:scheme` names none, and what its `x-forwarded-proto` is. `told`: the lines of
    /// that header as they came; `tls`: whether the connection is. Anything but `http` and `https` (in any case) says nothing
    /// of the scheme, several lines included; each case was measured with Envoy 1.40.
    pub fn proto(&self, told: &[&[u8]], tls: bool) -> (&'static [u8], ForwardedProto) {
        let own: &'static [u8] = if tls { b"https" } else { b"http" };
        let told = match told {
            [] => own,
            _ if !self.trusts_proto() => own,
            [one] => one,
            _ => b"several",
        };
        let scheme: &[u8] = match told {
            _ if told.eq_ignore_ascii_case(b"https") => b"https",
            _ if told.eq_ignore_ascii_case(b"http") => b"http",
            _ => own,
        };
        let proto = match told {
            b"https" => ForwardedProto::Https,
            b"" => ForwardedProto::Empty,
            _ => ForwardedProto::Http,
        };
        (scheme, proto)
    }
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardClientCertificate {
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClientCertificateDetails {
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathNormalization {
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EscapedSlashes {
    Keep,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// KiB; Envoy's default 60.
    pub max_request_headers_kb: u32,
    /// Envoy's default 100.
    pub max_headers_count: u32,
    pub max_requests_per_connection: Option<u32>,
    pub underscores: Underscores,
}

/// Header names with `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Underscores {
    Allow,
    RejectRequest,
    DropHeader,
}

/// `None` = no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// No stream activity; Envoy's default 5 min.
    pub stream_idle: Option<Duration>,
    /// Whole request received.
    pub request: Option<Duration>,
    /// Whole head received.
    pub request_headers: Option<Duration>,
    /// No exchange on the connection; Envoy's default 1 h.
    pub idle: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    /// Envoy's default 5 s.
    pub drain: Duration,
    /// Envoy's default 1 s.
    pub delayed_close: Option<Duration>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerHeader {
    Overwrite(Arc<str>),
    AppendIfAbsent(Arc<str>),
    PassThrough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StripPort {
    No,
    /// When it is the listener's port.
    Matching,
    Any,
}

impl HttpConnection {
    pub(crate) fn compile(
        message: &xds::hcm::HttpConnectionManager,
        names: &mut Names,
    ) -> Compiled<HttpConnection> {
        let (filters, router) = crate::filter::compile(&message.http_filters, names)?;
        if message.local_reply_config.is_some() {
            return refuse!("is not supported").at("local_reply_config");
        }
        if message.represent_ipv4_remote_address_as_ipv4_mapped_ipv6 {
            return refuse!("is not supported").at("represent_ipv4_remote_address_as_ipv4_mapped_ipv6");
        }
        let common = message.common_http_protocol_options.unwrap_or_default();
        let stream_error = message.stream_error_on_invalid_http_message.unwrap_or(false);
        Ok(HttpConnection {
            stat_prefix: message.stat_prefix.as_str().into(),
            codec: match message.codec_type() {
                message::CodecType::Auto => Codec::Auto,
                message::CodecType::Http1 => Codec::Http1,
                message::CodecType::Http2 => Codec::Http2,
                message::CodecType::Http3 => return refuse!("HTTP3 is not supported").at("codec_type"),
            },
            routes: routes(message, names)?,
            filters,
            router,
            access_logs: each("access_log", &message.access_log, AccessLog::compile)?,
            tracing: message.tracing.as_ref().map(tracing),
            request_id: RequestId {
                generate: message.generate_request_id.unwrap_or(true),
                preserve_external: message.preserve_external_request_id,
                in_response: message.always_set_request_id_in_response,
            },
            forwarded: forwarded(message)?,
            path: path(message),
            limits: Limits {
                max_request_headers_kb: message.max_request_headers_kb.unwrap_or(60),
                max_headers_count: common.max_headers_count.unwrap_or(100),
                max_requests_per_connection: common.max_requests_per_connection.filter(|n| *n > 0),
                underscores: underscores(&common),
            },
            timeouts: timeouts(message, &common)?,
            http1: Http1::compile(message.http_protocol_options.as_ref(), stream_error)
                .at("http_protocol_options")?,
            http2: http2(message, stream_error).at("http2_protocol_options")?,
            server_header: server_header(message),
            upgrades: upgrade::of_connection(&message.upgrade_configs)?,
            proxy_100_continue: message.proxy_100_continue,
            strip_port: match message.strip_port_mode {
                Some(message::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
                _ if message.strip_matching_host_port => StripPort::Matching,
                _ => StripPort::No,
            },
            strip_trailing_host_dot: message.strip_trailing_host_dot,
        })
    }
}

fn routes(message: &xds::hcm::HttpConnectionManager, names: &mut Names) -> Compiled<RouteSource> {
    match message.route_specifier.as_ref() {
        Some(message::RouteSpecifier::RouteConfig(routes)) => {
            let table = RouteTable::compile_message(routes, names).at("route_config")?;
            Ok(RouteSource::Inline(Arc::new(table)))
        }
        Some(message::RouteSpecifier::Rds(rds)) => {
            use xds::core::config_source::ConfigSourceSpecifier as Source;
            let source = rds.config_source.as_ref().and_then(|s| s.config_source_specifier.as_ref());
            if !matches!(source, None | Some(Source::Ads(_) | Source::Self_(_))) {
                return refuse!("only ADS is supported").at("config_source").at("rds");
            }
            if rds.route_config_name.is_empty() {
                return refuse!("route_config_name is required").at("rds");
            }
            let (name, id) = names.route_table(&rds.route_config_name);
            Ok(RouteSource::Rds { name, id })
        }
        None => refuse!("route_config or rds is required"),
    }
}

fn tracing(message: &message::Tracing) -> Tracing {
    let percent = |p: Option<&xds::types::Percent>| match p {
        None => crate::Fraction::ALWAYS,
        Some(p) => proto::percent(p.value),
    };
    Tracing {
        client: percent(message.client_sampling.as_ref()),
        random: percent(message.random_sampling.as_ref()),
        overall: percent(message.overall_sampling.as_ref()),
        max_path_tag_length: message.max_path_tag_length.unwrap_or(256),
    }
}

fn forwarded(message: &xds::hcm::HttpConnectionManager) -> Compiled<Forwarded> {
    use message::ForwardClientCertDetails as D;
    let details = message.set_current_client_cert_details.unwrap_or_default();
    let internal = match &message.internal_address_config {
        None => vec![],
        Some(config) => {
            each("cidr_ranges", &config.cidr_ranges, Network::parse).at("internal_address_config")?
        }
    };
    Ok(Forwarded {
        use_remote_address: message.use_remote_address.unwrap_or(false),
        trusted_hops: message.xff_num_trusted_hops,
        skip_append: message.skip_xff_append,
        append_port: message.append_x_forwarded_port,
        via: Some(message.via.as_str()).filter(|v| !v.is_empty()).map(Arc::from),
        client_certificate: match message.forward_client_cert_details() {
            D::Sanitize => ForwardClientCertificate::Sanitize,
            D::ForwardOnly => ForwardClientCertificate::ForwardOnly,
            D::AppendForward => ForwardClientCertificate::AppendForward,
            D::SanitizeSet => ForwardClientCertificate::SanitizeSet,
            D::AlwaysForwardOnly => ForwardClientCertificate::AlwaysForwardOnly,
        },
        client_certificate_details: ClientCertificateDetails {
            subject: details.subject.unwrap_or(false),
            cert: details.cert,
            chain: details.chain,
            dns: details.dns,
            uri: details.uri,
        },
        internal_networks: internal,
    })
}

fn path(message: &xds::hcm::HttpConnectionManager) -> PathNormalization {
    use message::PathWithEscapedSlashesAction as A;
    PathNormalization {
        normalize: message.normalize_path.unwrap_or(false),
        merge_slashes: message.merge_slashes,
        escaped_slashes: match message.path_with_escaped_slashes_action() {
            A::ImplementationSpecificDefault | A::KeepUnchanged => EscapedSlashes::Keep,
            A::RejectRequest => EscapedSlashes::Reject,
            A::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            A::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    }
}

fn underscores(common: &xds::core::HttpProtocolOptions) -> Underscores {
    use xds::core::http_protocol_options::HeadersWithUnderscoresAction as A;
    match common.headers_with_underscores_action() {
        A::Allow => Underscores::Allow,
        A::RejectRequest => Underscores::RejectRequest,
        A::DropHeader => Underscores::DropHeader,
    }
}

fn timeouts(
    message: &xds::hcm::HttpConnectionManager,
    common: &xds::core::HttpProtocolOptions,
) -> Compiled<Timeouts> {
    let or = |set: Option<Duration>, default: u64| match set {
        None => Some(Duration::from_secs(default)),
        Some(set) => Some(set).filter(|d| !d.is_zero()),
    };
    let optional = proto::optional_duration;
    let nonzero = proto::nonzero_duration;
    Ok(Timeouts {
        stream_idle: or(optional(message.stream_idle_timeout.as_ref()).at("stream_idle_timeout")?, 300),
        request: nonzero(message.request_timeout.as_ref()).at("request_timeout")?,
        request_headers: nonzero(message.request_headers_timeout.as_ref()).at("request_headers_timeout")?,
        idle: or(optional(common.idle_timeout.as_ref()).at("idle_timeout")?, 3600),
        max_connection_duration: nonzero(common.max_connection_duration.as_ref())
            .at("max_connection_duration")?,
        max_stream_duration: nonzero(common.max_stream_duration.as_ref()).at("max_stream_duration")?,
        drain: optional(message.drain_timeout.as_ref())
            .at("drain_timeout")?
            .unwrap_or(Duration::from_secs(5)),
        delayed_close: or(optional(message.delayed_close_timeout.as_ref()).at("delayed_close_timeout")?, 1),
    })
}

fn http2(message: &xds::hcm::HttpConnectionManager, stream_error: bool) -> Compiled<Http2Settings> {
    let default = match message.use_remote_address.unwrap_or(false) {
        true => Http2Settings::edge(),
        false => Http2Settings::inside(),
    };
    Http2Settings { stream_error_on_invalid_message: stream_error, ..default }
        .with(message.http2_protocol_options.as_ref())
}

fn server_header(message: &xds::hcm::HttpConnectionManager) -> ServerHeader {
    use message::ServerHeaderTransformation as T;
    // Envoy's default server_name. Peers and tests know it by this name.
    let name: Arc<str> = match message.server_name.as_str() {
        "" => "envoy".into(),
        name => name.into(),
    };
    match message.server_header_transformation() {
        T::Overwrite => ServerHeader::Overwrite(name),
        T::AppendIfAbsent => ServerHeader::AppendIfAbsent(name),
        T::PassThrough => ServerHeader::PassThrough,
    }
}
