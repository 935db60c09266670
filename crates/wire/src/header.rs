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
    SecWebSocketKey = "sec-websocket-key",
    SecWebSocketAccept = "sec-websocket-accept",
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
    // Between two proxies of ours: `h2::hop`.
    XFilameshHop = "x-filamesh-hop",
}

impl HeaderId {
    /// The id of a field name in any case; [`HeaderId::Other`] when it is none of ours. One comparison at most.
    #[inline]
    pub fn of(name: &[u8]) -> HeaderId {
        let slot = PERFECT.slots[slot_of(name, PERFECT.multiplier)];
        match HeaderId::ALL.get(slot as usize) {
            Some(id) if is_lower_name(name, id.name().as_bytes()) => *id,
            _ => HeaderId::Other,
        }
    }

    /// The lower-case name; empty for [`HeaderId::Other`].
    #[inline]
    pub fn name(self) -> &'static str {
        HeaderId::NAMES.get(self as usize).copied().unwrap_or("")
    }

    /// Whether a message's trailer section may not carry this field: framing, routing, authentication, and what
    /// the mesh itself decides by (RFC 9110 §6.5.1). Such a trailer is dropped.
    pub fn forbidden_in_trailers(name: &[u8]) -> bool {
        HeaderId::of(name).is_forbidden_in_trailers(name)
    }

    /// The same, of a name whose id is known.
    #[inline]
    pub(crate) fn is_forbidden_in_trailers(self, name: &[u8]) -> bool {
        match self {
            HeaderId::Other => starts_with_ignore_case(name, b"x-envoy-"),
            HeaderId::GrpcStatus | HeaderId::GrpcMessage | HeaderId::GrpcEncoding => false,
            _ => true,
        }
    }
}

/// `name.eq_ignore_ascii_case(lower)` for a `lower` of letters, digits and hyphens, eight bytes at a time: it is
/// asked for nearly every field of every message, and byte by byte took a third of parsing a head.
#[inline]
fn is_lower_name(name: &[u8], lower: &[u8]) -> bool {
    const WORD: usize = 8;
    if name.len() != lower.len() {
        return false;
    }
    let (Some(last), Some(lower_last)) = (name.last_chunk::<WORD>(), lower.last_chunk::<WORD>()) else {
        // Four to seven bytes: two halves that overlap, in one word.
        return match (name.first_chunk(), name.last_chunk(), lower.first_chunk(), lower.last_chunk()) {
            (Some(first), Some(last), Some(lower_first), Some(lower_last)) => {
                is_lower_word(join(first, last), join(lower_first, lower_last))
            }
            _ => name.eq_ignore_ascii_case(lower),
        };
    };
    let (words, _) = name.as_chunks::<WORD>();
    let (lower_words, _) = lower.as_chunks::<WORD>();
    // The last word overlaps the one before it.
    words.iter().zip(lower_words).all(|(word, lower)| is_lower_word(*word, *lower))
        && is_lower_word(*last, *lower_last)
}

#[inline]
fn join(first: &[u8; 4], last: &[u8; 4]) -> [u8; 8] {
    (u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))).to_le_bytes()
}

/// Setting bit 5 makes letters lower-case and keeps digits and hyphens; what has neither bit 5 nor bit 6 is a control
/// byte, which that bit would turn into one of them.
#[inline]
fn is_lower_word(word: [u8; 8], lower: [u8; 8]) -> bool {
    const BIT_5: u64 = 0x2020_2020_2020_2020;
    const BIT_6: u64 = 0x4040_4040_4040_4040;
    let word = u64::from_le_bytes(word);
    word | BIT_5 == u64::from_le_bytes(lower) && (word | word << 1) & BIT_6 == BIT_6
}

/// Whether `text` begins with `prefix` (given in lower case) in any case.
pub fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

const SLOTS: usize = 1024;
const VACANT: u8 = u8::MAX;

/// A hash table of the known names without collisions, made when this is compiled.
struct Perfect {
    multiplier: u32,
    slots: [u8; SLOTS],
}

static PERFECT: Perfect = perfect();

/// Hashes the length and three letters, chosen so that no two known names agree in all of them.
#[inline]
const fn slot_of(name: &[u8], multiplier: u32) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let before_last = length.saturating_sub(2);
    let letters =
        [name[before_last] | 0x20, name[(length - 1) / 2] | 0x20, name[length - 1 - length / 3] | 0x20];
    let key = u32::from_le_bytes([length as u8, letters[0], letters[1], letters[2]]);
    (key.wrapping_mul(multiplier) >> 22) as usize
}

const fn perfect() -> Perfect {
    let mut multiplier: u32 = 0x9e37_79b1;
    let mut tries = 0;
    while tries < 1000 {
        let mut slots = [VACANT; SLOTS];
        let mut filled = 0;
        while filled < HeaderId::ALL.len() {
            let slot = slot_of(HeaderId::NAMES[filled].as_bytes(), multiplier);
            if slots[slot] != VACANT {
                break;
            }
            slots[slot] = filled as u8;
            filled += 1;
        }
        if filled == HeaderId::ALL.len() {
            return Perfect { multiplier, slots };
        }
        multiplier = multiplier.wrapping_mul(0x0100_0193).wrapping_add(2) | 1;
        tries += 1;
    }
    panic!("two known names agree in length and hashed letters: choose other letters in slot_of")
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
    fn one_changed_byte_is_another_name() {
        for id in HeaderId::ALL {
            let name = id.name().as_bytes();
            for at in 0..name.len() {
                for byte in 0..=255u8 {
                    let mut changed = name.to_vec();
                    changed[at] = byte;
                    assert_eq!(is_lower_name(&changed, name), changed.eq_ignore_ascii_case(name));
                }
            }
        }
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
