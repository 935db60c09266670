//! A world as Envoy resources under Istio's names, for one proxy.
//!
//! Outbound resources are the same for every proxy of a class ([`class_key`]); what is a proxy's own (its inbound
//! listener and clusters) is small and made apart. What the configuration asks for and does not get is among the notes.
//!
//! | module | makes |
//! |---|---|
//! | `proxy`, `context` | who asks, and what every step looks at |
//! | `sidecar`, `gateway` | listeners and virtual hosts |
//! | `route` | VirtualService rules as routes |
//! | `cluster` | services and DestinationRules as clusters and endpoints |
//! | `chain`, `connection_manager`, `network`, `tls`, `access_log` | the pieces of listeners |
//! | `live` | what our own proxy does not do yet |
//! | `name_table` | what the mesh's DNS answers |
//! | `names`, `values` | Istio's names, small messages |

mod access_log;
mod chain;
mod cluster;
mod connection_manager;
mod context;
mod gateway;
mod live;
mod name_table;
mod names;
mod network;
mod proxy;
mod route;
mod sidecar;
mod tls;
mod values;

use std::collections::BTreeSet;
use std::fmt::Write;

use xds::route::RouteConfiguration;
use xds::{cluster::Cluster, endpoint::ClusterLoadAssignment, listener::Listener, nds::NameTable};

use crate::world::{Note, World};
use context::Context;

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
    all.notes.sort();
    all.notes.dedup();
    all
}

/// What every proxy of the class is sent; any of them may be given.
pub fn shared(world: &World, proxy: &Proxy, options: &Options) -> Resources {
    let context = Context::new(world, proxy, options);
    let scope = context.scope();
    let mut made = cluster::outbound(&context, &scope, cluster::Mode::Default);
    made.clusters.push(cluster::black_hole(&context));
    let (listeners, routes, name_table) = match proxy.kind {
        ProxyKind::Sidecar => {
            made.clusters.push(cluster::passthrough(&context));
            let (listeners, routes) = sidecar::outbound::build(&context, &scope);
            (listeners, routes, Some(name_table::build(&context, &scope)))
        }
        ProxyKind::Gateway => {
            let merged = gateway::Merged::of(&context);
            if merged.has_auto_passthrough() && options.identity {
                let through = cluster::outbound(&context, &scope, cluster::Mode::SniPassthrough);
                made.clusters.extend(through.clusters);
                made.endpoints.extend(through.endpoints);
            }
            let (listeners, routes) = gateway::build(&context, &scope, &merged);
            (listeners, routes, None)
        }
    };
    Resources {
        clusters: made.clusters,
        endpoints: made.endpoints,
        listeners,
        routes,
        name_table,
        notes: context.take_notes(),
    }
}

/// What of [`shared`] differs when the world has moved to this one in nothing but where these hosts are served: replaces
/// resources of the same names. `None` if that cannot be said.
pub fn shared_of_hosts(
    world: &World,
    proxy: &Proxy,
    options: &Options,
    hosts: &BTreeSet<String>,
) -> Option<Resources> {
    let context = Context::new(world, proxy, options);
    // Clusters for passing TLS through leave out who takes none, and may vanish.
    let passes = proxy.kind == ProxyKind::Gateway && options.identity;
    if passes && gateway::Merged::of(&context).has_auto_passthrough() {
        return None;
    }
    let wanted = |host: &str| hosts.contains(host);
    let made = cluster::outbound_of(&context, &context.scope(), cluster::Mode::Default, wanted);
    let (clusters, endpoints) = (made.clusters, made.endpoints);
    Some(Resources { clusters, endpoints, notes: context.take_notes(), ..Default::default() })
}

/// What is this proxy's alone: clusters and listeners of a sidecar's inbound side.
pub fn own(world: &World, proxy: &Proxy, options: &Options) -> Resources {
    if proxy.kind == ProxyKind::Gateway {
        return Resources::default();
    }
    let context = Context::new(world, proxy, options);
    let inbound = sidecar::inbound::Inbound::of(&context);
    Resources {
        clusters: cluster::inbound::clusters(&context, &inbound),
        listeners: inbound.listeners(&context),
        notes: context.take_notes(),
        ..Default::default()
    }
}

/// The class a proxy belongs to: everything [`shared`] looks at.
pub fn class_key(world: &World, proxy: &Proxy, options: &Options) -> ClassKey {
    let context = Context::new(world, proxy, options);
    let mut key = format!("{:?} {} {:?}", proxy.kind, proxy.namespace, options);
    let mut say = |what: &str, value: &dyn std::fmt::Debug| {
        // Writing to a text cannot fail.
        let _ = write!(key, " {what}={value:?}");
    };
    // Labels nobody asks about do not matter.
    let asked: Vec<_> =
        context.labels.iter().filter(|(label, _)| world.selecting_labels.contains(*label)).collect();
    say("labels", &asked);
    say("locality", &proxy.locality);
    const SHAPING: [&str; 8] = [
        "CLUSTER_ID",
        "DNS_CAPTURE",
        "DNS_AUTO_ALLOCATE",
        "HTTP10",
        "HTTP_PROXY_PORT",
        "IDLE_TIMEOUT",
        "INTERCEPTION_MODE",
        xds::node::HOP,
    ];
    let metadata: Vec<_> =
        SHAPING.iter().filter_map(|name| Some((name, proxy.metadata.get(*name)?))).collect();
    say("metadata", &metadata);
    say("v6", &context.is_ipv6());
    // Whoever stands behind a headless service has no listener for itself.
    if world.services.is_headless_endpoint(proxy.address()) {
        say("address", &proxy.address());
    }
    if proxy.kind == ProxyKind::Gateway {
        let ports: Vec<_> = sidecar::inbound::targets(&context)
            .iter()
            .map(|target| (target.service.host.clone(), target.port.number, target.target_port))
            .collect();
        say("ports", &ports);
    }
    ClassKey(key)
}
