//! A world as Envoy resources under Istio's names, for one proxy.
//!
//! Outbound resources are the same for every proxy of a class ([`class_key`]); what is a proxy's own (its inbound
//! listener and clusters) is small and made apart.

mod proxy;

use xds::route::RouteConfiguration;
use xds::{cluster::Cluster, endpoint::ClusterLoadAssignment, listener::Listener, nds::NameTable};

use crate::world::{Note, World};

pub use proxy::{Options, Profile, Proxy, ProxyKind};

/// Everything one proxy is sent, in a stable order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    pub clusters: Vec<Cluster>,
    pub endpoints: Vec<ClusterLoadAssignment>,
    pub listeners: Vec<Listener>,
    pub routes: Vec<RouteConfiguration>,
    pub name_table: Option<NameTable>,
    pub notes: Vec<Note>,
}

/// Proxies with equal keys have equal [`shared`] resources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassKey(String);

/// All resources of a proxy: the shared ones and its own.
pub fn resources(world: &World, proxy: &Proxy, options: &Options) -> Resources {
    let mut all = shared(world, proxy, options);
    let own = own(world, proxy, options);
    all.clusters.extend(own.clusters);
    all.listeners.extend(own.listeners);
    all.notes.extend(own.notes);
    all
}

/// The class a proxy belongs to.
pub fn class_key(_world: &World, proxy: &Proxy, options: &Options) -> ClassKey {
    ClassKey(format!("{proxy:?} {options:?}"))
}

/// What every proxy of the class is sent; any of them may be given.
pub fn shared(_world: &World, _proxy: &Proxy, _options: &Options) -> Resources {
    Resources::default()
}

/// What is this proxy's alone: clusters and listeners of a sidecar's inbound side.
pub fn own(_world: &World, _proxy: &Proxy, _options: &Options) -> Resources {
    Resources::default()
}
