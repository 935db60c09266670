//! Resources as shared bytes: what says the same is encoded into the same entry, across classes and over time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use xds::delta_server::{Entry, Kind};
use xds::{Message, cluster};
use xxhash_rust::xxh3::xxh3_64;

use crate::translate::{Clusters, Resources};

/// The name of the one name table.
const NAME_TABLE: &str = "names";

/// Finds the entry that says the same already. Holds none alive by itself.
#[derive(Debug, Default)]
pub(super) struct Interner {
    known: HashMap<(Kind, u64), Weak<Entry>>,
    /// Entries after the last sweep.
    swept: usize,
    buffer: Vec<u8>,
}

/// Entries by the kind of their resources.
pub(super) type Entries = [Vec<Arc<Entry>>; Kind::COUNT];

impl Interner {
    pub fn clusters(&mut self, made: &Clusters) -> Entries {
        let mut entries = Entries::default();
        let clusters = made.clusters.iter();
        entries[Kind::Cluster.index()] =
            clusters.map(|c| self.entry(Kind::Cluster, &c.name, endpoints_of(c), c)).collect();
        let endpoints = made.endpoints.iter();
        entries[Kind::Endpoint.index()] =
            endpoints.map(|e| self.entry(Kind::Endpoint, &e.cluster_name, None, e)).collect();
        entries
    }

    pub fn resources(&mut self, made: &Resources) -> Entries {
        let clusters = made.clusters.iter();
        let clusters = clusters.map(|c| self.entry(Kind::Cluster, &c.name, endpoints_of(c), c)).collect();
        let endpoints = made.endpoints.iter();
        let endpoints = endpoints.map(|e| self.entry(Kind::Endpoint, &e.cluster_name, None, e)).collect();
        let listeners = made.listeners.iter();
        let listeners = listeners.map(|l| self.entry(Kind::Listener, &l.name, None, l)).collect();
        let routes = made.routes.iter();
        let routes = routes.map(|r| self.entry(Kind::Route, &r.name, None, r)).collect();
        let names = made.name_table.iter();
        let names = names.map(|n| self.entry(Kind::NameTable, NAME_TABLE, None, n)).collect();
        [clusters, endpoints, listeners, routes, names]
    }

    fn entry<M: Message>(
        &mut self,
        kind: Kind,
        name: &str,
        endpoints: Option<&str>,
        message: &M,
    ) -> Arc<Entry> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // Writing to a Vec cannot run out of room.
        let _ = message.encode(&mut buffer);
        let version = xxh3_64(&buffer);
        let known = self.known.get(&(kind, version)).and_then(Weak::upgrade);
        let entry = known.filter(|known| known.name.as_ref() == name).unwrap_or_else(|| {
            let entry = Arc::new(Entry::new(kind, name, endpoints, &buffer));
            self.known.insert((kind, version), Arc::downgrade(&entry));
            entry
        });
        self.buffer = buffer;
        entry
    }

    /// Forgets entries nobody holds, when there may be as many of them as of others.
    pub fn sweep(&mut self) {
        if self.known.len() > 2 * self.swept + 1024 {
            self.known.retain(|_, entry| entry.strong_count() > 0);
            self.swept = self.known.len();
        }
    }
}

/// The name under which an EDS cluster asks for its endpoints.
fn endpoints_of(cluster: &cluster::Cluster) -> Option<&str> {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let Some(ClusterDiscoveryType::Type(kind)) = cluster.cluster_discovery_type else { return None };
    if kind != DiscoveryType::Eds as i32 {
        return None;
    }
    let service = cluster.eds_cluster_config.as_ref().map(|c| c.service_name.as_str());
    service.filter(|name| !name.is_empty()).or(Some(&cluster.name))
}
