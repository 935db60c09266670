//! Who a request went to, as metrics name it.

use std::sync::Arc;

use telemetry::istio::Peer;

use crate::net::layer::Identity;
use crate::request::routed::Routed;
use crate::upstream::host::HostRef;

/// Who a series of metrics is about.
pub struct SeriesDestination {
    pub number: u64,
    pub has_service: bool,
}

/// In a number for the cache of series.
pub fn series(routed: Option<&Routed>, host: Option<&HostRef>) -> SeriesDestination {
    let cluster = routed.and_then(Routed::cluster);
    let has_service = cluster
        .and_then(|cluster| routed?.snapshot().cluster(cluster.id))
        .is_some_and(|entry| entry.cluster.service.is_some());
    let number = match (host, cluster) {
        (Some(host), _) => host.number << 1,
        (None, Some(cluster)) => (cluster.id.index() as u64) << 1 | 1,
        (None, None) => u64::MAX,
    };
    SeriesDestination { number, has_service }
}

/// The service of the cluster a request was routed to: host and name.
pub fn service(routed: Option<&Routed>) -> Option<(String, String)> {
    let routed = routed?;
    let cluster = routed.cluster()?;
    if let Some(entry) = routed.snapshot().cluster(cluster.id)
        && let Some(service) = &entry.cluster.service
    {
        return Some((service.host.to_string(), service.name.to_string()));
    }
    // Istio calls unmatched traffic by its cluster.
    match &*cluster.name {
        "PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster" => {
            Some((String::new(), cluster.name.to_string()))
        }
        _ => None,
    }
}

/// A client's labels, with whom it has proved to be.
pub(crate) fn proven(labels: Arc<Peer>, identity: Option<&Identity>) -> Arc<Peer> {
    match identity {
        None => labels,
        Some(identity) => Arc::new(Peer { principal: identity.principal().to_owned(), ..(*labels).clone() }),
    }
}
