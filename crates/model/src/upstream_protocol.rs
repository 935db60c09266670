//! Which HTTP a cluster's hosts are spoken to, and how.
use serde::Serialize;
use xds::cluster::cluster as message;

use crate::cluster::Cluster;
use crate::endpoints::Host;
use crate::http1::{HeaderCase, Http1};
use crate::http2::Http2Settings;
use crate::refusal::{At, Compiled};
use crate::transport::UpstreamTransport;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    Http1,
    Http2,
    /// What the client speaks; HTTP/1.1 for HTTP/1.0.
    SameAsDownstream,
    /// By ALPN. Never over plaintext: Envoy refuses that, and so do we.
    Auto,
}

/// How HTTP/1 is written to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpstreamHttp1 {
    pub header_case: HeaderCase,
    /// Pass trailers on.
    pub enable_trailers: bool,
}

/// Whether all requests to a host, whatever protocol they came in, share few HTTP/2 connections to the filamesh proxy
/// there, which hands them on as they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    Multiplexed,
    /// No filamesh proxy is known to be there: it gets what Istio would send.
    OtherPeer,
    /// The bytes are TLS that is not the mesh's own: they do not end at the proxy there.
    Tls,
    /// `maxConnections`, `http1MaxPendingRequests` or `maxRequestsPerConnection` is set: they are meant for
    /// connections that carry one request at a time, and would mean something else on shared ones.
    ConnectionsCounted,
}

impl Cluster {
    /// How requests of HTTP/1 get to this host. Requests that are HTTP/2 already are no matter of this.
    pub fn hop(&self, host: &Host) -> Hop {
        if !host.hop {
            Hop::OtherPeer
        } else if !matches!(self.transport_to(host), UpstreamTransport::RawBuffer) {
            Hop::Tls
        } else if self.counts_connections {
            Hop::ConnectionsCounted
        } else {
            Hop::Multiplexed
        }
    }

    pub fn multiplexes(&self, host: &Host) -> bool {
        self.hop(host) == Hop::Multiplexed
    }
}

/// Istio writes 2^32 - 1 for what nobody limited; Envoy's own 1024, where nothing is written, nobody asked for.
pub(crate) fn limits_connections(breakers: Option<&xds::cluster::CircuitBreakers>) -> bool {
    let limited = |limit: Option<u32>| limit.is_some_and(|limit| limit < u32::MAX);
    breakers.is_some_and(|breakers| {
        breakers.thresholds.iter().any(|t| limited(t.max_connections) || limited(t.max_pending_requests))
    })
}

/// Read together, as they stand together in one message.
pub(crate) struct Protocol {
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) http1: UpstreamHttp1,
    pub(crate) http2: Http2Settings,
}

impl Protocol {
    pub(crate) fn compile(
        message: &xds::cluster::Cluster,
        options: &xds::upstream_http::HttpProtocolOptions,
    ) -> Compiled<Protocol> {
        use xds::upstream_http::http_protocol_options::UpstreamProtocolOptions as U;
        use xds::upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig as P;
        let (protocol, http1, http2, place) = match options.upstream_protocol_options.as_ref() {
            Some(U::ExplicitHttpConfig(explicit)) => {
                let place = "explicit_http_config";
                match explicit.protocol_config.as_ref() {
                    Some(P::HttpProtocolOptions(http1)) => {
                        (UpstreamProtocol::Http1, Some(http1), None, place)
                    }
                    Some(P::Http2ProtocolOptions(http2)) => {
                        (UpstreamProtocol::Http2, None, Some(http2), place)
                    }
                    None => return refuse!("is empty").at(place).at(OPTIONS),
                }
            }
            Some(U::UseDownstreamProtocolConfig(same)) => (
                UpstreamProtocol::SameAsDownstream,
                same.http_protocol_options.as_ref(),
                same.http2_protocol_options.as_ref(),
                "use_downstream_protocol_config",
            ),
            Some(U::AutoConfig(auto)) => (
                UpstreamProtocol::Auto,
                auto.http_protocol_options.as_ref(),
                auto.http2_protocol_options.as_ref(),
                "auto_config",
            ),
            None if !message.typed_extension_protocol_options.is_empty() => {
                return refuse!("upstream_protocol_options is required").at(OPTIONS);
            }
            // The older fields on the cluster itself count when there are no options at all.
            None => {
                let (http1, http2) = (&message.http_protocol_options, &message.http2_protocol_options);
                let protocol = match message.protocol_selection() {
                    message::ClusterProtocolSelection::UseDownstreamProtocol => {
                        UpstreamProtocol::SameAsDownstream
                    }
                    _ if http1.is_some() && http2.is_some() => {
                        return refuse!("not beside http_protocol_options").at("http2_protocol_options");
                    }
                    _ if http2.is_some() => UpstreamProtocol::Http2,
                    _ => UpstreamProtocol::Http1,
                };
                (protocol, http1.as_ref(), http2.as_ref(), "")
            }
        };
        let within = |field: &str| match place {
            "" => field.to_owned(),
            place => format!("{OPTIONS}.{place}.{field}"),
        };
        let http1 = Http1::compile(http1, false).at(&within("http_protocol_options"))?;
        Ok(Protocol {
            protocol,
            http1: UpstreamHttp1 { header_case: http1.header_case, enable_trailers: http1.enable_trailers },
            http2: Http2Settings::inside().with(http2).at(&within("http2_protocol_options"))?,
        })
    }
}

/// Envoy's answer too: without TLS nobody says which protocol the host speaks.
pub(crate) fn check_alpn<'t>(
    protocol: UpstreamProtocol,
    mut transports: impl Iterator<Item = &'t UpstreamTransport>,
) -> Compiled<()> {
    if protocol == UpstreamProtocol::Auto && transports.any(|t| matches!(t, UpstreamTransport::RawBuffer)) {
        return refuse!("needs ALPN, which a transport socket without TLS has not")
            .at("auto_config")
            .at(OPTIONS);
    }
    Ok(())
}

const OPTIONS: &str =
    "typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions]";

pub(crate) fn options(message: &xds::cluster::Cluster) -> Compiled<xds::upstream_http::HttpProtocolOptions> {
    let mut options = xds::upstream_http::HttpProtocolOptions::default();
    for (name, any) in &message.typed_extension_protocol_options {
        let field = format!("typed_extension_protocol_options[{name}]");
        match crate::network::unpacked(any).at(&field)? {
            Some(found) => options = found,
            None => return refuse!("{} is not supported", any.type_url).at(&field),
        }
    }
    Ok(options)
}
