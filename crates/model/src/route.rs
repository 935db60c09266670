//! A compiled route, and the decision that leads to it.
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::route::route_action::{ClusterSpecifier, HostRewriteSpecifier};

use crate::cluster::ClusterRef;
use crate::config::Names;
use crate::cors::Cors;
use crate::filter::RouteFilters;
use crate::headers::HeaderPlan;
pub use crate::mirror::{Mirror, MirrorTarget};
use crate::proto::{self, Fraction};
use crate::provenance::Provenance;
use crate::refusal::{At, Compiled, each};
use crate::retry::RetryPolicy;
use crate::rewrite::{HostRewrite, PathRewrite, Redirect};
use crate::route_match::RouteMatch;
use crate::route_table::RoutePlace;
use crate::string_match::RegexRewrite;
use crate::upgrade::{self, RouteUpgrade};
use crate::virtual_host::VirtualHost;

/// In C's order, what every look-up reads first: among 10 000 routes a cache line is what a look-up costs.
#[derive(Debug)]
#[repr(C)]
pub struct Route {
    pub rule: RouteMatch,
    pub action: Action,
    /// Often empty.
    pub name: Arc<str>,
    pub request_headers: HeaderPlan,
    pub response_headers: HeaderPlan,
    /// The route's own laid over those around it.
    pub filters: RouteFilters,
    pub provenance: Provenance,
    /// Span name (`decorator.operation`).
    pub operation: Option<Arc<str>>,
    pub random_sampling: Option<Fraction>,
    /// Bytes of a request's body kept for retries.
    pub body_buffer_limit: Option<u64>,
}

#[derive(Debug)]
pub enum Action {
    Forward(Box<Forward>),
    Redirect(Box<Redirect>),
    Respond(DirectResponse),
}

#[derive(Debug, Serialize)]
pub struct DirectResponse {
    pub status: u16,
    #[serde(skip)]
    pub body: Arc<[u8]>,
}

/// How a request is sent on.
#[derive(Debug)]
#[repr(C)]
pub struct Forward {
    pub target: Target,
    pub path: PathRewrite,
    pub host: HostRewrite,
    pub append_x_forwarded_host: bool,
    /// The whole request with its retries; `None` = no limit. Envoy's default 15 s; none where the route says anything
    /// about the stream's duration, which takes its place (`usingNewTimeouts`).
    pub timeout: Option<Duration>,
    /// `None` = the connection's `stream_idle`; `Some(ZERO)` = no limit.
    pub idle_timeout: Option<Duration>,
    /// Cap of the client's `grpc-timeout`; `None` = not used; `Some(ZERO)` = used uncapped.
    pub grpc_timeout_max: Option<Duration>,
    /// `None` = the connection's; `Some(ZERO)` = no limit ([`Forward::stream_duration`]).
    pub max_stream_duration: Option<Duration>,
    /// Of a request with `grpc-timeout`, that instead, up to this (`ZERO` = as it is); `None` = not used.
    pub grpc_timeout_header_max: Option<Duration>,
    /// Taken off what the request's `grpc-timeout` makes of it, so that the client is not the first to give up.
    pub grpc_timeout_header_offset: Duration,
    /// The route's, else the virtual host's.
    pub retry: Option<Arc<RetryPolicy>>,
    pub mirrors: Vec<Mirror>,
    pub priority: Priority,
    /// Upgrades switched on or off here ([`crate::HttpConnection::upgrade`]).
    pub upgrades: Vec<RouteUpgrade>,
    /// Status when the cluster does not exist.
    pub cluster_not_found: u16,
}

#[derive(Debug)]
pub enum Target {
    Cluster(ClusterRef),
    /// The cluster's name is in this request header.
    Header(Arc<str>),
    Weighted(Vec<Split>),
}

/// One entry of a weighted cluster.
#[derive(Debug)]
pub struct Split {
    pub cluster: ClusterRef,
    pub weight: u32,
    /// This and all weights before it; the last one's is the total.
    sum: u64,
    pub request_headers: HeaderPlan,
    pub response_headers: HeaderPlan,
    pub host: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    #[default]
    Default,
    High,
}

/// What becomes of a request, with the rule that decided it.
#[derive(Debug, Clone, Copy)]
pub struct RouteDecision<'t> {
    pub virtual_host: Option<&'t VirtualHost>,
    pub route: Option<&'t Route>,
    /// Where `virtual_host` and `route` are, for keeping without a borrow
    /// ([`crate::RouteTable::resolve`]).
    pub place: RoutePlace,
    pub verdict: Verdict<'t>,
}

#[derive(Debug, Clone, Copy)]
pub enum Verdict<'t> {
    /// To this cluster. `split`: which entry of the weighted clusters the dice picked.
    Forward {
        cluster: &'t ClusterRef,
        split: Option<u16>,
        forward: &'t Forward,
    },
    /// To the cluster named by this request header; 503 when it is missing.
    ForwardByHeader {
        header: &'t str,
        forward: &'t Forward,
    },
    Redirect(&'t Redirect),
    Respond(&'t DirectResponse),
    /// 404, flag NR.
    NoVirtualHost,
    /// 301 to the same URL with `https`: the virtual host takes no plaintext.
    TlsRedirect,
    /// 404, flag NR.
    NoRoute,
}

/// A decision with names, for people.
#[derive(Debug, Serialize)]
pub struct RouteExplanation<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'t str>,
    /// Position in the virtual host's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_index: Option<u32>,
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<&'t str>,
    /// Weights of the split by cluster, and which was picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<(&'t str, u32)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picked: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<&'t Provenance>,
}

impl<'t> RouteDecision<'t> {
    /// Which of the weighted clusters was picked.
    pub fn split(&self) -> Option<u16> {
        match self.verdict {
            Verdict::Forward { split, .. } => split,
            _ => None,
        }
    }

    pub fn explain(&self) -> RouteExplanation<'t> {
        let (verdict, status) = match self.verdict {
            Verdict::Forward { .. } | Verdict::ForwardByHeader { .. } => ("forward", None),
            Verdict::Redirect(redirect) => ("redirect", Some(redirect.status)),
            Verdict::Respond(response) => ("respond", Some(response.status)),
            Verdict::NoVirtualHost => ("no_virtual_host", Some(404)),
            Verdict::TlsRedirect => ("tls_redirect", Some(301)),
            Verdict::NoRoute => ("no_route", Some(404)),
        };
        let (cluster, picked) = match self.verdict {
            Verdict::Forward { cluster, split, .. } => (Some(&*cluster.name), split),
            _ => (None, None),
        };
        let weights = match self.verdict {
            Verdict::Forward { forward: Forward { target: Target::Weighted(splits), .. }, .. } => {
                Some(splits.iter().map(|s| (&*s.cluster.name, s.weight)).collect())
            }
            _ => None,
        };
        RouteExplanation {
            virtual_host: self.virtual_host.map(|v| &*v.name),
            route: self.route.map(|r| &*r.name),
            route_index: self.route.map(|_| self.place.route),
            verdict,
            cluster,
            weights,
            picked,
            status,
            provenance: self.route.map(|r| &r.provenance),
        }
    }
}

impl Route {
    pub(crate) fn compile(
        message: &xds::route::Route,
        host: &HostDefaults,
        names: &mut Names,
    ) -> Compiled<Route> {
        use xds::route::route::Action as A;
        let Some(rule) = &message.r#match else { return refuse!("match is required") };
        let mut filters = RouteFilters::compile(&message.typed_per_filter_config, names)?.over(&host.filters);
        let action = match message.action.as_ref() {
            Some(A::Route(route)) => {
                if let Some(cors) = &route.cors {
                    filters = filters.with_inline_cors(Cors::compile_inline(cors).at("route.cors")?);
                }
                Action::Forward(Box::new(Forward::compile(route, host, names).at("route")?))
            }
            Some(A::Redirect(redirect)) => {
                Action::Redirect(Box::new(Redirect::compile(redirect).at("redirect")?))
            }
            Some(A::DirectResponse(response)) => {
                Action::Respond(DirectResponse::compile(response).at("direct_response")?)
            }
            None => return refuse!("an action is required"),
        };
        let limit = message
            .request_body_buffer_limit
            .or(message.per_request_buffer_limit_bytes.map(u64::from))
            .or(host.body_buffer_limit);
        Ok(Route {
            name: message.name.as_str().into(),
            rule: RouteMatch::compile(rule).at("match")?,
            action,
            request_headers: HeaderPlan::compile(
                "request",
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
            )?,
            response_headers: HeaderPlan::compile(
                "response",
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
            )?,
            filters,
            provenance: Provenance::of(message.metadata.as_ref()),
            operation: message.decorator.as_ref().map(|d| d.operation.as_str().into()),
            random_sampling: message
                .tracing
                .as_ref()
                .and_then(|t| t.random_sampling.as_ref())
                .map(proto::fraction),
            body_buffer_limit: limit,
        })
    }
}

/// What a route takes from its virtual host when it does not say itself.
pub(crate) struct HostDefaults {
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) filters: RouteFilters,
    pub(crate) body_buffer_limit: Option<u64>,
}

impl DirectResponse {
    fn compile(message: &xds::route::DirectResponseAction) -> Compiled<DirectResponse> {
        use xds::core::data_source::Specifier;
        let status = match u16::try_from(message.status) {
            Ok(status) if (200..600).contains(&status) => status,
            _ => return refuse!("{} is no status of a response", message.status).at("status"),
        };
        let body: Arc<[u8]> = match message.body.as_ref().and_then(|b| b.specifier.as_ref()) {
            None => Arc::default(),
            Some(Specifier::InlineString(text)) => text.as_bytes().into(),
            Some(Specifier::InlineBytes(bytes)) => bytes.as_slice().into(),
            Some(_) => return refuse!("only an inline body is supported").at("body"),
        };
        Ok(DirectResponse { status, body })
    }
}

impl Forward {
    fn compile(
        message: &xds::route::RouteAction,
        host: &HostDefaults,
        names: &mut Names,
    ) -> Compiled<Forward> {
        let path = match (message.prefix_rewrite.as_str(), &message.regex_rewrite) {
            ("", None) => PathRewrite::None,
            (prefix, None) => PathRewrite::Prefix(prefix.as_bytes().into()),
            ("", Some(regex)) => PathRewrite::Regex(RegexRewrite::compile(regex).at("regex_rewrite")?),
            _ => return refuse!("either prefix_rewrite or regex_rewrite"),
        };
        let rewrite = match message.host_rewrite_specifier.as_ref() {
            None | Some(HostRewriteSpecifier::AutoHostRewrite(false)) => HostRewrite::Keep,
            Some(HostRewriteSpecifier::AutoHostRewrite(true)) => HostRewrite::Auto,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                HostRewrite::Literal(host.as_str().into())
            }
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
                HostRewrite::Header(name.to_ascii_lowercase().into())
            }
        };
        let timeout = match proto::optional_duration(message.timeout.as_ref()).at("timeout")? {
            _ if message.max_stream_duration.is_some() => None,
            None => Some(Duration::from_secs(15)),
            Some(timeout) => Some(timeout).filter(|t| !t.is_zero()),
        };
        let stream = message.max_stream_duration.unwrap_or_default();
        let header_offset = proto::optional_duration(stream.grpc_timeout_header_offset.as_ref())
            .at("max_stream_duration.grpc_timeout_header_offset")?;
        let header_max = proto::optional_duration(stream.grpc_timeout_header_max.as_ref())
            .at("max_stream_duration.grpc_timeout_header_max")?;
        let grpc_max = proto::optional_duration(message.max_grpc_timeout.as_ref()).at("max_grpc_timeout")?;
        let retry = match &message.retry_policy {
            Some(policy) => Some(Arc::new(RetryPolicy::compile(policy).at("retry_policy")?)),
            None => host.retry.clone(),
        };
        Ok(Forward {
            target: Target::compile(message, names)?,
            path,
            host: rewrite,
            append_x_forwarded_host: message.append_x_forwarded_host,
            timeout,
            idle_timeout: proto::optional_duration(message.idle_timeout.as_ref()).at("idle_timeout")?,
            grpc_timeout_max: grpc_max.filter(|_| message.max_stream_duration.is_none()),
            max_stream_duration: proto::optional_duration(stream.max_stream_duration.as_ref())
                .at("max_stream_duration.max_stream_duration")?,
            grpc_timeout_header_max: header_max,
            grpc_timeout_header_offset: header_offset.unwrap_or_default(),
            retry,
            mirrors: each("request_mirror_policies", &message.request_mirror_policies, |m| {
                Mirror::compile(m, names)
            })?,
            priority: match message.priority() {
                xds::core::RoutingPriority::Default => Priority::Default,
                xds::core::RoutingPriority::High => Priority::High,
            },
            upgrades: upgrade::of_route(&message.upgrade_configs)?,
            cluster_not_found: {
                use xds::route::route_action::ClusterNotFoundResponseCode as C;
                match message.cluster_not_found_response_code() {
                    C::ServiceUnavailable => 503,
                    C::NotFound => 404,
                    C::InternalServerError => 500,
                }
            },
        })
    }

    /// How long the whole stream may last, from its head to the last byte of its response, retries and tunnels
    /// included; then 504 (408 while the request is still coming), details `max_duration_timeout`. `connection`: the
    /// connection manager's `max_stream_duration`; `grpc`: the request's `grpc-timeout`.
    pub fn stream_duration(&self, connection: Option<Duration>, grpc: Option<Duration>) -> Option<Duration> {
        match (grpc, self.grpc_timeout_header_max) {
            (Some(asked), Some(most)) => {
                let asked = if most.is_zero() { asked } else { asked.min(most) };
                Some(asked.saturating_sub(self.grpc_timeout_header_offset))
            }
            _ => self.max_stream_duration.or(connection).filter(|d| !d.is_zero()),
        }
    }

    /// The verdict of this route for a request with this dice.
    pub(crate) fn verdict(&self, random: u64) -> Verdict<'_> {
        match &self.target {
            Target::Cluster(cluster) => Verdict::Forward { cluster, split: None, forward: self },
            Target::Header(header) => Verdict::ForwardByHeader { header, forward: self },
            Target::Weighted(splits) => {
                let total = splits.last().map_or(1, |s| s.sum).max(1);
                let index = splits.partition_point(|s| s.sum <= random % total);
                let index = index.min(splits.len().saturating_sub(1));
                match splits.get(index) {
                    Some(split) => Verdict::Forward {
                        cluster: &split.cluster,
                        split: u16::try_from(index).ok(),
                        forward: self,
                    },
                    // Compiled from a list that is not empty.
                    None => Verdict::NoRoute,
                }
            }
        }
    }

    /// The entry of a weighted cluster, by the index in the verdict.
    pub fn split(&self, index: Option<u16>) -> Option<&Split> {
        match &self.target {
            Target::Weighted(splits) => splits.get(usize::from(index?)),
            _ => None,
        }
    }
}

impl Target {
    fn compile(message: &xds::route::RouteAction, names: &mut Names) -> Compiled<Target> {
        match message.cluster_specifier.as_ref() {
            Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => refuse!("is empty").at("cluster"),
            Some(ClusterSpecifier::Cluster(name)) => Ok(Target::Cluster(names.cluster(name))),
            Some(ClusterSpecifier::ClusterHeader(name)) => {
                Ok(Target::Header(name.to_ascii_lowercase().into()))
            }
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                Self::weighted(weighted, names).at("weighted_clusters")
            }
            None => refuse!("cluster, cluster_header or weighted_clusters is required"),
        }
    }

    fn weighted(message: &xds::route::WeightedCluster, names: &mut Names) -> Compiled<Target> {
        if message.random_value_specifier.is_some() {
            return refuse!("is not supported").at("header_name");
        }
        if message.clusters.len() > usize::from(u16::MAX) {
            return refuse!("more than 65 535 clusters");
        }
        let mut sum = 0u64;
        let splits = each("clusters", &message.clusters, |entry| {
            use xds::route::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral;
            let weight = entry.weight.unwrap_or(0);
            sum += u64::from(weight);
            if entry.name.is_empty() {
                return refuse!("name is required");
            }
            if !entry.typed_per_filter_config.is_empty() {
                return refuse!("is not supported").at("typed_per_filter_config");
            }
            Ok(Split {
                cluster: names.cluster(&entry.name),
                weight,
                sum,
                request_headers: HeaderPlan::compile(
                    "request",
                    &entry.request_headers_to_add,
                    &entry.request_headers_to_remove,
                )?,
                response_headers: HeaderPlan::compile(
                    "response",
                    &entry.response_headers_to_add,
                    &entry.response_headers_to_remove,
                )?,
                host: entry.host_rewrite_specifier.as_ref().map(|HostRewriteLiteral(h)| h.as_str().into()),
            })
        })?;
        // Envoy: the weights must sum to between 1 and 2^32 - 1.
        if sum == 0 || sum > u64::from(u32::MAX) {
            return refuse!("the weights sum to {sum}").at("clusters");
        }
        Ok(Target::Weighted(splits))
    }
}
