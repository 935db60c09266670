//! Filter chains as a worker uses them: settings beside compiled logs and metric handles, made once per chain.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::filter::{Filter, HttpFilter, PeerMetadata};
use model::http_connection::{EscapedSlashes, HttpConnection, PathNormalization, Underscores};
use model::listener::Direction;
use model::network::{NetworkAction, TcpProxy};
use telemetry::envoy::{EnvoyStats, HttpStats, ListenerStats, TcpStats};
use telemetry::istio::Reporter;
use wire::path::{Fragment, Normalization};

use crate::options::Shared;
use crate::telemetry_sink::{Log, Telemetry};

/// What takes a connection.
#[derive(Clone)]
pub enum Handler {
    Http(Rc<HttpChain>),
    Tcp(Rc<TcpChain>),
    Close,
}

pub struct HttpChain {
    /// Its number in this worker.
    pub number: u32,
    pub settings: Arc<HttpConnection>,
    pub limits: wire::h1::Limits,
    /// The same and more for HTTP/2.
    pub h2: Arc<wire::h2::Config>,
    pub path_mode: wire::path::Normalization,
    pub logs: Vec<Log>,
    pub stats: HttpStats,
    pub listener: Rc<ListenerStats>,
    /// Istio's metrics are wanted, reported so.
    pub istio: Option<Reporter>,
    /// Whether an unknown service is called what the Host header says.
    pub host_fallback: bool,
    pub peer_metadata: Option<PeerMetadata>,
    /// A log asks for response fields.
    pub logs_response: bool,
    /// Those that have something to do with requests, in their order.
    pub filters: Rc<[Filter]>,
    pub own: Arc<telemetry::istio::Peer>,
}

pub struct TcpChain {
    pub settings: Arc<TcpProxy>,
    pub logs: Vec<Log>,
    pub stats: TcpStats,
    pub listener: Rc<ListenerStats>,
    pub istio: Option<Reporter>,
    /// How often the bytes of a long connection are reported (Istio: `tcp_reporting_duration`, 5 s).
    pub reporting: Duration,
    pub own: Arc<telemetry::istio::Peer>,
}

/// Made chains by the address of their configuration, which they keep alive.
pub struct Chains {
    made: HashMap<usize, (Arc<model::FilterChain>, Handler)>,
    /// By the address that is in their names.
    listeners: HashMap<SocketAddr, Rc<ListenerStats>>,
    envoy: EnvoyStats,
    own: Arc<telemetry::istio::Peer>,
    next: u32,
    shared: Arc<Shared>,
}

impl Chains {
    pub fn new(shared: &Arc<Shared>) -> Chains {
        Chains {
            made: HashMap::new(),
            listeners: HashMap::new(),
            envoy: shared.envoy.clone(),
            own: shared.own.clone(),
            next: 0,
            shared: shared.clone(),
        }
    }

    pub fn listener(&mut self, listener: &model::Listener) -> Rc<ListenerStats> {
        if let Some(stats) = self.listeners.get(&listener.address) {
            return stats.clone();
        }
        let stats = Rc::new(self.envoy.listener(&listener.address.to_string()));
        self.listeners.insert(listener.address, stats.clone());
        stats
    }

    pub fn handler(
        &mut self,
        chain: &Arc<model::FilterChain>,
        listener: &model::Listener,
        telemetry: &mut Telemetry,
    ) -> Handler {
        let address = Arc::as_ptr(chain) as usize;
        if let Some((_, handler)) = self.made.get(&address) {
            return handler.clone();
        }
        self.next += 1;
        let stats = self.listener(listener);
        crate::unheeded::chain(&self.shared, chain, &listener.name);
        let handler = match &chain.action {
            NetworkAction::Http(settings) => {
                Handler::Http(Rc::new(self.http(settings.clone(), listener, stats, telemetry)))
            }
            NetworkAction::Tcp(settings) => Handler::Tcp(Rc::new(TcpChain {
                logs: settings.access_logs.iter().map(|log| telemetry.log(log)).collect(),
                stats: self.envoy.tcp(&settings.stat_prefix),
                listener: stats,
                istio: chain.filters.stats.as_ref().map(|config| reporter(listener, config.server_gateway)),
                reporting: chain
                    .filters
                    .stats
                    .as_ref()
                    .and_then(|config| config.tcp_reporting_interval)
                    .unwrap_or(Duration::from_secs(5)),
                settings: settings.clone(),
                own: self.own.clone(),
            })),
            NetworkAction::Close => Handler::Close,
        };
        self.made.insert(address, (chain.clone(), handler.clone()));
        handler
    }

    fn http(
        &self,
        settings: Arc<HttpConnection>,
        listener: &model::Listener,
        stats: Rc<ListenerStats>,
        telemetry: &mut Telemetry,
    ) -> HttpChain {
        let config = settings.filters.iter().find_map(|filter| match &filter.kind {
            HttpFilter::Stats(config) => Some(config),
            _ => None,
        });
        let limits = wire::h1::Limits {
            max_head: settings.limits.max_request_headers_kb as usize * 1024,
            max_headers: settings.limits.max_headers_count as usize,
            // Envoy (`Http1Settings::validate_scheme`): a target may say https where others may have ended TLS before us.
            secure: settings.forwarded.trusts_proto(),
            allow_http10: settings.http1.accept_http_10,
            allow_custom_methods: settings.http1.allow_custom_methods,
            underscores: match settings.limits.underscores {
                Underscores::Allow => wire::h1::Underscores::Allow,
                Underscores::RejectRequest => wire::h1::Underscores::Reject,
                Underscores::DropHeader => wire::h1::Underscores::Drop,
            },
            ..wire::h1::Limits::default()
        };
        let mut h2 = crate::http2::codec_config(&settings.http2, &limits);
        h2.drain_grace = settings.timeouts.drain;
        // Over the multiplexed hop an upgrade of HTTP/1 comes as an extended CONNECT, which Istio's sidecars never ask for.
        h2.extended_connect |= listener.direction == Direction::Inbound && !settings.upgrades.is_empty();
        HttpChain {
            number: self.next,
            h2: Arc::new(h2),
            limits,
            path_mode: path_options(&settings.path, self.shared.fragment),
            logs: settings.access_logs.iter().map(|log| telemetry.log(log)).collect(),
            stats: self.envoy.http(&settings.stat_prefix),
            listener: stats,
            istio: config.map(|config| reporter(listener, config.server_gateway)),
            host_fallback: listener.direction == Direction::Outbound
                && config.is_some_and(|config| !config.disable_host_header_fallback),
            peer_metadata: settings.filters.iter().find_map(|filter| match &filter.kind {
                HttpFilter::PeerMetadata(config) => Some(*config),
                _ => None,
            }),
            logs_response: settings.access_logs.iter().any(asks_for_response),
            filters: crate::filters::step::of_chain(&settings.filters),
            own: self.own.clone(),
            settings,
        }
    }

    /// Forgets chains and listeners that no configuration and no connection uses any more.
    pub fn sweep(&mut self) {
        self.made.retain(|_, (chain, handler)| {
            Arc::strong_count(chain) > 1
                || match handler {
                    Handler::Http(chain) => Rc::strong_count(chain) > 1,
                    Handler::Tcp(chain) => Rc::strong_count(chain) > 1,
                    Handler::Close => false,
                }
        });
        self.listeners.retain(|_, stats| Rc::strong_count(stats) > 1);
    }
}

/// Whether a format shows response fields beyond the service time, which is known without the head.
fn asks_for_response(log: &model::access_log::AccessLog) -> bool {
    use model::access_log::AccessLogFormat;
    let text = match &log.format {
        AccessLogFormat::Default => return false,
        AccessLogFormat::Text(text) => text.to_uppercase(),
        AccessLogFormat::Json(value) => value.to_string().to_uppercase(),
    };
    text.replace("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "").contains("%RESP(")
}

/// An inbound listener reports as the destination, all others as the source; a gateway may be told otherwise.
fn reporter(listener: &model::Listener, server_gateway: bool) -> Reporter {
    if listener.direction == Direction::Inbound || server_gateway {
        Reporter::Destination
    } else {
        Reporter::Source
    }
}

impl HttpChain {
    pub fn opened(&self, telemetry: &Telemetry) {
        let shard = &telemetry.shard;
        shard.inc(self.stats.downstream_cx_total);
        shard.shift(self.stats.downstream_cx_active, 1);
    }

    pub fn closed(&self, telemetry: &Telemetry) {
        let shard = &telemetry.shard;
        shard.inc(self.stats.downstream_cx_destroy);
        shard.shift(self.stats.downstream_cx_active, -1);
        shard.inc(self.listener.downstream_cx_destroy);
        shard.shift(self.listener.downstream_cx_active, -1);
    }
}

/// The model's setting in the codec's words.
fn path_options(path: &PathNormalization, fragment: Fragment) -> Normalization {
    Normalization {
        fragment,
        normalize: path.normalize,
        merge_slashes: path.merge_slashes,
        escaped_slashes: match path.escaped_slashes {
            EscapedSlashes::Keep => wire::path::EscapedSlashes::Keep,
            EscapedSlashes::Reject => wire::path::EscapedSlashes::Reject,
            EscapedSlashes::UnescapeAndRedirect => wire::path::EscapedSlashes::UnescapeAndRedirect,
            EscapedSlashes::UnescapeAndForward => wire::path::EscapedSlashes::UnescapeAndForward,
        },
    }
}
