//! The HTTP filters of a chain in their order, and what a route says to each of them.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde::Serialize;

use crate::config::Names;
use crate::cors::Cors;
use crate::fault::Fault;
use crate::network::{StatsConfig, unpacked};
use crate::refusal::{At, Compiled};

/// A filter in its place in the chain.
#[derive(Debug, Clone, Serialize)]
pub struct Filter {
    /// Its name in the configuration, by which routes address it.
    pub name: Arc<str>,
    #[serde(skip)]
    pub id: FilterId,
    /// Off, unless a route has settings for it.
    pub disabled: bool,
    pub kind: HttpFilter,
}

/// A filter's name as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterId(pub(crate) u32);

/// What a filter does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpFilter {
    /// Applies the route's fault, else its own.
    Fault(FaultFilter),
    /// Applies the route's [`Cors`].
    Cors,
    GrpcStats,
    GrpcWeb,
    /// Istio's `istio.alpn`: ALPN offered upstream by the request's protocol, HTTP/1.0, 1.1, 2.
    Alpn {
        http10: Vec<Arc<str>>,
        http11: Vec<Arc<str>>,
        http2: Vec<Arc<str>>,
    },
    PeerMetadata(PeerMetadata),
    Stats(Arc<StatsConfig>),
}

/// Envoy's `HTTPFault` of a chain.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FaultFilter {
    /// For routes without one.
    #[serde(skip)]
    pub own: Option<Arc<Fault>>,
    /// Requests of the whole process with a fault at work, for `max_active_faults`.
    #[serde(skip)]
    pub active: Arc<AtomicU32>,
}

/// Istio's peer metadata exchange over `x-envoy-peer-metadata` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PeerMetadata {
    /// Learn the client from the request's headers (and remove them).
    pub from_downstream: bool,
    /// Learn the server from the response's headers.
    pub from_upstream: bool,
    /// Tell the client who we are, in the response.
    pub to_downstream: bool,
    /// Tell the server who we are, in the request.
    pub to_upstream: bool,
    /// Not to clusters outside of the mesh.
    pub skip_external: bool,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Router {
    pub suppress_envoy_headers: bool,
    pub respect_expected_timeout: bool,
}

impl Filter {
    /// What the route says to this filter; `None`: the filter does not act on the route.
    pub fn on<'r>(&self, route: Option<&'r crate::Route>) -> Option<Option<&'r Settings>> {
        let told = route.and_then(|route| route.filters.of(self.id));
        let disabled = told.map_or(self.disabled, |told| told.disabled);
        (!disabled).then(|| told.and_then(|told| told.settings.as_ref()))
    }
}

/// What a filter may do with a request, for people: by the filter's name, as far as dice allow.
#[derive(Debug, Serialize)]
pub struct FilterExplanation {
    pub filter: Arc<str>,
    #[serde(flatten)]
    pub decision: FilterDecision,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterDecision {
    Fault(crate::fault::FaultDecision),
    /// Answered by the filter; with what is told to a browser.
    Preflight(Vec<(&'static str, String)>),
    /// Sent on; with what is told to a browser.
    CrossOrigin(Vec<(&'static str, String)>),
}

/// What the filters of a chain may do with a request on its route, in their order, up to the first that answers it.
pub(crate) fn explain<R: crate::RequestView + ?Sized>(
    filters: &[Filter],
    decision: &crate::RouteDecision<'_>,
    request: &R,
) -> Vec<FilterExplanation> {
    use crate::Verdict;
    let cluster = match decision.verdict {
        Verdict::Forward { cluster, .. } => Some(&*cluster.name),
        Verdict::ForwardByHeader { .. } => Some(""),
        _ => None,
    };
    let mut told = Vec::new();
    for filter in filters {
        let Some(settings) = filter.on(decision.route) else { continue };
        let decided = match (&filter.kind, settings) {
            (HttpFilter::Fault(_), Some(Settings::Fault(fault))) => fault_of(fault, request, cluster),
            (HttpFilter::Fault(FaultFilter { own: Some(fault), .. }), _) => fault_of(fault, request, cluster),
            (HttpFilter::Cors, _) if cluster.is_some() => decision
                .route
                .and_then(|route| route.filters.cors(settings))
                .and_then(|cors| cors_of(cors, request)),
            _ => None,
        };
        let Some(decided) = decided else { continue };
        let answers = matches!(decided, FilterDecision::Preflight(_));
        told.push(FilterExplanation { filter: filter.name.clone(), decision: decided });
        if answers {
            break;
        }
    }
    told
}

fn fault_of<R: crate::RequestView + ?Sized>(
    fault: &Fault,
    request: &R,
    cluster: Option<&str>,
) -> Option<FilterDecision> {
    // The dice that make everything happen that may.
    let decided = fault.decide(request, cluster, [0, 0]);
    (!decided.is_none()).then_some(FilterDecision::Fault(decided))
}

fn cors_of<R: crate::RequestView + ?Sized>(cors: &Cors, request: &R) -> Option<FilterDecision> {
    use crate::cors::{CorsDecision, CorsField};
    let text = |fields: Vec<CorsField<'_>>| {
        fields.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect()
    };
    match cors.decide(request, 0) {
        CorsDecision::Pass | CorsDecision::Foreign => None,
        CorsDecision::Preflight { fields, .. } => Some(FilterDecision::Preflight(text(fields))),
        CorsDecision::Actual { fields } => Some(FilterDecision::CrossOrigin(text(fields))),
    }
}

/// What a route, and all that is around it, says to filters. Empty for nearly every route.
#[derive(Debug, Clone, Default)]
pub struct RouteFilters {
    told: Box<[Told]>,
    /// The deprecated policy inside of a `RouteAction`: for whichever filter is a CORS filter and is told nothing.
    cors: Option<Arc<Cors>>,
}

/// What a route says to one filter.
#[derive(Debug, Clone)]
pub struct Told {
    filter: FilterId,
    pub disabled: bool,
    pub settings: Option<Settings>,
}

#[derive(Debug, Clone)]
pub enum Settings {
    Fault(Arc<Fault>),
    Cors(Arc<Cors>),
}

impl RouteFilters {
    pub(crate) fn compile(configs: &BTreeMap<String, xds::Any>, names: &mut Names) -> Compiled<RouteFilters> {
        let mut told = Vec::new();
        for (name, any) in configs {
            let field = format!("typed_per_filter_config[{name}]");
            if let Some(settings) = told_of(any).at(&field)? {
                let (disabled, settings) = settings;
                told.push(Told { filter: names.filter(name), disabled, settings });
            }
        }
        Ok(RouteFilters { told: told.into(), cors: None })
    }

    /// These, and for filters they say nothing to, those around them. CORS policies are laid over one another.
    pub(crate) fn over(self, around: &RouteFilters) -> RouteFilters {
        if around.told.is_empty() {
            return self;
        }
        let mut told = self.told.into_vec();
        for outer in &around.told {
            match told.iter_mut().find(|inner| inner.filter == outer.filter) {
                None => told.push(outer.clone()),
                Some(inner) => {
                    inner.settings = match (inner.settings.take(), &outer.settings) {
                        (Some(Settings::Cors(own)), Some(Settings::Cors(around))) => {
                            Some(Settings::Cors(Arc::new(own.over(around))))
                        }
                        (own, around) => own.or_else(|| around.clone()),
                    };
                }
            }
        }
        RouteFilters { told: told.into(), cors: self.cors }
    }

    pub(crate) fn with_inline_cors(self, cors: Cors) -> RouteFilters {
        RouteFilters { cors: Some(Arc::new(cors)), ..self }
    }

    pub fn of(&self, filter: FilterId) -> Option<&Told> {
        self.told.iter().find(|told| told.filter == filter)
    }

    /// The policy of a CORS filter that is told `settings`.
    pub fn cors<'r>(&'r self, settings: Option<&'r Settings>) -> Option<&'r Cors> {
        match settings {
            Some(Settings::Cors(cors)) => Some(cors),
            _ => self.cors.as_deref(),
        }
    }

    /// All that is said, whatever the filter's name.
    pub fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.told.iter().filter_map(|told| told.settings.as_ref())
    }
}

/// One entry of `typed_per_filter_config`: whether it switches the filter off, and its settings. `None`: it is left out.
fn told_of(any: &xds::Any) -> Compiled<Option<(bool, Option<Settings>)>> {
    if let Some(wrapper) = unpacked::<xds::route::FilterConfig>(any)? {
        let settings = match &wrapper.config {
            Some(config) if !wrapper.disabled => settings(config).at("config")?,
            _ => return Ok(Some((wrapper.disabled, None))),
        };
        return match settings {
            Some(settings) => Ok(Some((false, Some(settings)))),
            None if wrapper.is_optional => Ok(None),
            None => {
                let url = wrapper.config.as_ref().map_or("", |config| &config.type_url);
                refuse!("{url} is not supported").at("config")
            }
        };
    }
    match settings(any)? {
        Some(settings) => Ok(Some((false, Some(settings)))),
        None => refuse!("{} is not supported", any.type_url),
    }
}

fn settings(any: &xds::Any) -> Compiled<Option<Settings>> {
    if let Some(fault) = unpacked::<xds::http_filters::fault::v3::HttpFault>(any)? {
        return Ok(Some(Settings::Fault(Arc::new(Fault::compile(&fault)?))));
    }
    if let Some(cors) = unpacked::<xds::http_filters::cors::v3::CorsPolicy>(any)? {
        return Ok(Some(Settings::Cors(Arc::new(Cors::compile(&cors)?))));
    }
    Ok(None)
}

pub(crate) fn compile(
    messages: &[xds::hcm::HttpFilter],
    names: &mut Names,
) -> Compiled<(Vec<Filter>, Router)> {
    let mut filters = Vec::new();
    let mut router = None;
    for (i, message) in messages.iter().enumerate() {
        if router.is_some() {
            return refuse!("comes after the router").at_index("http_filters", i);
        }
        match http_filter(message).at_index("http_filters", i)? {
            Some(Either::Filter(kind)) => filters.push(Filter {
                name: message.name.as_str().into(),
                id: names.filter(&message.name),
                disabled: message.disabled,
                kind,
            }),
            Some(Either::Router(_)) if message.disabled => {
                return refuse!("the router may not be disabled").at_index("http_filters", i);
            }
            Some(Either::Router(found)) => router = Some(found),
            None => {}
        }
    }
    match router {
        Some(router) => Ok((filters, router)),
        None => refuse!("the last filter must be envoy.filters.http.router").at("http_filters"),
    }
}

enum Either {
    Filter(HttpFilter),
    Router(Router),
}

fn http_filter(message: &xds::hcm::HttpFilter) -> Compiled<Option<Either>> {
    use xds::hcm::http_filter::ConfigType;
    let any = match &message.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return refuse!("filter {:?}: config_discovery is not supported", message.name);
        }
        None if message.name == "envoy.filters.http.router" => {
            return Ok(Some(Either::Router(Router::default())));
        }
        None => return refuse!("filter {:?} has no typed_config", message.name),
    };
    if let Some(router) = unpacked::<xds::http_filters::router::v3::Router>(any)? {
        if !router.strict_check_headers.is_empty() {
            return refuse!("is not supported").at("strict_check_headers");
        }
        return Ok(Some(Either::Router(Router {
            suppress_envoy_headers: router.suppress_envoy_headers,
            respect_expected_timeout: router.respect_expected_rq_timeout,
        })));
    }
    let filter = if let Some(fault) = unpacked::<xds::http_filters::fault::v3::HttpFault>(any)? {
        let own = (fault.delay.is_some() || fault.abort.is_some())
            .then(|| Fault::compile(&fault).map(Arc::new))
            .transpose()?;
        HttpFilter::Fault(FaultFilter { own, active: Arc::default() })
    } else if unpacked::<xds::http_filters::cors::v3::Cors>(any)?.is_some() {
        HttpFilter::Cors
    } else if unpacked::<xds::http_filters::grpc_stats::v3::FilterConfig>(any)?.is_some() {
        HttpFilter::GrpcStats
    } else if unpacked::<xds::http_filters::grpc_web::v3::GrpcWeb>(any)?.is_some() {
        HttpFilter::GrpcWeb
    } else if let Some(alpn) = unpacked::<xds::alpn::FilterConfig>(any)? {
        self::alpn(&alpn)
    } else if let Some(peer) = unpacked::<xds::peer_metadata::Config>(any)? {
        HttpFilter::PeerMetadata(peer_metadata(&peer))
    } else if let Some(stats) = unpacked::<xds::stats::PluginConfig>(any)? {
        HttpFilter::Stats(Arc::new(StatsConfig::compile(&stats)?))
    } else if message.is_optional {
        // Envoy: an optional filter nobody knows is left out.
        return Ok(None);
    } else {
        return refuse!("HTTP filter {} is not supported", any.type_url);
    };
    Ok(Some(Either::Filter(filter)))
}

fn alpn(message: &xds::alpn::FilterConfig) -> HttpFilter {
    use xds::alpn::filter_config::Protocol;
    let of = |protocol: Protocol| {
        let entries = message.alpn_override.iter().filter(|o| o.upstream_protocol() == protocol);
        entries.flat_map(|o| &o.alpn_override).map(|s| s.as_str().into()).collect()
    };
    HttpFilter::Alpn {
        http10: of(Protocol::Http10),
        http11: of(Protocol::Http11),
        http2: of(Protocol::Http2),
    }
}

fn peer_metadata(message: &xds::peer_metadata::Config) -> PeerMetadata {
    use xds::peer_metadata::config::propagation_method::MethodSpecifier;
    let skips = message.upstream_propagation.iter().chain(&message.downstream_propagation).any(
        |p| matches!(&p.method_specifier, Some(MethodSpecifier::IstioHeaders(h)) if h.skip_external_clusters),
    );
    PeerMetadata {
        from_downstream: !message.downstream_discovery.is_empty(),
        from_upstream: !message.upstream_discovery.is_empty(),
        to_downstream: !message.downstream_propagation.is_empty(),
        to_upstream: !message.upstream_propagation.is_empty(),
        skip_external: skips,
    }
}
