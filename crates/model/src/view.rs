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
    /// The header of this lower-case name; several values joined with `,` in their order, as Envoy
    /// matches them. Borrowed where there is one value: only a repeated header costs an allocation.
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>>;
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
