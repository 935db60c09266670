//! VirtualService rules as Envoy routes.
//!
//! | module | from |
//! |---|---|
//! | `matching` | `match` |
//! | `action` | `route`, `rewrite`, `timeout`, `mirror` |
//! | `redirect` | `redirect`, `directResponse` |
//! | `headers` | `headers` |
//! | `retry` | `retries` |
//! | `filters` | `fault`, `corsPolicy` |
//! | `hashing` | DestinationRule `consistentHash` |

mod action;
mod filters;
mod hashing;
mod headers;
mod matching;
mod redirect;
mod retry;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::{HttpDirectResponse, HttpMatchRequest};
use xds::route::route::Action;
use xds::route::route_match::PathSpecifier;
use xds::route::{Decorator, Route, RouteMatch};

use super::connection_manager::{CORS, FAULT};
use super::context::Context;
use super::values::{provenance, structure, text};
use crate::scope::Scope;
use crate::world::service::Service;
use crate::world::{HttpRule, VirtualService};

pub use action::{default_outbound, inbound};
pub use hashing::of_port as hash_of_port;

/// Under which circumstances rules are translated.
pub struct Circumstances<'a> {
    pub context: &'a Context<'a>,
    pub scope: &'a Scope,
    /// `mesh`, or the gateway's `namespace/name`.
    pub gateway: &'a str,
    /// The port rules see: the service's at a sidecar, the server's at a gateway.
    pub port: u32,
    pub is_tls: bool,
    /// Services as destinations see them.
    pub lookup: &'a dyn Fn(&str) -> Option<Arc<Service>>,
}

/// The routes a rule gives this proxy, in order. What comes after a route that matches everything can never be
/// reached and is left out (`istio-behaviour` rule 1).
pub fn routes(virtual_service: &VirtualService, at: &Circumstances<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for rule in &virtual_service.http {
        if rule.route.matches.is_empty() {
            routes.extend(route(virtual_service, rule, None, at));
            break;
        }
        let mut catches_all = false;
        for index in 0..rule.route.matches.len() {
            if let Some(made) = route(virtual_service, rule, Some(index), at) {
                catches_all = is_catch_all(&made);
                routes.push(made);
                if catches_all {
                    break;
                }
            }
        }
        if catches_all {
            break;
        }
    }
    routes
}

/// The routes of all rules, whoever they are for, each with its place in the object.
pub fn every(virtual_service: &VirtualService, at: &Circumstances<'_>) -> Vec<(String, Route)> {
    let mut routes = Vec::new();
    for rule in &virtual_service.http {
        let matches = (0..rule.route.matches.len()).map(Some);
        let none = rule.route.matches.is_empty().then_some(None);
        for index in matches.chain(none) {
            let path = index.and_then(|index| rule.match_paths.get(index)).unwrap_or(&rule.path);
            let mut route = made(virtual_service, rule, index, at);
            // What a rule with a delegate does is the delegate's to say.
            if rule.route.delegate.is_some() {
                route.action = Some(redirect::direct_response(&HttpDirectResponse {
                    status: 200,
                    ..Default::default()
                }));
            }
            routes.push((path.clone(), route));
        }
    }
    routes
}

/// Whether a route matches every request.
pub fn is_catch_all(route: &Route) -> bool {
    let Some(matched) = &route.r#match else { return true };
    let any_path = match &matched.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path
        && matched.headers.is_empty()
        && matched.query_parameters.is_empty()
        && matched.dynamic_metadata.is_empty()
}

/// Catch-alls last, all else in order: how rules of several VirtualServices come together (rule 9).
pub fn sort_catch_all_last(routes: &mut [Route]) {
    routes.sort_by_key(is_catch_all);
}

fn route(
    virtual_service: &VirtualService,
    rule: &HttpRule,
    index: Option<usize>,
    at: &Circumstances<'_>,
) -> Option<Route> {
    let matched = index.and_then(|index| rule.route.matches.get(index));
    matched.is_none_or(|matched| applies(matched, at)).then(|| made(virtual_service, rule, index, at))
}

fn made(
    virtual_service: &VirtualService,
    rule: &HttpRule,
    index: Option<usize>,
    at: &Circumstances<'_>,
) -> Route {
    let matched = index.and_then(|index| rule.route.matches.get(index));
    let path = index.and_then(|index| rule.match_paths.get(index));
    let mut name = rule.route.name.clone();
    if let Some(matched) = matched.filter(|matched| !matched.name.is_empty()) {
        name = format!("{name}.{}", matched.name);
    }
    let mut route = Route {
        name,
        r#match: Some(matching::route_match(virtual_service, matched, at.context)),
        metadata: Some(metadata(virtual_service, rule, path)),
        stat_prefix: matched.map(|matched| matched.stat_prefix.clone()).unwrap_or_default(),
        typed_per_filter_config: BTreeMap::new(),
        ..Default::default()
    };
    let operations = headers::Operations::of(rule.route.headers.as_ref());
    operations.clone().apply_to_route(&mut route);
    if let Some(redirect) = &rule.route.redirect {
        route.action = redirect::redirect(redirect, at);
    } else if let Some(response) = &rule.route.direct_response {
        route.action = Some(redirect::direct_response(response));
    } else {
        action::apply(&mut route, &rule.route, operations.authority, at);
    }
    route.decorator = Some(Decorator {
        operation: operation(&route, virtual_service.name(), at.port),
        ..Default::default()
    });
    if let Some(fault) = rule.route.fault.as_ref().and_then(filters::fault) {
        route.typed_per_filter_config.insert(FAULT.to_owned(), xds::pack(&fault));
    }
    if let Some(policy) = &rule.route.cors_policy {
        route.typed_per_filter_config.insert(CORS.to_owned(), xds::pack(&filters::cors(policy)));
    }
    route
}

/// What a rule says about the proxy and the listener is decided here, not per request (rule 2).
fn applies(matched: &HttpMatchRequest, at: &Circumstances<'_>) -> bool {
    if matched.port.is_some_and(|port| port != 0 && port != at.port) {
        return false;
    }
    // Naming gateways turns the conditions on the source off.
    if !matched.gateways.is_empty() {
        return matched.gateways.iter().any(|gateway| gateway == at.gateway);
    }
    let facts = at.context.facts;
    facts.has_labels(&matched.source_labels)
        && (matched.source_namespace.is_empty() || matched.source_namespace == facts.namespace())
}

fn metadata(
    virtual_service: &VirtualService,
    rule: &HttpRule,
    matched: Option<&String>,
) -> xds::core::Metadata {
    let path = matched.filter(|_| rule.delegate.is_none()).unwrap_or(&rule.path);
    let mut metadata = provenance(&virtual_service.object, path);
    if let Some((delegate, delegate_path)) = &rule.delegate {
        let inner = matched.unwrap_or(delegate_path);
        metadata.filter_metadata.insert(
            "filamesh".to_owned(),
            structure([
                ("rule", text(path.clone())),
                ("delegate", text(delegate.clone())),
                ("delegate_rule", text(inner.clone())),
            ]),
        );
    }
    metadata
}

/// What traces call the route.
fn operation(route: &Route, rule: &str, port: u32) -> String {
    let path = match route.r#match.as_ref().and_then(|matched| matched.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    if let Some(Action::Route(action)) = &route.action
        && let Some(xds::route::route_action::ClusterSpecifier::Cluster(cluster)) = &action.cluster_specifier
        && let [_, port, _, host] = cluster.split('|').collect::<Vec<_>>().as_slice()
    {
        return format!("{host}:{port}{path}");
    }
    format!("{rule}:{port}{path}")
}

/// Every path.
pub fn any_path() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }
}
