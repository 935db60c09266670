//! The field names this mesh has a meaning for, resolved once per message so that later lookups are an index.

/// Declares [`HeaderId`] and its names from one list.
macro_rules! known_headers {
    ($($id:ident = $name:literal,)*) => {
        /// A field name with a meaning here. [`HeaderId::Other`] stands for every other name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum HeaderId { $($id,)* Other }

        impl HeaderId {
            /// Every known id, `Other` left out, in the order of their numbers.
            pub const ALL: &'static [HeaderId] = &[$(HeaderId::$id,)*];
            /// How many ids there are, `Other` included.
            pub const COUNT: usize = HeaderId::Other as usize + 1;
            const NAMES: &'static [&'static str] = &[$($name,)*];
        }
    };
}

known_headers! {
    // Framing and connection (RFC 9112).
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Te = "te",
    Trailer = "trailer",
    Expect = "expect",
    // What the proxy reads or writes (RFC 9110 and others).
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    Authorization = "authorization",
    CacheControl = "cache-control",
    ContentEncoding = "content-encoding",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Forwarded = "forwarded",
    Location = "location",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    Referer = "referer",
    RetryAfter = "retry-after",
    Server = "server",
    SetCookie = "set-cookie",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    AccessControlRequestMethod = "access-control-request-method",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlAllowOrigin = "access-control-allow-origin",
    GrpcStatus = "grpc-status",
    GrpcMessage = "grpc-message",
    GrpcTimeout = "grpc-timeout",
    GrpcEncoding = "grpc-encoding",
    // Who sent it and how it is traced.
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedClientCert = "x-forwarded-client-cert",
    XRequestId = "x-request-id",
    XClientTraceId = "x-client-trace-id",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Baggage = "baggage",
    B3 = "b3",
    XB3TraceId = "x-b3-traceid",
    XB3SpanId = "x-b3-spanid",
    XB3ParentSpanId = "x-b3-parentspanid",
    XB3Sampled = "x-b3-sampled",
    XB3Flags = "x-b3-flags",
    XOtSpanContext = "x-ot-span-context",
    // Envoy's control headers.
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDegraded = "x-envoy-degraded",
    XEnvoyDownstreamServiceCluster = "x-envoy-downstream-service-cluster",
    XEnvoyDownstreamServiceNode = "x-envoy-downstream-service-node",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyForceTrace = "x-envoy-force-trace",
    XEnvoyHedgeOnPerTryTimeout = "x-envoy-hedge-on-per-try-timeout",
    XEnvoyImmediateHealthCheckFail = "x-envoy-immediate-health-check-fail",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyIpTags = "x-envoy-ip-tags",
    XEnvoyIsTimeoutRetry = "x-envoy-is-timeout-retry",
    XEnvoyMaxRetries = "x-envoy-max-retries",
    XEnvoyOriginalDstHost = "x-envoy-original-dst-host",
    XEnvoyOriginalHost = "x-envoy-original-host",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyOverloaded = "x-envoy-overloaded",
    XEnvoyPeerMetadata = "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId = "x-envoy-peer-metadata-id",
    XEnvoyRatelimited = "x-envoy-ratelimited",
    XEnvoyRetriableHeaderNames = "x-envoy-retriable-header-names",
    XEnvoyRetriableStatusCodes = "x-envoy-retriable-status-codes",
    XEnvoyRetryGrpcOn = "x-envoy-retry-grpc-on",
    XEnvoyRetryOn = "x-envoy-retry-on",
    XEnvoyUpstreamAltStatName = "x-envoy-upstream-alt-stat-name",
    XEnvoyUpstreamCanary = "x-envoy-upstream-canary",
    XEnvoyUpstreamRqPerTryTimeoutMs = "x-envoy-upstream-rq-per-try-timeout-ms",
    XEnvoyUpstreamRqTimeoutAltResponse = "x-envoy-upstream-rq-timeout-alt-response",
    XEnvoyUpstreamRqTimeoutMs = "x-envoy-upstream-rq-timeout-ms",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyUpstreamStreamDurationMs = "x-envoy-upstream-stream-duration-ms",
    XEnvoyFaultAbortRequest = "x-envoy-fault-abort-request",
    XEnvoyFaultAbortRequestPercentage = "x-envoy-fault-abort-request-percentage",
    XEnvoyFaultAbortGrpcRequest = "x-envoy-fault-abort-grpc-request",
    XEnvoyFaultDelayRequest = "x-envoy-fault-delay-request",
    XEnvoyFaultDelayRequestPercentage = "x-envoy-fault-delay-request-percentage",
    XEnvoyFaultThroughputResponse = "x-envoy-fault-throughput-response",
    XEnvoyFaultThroughputResponsePercentage = "x-envoy-fault-throughput-response-percentage",
}

impl HeaderId {
    /// The id of a field name in any case; [`HeaderId::Other`] when it is none of ours.
    #[inline]
    pub fn of(name: &[u8]) -> HeaderId {
        let Some(&(start, end)) = BY_LENGTH.ranges.get(name.len()) else { return HeaderId::Other };
        for id in BY_LENGTH.ids.get(start as usize..end as usize).unwrap_or_default() {
            if name.eq_ignore_ascii_case(id.name().as_bytes()) {
                return *id;
            }
        }
        HeaderId::Other
    }

    /// The lower-case name; empty for [`HeaderId::Other`].
    #[inline]
    pub fn name(self) -> &'static str {
        HeaderId::NAMES.get(self as usize).copied().unwrap_or("")
    }

    /// Whether a message's trailer section may not carry this field: framing, routing, authentication, and what
    /// the mesh itself decides by (RFC 9110 §6.5.1). Such a trailer is dropped.
    pub fn forbidden_in_trailers(name: &[u8]) -> bool {
        let id = HeaderId::of(name);
        match id {
            HeaderId::Other => starts_with_ignore_case(name, b"x-envoy-"),
            HeaderId::GrpcStatus | HeaderId::GrpcMessage | HeaderId::GrpcEncoding => false,
            _ => true,
        }
    }
}

/// Whether `text` begins with `prefix` (given in lower case) in any case.
pub fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

const LONGEST: usize = 48;

/// The known ids sorted by the length of their names, so that a lookup compares only the few of that length.
struct ByLength {
    ids: [HeaderId; HeaderId::ALL.len()],
    ranges: [(u8, u8); LONGEST],
}

static BY_LENGTH: ByLength = by_length();

const fn by_length() -> ByLength {
    let mut table = ByLength { ids: [HeaderId::Other; HeaderId::ALL.len()], ranges: [(0, 0); LONGEST] };
    let (mut length, mut filled) = (0, 0);
    while length < LONGEST {
        let start = filled;
        let mut next = 0;
        while next < HeaderId::ALL.len() {
            if HeaderId::NAMES[next].len() == length {
                table.ids[filled as usize] = HeaderId::ALL[next];
                filled += 1;
            }
            next += 1;
        }
        table.ranges[length] = (start, filled);
        length += 1;
    }
    assert!(filled as usize == HeaderId::ALL.len(), "LONGEST is shorter than a known name");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for id in HeaderId::ALL {
            assert_eq!(HeaderId::of(id.name().as_bytes()), *id);
            assert_eq!(HeaderId::of(id.name().to_ascii_uppercase().as_bytes()), *id);
        }
        for name in ["", "hos", "hosts", "x-custom", "x-envoy-unheard-of"] {
            assert_eq!(HeaderId::of(name.as_bytes()), HeaderId::Other, "{name}");
        }
        assert_eq!(HeaderId::of(&[b'x'; 70_000]), HeaderId::Other);
    }

    #[test]
    fn trailers_may_not_frame_route_or_authenticate() {
        for name in
            ["Content-Length", "host", "Authorization", "x-envoy-anything", "Cookie", "X-Forwarded-For"]
        {
            assert!(HeaderId::forbidden_in_trailers(name.as_bytes()), "{name}");
        }
        for name in ["grpc-status", "x-checksum", "server-timing"] {
            assert!(!HeaderId::forbidden_in_trailers(name.as_bytes()), "{name}");
        }
    }
}
