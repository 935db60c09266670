//! What a filter chain does with a connection: its network filters.
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::tcp_proxy::tcp_proxy::ClusterSpecifier;

use crate::access_log::AccessLog;
use crate::cluster::ClusterRef;
use crate::config::Names;
use crate::http_connection::HttpConnection;
use crate::proto;
use crate::refusal::{At, Compiled, each};

/// The terminal filter of a chain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAction {
    Http(Arc<HttpConnection>),
    Tcp(Arc<TcpProxy>),
    /// A chain without filters: the connection is closed (Envoy does the same).
    Close,
}

/// Filters of a chain before its terminal one. They observe, none of them decides.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NetworkFilters {
    /// Istio's `istio.metadata_exchange`: the ALPN under which peers exchange metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_exchange: Option<Arc<str>>,
    /// Istio's `istio.stats` for TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Arc<StatsConfig>>,
}

/// Configuration of Istio's metrics (`stats.PluginConfig`), as data for `telemetry`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StatsConfig {
    pub disable_host_header_fallback: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_reporting_interval: Option<Duration>,
    pub metrics: Vec<MetricOverride>,
    /// Report as a server although the listener is outbound (gateways).
    pub server_gateway: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct MetricOverride {
    /// `""` = all metrics.
    pub name: String,
    /// Label to CEL expression.
    pub dimensions: Vec<(String, String)>,
    pub tags_to_remove: Vec<String>,
    pub drop: bool,
}

#[derive(Debug, Serialize)]
pub struct TcpProxy {
    pub stat_prefix: Arc<str>,
    pub clusters: TcpClusters,
    /// No byte in either direction; `None` = never. Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// At least 1.
    pub max_connect_attempts: u32,
    pub access_logs: Vec<AccessLog>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpClusters {
    One(ClusterRef),
    /// Weight so far (this one's included) and cluster; the last one's is the total.
    Weighted(Vec<(u64, ClusterRef)>),
}

impl TcpProxy {
    /// The cluster of a new connection, and the index of its entry when weighted.
    pub fn cluster(&self, random: u64) -> (&ClusterRef, Option<u16>) {
        match &self.clusters {
            TcpClusters::One(cluster) => (cluster, None),
            TcpClusters::Weighted(entries) => {
                let total = entries.last().map_or(1, |(sum, _)| *sum).max(1);
                let picked = entries.partition_point(|(sum, _)| *sum <= random % total);
                let index = picked.min(entries.len().saturating_sub(1));
                match entries.get(index) {
                    Some((_, cluster)) => (cluster, u16::try_from(index).ok()),
                    // Compiled from a list that is not empty.
                    None => (ClusterRef::none(), None),
                }
            }
        }
    }

    fn compile(message: &xds::tcp_proxy::TcpProxy, names: &mut Names) -> Compiled<TcpProxy> {
        if message.tunneling_config.is_some() {
            return refuse!("is not supported").at("tunneling_config");
        }
        let clusters = match message.cluster_specifier.as_ref() {
            Some(ClusterSpecifier::Cluster(name)) => TcpClusters::One(names.cluster(name)),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                let mut sum = 0;
                let mut entries = Vec::new();
                for entry in weighted.clusters.iter().filter(|c| c.weight > 0) {
                    sum += u64::from(entry.weight);
                    entries.push((sum, names.cluster(&entry.name)));
                }
                if entries.is_empty() {
                    return refuse!("no cluster with a weight").at("weighted_clusters");
                }
                TcpClusters::Weighted(entries)
            }
            None => return refuse!("cluster or weighted_clusters is required"),
        };
        let idle = proto::optional_duration(message.idle_timeout.as_ref()).at("idle_timeout")?;
        Ok(TcpProxy {
            stat_prefix: message.stat_prefix.as_str().into(),
            clusters,
            idle_timeout: match idle {
                None => Some(Duration::from_secs(3600)),
                Some(idle) => Some(idle).filter(|d| !d.is_zero()),
            },
            max_connection_duration: proto::nonzero_duration(
                message.max_downstream_connection_duration.as_ref(),
            )
            .at("max_downstream_connection_duration")?,
            max_connect_attempts: message.max_connect_attempts.unwrap_or(1).max(1),
            access_logs: each("access_log", &message.access_log, AccessLog::compile)?,
        })
    }
}

impl NetworkAction {
    pub(crate) fn compile(
        filters: &[xds::listener::Filter],
        names: &mut Names,
    ) -> Compiled<(NetworkAction, NetworkFilters)> {
        let mut before = NetworkFilters::default();
        let mut action = None;
        for (i, filter) in filters.iter().enumerate() {
            if action.is_some() {
                return refuse!("comes after the terminal filter").at_index("filters", i);
            }
            action = network_filter(filter, &mut before, names).at_index("filters", i)?;
        }
        match action {
            Some(action) => Ok((action, before)),
            None if filters.is_empty() => Ok((NetworkAction::Close, before)),
            None => refuse!("no terminal filter (http_connection_manager or tcp_proxy)").at("filters"),
        }
    }
}

fn network_filter(
    filter: &xds::listener::Filter,
    before: &mut NetworkFilters,
    names: &mut Names,
) -> Compiled<Option<NetworkAction>> {
    let Some(xds::listener::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return refuse!("network filter {:?} has no typed_config", filter.name);
    };
    if let Some(message) = unpacked::<xds::hcm::HttpConnectionManager>(any)? {
        let connection = HttpConnection::compile(&message, names).at("typed_config")?;
        return Ok(Some(NetworkAction::Http(Arc::new(connection))));
    }
    if let Some(message) = unpacked::<xds::tcp_proxy::TcpProxy>(any)? {
        let tcp = TcpProxy::compile(&message, names).at("typed_config")?;
        return Ok(Some(NetworkAction::Tcp(Arc::new(tcp))));
    }
    if let Some(message) = unpacked::<xds::tcp_metadata_exchange::MetadataExchange>(any)? {
        before.metadata_exchange = Some(message.protocol.as_str().into());
        return Ok(None);
    }
    if let Some(message) = unpacked::<xds::stats::PluginConfig>(any)? {
        before.stats = Some(Arc::new(StatsConfig::compile(&message).at("typed_config")?));
        return Ok(None);
    }
    refuse!("network filter {} is not supported", any.type_url)
}

/// The message if the `Any` is of its type; an error if it is and does not decode.
pub(crate) fn unpacked<M: xds::Name + Default>(any: &xds::Any) -> Compiled<Option<M>> {
    match xds::unpack::<M>(any) {
        Ok(message) => Ok(Some(message)),
        Err(xds::UnpackError::Type { .. }) => Ok(None),
        Err(e) => refuse!("{e}"),
    }
}

impl StatsConfig {
    pub(crate) fn compile(message: &xds::stats::PluginConfig) -> Compiled<StatsConfig> {
        let metrics = each("metrics", &message.metrics, |m| {
            if !m.r#match.is_empty() {
                return refuse!("CEL conditions are not supported").at("match");
            }
            Ok(MetricOverride {
                name: m.name.clone(),
                dimensions: m.dimensions.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                tags_to_remove: m.tags_to_remove.clone(),
                drop: m.drop,
            })
        })?;
        Ok(StatsConfig {
            disable_host_header_fallback: message.disable_host_header_fallback,
            tcp_reporting_interval: proto::nonzero_duration(message.tcp_reporting_duration.as_ref())
                .at("tcp_reporting_duration")?,
            metrics,
            server_gateway: message.reporter() == xds::stats::Reporter::ServerGateway,
        })
    }
}
