//! Filter chains while they are being put together.

use std::collections::BTreeSet;

use xds::core::{Metadata, TransportSocket, transport_socket};
use xds::listener::{Filter, FilterChain, FilterChainMatch};
use xds::tls::DownstreamTlsContext;

use super::values::cidr;

pub const TLS_SOCKET: &str = "envoy.transport_sockets.tls";
pub const TLS: &str = "tls";
pub const RAW: &str = "raw_buffer";

/// ALPN of plaintext HTTP as the HTTP inspector reports it.
pub const PLAIN_HTTP: &[&str] = &["http/1.1", "h2c"];
/// ALPN of HTTP between two sidecars.
pub const MESH_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// ALPN of anything else between two sidecars.
pub const MESH_TCP: &[&str] = &["istio-peer-exchange", "istio"];
/// ALPN of anything between two sidecars.
pub const MESH_ANY: &[&str] =
    &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

#[derive(Debug, Clone, Default)]
pub struct Chain {
    pub sni: Vec<String>,
    pub cidrs: Vec<String>,
    pub alpn: Vec<String>,
    /// [`TLS`], [`RAW`] or empty for either.
    pub transport: &'static str,
    pub metadata: Option<Metadata>,
    pub tls: Option<DownstreamTlsContext>,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    /// HTTP by the routes of this name; `absolute` for a proxy port.
    Http {
        routes: String,
        absolute: bool,
    },
    Network(Vec<Filter>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Network(Vec::new())
    }
}

impl Chain {
    pub fn is_match_all(&self) -> bool {
        (self.sni.is_empty() || self.sni.iter().any(|name| name == "*"))
            && self.alpn.is_empty()
            && self.transport.is_empty()
            && self.cidrs.is_empty()
    }

    /// Whether Envoy could not tell the two apart.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.transport == other.transport
            && self.alpn == other.alpn
            && names(&self.sni) == names(&other.sni)
            && networks(&self.cidrs) == networks(&other.cidrs)
    }

    /// `None` if it matches everything.
    pub fn matcher(&self) -> Option<FilterChainMatch> {
        if self.is_match_all() {
            return None;
        }
        let mut server_names = Vec::new();
        if !self.sni.iter().any(|name| name == "*") {
            server_names.clone_from(&self.sni);
            server_names.sort();
        }
        let mut cidrs = self.cidrs.clone();
        cidrs.sort();
        let ranges = cidrs.iter().filter_map(|text| cidr(text));
        Some(FilterChainMatch {
            server_names,
            prefix_ranges: ranges.filter(|range| range.address_prefix != "0.0.0.0").collect(),
            application_protocols: self.alpn.clone(),
            transport_protocol: self.transport.to_owned(),
            ..Default::default()
        })
    }
}

/// The wire form of a chain with these filters.
pub fn filter_chain(chain: &Chain, matcher: Option<FilterChainMatch>, filters: Vec<Filter>) -> FilterChain {
    FilterChain {
        filter_chain_match: matcher,
        filters,
        metadata: chain.metadata.clone(),
        transport_socket: chain.tls.as_ref().map(downstream_tls),
        ..Default::default()
    }
}

pub fn downstream_tls(context: &DownstreamTlsContext) -> TransportSocket {
    TransportSocket {
        name: TLS_SOCKET.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(xds::pack(context))),
    }
}

pub fn alpn(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn names(sni: &[String]) -> BTreeSet<&str> {
    sni.iter().map(String::as_str).filter(|name| *name != "*").collect()
}

/// Networks by their masked bits: 10.1.0.0/8 is 10.2.0.0/8.
fn networks(cidrs: &[String]) -> BTreeSet<(u128, u32, bool)> {
    cidrs
        .iter()
        .filter_map(|text| {
            let range = cidr(text)?;
            let length = range.prefix_len?;
            let (bits, width, v6) = match range.address_prefix.parse().ok()? {
                std::net::IpAddr::V4(address) => (u128::from(u32::from(address)), 32, false),
                std::net::IpAddr::V6(address) => (u128::from(address), 128, true),
            };
            let masked = if length == 0 { 0 } else { bits >> (width - length) << (width - length) };
            (masked != 0 || length != 0).then_some((masked, length, v6))
        })
        .collect()
}
