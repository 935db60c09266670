//! A world as Envoy resources under Istio's names, for one proxy.
//!
//! Everything is made from a [`Context`]: a view of the world and the facts of a proxy, both of which note what they are asked,
//! so that `classes` knows who else gets the same and what it depends on. What the configuration asks for and does not get
//! is among the notes.
//!
//! | module | makes |
//! |---|---|
//! | `context`, `options` | what every step looks at, and how resources are to be made |
//! | `sidecar`, `gateway` | listeners and virtual hosts |
//! | `route` | VirtualService rules as routes |
//! | `cluster` | services and DestinationRules as clusters and endpoints |
//! | `chain`, `connection_manager`, `network`, `tls`, `access_log` | the pieces of listeners |
//! | `grpc` | the same for gRPC clients without a proxy |
//! | `name_table` | what the mesh's DNS answers |
//! | `names`, `values` | Istio's names, small messages |

mod access_log;
mod chain;
mod cluster;
mod connection_manager;
mod context;
mod gateway;
pub(crate) mod grpc;
mod name_table;
mod names;
mod network;
mod options;
mod route;
mod sidecar;
mod tls;
mod values;

use std::sync::Arc;

use api::Object;
use xds::route::{Route, RouteConfiguration};
use xds::{cluster::Cluster, endpoint::ClusterLoadAssignment, listener::Listener, nds::NameTable};

use crate::proxy::{Facts, Proxy, ProxyKind};
use crate::scope::Scope;
use crate::world::{Note, Reads, World, virtual_services};

pub use cluster::{Clusters, Mode, of_service as clusters_of_service};
pub use context::Context;
pub use gateway::Merged;
pub use options::Options;
pub use sidecar::outbound::Wanted;

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

/// All resources of a proxy, made at once.
pub fn resources(world: &World, proxy: &Proxy, options: &Options) -> Resources {
    let reads = Reads::default();
    let facts = Facts::new(proxy, world.view(&reads));
    let context = Context::new(world.view(&reads), &facts, options);
    let mut all = outbound(&context);
    let own = inbound(&context);
    all.clusters.extend(own.clusters);
    all.listeners.extend(own.listeners);
    all.notes = context.take_notes();
    all
}

/// What a proxy is sent for what goes out from it; of a gateway, all.
fn outbound(context: &Context<'_>) -> Resources {
    let scope = context.scope();
    let merged = (context.facts.kind() == ProxyKind::Gateway).then(|| Merged::of(context));
    let mut made = cluster::outbound(context, &scope, Mode::Default);
    made.clusters.extend(standing_clusters(context));
    if merged.as_ref().is_some_and(|merged| passes_through(context, merged)) {
        let through = cluster::outbound(context, &scope, Mode::SniPassthrough);
        made.clusters.extend(through.clusters);
        made.endpoints.extend(through.endpoints);
    }
    let (listeners, routes, name_table) = match &merged {
        None => {
            let (listeners, wanted) = listeners(context, &scope);
            let routes = routes(context, &scope, &wanted);
            (listeners, routes, name_table(context, &scope))
        }
        Some(merged) => {
            let (listeners, routes) = gateway::build(context, &scope, merged);
            (listeners, routes, None)
        }
    };
    let Clusters { clusters, endpoints } = made;
    Resources { clusters, endpoints, listeners, routes, name_table, notes: Vec::new() }
}

/// What a sidecar is sent for what comes in to it.
pub fn inbound(context: &Context<'_>) -> Resources {
    if context.facts.kind() == ProxyKind::Gateway || context.is_grpc() {
        return Resources::default();
    }
    let inbound = sidecar::inbound::Inbound::of(context);
    Resources {
        clusters: cluster::inbound::clusters(context, &inbound),
        listeners: inbound.listeners(context),
        ..Default::default()
    }
}

/// Clusters that belong to no service. A gRPC client knows only services.
pub fn standing_clusters(context: &Context<'_>) -> Vec<Cluster> {
    if context.is_grpc() {
        return Vec::new();
    }
    let mut clusters = vec![cluster::black_hole(context)];
    if context.facts.kind() == ProxyKind::Sidecar {
        clusters.push(cluster::passthrough(context));
    }
    clusters
}

/// Whether a gateway lets the mesh's own TLS through, for which it needs clusters of another kind.
pub fn passes_through(context: &Context<'_>, merged: &Merged) -> bool {
    merged.has_auto_passthrough() && context.options.identity
}

/// The listeners of a sidecar's outbound side, and the routes they ask for.
pub fn listeners(context: &Context<'_>, scope: &Scope) -> (Vec<Listener>, Vec<Wanted>) {
    if context.is_grpc() {
        // Its routes follow from the services.
        return (grpc::listeners(context, scope), Vec::new());
    }
    let entries = sidecar::outbound::Entries::of(context, scope);
    (entries.listeners(context, scope), entries.wanted())
}

/// The routes of a sidecar's outbound side, by name.
pub fn routes(context: &Context<'_>, scope: &Scope, wanted: &[Wanted]) -> Vec<RouteConfiguration> {
    if context.is_grpc() {
        grpc::routes(context, scope)
    } else {
        sidecar::outbound::routes(context, scope, wanted)
    }
}

/// What the mesh's DNS answers. A gRPC client asks no DNS for what it dials.
pub fn name_table(context: &Context<'_>, scope: &Scope) -> Option<NameTable> {
    (!context.is_grpc()).then(|| name_table::build(context, scope))
}

/// A gateway's listeners and routes.
pub fn gateway(
    context: &Context<'_>,
    scope: &Scope,
    merged: &Merged,
) -> (Vec<Listener>, Vec<RouteConfiguration>) {
    gateway::build(context, scope, merged)
}

/// The routes of all rules of a VirtualService, whoever they are for, each with its place in the object.
pub fn every_route(context: &Context<'_>, object: &Arc<Object>) -> Vec<(String, Route)> {
    let domain = &context.view.settings().domain;
    let Some(written) = virtual_services::resolve(object, domain, &[]) else { return Vec::new() };
    let scope = context.scope();
    let at = route::Circumstances {
        context,
        scope: &scope,
        gateway: virtual_services::MESH,
        port: 80,
        is_tls: false,
        lookup: &|_| None,
    };
    route::every(&written, &at)
}
