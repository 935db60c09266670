//! What a decision may ask about a connection and about a request.
use std::borrow::Cow;
use std::net::SocketAddr;

use serde::Serialize;

/// What is known of a connection when its filter chain is picked.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionView<'a> {
    /// The original destination where the listener has one, else the local address.
    pub destination: SocketAddr,
    /// The peer, after PROXY protocol if any.
    pub source: SocketAddr,
    /// The peer as the kernel has it.
    pub direct_source: SocketAddr,
    /// As sniffed; `RawBuffer` where no TLS inspector ran.
    pub transport: TransportProtocol,
    /// SNI, `""` when none or not sniffed. Any case.
    pub server_name: &'a str,
    /// What the client offers (TLS ALPN), or what the HTTP inspector found: `http/1.0`, `http/1.1`, `h2c`.
    pub application_protocols: &'a [&'a str],
}

/// Envoy's transport protocols of a filter chain match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportProtocol {
    RawBuffer,
    Tls,
}

/// What a decision may ask about a request. Implemented over the parsed head, without copying.
pub trait RequestView {
    /// `GET` for an upgrade that came as HTTP/2's extended CONNECT, as if it had come over HTTP/1 (Envoy does the same).
    fn method(&self) -> &[u8];
    /// `:path`: the canonical path, with its query. Empty where there is none: a CONNECT that is no extended one.
    fn path(&self) -> &[u8];
    /// `:authority`, else Host; with its port; any case.
    fn host(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &[u8];
    /// What is trusted of the request's `x-forwarded-proto`. A redirect to TLS asks this and not the scheme (Envoy's
    /// `VirtualHostImpl`).
    fn forwarded_proto(&self) -> ForwardedProto;
    /// The values of the header of this lower-case name, each by itself as its lines came, until `test` holds of one: whether
    /// it held of any, `None` where there is no such header. The lines of a name that [`is_inline`] are one value.
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool>;
    /// The header of this lower-case name where one value is asked for, as Envoy has it: the first of several lines, all of
    /// them joined with `,` where the name [`is_inline`]. Only that costs an allocation.
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// What `x-forwarded-proto` says of a request, once it is known whom to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedProto {
    #[default]
    Http,
    /// Exactly `https`.
    Https,
    /// Present and empty: Envoy finds no route for such a request.
    Empty,
}

/// Whether Envoy keeps the lines of this (lower-case) header as one value, joined with `,`: those its header map has a place
/// of their own for (`INLINE_REQ_HEADERS` and what filters register). Measured with 1.40, name by name; those no request can
/// bring so far (`te`, `x-envoy-*` an outsider may not send) are in its list of the same name.
pub fn is_inline(name: &str) -> bool {
    // In order.
    const INLINE: &[&str] = &[
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "access-control-request-private-network",
        "authorization",
        "cache-control",
        "cdn-loop",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "grpc-accept-encoding",
        "grpc-timeout",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "keep-alive",
        "origin",
        "pragma",
        "proxy-connection",
        "proxy-status",
        "referer",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-envoy-attempt-count",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-external-address",
        "x-envoy-force-trace",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-internal",
        "x-envoy-ip-tags",
        "x-envoy-is-timeout-retry",
        "x-envoy-max-retries",
        "x-envoy-original-host",
        "x-envoy-original-path",
        "x-envoy-retriable-header-names",
        "x-envoy-retriable-status-codes",
        "x-envoy-retry-grpc-on",
        "x-envoy-retry-on",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-stream-duration-ms",
        "x-forwarded-client-cert",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
    ];
    INLINE.binary_search(&name).is_ok()
}

/// [`RequestView::any_value`] over the values of a header's lines.
pub fn any_of<'v>(
    name: &str,
    mut values: impl Iterator<Item = &'v [u8]>,
    test: &mut dyn FnMut(&[u8]) -> bool,
) -> Option<bool> {
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(test(first)) };
    if is_inline(name) {
        return Some(test(&joined(first, second, values)));
    }
    Some(test(first) || test(second) || values.any(test))
}

/// [`RequestView::header`] over the values of a header's lines.
pub fn one_of<'v>(name: &str, mut values: impl Iterator<Item = &'v [u8]>) -> Option<Cow<'v, [u8]>> {
    let first = values.next()?;
    match values.next().filter(|_| is_inline(name)) {
        Some(second) => Some(Cow::Owned(joined(first, second, values))),
        None => Some(Cow::Borrowed(first)),
    }
}

fn joined<'v>(first: &[u8], second: &[u8], more: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut joined = [first, b",", second].concat();
    for value in more {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    joined
}

impl<R: RequestView + ?Sized> RequestView for &R {
    fn method(&self) -> &[u8] {
        (**self).method()
    }
    fn path(&self) -> &[u8] {
        (**self).path()
    }
    fn host(&self) -> &[u8] {
        (**self).host()
    }
    fn scheme(&self) -> &[u8] {
        (**self).scheme()
    }
    fn forwarded_proto(&self) -> ForwardedProto {
        (**self).forwarded_proto()
    }
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool> {
        (**self).any_value(name, test)
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        (**self).header(name)
    }
}

/// `:path` without query and fragment.
pub fn path_only(path: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

/// The query of `:path`, without `?` and fragment; empty when none.
pub fn query(path: &[u8]) -> &[u8] {
    let path = path.get(..memchr::memchr(b'#', path).unwrap_or(path.len())).unwrap_or(path);
    memchr::memchr(b'?', path).and_then(|i| path.get(i + 1..)).unwrap_or_default()
}

/// The host without its port, by Envoy's rule: the last `:` unless it is inside `[...]`.
pub fn host_only(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon) if memchr::memrchr(b']', host).is_none_or(|end| end < colon) => {
            host.get(..colon).unwrap_or(host)
        }
        _ => host,
    }
}
