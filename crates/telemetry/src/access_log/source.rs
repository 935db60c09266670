//! What a line is rendered from: the exchange as the proxy holds it, asked field by field.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::Flags;

/// A finished exchange (or connection). Everything is optional because a line is written for requests
/// that never got as far as having it; what is `None` prints as `-` (`null` in JSON).
pub trait LogSource {
    /// Wall-clock start of the request or connection, since the Unix epoch.
    fn start_time(&self) -> Duration;

    fn flags(&self) -> Flags;

    fn method(&self) -> Option<&[u8]> {
        None
    }

    /// The path with its query, as it stands after rewriting (`:path`).
    fn path(&self) -> Option<&[u8]> {
        None
    }

    /// Host header or `:authority`.
    fn authority(&self) -> Option<&[u8]> {
        None
    }

    fn scheme(&self) -> Option<&[u8]> {
        None
    }

    fn request_header(&self, name: &HeaderName) -> Option<&[u8]> {
        let _ = name;
        None
    }

    fn response_header(&self, name: &HeaderName) -> Option<&[u8]> {
        let _ = name;
        None
    }

    fn response_trailer(&self, name: &HeaderName) -> Option<&[u8]> {
        let _ = name;
        None
    }

    fn text(&self, field: TextField) -> Option<&[u8]>;

    fn number(&self, field: NumberField) -> Option<u64>;

    fn address(&self, field: AddressField) -> Option<Address<'_>>;

    /// `%DYNAMIC_METADATA(namespace:path…)%`.
    fn dynamic_metadata(&self, namespace: &str, path: &[String]) -> Option<&[u8]> {
        let _ = (namespace, path);
        None
    }

    /// `%FILTER_STATE(key)%`.
    fn filter_state(&self, key: &str) -> Option<&[u8]> {
        let _ = key;
        None
    }
}

/// A header's name as a format asks for it: in lower case, and no pseudo header.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderName {
    text: Box<str>,
    number: OnceLock<u16>,
}

impl HeaderName {
    pub(super) fn new(text: &str) -> HeaderName {
        HeaderName { text: text.into(), number: OnceLock::new() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the source of lines knows the name by, asked of it once: hashing the name for every line took a sixth of
    /// rendering it.
    #[inline]
    pub fn number(&self, of: impl FnOnce(&str) -> u16) -> u16 {
        *self.number.get_or_init(|| of(&self.text))
    }
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<'a> {
    Socket(SocketAddr),
    /// A Unix socket's path or an internal listener's name.
    Named(&'a [u8]),
}

/// Fields that are text. Empty text counts as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextField {
    /// `HTTP/1.1`, `HTTP/2`.
    Protocol,
    UpstreamProtocol,
    /// `via_upstream`, `route_not_found`, …
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    DownstreamTransportFailureReason,
    /// The cluster's alternative statistics name, or its name where it has none.
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamHostName,
    /// The SNI.
    RequestedServerName,
    RouteName,
    VirtualClusterName,
    StreamId,
    TraceId,
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    DownstreamTlsSessionId,
    DownstreamPeerUriSan,
    DownstreamPeerDnsSan,
    DownstreamPeerSubject,
    DownstreamPeerIssuer,
    DownstreamPeerSerial,
    DownstreamPeerFingerprint256,
    DownstreamLocalUriSan,
    DownstreamLocalSubject,
    UpstreamTlsVersion,
    UpstreamTlsCipher,
    UpstreamPeerUriSan,
    UpstreamPeerSubject,
    UpstreamPeerIssuer,
    UpstreamLocalUriSan,
    UpstreamLocalSubject,
}

/// Fields that are numbers. Durations are whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberField {
    /// Missing prints as 0, as in Envoy.
    ResponseCode,
    /// Body bytes received from the client. Missing prints as 0.
    BytesReceived,
    /// Body bytes sent to the client. Missing prints as 0.
    BytesSent,
    /// Start to the last byte out.
    Duration,
    /// Start to the last byte of the request in.
    RequestDuration,
    /// Start to the last byte of the request sent upstream.
    RequestTxDuration,
    /// Start to the first byte of the response from upstream.
    ResponseDuration,
    /// First byte from upstream to the last byte sent to the client.
    ResponseTxDuration,
    RequestHeadersBytes,
    ResponseHeadersBytes,
    ResponseTrailersBytes,
    UpstreamWireBytesSent,
    UpstreamWireBytesReceived,
    UpstreamHeaderBytesSent,
    UpstreamHeaderBytesReceived,
    DownstreamWireBytesSent,
    DownstreamWireBytesReceived,
    DownstreamHeaderBytesSent,
    DownstreamHeaderBytesReceived,
    ConnectionId,
    UpstreamConnectionId,
    /// Missing prints as 0.
    UpstreamRequestAttemptCount,
    /// Of a gRPC response, from trailers or headers.
    GrpcStatus,
}

impl NumberField {
    /// Envoy prints these as 0 where there is nothing.
    pub(super) fn default_value(self) -> Option<u64> {
        use NumberField::*;
        let zero = matches!(
            self,
            ResponseCode
                | BytesReceived
                | BytesSent
                | RequestHeadersBytes
                | ResponseHeadersBytes
                | ResponseTrailersBytes
                | UpstreamWireBytesSent
                | UpstreamWireBytesReceived
                | UpstreamHeaderBytesSent
                | UpstreamHeaderBytesReceived
                | DownstreamWireBytesSent
                | DownstreamWireBytesReceived
                | DownstreamHeaderBytesSent
                | DownstreamHeaderBytesReceived
                | UpstreamRequestAttemptCount
        );
        zero.then_some(0)
    }
}

/// Fields that are ends of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressField {
    UpstreamHost,
    UpstreamLocal,
    UpstreamRemote,
    DownstreamLocal,
    /// The address the connection arrived at before any redirection was undone.
    DownstreamDirectLocal,
    /// The client, as trusted forwarding headers or the PROXY protocol name it.
    DownstreamRemote,
    /// The other end of the connection itself.
    DownstreamDirectRemote,
}
