//! Istio's semantics, rule by rule, as seen in the resources. Numbers are those of the reference's list of rules people
//! get wrong (`istio-behaviour` §2), proven there by Istio's sources and tests.

mod clusters;
mod grpc;
mod routes;
mod visibility;

use api::{MeshConfig, parse_documents};
use control::proxy::{Profile, Proxy};
use control::translate::{Options, Resources, resources};
use control::world::{Settings, World};
use serde_json::Value;

/// The client most tests look through.
const CLIENT: &str = r#"{"type": "sidecar", "ip": "10.0.0.5", "namespace": "default",
    "labels": {"app": "client"}, "locality": "r1/z1/s1"}"#;

fn world(text: &str) -> World {
    let parsed = parse_documents("test", text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    World::build(parsed.objects, Vec::new(), MeshConfig::istio_default(), Settings::default())
}

fn made_for(text: &str, proxy: &str) -> Resources {
    let proxy: Proxy = serde_json::from_str(proxy).expect("a proxy");
    let options = Options { profile: Profile::Istio, identity: true, ..Default::default() };
    resources(&world(text), &proxy, &options)
}

fn made(text: &str) -> Resources {
    made_for(text, CLIENT)
}

fn json<M: xds::Name>(message: &M) -> Value {
    xds::json::to_json(message).expect("a resource is JSON")
}

fn cluster(made: &Resources, name: &str) -> Value {
    json(made.clusters.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no cluster {name}")))
}

fn endpoints(made: &Resources, name: &str) -> Value {
    let found = made.endpoints.iter().find(|one| one.cluster_name == name);
    json(found.unwrap_or_else(|| panic!("no endpoints {name}")))
}

fn routes(made: &Resources, name: &str) -> Value {
    json(made.routes.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no routes {name}")))
}

/// The virtual host of a name.
fn host(made: &Resources, routes_name: &str, name: &str) -> Value {
    let routes = routes(made, routes_name);
    let hosts = routes["virtualHosts"].as_array().expect("virtual hosts");
    let found = hosts.iter().find(|host| host["name"] == name);
    found.unwrap_or_else(|| panic!("no virtual host {name} in {routes}")).clone()
}

/// A Service with one HTTP port 80, selecting its own name, at an address of its own.
fn service(name: &str, namespace: &str) -> String {
    let last = name.bytes().chain(namespace.bytes()).map(u32::from).sum::<u32>() % 250 + 1;
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: 10.1.0.{last}, selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n---\n"
    )
}

/// A running Pod of the service, with a proxy.
fn pod(name: &str, address: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: '{name}-{address}', labels: {{app: {name}, \
         security.istio.io/tlsMode: istio, {labels}}}}}\nspec: {{serviceAccountName: sa-{name}, containers: []}}\n\
         status: {{phase: Running, podIP: {address}}}\n---\n"
    )
}
