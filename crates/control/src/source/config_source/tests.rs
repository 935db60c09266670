use std::time::Instant;

use mcp::testing::pack;
use serde_json::{Value, json};
use xds::Any;
use xds::discovery::DiscoveryResponse;

use super::collections::{Collections, Taken};
use super::*;
use crate::store::ObjectStore;

mod collections;
mod following;
mod round_trip;

const RULES: &str = "networking.istio.io/v1/VirtualService";
const OLD_RULES: &str = "networking.istio.io/v1alpha3/VirtualService";

fn rule(api_version: &str, name: &str, version: &str, host: &str) -> Value {
    json!({
        "apiVersion": format!("networking.istio.io/{api_version}"),
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": version},
        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]},
    })
}

/// The bytes of a resource with a body that is not a message.
fn garbled(name: &str) -> Any {
    let mut resource = mcp::Resource::open(&pack(&rule("v1", name, "9", "a")).unwrap()).unwrap().1;
    resource.body.as_mut().unwrap().value = vec![0x0a, 0xff];
    Any { value: xds::Message::encode_to_vec(&resource), ..pack(&rule("v1", name, "9", "a")).unwrap() }
}

fn response(type_url: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse { type_url: type_url.into(), resources, ..Default::default() }
}

/// A server's collections and the store they are told to.
struct Told {
    collections: Collections,
    store: ObjectStore,
}

impl Told {
    fn new() -> Self {
        let collections = Collections::new(SourceId::ConfigSource(0), "xds://other:15010".into());
        Self { collections, store: ObjectStore::default() }
    }

    fn take(&mut self, type_url: &str, resources: Vec<Any>) -> (Result<(), String>, bool) {
        let Taken { update, answer, changed } =
            self.collections.take(response(type_url, resources), Instant::now());
        self.store.apply(update, 1);
        (answer, changed)
    }

    /// The same where the answer does not matter.
    fn hears(&mut self, type_url: &str, resources: Vec<Any>) {
        let _ = self.take(type_url, resources);
    }

    /// Each object with its host, the version it is said to be of, and whether it is a last good one.
    fn live(&self) -> Vec<String> {
        let live = self.store.iter().map(|held| {
            let api::Spec::VirtualService(spec) = &held.loaded.object.spec else { panic!() };
            let stale = if held.loaded.stale { " stale" } else { "" };
            let place = held.loaded.place().to_string();
            let place = place.strip_prefix("config source xds://other:15010, version ").unwrap();
            format!("{} {} {place}{stale}", held.loaded.object.name(), spec.hosts[0])
        });
        live.collect()
    }

    fn problems(&self) -> Vec<String> {
        self.store.problems().iter().map(ToString::to_string).collect()
    }
}
