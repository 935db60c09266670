//! Envoy's response flags: why the proxy, and not the application, shaped the outcome of a request.

/// A set of response flags. [`Flags::NONE`] prints as `-`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Flags(u32);

macro_rules! flags {
    ($($bit:literal $constant:ident $short:literal $long:literal $doc:literal;)*) => {
        impl Flags {
            $(#[doc = concat!("`", $short, "`: ", $doc)]
            pub const $constant: Flags = Flags(1 << $bit);)*
        }
        /// Every flag in Envoy's order of printing: (flag, short name, long name).
        pub const TABLE: &[(Flags, &str, &str)] = &[$((Flags::$constant, $short, $long)),*];
    };
}

// The order is Envoy's (`CORE_RESPONSE_FLAGS`), because it is the order in which several flags of
// one request are printed ("UF,URX").
flags! {
    0 FAILED_LOCAL_HEALTH_CHECK "LH" "FailedLocalHealthCheck" "the health check filter answered failed (503)";
    1 NO_HEALTHY_UPSTREAM "UH" "NoHealthyUpstream" "no host could be selected (503)";
    2 UPSTREAM_REQUEST_TIMEOUT "UT" "UpstreamRequestTimeout" "route or per-try timeout (504)";
    3 LOCAL_RESET "LR" "LocalReset" "the proxy reset the stream (503)";
    4 UPSTREAM_REMOTE_RESET "UR" "UpstreamRemoteReset" "the upstream reset the stream (503)";
    5 UPSTREAM_CONNECTION_FAILURE "UF" "UpstreamConnectionFailure" "connecting or TLS failed or timed out (503)";
    6 UPSTREAM_CONNECTION_TERMINATION "UC" "UpstreamConnectionTermination" "the upstream closed mid-request (503)";
    7 UPSTREAM_OVERFLOW "UO" "UpstreamOverflow" "circuit breaker or maintenance mode (503)";
    8 NO_ROUTE_FOUND "NR" "NoRouteFound" "no route (404) or no filter chain";
    9 DELAY_INJECTED "DI" "DelayInjected" "the fault filter delayed the request";
    10 FAULT_INJECTED "FI" "FaultInjected" "the fault filter aborted the request";
    11 RATE_LIMITED "RL" "RateLimited" "local or global rate limit (429)";
    12 UNAUTHORIZED_EXTERNAL_SERVICE "UAEX" "UnauthorizedExternalService" "external authorization denied or failed (403)";
    13 RATE_LIMIT_SERVICE_ERROR "RLSE" "RateLimitServiceError" "the rate limit service failed in deny mode (500)";
    14 DOWNSTREAM_CONNECTION_TERMINATION "DC" "DownstreamConnectionTermination" "the client left";
    15 UPSTREAM_RETRY_LIMIT_EXCEEDED "URX" "UpstreamRetryLimitExceeded" "retries or connect attempts exhausted";
    16 STREAM_IDLE_TIMEOUT "SI" "StreamIdleTimeout" "idle timer (408 or 504)";
    17 INVALID_ENVOY_REQUEST_HEADERS "IH" "InvalidEnvoyRequestHeaders" "strict header checks failed (400)";
    18 DOWNSTREAM_PROTOCOL_ERROR "DPE" "DownstreamProtocolError" "malformed request";
    19 UPSTREAM_MAX_STREAM_DURATION_REACHED "UMSDR" "UpstreamMaxStreamDurationReached" "the cluster's maximum stream duration (408 or 504)";
    20 RESPONSE_FROM_CACHE_FILTER "RFCF" "ResponseFromCacheFilter" "served from the cache filter";
    21 NO_FILTER_CONFIG_FOUND "NFCF" "NoFilterConfigFound" "a filter's configuration did not arrive in time (500)";
    22 DURATION_TIMEOUT "DT" "DurationTimeout" "maximum connection duration";
    23 UPSTREAM_PROTOCOL_ERROR "UPE" "UpstreamProtocolError" "malformed response (502)";
    24 NO_CLUSTER_FOUND "NC" "NoClusterFound" "the route names a cluster that does not exist (503)";
    25 OVERLOAD_MANAGER_TERMINATED "OM" "OverloadManagerTerminated" "overload action (503)";
    26 DNS_RESOLUTION_FAILED "DF" "DnsResolutionFailed" "dynamic forward proxy name resolution (503)";
    27 DROP_OVERLOAD "DO" "DropOverload" "the endpoints' drop_overloads (503)";
    28 DOWNSTREAM_REMOTE_RESET "DR" "DownstreamRemoteReset" "the client reset the stream";
    29 UNCONDITIONAL_DROP_OVERLOAD "UDO" "UnconditionalDropOverload" "drop_overloads at 100 % (503)";
}

impl Flags {
    pub const NONE: Flags = Flags(0);

    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn insert(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    /// The flags of a comma-separated list of short names, as an access-log filter names them.
    /// `None` when a name is unknown.
    pub fn from_short_names(names: &str) -> Option<Flags> {
        let mut flags = Flags::NONE;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "-") {
            flags.insert(TABLE.iter().find(|(_, short, _)| *short == name)?.0);
        }
        Some(flags)
    }

    /// Comma-separated short names, `-` for none.
    pub fn push_short(self, out: &mut Vec<u8>) {
        self.push_names(out, |(_, short, _)| short);
    }

    /// Comma-separated long names, `-` for none.
    pub fn push_long(self, out: &mut Vec<u8>) {
        self.push_names(out, |(_, _, long)| long);
    }

    fn push_names(
        self,
        out: &mut Vec<u8>,
        name: impl Fn(&(Flags, &'static str, &'static str)) -> &'static str,
    ) {
        if self.is_empty() {
            out.push(b'-');
            return;
        }
        let mut separator: &[u8] = b"";
        for row in TABLE.iter().filter(|(flag, _, _)| self.contains(*flag)) {
            out.extend_from_slice(separator);
            out.extend_from_slice(name(row).as_bytes());
            separator = b",";
        }
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.with(other)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.insert(other);
    }
}

/// The short names.
impl std::fmt::Display for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.push_short(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_print_in_table_order() {
        let mut shorts: Vec<_> = TABLE.iter().map(|row| row.1).collect();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), TABLE.len());
        let bits = TABLE.iter().fold(0u32, |bits, (flag, _, _)| bits | flag.bits());
        assert_eq!(bits.count_ones() as usize, TABLE.len());

        let both = Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED | Flags::UPSTREAM_CONNECTION_FAILURE;
        assert_eq!(both.to_string(), "UF,URX");
        let mut long = Vec::new();
        both.push_long(&mut long);
        assert_eq!(long, b"UpstreamConnectionFailure,UpstreamRetryLimitExceeded");
        assert_eq!(Flags::NONE.to_string(), "-");
    }

    #[test]
    fn short_names_read_back() {
        assert_eq!(
            Flags::from_short_names("URX, UF"),
            Some(Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED | Flags::UPSTREAM_CONNECTION_FAILURE)
        );
        assert_eq!(Flags::from_short_names("-"), Some(Flags::NONE));
        assert_eq!(Flags::from_short_names("XX"), None);
    }
}
