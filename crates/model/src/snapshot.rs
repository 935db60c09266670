//! What workers read: everything compiled, at one moment, behind one pointer.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::cluster::{Cluster, ClusterId};
use crate::endpoints::Endpoints;
use crate::http_connection::RouteSource;
use crate::listener::Listener;
use crate::route_table::{RouteTable, RouteTableId};

/// Immutable. Parts that did not change since the previous snapshot are the same `Arc`s.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) clusters: Vec<Option<ClusterEntry>>,
    /// Those of `clusters` whose hosts' health is to be checked.
    pub(crate) checked: Vec<ClusterId>,
    pub(crate) cluster_ids: Arc<HashMap<Arc<str>, ClusterId>>,
    pub(crate) route_tables: Vec<Option<Arc<RouteTable>>>,
    pub(crate) hosts: Arc<HostNames>,
}

/// A cluster with its hosts: two pointers, for the two change at different times.
#[derive(Debug, Clone)]
pub struct ClusterEntry {
    pub cluster: Arc<Cluster>,
    /// Of EDS or of the cluster itself; names of DNS clusters stand here unresolved. Empty for original
    /// destination clusters.
    pub endpoints: Arc<Endpoints>,
}

impl Snapshot {
    /// For `simulate`: listeners and routes alone.
    pub(crate) fn of_parts(
        listeners: Vec<Arc<Listener>>,
        tables: Vec<(RouteTableId, Arc<RouteTable>)>,
    ) -> Snapshot {
        let mut route_tables = Vec::new();
        for (id, table) in tables {
            let index = id.0 as usize;
            if route_tables.len() <= index {
                route_tables.resize(index + 1, None);
            }
            if let Some(place) = route_tables.get_mut(index) {
                *place = Some(table);
            }
        }
        Snapshot { listeners: Arc::new(Listeners::new(listeners)), route_tables, ..Snapshot::default() }
    }

    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        // Asked for every accepted connection. A live configuration has them in the order of their names; `simulate`
        // may not.
        let all = &self.listeners.all;
        let sorted =
            all.binary_search_by(|listener| (*listener.name).cmp(name)).ok().and_then(|at| all.get(at));
        sorted.or_else(|| all.iter().find(|listener| *listener.name == *name))
    }

    /// In the order of their names.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.all.iter()
    }

    /// The listener that decides on a connection accepted by `accepted_by` for this original destination:
    /// itself unless it has `use_original_dst`; then the one of the exact address, of the wildcard address
    /// and the port, or itself (`virtualOutbound`).
    pub fn listener_for<'s>(
        &'s self,
        accepted_by: &'s Arc<Listener>,
        destination: SocketAddr,
    ) -> &'s Arc<Listener> {
        if !accepted_by.use_original_dst {
            return accepted_by;
        }
        self.listeners.by_address(destination).unwrap_or(accepted_by)
    }

    /// The listener of this address, or of the wildcard address and this port.
    pub fn listener_at(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners.by_address(destination)
    }

    /// `None`: no such cluster, or it still waits for its endpoints; 503, flag NC.
    pub fn cluster(&self, id: ClusterId) -> Option<&ClusterEntry> {
        self.clusters.get(id.index())?.as_ref()
    }

    /// For `cluster_header`; routes name their clusters by id.
    pub fn cluster_id(&self, name: &str) -> Option<ClusterId> {
        self.cluster_ids.get(name).copied()
    }

    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &ClusterEntry)> {
        (0u32..).zip(&self.clusters).filter_map(|(id, entry)| Some((ClusterId(id), entry.as_ref()?)))
    }

    /// The clusters whose hosts' health is to be checked: few of many, so that a worker need not look at all.
    pub fn checked_clusters(&self) -> &[ClusterId] {
        &self.checked
    }

    /// Clusters by [`ClusterId::index`].
    pub fn entries(&self) -> &[Option<ClusterEntry>] {
        &self.clusters
    }

    /// One more than the greatest cluster id: the size for per-cluster state.
    pub fn cluster_capacity(&self) -> usize {
        self.clusters.len()
    }

    pub fn route_table(&self, id: RouteTableId) -> Option<&Arc<RouteTable>> {
        self.route_tables.get(id.0 as usize)?.as_ref()
    }

    pub fn route_tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.route_tables.iter().flatten()
    }

    /// The routes of a connection. `None` cannot be met by a listener in this snapshot, unless its route
    /// configuration was removed: 404, flag NR.
    pub fn routes<'s>(&'s self, source: &'s RouteSource) -> Option<&'s Arc<RouteTable>> {
        match source {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Rds { id, .. } => self.route_table(*id),
        }
    }

    /// Addresses for the DNS proxy.
    pub fn host_names(&self) -> &Arc<HostNames> {
        &self.hosts
    }
}

#[derive(Debug, Default)]
pub(crate) struct Listeners {
    all: Vec<Arc<Listener>>,
    by_address: HashMap<SocketAddr, u32>,
}

impl Listeners {
    /// The first of two with one address has it.
    pub(crate) fn new(all: Vec<Arc<Listener>>) -> Listeners {
        let mut by_address = HashMap::new();
        for (index, listener) in (0u32..).zip(&all) {
            for address in listener.addresses() {
                by_address.entry(address).or_insert(index);
            }
        }
        Listeners { all, by_address }
    }

    fn by_address(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let wildcard = |ip: IpAddr| SocketAddr::new(ip, destination.port());
        let any_v4 = wildcard(IpAddr::from([0, 0, 0, 0]));
        let any_v6 = wildcard(IpAddr::from([0u16; 8]));
        // An IPv6 wildcard takes IPv4 too, as the kernel's does.
        let candidates = [destination, if destination.is_ipv4() { any_v4 } else { any_v6 }, any_v6];
        let index = candidates.iter().find_map(|a| self.by_address.get(a))?;
        self.all.get(*index as usize)
    }
}

/// Istio's name table: lower-case host to addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostNames {
    pub(crate) by_name: HashMap<Box<str>, Vec<IpAddr>>,
}

impl HostNames {
    /// `name`: lower case, without the last dot. A name the table does not have falls back to a wildcard of
    /// its parents (`*.example.com`).
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(found) = self.by_name.get(name) {
            return Some(found);
        }
        let parents = name.match_indices('.').filter_map(|(i, _)| name.get(i..));
        parents
            .into_iter()
            .find_map(|parent| self.by_name.get(format!("*{parent}").as_str()))
            .map(Vec::as_slice)
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
