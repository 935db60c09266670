//! VirtualService: which requests go where.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::{Base64, Context, Decode, Fields, Unknown, message, names};
use crate::yaml::Node;

message! {
    pub struct VirtualService {
        /// DNS names, wildcards, addresses or short names; empty only in a delegate.
        hosts: Vec<String>,
        /// `mesh`, `name` or `namespace/name`; empty means `mesh`.
        gateways: Vec<String>,
        http: Vec<HttpRoute>,
        tls: Vec<TlsRoute>,
        tcp: Vec<TcpRoute>,
        export_to: Vec<String>,
    }
}

message! {
    pub struct HttpRoute {
        name: String,
        /// Alternatives; none means every request.
        matches: Vec<HttpMatchRequest> = "match",
        route: Vec<HttpRouteDestination>,
        redirect: Option<HttpRedirect>,
        direct_response: Option<HttpDirectResponse>,
        delegate: Option<Delegate>,
        rewrite: Option<HttpRewrite>,
        /// No limit if absent.
        timeout: Option<Duration>,
        retries: Option<HttpRetry>,
        fault: Option<HttpFaultInjection>,
        mirror: Option<Destination>,
        mirrors: Vec<HttpMirrorPolicy>,
        /// Deprecated: whole percents.
        mirror_percent: Option<u32>,
        /// Every request if absent.
        mirror_percentage: Option<Percent>,
        cors_policy: Option<CorsPolicy>,
        headers: Option<Headers>,
    }
}

message! {
    /// All conditions given must hold.
    pub struct HttpMatchRequest {
        name: String,
        uri: Option<StringMatch>,
        scheme: Option<StringMatch>,
        method: Option<StringMatch>,
        authority: Option<StringMatch>,
        headers: BTreeMap<String, StringMatch>,
        without_headers: BTreeMap<String, StringMatch>,
        query_params: BTreeMap<String, StringMatch>,
        ignore_uri_case: bool,
        port: Option<u32>,
        source_labels: BTreeMap<String, String>,
        source_namespace: String,
        gateways: Vec<String>,
        stat_prefix: String,
    }
}

/// A condition on a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StringMatch {
    /// Written `{}`: for headers and query parameters, that there is one.
    #[default]
    Present,
    Exact(String),
    Prefix(String),
    /// RE2, of the whole text.
    Regex(String),
}

impl Decode for StringMatch {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let mut fields = Fields::open(node, &["exact", "prefix", "regex"], context)?;
        let exact: Option<String> = fields.take("exact", false, None, context);
        let prefix: Option<String> = fields.take("prefix", false, None, context);
        let regex: Option<String> = fields.take("regex", false, None, context);
        fields.close(Unknown::Error, context);
        match (exact, prefix, regex) {
            (None, None, None) => Some(Self::Present),
            (Some(text), None, None) => Some(Self::Exact(text)),
            (None, Some(text), None) => Some(Self::Prefix(text)),
            (None, None, Some(text)) => Some(Self::Regex(text)),
            _ => {
                context.error(node.at, "only one of exact, prefix and regex may be set");
                None
            }
        }
    }
}

message! {
    pub struct HttpRouteDestination {
        destination @required: Destination,
        /// Relative to the sum of the weights.
        weight: i32,
        headers: Option<Headers>,
    }
}

message! {
    pub struct Destination {
        host @required: String,
        subset: String,
        port: Option<PortSelector>,
    }
}

message! {
    pub struct PortSelector {
        number: u32,
    }
}

message! {
    pub struct Headers {
        request: Option<HeaderOperations>,
        response: Option<HeaderOperations>,
    }
}

message! {
    pub struct HeaderOperations {
        /// Overwrite.
        set: BTreeMap<String, String>,
        /// Append.
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    }
}

message! {
    pub struct HttpRedirect {
        uri: String,
        prefix_rewrite: String,
        authority: String,
        port: Option<u32>,
        derive_port: Option<RedirectPort>,
        scheme: String,
        /// 0 means 301.
        redirect_code: u32,
    }
}

names! {
    pub enum RedirectPort {
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        FromRequestPort = "FROM_REQUEST_PORT",
    }
}

message! {
    pub struct HttpDirectResponse {
        status @required: u32,
        body: Option<HttpBody>,
    }
}

/// The body of a direct response; what was written as base64 is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpBody {
    /// Written `{}`.
    None,
    String(String),
    Bytes(Vec<u8>),
}

impl Decode for HttpBody {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let mut fields = Fields::open(node, &["string", "bytes"], context)?;
        let string: Option<String> = fields.take("string", false, None, context);
        let bytes: Option<Base64> = fields.take("bytes", false, None, context);
        fields.close(Unknown::Error, context);
        match (string, bytes) {
            (None, None) => Some(Self::None),
            (Some(text), None) => Some(Self::String(text)),
            (None, Some(bytes)) => Some(Self::Bytes(bytes.0)),
            (Some(_), Some(_)) => {
                context.error(node.at, "only one of string and bytes may be set");
                None
            }
        }
    }
}

message! {
    /// Names the VirtualService that holds the rules.
    pub struct Delegate {
        name: String,
        /// That of the delegating VirtualService if empty.
        namespace: String,
    }
}

message! {
    pub struct HttpRewrite {
        uri: String,
        authority: String,
        uri_regex_rewrite: Option<RegexRewrite>,
    }
}

message! {
    pub struct RegexRewrite {
        matches: String = "match",
        rewrite: String,
    }
}

message! {
    pub struct HttpRetry {
        /// 0 turns retries off.
        attempts: i32,
        per_try_timeout: Option<Duration>,
        retry_on: String,
        retry_remote_localities: Option<bool>,
        retry_ignore_previous_hosts: Option<bool>,
        backoff: Option<Duration>,
    }
}

message! {
    pub struct HttpFaultInjection {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
    }
}

message! {
    pub struct FaultDelay {
        fixed_delay: Option<Duration>,
        exponential_delay: Option<Duration>,
        /// No request if absent.
        percentage: Option<Percent>,
        /// Deprecated: whole percents.
        percent: i32,
    }
}

message! {
    pub struct FaultAbort {
        http_status: Option<i32>,
        grpc_status: Option<String>,
        http2_error: Option<String>,
        /// No request if absent.
        percentage: Option<Percent>,
    }
}

message! {
    /// 0.0 to 100.0.
    pub struct Percent {
        value: f64,
    }
}

message! {
    pub struct HttpMirrorPolicy {
        destination @required: Destination,
        /// Every request if absent.
        percentage: Option<Percent>,
    }
}

message! {
    pub struct CorsPolicy {
        /// Deprecated: exact origins, or `*`.
        allow_origin: Vec<String>,
        allow_origins: Vec<StringMatch>,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        max_age: Option<Duration>,
        allow_credentials: Option<bool>,
        unmatched_preflights: UnmatchedPreflights,
    }
}

names! {
    pub enum UnmatchedPreflights {
        Unspecified = "UNSPECIFIED",
        Forward = "FORWARD",
        Ignore = "IGNORE",
    }
}

message! {
    pub struct TlsRoute {
        matches @required: Vec<TlsMatchAttributes> = "match",
        route: Vec<RouteDestination>,
    }
}

message! {
    pub struct TlsMatchAttributes {
        sni_hosts @required: Vec<String>,
        destination_subnets: Vec<String>,
        port: Option<u32>,
        source_labels: BTreeMap<String, String>,
        source_namespace: String,
        gateways: Vec<String>,
    }
}

message! {
    pub struct TcpRoute {
        matches: Vec<L4MatchAttributes> = "match",
        route: Vec<RouteDestination>,
    }
}

message! {
    pub struct L4MatchAttributes {
        destination_subnets: Vec<String>,
        port: Option<u32>,
        source_subnet: String,
        source_labels: BTreeMap<String, String>,
        source_namespace: String,
        gateways: Vec<String>,
    }
}

message! {
    pub struct RouteDestination {
        destination @required: Destination,
        weight: i32,
    }
}
