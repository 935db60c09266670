//! Istio's `/debug/*` pages, for those who know them: `syncz`, `registryz`, `endpointz`, `configz`, `config_dump`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Spec;
use http::StatusCode;
use serde_json::{Value, json};
use xds::delta_server::{Entry, Kind};
use xds::{Any, Message, admin, endpoint};

use super::answer::{Answer, Query, failure, json as answer};
use crate::push::Shared;
use crate::push::peer::Peer;
use crate::shapes::SyncState;

pub(super) fn get(page: &str, query: &Query, shared: &Shared) -> Answer {
    match page {
        "syncz" => {
            let newest = shared.generation();
            answer(&shared.peers().iter().map(|peer| sync(peer, newest)).collect::<Vec<_>>())
        }
        "registryz" => answer(&registry(shared)),
        "endpointz" => answer(&endpoints(shared)),
        "configz" => answer(&configuration(shared)),
        "config_dump" => config_dump(query, shared),
        "" | "list" => answer(&["syncz", "registryz", "endpointz", "configz", "config_dump?proxyID="]),
        _ => failure(StatusCode::NOT_FOUND, "no such page; see /debug/list"),
    }
}

fn sync(peer: &Peer, newest: u64) -> Value {
    let status = peer.status(newest);
    let mut line = json!({
        "proxy": format!("{}.{}", status.name, status.namespace),
        "id": status.proxy,
        "proxy_type": status.kind,
        "profile": status.profile,
        "version": status.version,
    });
    if let Value::Object(fields) = &mut line {
        for kind in Kind::ALL {
            let known = status.types.iter().find(|t| t.kind == kind.short());
            let state = known.map_or(SyncState::NotSent, |t| t.state);
            fields.insert(kind.short().to_owned(), json!(state));
        }
        let last_ack = status.types.iter().filter_map(|t| t.last_ack).max();
        fields.insert("last_ack".to_owned(), json!(last_ack));
        fields.insert("refused".to_owned(), json!(status.refused));
    }
    line
}

/// Services as written, and the workloads that registered.
fn registry(shared: &Shared) -> Value {
    let published = shared.published.load();
    let objects = shared.copied(|id| matches!(id.kind.as_str(), "Service" | "ServiceEntry"));
    let services = objects.iter().filter_map(|(loaded, _)| {
        let object = &loaded.object;
        let hosts = match &object.spec {
            Spec::Service(_) => vec![format!("{}.{}.svc.cluster.local", object.name(), object.namespace())],
            Spec::ServiceEntry(entry) => entry.hosts.clone(),
            _ => return None,
        };
        Some(json!({
            "object": object.id(), "hosts": hosts, "namespace": object.namespace(),
            "source": object.source.to_string(),
        }))
    });
    json!({ "services": services.collect::<Vec<_>>(), "workloads": *published.workloads })
}

/// Of all streams together, by cluster.
fn endpoints(shared: &Shared) -> Value {
    let mut all: BTreeMap<(String, u64), Arc<Entry>> = BTreeMap::new();
    for set in shared.peers().iter().filter_map(|p| p.current()) {
        for entry in set.entries(Kind::Endpoint) {
            all.entry((entry.name.to_string(), entry.version)).or_insert_with(|| entry.clone());
        }
    }
    let shown = all.values().map(|entry| {
        let decoded = endpoint::ClusterLoadAssignment::decode(entry.body());
        let endpoints = decoded.ok().and_then(|e| xds::json::to_json(&e).ok());
        json!({ "cluster": entry.name, "version": entry.version_text(), "assignment": endpoints })
    });
    Value::Array(shown.collect())
}

fn configuration(shared: &Shared) -> Value {
    let published = shared.published.load();
    let objects: Vec<_> =
        shared.copied(|_| true).iter().map(|(loaded, since)| published.status(loaded, *since)).collect();
    json!({ "generation": published.generation, "objects": objects, "problems": *published.problems })
}

/// What one stream is to hold, as Envoy shows its own.
fn config_dump(query: &Query, shared: &Shared) -> Answer {
    let Some(wanted) = query.text("proxyID") else {
        return failure(StatusCode::BAD_REQUEST, "expected proxyID=NAME.NAMESPACE or a node id");
    };
    let peers = shared.peers();
    let is_it = |p: &&Arc<Peer>| {
        p.node.id == wanted || format!("{}.{}", p.node.name, p.node.proxy.namespace) == wanted
    };
    let Some(set) = peers.iter().rev().find(is_it).and_then(|p| p.current()) else {
        return failure(StatusCode::NOT_FOUND, &format!("no proxy {wanted} is connected; see /debug/syncz"));
    };
    let of = |kind| set.entries(kind).map(|e| (e.name.to_string(), e.version_text(), Some(e.any())));
    let clusters = admin::ClustersConfigDump {
        dynamic_active_clusters: of(Kind::Cluster)
            .map(|(_, version_info, cluster)| admin::clusters_config_dump::DynamicCluster {
                version_info,
                cluster,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let listeners = admin::ListenersConfigDump {
        dynamic_listeners: of(Kind::Listener)
            .map(|(name, version_info, listener)| admin::listeners_config_dump::DynamicListener {
                name,
                active_state: Some(admin::listeners_config_dump::DynamicListenerState {
                    version_info,
                    listener,
                    ..Default::default()
                }),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let routes = admin::RoutesConfigDump {
        dynamic_route_configs: of(Kind::Route)
            .map(|(_, version_info, route_config)| admin::routes_config_dump::DynamicRouteConfig {
                version_info,
                route_config,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let endpoints = admin::EndpointsConfigDump {
        dynamic_endpoint_configs: of(Kind::Endpoint)
            .map(|(_, version_info, endpoint_config)| admin::endpoints_config_dump::DynamicEndpointConfig {
                version_info,
                endpoint_config,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let configs: Vec<Any> =
        vec![xds::pack(&clusters), xds::pack(&endpoints), xds::pack(&listeners), xds::pack(&routes)];
    match xds::json::to_json(&admin::ConfigDump { configs }) {
        Ok(dump) => answer(&dump),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
