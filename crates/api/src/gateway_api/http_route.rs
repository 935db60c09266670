//! HTTPRoute.

use std::time::Duration;

use super::ObjectReference;
use crate::decode::{names, partial};

partial! {
    pub struct HttpRoute {
        parent_refs: Vec<ParentReference>,
        /// None: those of the listener.
        hostnames: Vec<String>,
        rules: Vec<HttpRouteRule>,
    }
}

partial! {
    @base(ParentReference::unwritten)
    pub struct ParentReference {
        group: String,
        kind: String,
        namespace: Option<String>,
        name @required: String,
        section_name: Option<String>,
        port: Option<u32>,
    }
}

impl ParentReference {
    fn unwritten() -> Self {
        Self { group: "gateway.networking.k8s.io".into(), kind: "Gateway".into(), ..Self::default() }
    }
}

partial! {
    @base(HttpRouteRule::unwritten)
    pub struct HttpRouteRule {
        name: Option<String>,
        /// Alternatives; every path if none was written.
        matches: Vec<HttpRouteMatch>,
        filters: Vec<HttpRouteFilter>,
        backend_refs: Vec<HttpBackendReference>,
        timeouts: Option<HttpRouteTimeouts>,
    }
}

impl HttpRouteRule {
    fn unwritten() -> Self {
        Self { matches: vec![HttpRouteMatch::unwritten()], ..Self::default() }
    }
}

partial! {
    @base(HttpRouteMatch::unwritten)
    pub struct HttpRouteMatch {
        path: HttpPathMatch,
        headers: Vec<HttpValueMatch>,
        query_params: Vec<HttpValueMatch>,
        method: Option<HttpMethod>,
    }
}

impl HttpRouteMatch {
    fn unwritten() -> Self {
        Self { path: HttpPathMatch::unwritten(), ..Self::default() }
    }
}

partial! {
    @base(HttpPathMatch::unwritten)
    pub struct HttpPathMatch {
        type_: PathMatchType = "type",
        value: String,
    }
}

impl HttpPathMatch {
    fn unwritten() -> Self {
        Self { type_: PathMatchType::PathPrefix, value: "/".into() }
    }
}

names! {
    pub enum PathMatchType {
        /// By path segment: `/foo` matches `/foo/bar`, not `/foobar`.
        PathPrefix = "PathPrefix",
        Exact = "Exact",
        RegularExpression = "RegularExpression",
    }
}

partial! {
    pub struct HttpValueMatch {
        type_: ValueMatchType = "type",
        name @required: String,
        value @required: String,
    }
}

names! {
    pub enum ValueMatchType {
        Exact = "Exact",
        RegularExpression = "RegularExpression",
    }
}

names! {
    pub enum HttpMethod {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Connect = "CONNECT",
        Options = "OPTIONS",
        Trace = "TRACE",
        Patch = "PATCH",
    }
}

partial! {
    /// The field that `type_` names is set, no other.
    pub struct HttpRouteFilter {
        type_ @required: HttpFilterType = "type",
        request_header_modifier: Option<HeaderFilter>,
        response_header_modifier: Option<HeaderFilter>,
        request_mirror: Option<RequestMirror>,
        request_redirect: Option<RequestRedirect>,
        url_rewrite: Option<UrlRewrite>,
        cors: Option<CorsFilter>,
        extension_ref: Option<ObjectReference>,
        external_auth: Option<serde_json::Value>,
    }
}

names! {
    pub enum HttpFilterType {
        RequestHeaderModifier = "RequestHeaderModifier",
        ResponseHeaderModifier = "ResponseHeaderModifier",
        RequestMirror = "RequestMirror",
        RequestRedirect = "RequestRedirect",
        UrlRewrite = "URLRewrite",
        Cors = "CORS",
        ExtensionRef = "ExtensionRef",
        ExternalAuth = "ExternalAuth",
    }
}

partial! {
    pub struct HeaderFilter {
        set: Vec<HttpHeader>,
        add: Vec<HttpHeader>,
        remove: Vec<String>,
    }
}

partial! {
    pub struct HttpHeader {
        name @required: String,
        value @required: String,
    }
}

partial! {
    pub struct RequestMirror {
        backend_ref @required: HttpBackendReference,
        percent: Option<u32>,
        fraction: Option<Fraction>,
    }
}

partial! {
    pub struct Fraction {
        numerator: u32,
        /// 100 if absent.
        denominator: Option<u32>,
    }
}

partial! {
    pub struct RequestRedirect {
        scheme: Option<String>,
        hostname: Option<String>,
        path: Option<PathModifier>,
        port: Option<u32>,
        /// 302 if absent.
        status_code: Option<u32>,
    }
}

partial! {
    pub struct UrlRewrite {
        hostname: Option<String>,
        path: Option<PathModifier>,
    }
}

partial! {
    pub struct PathModifier {
        type_ @required: PathModifierType = "type",
        replace_full_path: Option<String>,
        replace_prefix_match: Option<String>,
    }
}

names! {
    pub enum PathModifierType {
        ReplaceFullPath = "ReplaceFullPath",
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }
}

partial! {
    pub struct CorsFilter {
        allow_origins: Vec<String>,
        allow_credentials: Option<bool>,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        /// Seconds; 5 if absent.
        max_age: Option<i32>,
    }
}

partial! {
    @base(HttpBackendReference::unwritten)
    pub struct HttpBackendReference {
        /// Empty: the core group.
        group: String,
        kind: String,
        name @required: String,
        namespace: Option<String>,
        port: Option<u32>,
        weight: u32,
        filters: Vec<HttpRouteFilter>,
    }
}

impl HttpBackendReference {
    fn unwritten() -> Self {
        Self { kind: "Service".into(), weight: 1, ..Self::default() }
    }
}

partial! {
    pub struct HttpRouteTimeouts {
        request: Option<Duration>,
        backend_request: Option<Duration>,
    }
}
