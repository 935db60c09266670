//! What our own proxy would refuse of an object, found by the proxy's own code before anything is sent: one object that asks
//! for what no proxy takes must not cost the others of its port.

use std::sync::Arc;

use api::{MeshConfig, Object, Parsed, Problem, Severity, Spec};
use model::config::{Config, Resource};
use xds::Message;
use xds::route::{Route, RouteConfiguration, VirtualHost};

use crate::proxy::{Facts, Profile, Proxy, ProxyKind};

use crate::translate::{self, Context, Options};
use crate::world::{Reads, Settings, World};

/// A part of an object, and why no proxy of ours takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `spec.http[1].match[0]`.
    pub path: String,
    pub reason: String,
}

/// Takes out of what was parsed the objects that a proxy would refuse, and says why, as of any other error.
pub fn admit(parsed: &mut Parsed) {
    let Parsed { objects, problems, refused } = parsed;
    objects.retain(|object| {
        let refusals = check(object);
        problems.extend(refusals.iter().map(|refusal| problem(object, refusal)));
        if !refusals.is_empty() {
            refused.push(object.identity().clone());
        }
        refusals.is_empty()
    });
}

fn problem(object: &Object, refusal: &Refusal) -> Problem {
    let at = object.position(&refusal.path);
    Problem {
        severity: Severity::Error,
        file: object.source.file.clone(),
        line: at.line,
        column: at.column,
        object: Some(object.id()),
        path: refusal.path.clone(),
        message: format!("no proxy takes it: {}", refusal.reason),
    }
}

/// What is refused, each part once; nothing for kinds of which nothing else than what validation looks at can be refused.
pub fn check(object: &Arc<Object>) -> Vec<Refusal> {
    if !matches!(object.spec, Spec::VirtualService(_)) {
        return Vec::new();
    }
    // The rules mean the same to every proxy; who asks decides only which of them it gets.
    let world = World::empty(MeshConfig::istio_default(), Settings::default());
    let proxy = nobody(object.namespace());
    let (reads, options) = (Reads::default(), Options { profile: Profile::Mesh, ..Options::default() });
    let facts = Facts::new(&proxy, world.view(&reads));
    let context = Context::new(world.view(&reads), &facts, &options);
    let mut refusals: Vec<Refusal> = Vec::new();
    for (path, route) in translate::every_route(&context, object) {
        if let Some(reason) = refusal_of(&path, route)
            && !refusals.iter().any(|known| known.path == path)
        {
            refusals.push(Refusal { path, reason });
        }
    }
    refusals
}

fn nobody(namespace: &str) -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        ip: String::new(),
        ips: Vec::new(),
        namespace: namespace.to_owned(),
        id: String::new(),
        labels: Default::default(),
        metadata: Default::default(),
        locality: String::new(),
    }
}

/// Why a proxy refuses route tables with this route in them.
fn refusal_of(name: &str, route: Route) -> Option<String> {
    let host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    let table = RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() };
    let body = xds::Any { type_url: xds::type_url::ROUTE.to_owned(), value: table.encode_to_vec() };
    let resource = Resource { name: name.to_owned(), version: String::new(), body };
    let refused = Config::new().apply(xds::type_url::ROUTE, &[resource], &[]);
    // The place within the table says nothing to whoever wrote the object.
    refused.into_iter().next().map(|rejection| {
        let within = rejection.reason.split_once("routes[0].").map(|(_, within)| within.to_owned());
        within.unwrap_or(rejection.reason)
    })
}
