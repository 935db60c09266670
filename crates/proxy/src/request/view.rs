//! The exchange as the deciding code sees it: the request with the edits made so far.

use std::borrow::Cow;

use model::RequestView;
use model::template::{Values, Variable};
use model::view::{ForwardedProto, any_of, is_inline, one_of};
use wire::text::push_u64;

use crate::exchange::Exchange;

impl RequestView for Exchange {
    fn method(&self) -> &[u8] {
        self.head_view().method()
    }

    fn path(&self) -> &[u8] {
        self.path.changed().unwrap_or(self.head_view().path())
    }

    fn host(&self) -> &[u8] {
        self.edits.replaced_host().unwrap_or(self.head_view().authority())
    }

    fn scheme(&self) -> &[u8] {
        self.request.scheme.name().as_bytes()
    }

    fn forwarded_proto(&self) -> ForwardedProto {
        self.request.forwarded_proto
    }

    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool> {
        any_of(name, self.edits.values(&self.head_view(), name.as_bytes()), test)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match name {
            "host" | ":authority" => return Some(Cow::Borrowed(self.host())),
            ":method" => return Some(Cow::Borrowed(self.method())),
            ":path" => return Some(Cow::Borrowed(self.path())),
            ":scheme" => return Some(Cow::Borrowed(self.scheme())),
            _ => {}
        }
        let head = self.head_view();
        // Usually there is one, and it is found at once.
        let first = self.edits.value(&head, name.as_bytes())?;
        if !is_inline(name) {
            return Some(Cow::Borrowed(first));
        }
        one_of(name, self.edits.values(&head, name.as_bytes()))
    }
}

impl Exchange {
    /// The request's headers that Envoy keeps as one value each, whatever the lines they came in.
    pub(crate) fn inline_values(&self) -> Vec<(String, Vec<u8>)> {
        let head = self.head_view();
        let mut all: Vec<(String, Vec<u8>)> = vec![];
        for field in head.fields() {
            let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
            let met = all.iter().any(|(met, _)| *met == name);
            if !met
                && is_inline(&name)
                && let Some(value) = one_of(&name, self.edits.values(&head, name.as_bytes()))
            {
                all.push((name, value.into_owned()));
            }
        }
        all
    }
}

/// What a header template may ask about an exchange.
pub struct TemplateValues<'a> {
    pub exchange: &'a Exchange,
    pub origin: &'a crate::client::origin::Origin,
    pub cluster: &'a str,
    pub response: Option<wire::h1::ResponseHead<'a>>,
    pub unix_nanos: u64,
}

impl Values for TemplateValues<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let mut text = |value: &str| {
            out.extend_from_slice(value.as_bytes());
            !value.is_empty()
        };
        let address = |value: Option<std::net::SocketAddr>| value.map(|a| a.to_string()).unwrap_or_default();
        let exchange = self.exchange;
        match variable {
            Variable::DownstreamRemoteAddress | Variable::DownstreamDirectRemoteAddress => {
                text(&self.origin.remote.to_string())
            }
            Variable::DownstreamRemoteAddressWithoutPort
            | Variable::DownstreamDirectRemoteAddressWithoutPort => {
                text(&self.origin.remote.ip().to_string())
            }
            Variable::DownstreamLocalAddress => text(&self.origin.local.to_string()),
            Variable::DownstreamLocalAddressWithoutPort => text(&self.origin.local.ip().to_string()),
            Variable::DownstreamLocalPort => text(&self.origin.local.port().to_string()),
            Variable::RequestedServerName => text(&self.origin.server_name),
            Variable::UpstreamHost | Variable::UpstreamRemoteAddress => {
                text(&address(exchange.response.upstream_remote))
            }
            Variable::UpstreamLocalAddress => text(&address(exchange.response.upstream_local)),
            Variable::UpstreamCluster => text(self.cluster),
            Variable::Protocol => text(exchange.head_view().version().name()),
            Variable::RouteName => text(exchange.route_name()),
            Variable::ResponseFlags => text(&exchange.response.flags.to_string()),
            Variable::ResponseCodeDetails => text(&exchange.response.details),
            Variable::ResponseCode => number(exchange.response.status.into(), out),
            Variable::BytesReceived => number(exchange.request.received, out),
            Variable::BytesSent => number(exchange.response.sent, out),
            Variable::StartTime => number(self.unix_nanos / 1_000_000_000, out),
            Variable::Hostname => text(&std::env::var("HOSTNAME").unwrap_or_default()),
            Variable::EnvironmentVariable(name) => text(&std::env::var(&**name).unwrap_or_default()),
            Variable::StreamId => match &exchange.request.id {
                Some(id) => {
                    out.extend_from_slice(id);
                    true
                }
                None => false,
            },
            Variable::RequestHeader { name, or, max } => {
                let value = exchange.header(name).or_else(|| exchange.header(or.as_deref()?));
                bytes(value.as_deref(), *max, out)
            }
            Variable::ResponseHeader { name, or, max } => {
                let find = |name: &str| self.response.and_then(|head| head.header(name.as_bytes()));
                bytes(find(name).or_else(|| find(or.as_deref()?)), *max, out)
            }
            Variable::DownstreamPeerUriSan
            | Variable::DownstreamPeerSubject
            | Variable::DownstreamTlsVersion
            | Variable::VirtualClusterName
            | Variable::Duration
            | Variable::ConnectionId
            | Variable::TraceId
            | Variable::DynamicMetadata => false,
        }
    }
}

fn number(value: u64, out: &mut Vec<u8>) -> bool {
    push_u64(out, value);
    true
}

fn bytes(value: Option<&[u8]>, max: Option<usize>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    out.extend_from_slice(value.get(..max.unwrap_or(usize::MAX).min(value.len())).unwrap_or(value));
    true
}
