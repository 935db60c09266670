//! A whole call decided without a socket: listener, chain, routes, cluster, or why there is no answer.
//!
//! The same compiled tables and the same deciding code as in the proxy; only the bytes are missing.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::filter::FilterExplanation;
use crate::filter_chain::{ChainDecision, FilterChain};
use crate::http_connection::{HttpConnection, RouteSource};
use crate::listener::Listener;
use crate::network::{NetworkAction, TcpClusters};
use crate::route::Target;
use crate::view::{ConnectionView, ForwardedProto, RequestView, TransportProtocol, any_of, one_of};
use crate::{RouteDecision, Snapshot, Verdict};

/// A call to try. Field names are those of `filamesh simulate`'s input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    #[serde(default)]
    pub name: String,
    pub mode: Mode,
    /// Original destination.
    pub address: String,
    pub port: u16,
    pub protocol: Protocol,
    pub tls: Tls,
    #[serde(default)]
    pub alpn: String,
    #[serde(default)]
    pub sni: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// Name of the certificate resource under which a chain counts as mutual; absent = `default`.
    #[serde(default, rename = "mtlsSecret", skip_serializing_if = "Option::is_none")]
    pub mtls_secret: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Outbound,
    Inbound,
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Http2,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    Plaintext,
    Tls,
    Mtls,
}

/// What the call meets. A field is "" where nothing of its kind was met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallResult {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_chain: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_config: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub virtual_host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The messages of one proxy, compiled for calls.
pub struct Simulation {
    snapshot: Snapshot,
}

impl Simulation {
    /// A message that cannot be compiled is left out and told. Two chains that match alike are kept: a call
    /// that meets them is answered with `multiple_filter_chains`.
    pub fn new(
        listeners: &[xds::listener::Listener],
        routes: &[xds::route::RouteConfiguration],
    ) -> (Simulation, Vec<crate::Rejection>) {
        let mut names = crate::config::Names::default();
        let mut rejections = Vec::new();
        let mut compiled = Vec::new();
        for message in listeners {
            match Listener::compile(message, &mut names) {
                Ok(listener) => compiled.push(Arc::new(listener)),
                Err(refusal) => rejections.push(refusal.reject(message.name.clone())),
            }
        }
        let mut tables = Vec::new();
        for message in routes {
            let (_, id) = names.route_table(&message.name);
            match crate::RouteTable::compile_message(message, &mut names) {
                Ok(table) => tables.push((id, Arc::new(table))),
                Err(refusal) => rejections.push(refusal.reject(message.name.clone())),
            }
        }
        (Simulation { snapshot: Snapshot::of_parts(compiled, tables) }, rejections)
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn decide(&self, call: &Call) -> CallResult {
        decide_call(&self.snapshot, call)
    }

    /// [`Simulation::decide`], and the decision on the route with the rule it comes from and the filters that act before it, if
    /// it came to that.
    pub fn explain(&self, call: &Call) -> (CallResult, Option<serde_json::Value>) {
        let mut explanation = None;
        let result = decide(&self.snapshot, call, &mut |decision, filters| {
            explanation = serde_json::to_value(decision.explain()).ok();
            if let Some(whole) = explanation.as_mut().filter(|_| !filters.is_empty()) {
                whole["filters"] = serde_json::to_value(filters).unwrap_or_default();
            }
        });
        (result, explanation)
    }
}

/// Name of the listener of redirected inbound connections.
const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Name of the listener of redirected outbound connections.
const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// What the call meets, step by step; the fields met before an error keep their values.
pub fn decide_call(snapshot: &Snapshot, call: &Call) -> CallResult {
    decide(snapshot, call, &mut |_, _| {})
}

/// Gets the decision on the route, if it comes to one, and what the filters may do before it is acted on.
type Watch<'w> = &'w mut dyn FnMut(&RouteDecision<'_>, &[FilterExplanation]);

fn decide(snapshot: &Snapshot, call: &Call, watch: Watch<'_>) -> CallResult {
    let mut result = CallResult { name: call.name.clone(), ..CallResult::default() };
    if let Err(error) = walk(snapshot, call, &mut result, watch) {
        error.clone_into(&mut result.error);
    }
    result
}

fn walk(
    snapshot: &Snapshot,
    call: &Call,
    result: &mut CallResult,
    watch: Watch<'_>,
) -> Result<(), &'static str> {
    let listener = listener(snapshot, call).ok_or("no_listener")?;
    result.listener = listener.name.to_string();
    let chain = filter_chain(listener, call)?;
    result.filter_chain = chain.name.to_string();
    check_tls(chain, call)?;
    match &chain.action {
        NetworkAction::Http(http) => {
            let tls_inside = call.tls != Tls::Plaintext && chain.transport.tls().is_none();
            if call.protocol == Protocol::Tcp || tls_inside {
                return Err("protocol_error");
            }
            route(snapshot, http, call, result, watch)
        }
        NetworkAction::Tcp(tcp) => {
            if let TcpClusters::One(cluster) = &tcp.clusters {
                result.cluster = cluster.name.to_string();
            }
            Ok(())
        }
        NetworkAction::Close => Ok(()),
    }
}

fn listener<'s>(snapshot: &'s Snapshot, call: &Call) -> Option<&'s Arc<Listener>> {
    if call.mode == Mode::Inbound {
        return snapshot.listener(VIRTUAL_INBOUND);
    }
    let met = call.address.parse().ok().and_then(|ip| snapshot.listener_at(SocketAddr::new(ip, call.port)));
    match call.mode {
        Mode::Outbound => met.or_else(|| snapshot.listener(VIRTUAL_OUTBOUND)),
        Mode::Gateway | Mode::Inbound => met,
    }
}

fn filter_chain<'l>(listener: &'l Listener, call: &Call) -> Result<&'l FilterChain, &'static str> {
    let inspectors = listener.inspectors(call.port);
    let plaintext = call.tls == Tls::Plaintext;
    let offered = match call.protocol {
        Protocol::Http if inspectors.http && plaintext => "http/1.1",
        Protocol::Http2 if inspectors.http && plaintext => "h2c",
        _ if inspectors.tls => call.alpn.as_str(),
        _ => "",
    };
    let offers = [offered];
    let destination = call.address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    // Nobody in particular (RFC 5737): no chain of these messages asks for the source.
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
    let view = ConnectionView {
        destination: SocketAddr::new(destination, call.port),
        source,
        direct_source: source,
        transport: match inspectors.tls && !plaintext {
            true => TransportProtocol::Tls,
            false => TransportProtocol::RawBuffer,
        },
        server_name: &call.sni,
        application_protocols: if offered.is_empty() { &[] } else { &offers },
    };
    match listener.filter_chain(&view) {
        ChainDecision::Chain { ambiguous: true, .. } => Err("multiple_filter_chains"),
        ChainDecision::Chain { chain, .. } | ChainDecision::Default { chain } => Ok(chain),
        ChainDecision::None => Err("no_filter_chain"),
    }
}

fn check_tls(chain: &FilterChain, call: &Call) -> Result<(), &'static str> {
    let Some(tls) = chain.transport.tls() else { return Ok(()) };
    if call.tls == Tls::Plaintext {
        return Err("tls_error");
    }
    let wanted = call.mtls_secret.as_deref().unwrap_or("default");
    let first = tls.common.certificates.first().map(|name| &**name);
    let mutual = tls.require_client_certificate && first == Some(wanted);
    if mutual != (call.tls == Tls::Mtls) { Err("mtls_error") } else { Ok(()) }
}

fn route(
    snapshot: &Snapshot,
    http: &HttpConnection,
    call: &Call,
    result: &mut CallResult,
    watch: Watch<'_>,
) -> Result<(), &'static str> {
    if let RouteSource::Rds { name, .. } = &http.routes {
        result.route_config = name.to_string();
    }
    let table = snapshot.routes(&http.routes).ok_or("no_virtual_host")?;
    let request = CallView::new(call, http);
    let decision = table.decide(&request, 0);
    watch(&decision, &crate::filter::explain(&http.filters, &decision, &request));
    if let Some(host) = decision.virtual_host {
        result.virtual_host = host.name.to_string();
    }
    if let Some(route) = decision.route {
        result.route = route.name.to_string();
    }
    match decision.verdict {
        Verdict::NoVirtualHost => Err("no_virtual_host"),
        Verdict::TlsRedirect => Err("tls_redirect"),
        Verdict::NoRoute => Err("no_route"),
        Verdict::Forward { cluster, forward, .. } => {
            if let Target::Cluster(_) = forward.target {
                result.cluster = cluster.name.to_string();
            }
            Ok(())
        }
        Verdict::ForwardByHeader { .. } | Verdict::Redirect(_) | Verdict::Respond(_) => Ok(()),
    }
}

/// A call's request.
struct CallView<'c> {
    call: &'c Call,
    /// By lower-case name.
    headers: BTreeMap<String, Vec<&'c [u8]>>,
    scheme: &'static [u8],
    proto: ForwardedProto,
}

impl<'c> CallView<'c> {
    fn new(call: &'c Call, http: &HttpConnection) -> Self {
        let mut headers: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
        for (name, values) in &call.headers {
            let lines = headers.entry(name.to_ascii_lowercase()).or_default();
            lines.extend(values.iter().map(String::as_bytes));
        }
        let told = headers.get("x-forwarded-proto").map(|lines| lines.as_slice());
        let (scheme, proto) = http.forwarded.proto(told.unwrap_or_default(), call.tls != Tls::Plaintext);
        CallView { call, headers, scheme, proto }
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.get(name).into_iter().flatten().copied()
    }
}

impl RequestView for CallView<'_> {
    fn method(&self) -> &[u8] {
        if self.call.method.is_empty() { b"GET" } else { self.call.method.as_bytes() }
    }

    fn path(&self) -> &[u8] {
        match self.call.path.as_str() {
            "" if self.call.method == "CONNECT" => b"",
            "" => b"/",
            path => path.as_bytes(),
        }
    }

    fn host(&self) -> &[u8] {
        self.call.host.as_bytes()
    }

    fn scheme(&self) -> &[u8] {
        self.scheme
    }

    fn forwarded_proto(&self) -> ForwardedProto {
        self.proto
    }

    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool> {
        any_of(name, self.lines(name), test)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        one_of(name, self.lines(name))
    }
}
