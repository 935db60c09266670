//! What of a cluster its hosts, their connections and its requests hold: settings and counts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use model::{Cluster, ClusterId};
use telemetry::Shard;
use telemetry::envoy::{ClusterCodes, ClusterStats};

use crate::upstream::breaker::Counts;
use crate::upstream::health::ClusterHealth;

/// What of a cluster all that is counted in it holds: its connections and requests may outlive its hosts, and the
/// cluster itself.
pub struct ClusterCore {
    pub id: ClusterId,
    pub name: Arc<str>,
    /// Shared within the worker alone ([`Rc`]): every request takes a reference.
    pub config: RefCell<Rc<ClusterConfig>>,
    pub stats: ClusterStats,
    pub codes: ClusterCodes,
    pub shard: Rc<Shard>,
    pub counts: Arc<Counts>,
    /// Requests in flight from this worker, for retry budgets.
    pub active: Cell<u32>,
    pub health: Arc<ClusterHealth>,
}

/// A cluster's settings.
pub struct ClusterConfig {
    pub(super) cluster: Arc<Cluster>,
    /// Those of its HTTP/2 connections, as the codec has them.
    pub h2: Arc<wire::h2::Config>,
}

impl ClusterConfig {
    pub fn new(cluster: Arc<Cluster>, limits: &wire::h1::Limits) -> Rc<ClusterConfig> {
        let h2 = Arc::new(crate::http2::codec_config(&cluster.http2, limits));
        Rc::new(ClusterConfig { cluster, h2 })
    }

    /// Whether it is noted how its hosts fare.
    pub fn watches(&self) -> bool {
        self.outlier.is_some() || self.health_check.is_some()
    }
}

impl std::ops::Deref for ClusterConfig {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}
