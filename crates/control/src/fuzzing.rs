//! Targets for fuzzers; their corpora run as ordinary tests.

use std::sync::Arc;
use std::time::Instant;

use api::{MeshConfig, Object, Options as Reading, parse_documents};

use xds::Message;
use xds::discovery::DiscoveryResponse;

use crate::classes::Classes;
use crate::proxy::{Profile, Proxy, ProxyKind};
use crate::source::SourceId;
use crate::source::config_source::Collections;
use crate::source::manifest::{Manifests, Purpose};
use crate::store::ObjectStore;
use crate::translate::{Options, resources};
use crate::world::{Delta, Settings, World};

/// Whatever can be read as objects is translated for every kind of proxy, without a panic; the order it was written in
/// does not show, nor whether it came at once or one after the other.
pub fn fuzz_translate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let reading = Reading { validate: false, keep_invalid: true, ..Default::default() };
    let mut objects = parse_documents("fuzz", &text, &reading).objects;
    // Two objects of one name are one object to an API server: the last one.
    let mut seen = std::collections::HashSet::new();
    objects.reverse();
    objects.retain(|object| seen.insert(object.identity().clone()));
    let mut reversed = objects.clone();
    reversed.reverse();
    for assign_addresses in [false, true] {
        let settings = Settings { assign_addresses, ..Default::default() };
        let mesh = MeshConfig::istio_default();
        let world = World::build(objects.clone(), Vec::new(), mesh.clone(), settings.clone());
        let again = World::build(reversed.clone(), Vec::new(), mesh, settings.clone());
        for proxy in proxies() {
            for options in choices() {
                let made = resources(&world, &proxy, &options);
                assert!(made == resources(&again, &proxy, &options), "the order of the input shows");
            }
        }
        for options in choices() {
            one_by_one_is_at_once(&objects, &settings, &options);
        }
    }
}

fn one_by_one_is_at_once(objects: &[Arc<Object>], settings: &Settings, options: &Options) {
    let classes = |objects: &[Arc<Object>]| {
        let world = World::build(objects.to_vec(), Vec::new(), MeshConfig::istio_default(), settings.clone());
        let mut classes = Classes::new(world, options.clone());
        for (id, proxy) in (1..).zip(proxies()) {
            classes.join(id, Arc::new(proxy), options.profile);
        }
        classes
    };
    let delta = |objects: &[Arc<Object>], come: bool| Delta {
        objects: objects.iter().map(|o| (o.identity().clone(), come.then(|| o.clone()))).collect(),
        ..Delta::default()
    };
    let (first, second) = objects.split_at(objects.len() / 2);
    let mut changed = classes(first);
    changed.change(delta(second, true));
    changed.assert_same(&classes(objects));
    changed.change(delta(first, false));
    changed.assert_same(&classes(second));
}

/// Whatever can be applied is stored as text that reads back as the same object, alone and among others; giving a
/// namespace puts every object that names none there.
pub fn fuzz_manifests(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for namespace in [None, Some("prod")] {
        let mut manifests = Manifests::default();
        manifests.read("fuzz.yaml", &text, namespace, Purpose::Apply);
        for problem in &manifests.problems {
            assert!(problem.line > 0, "{problem}");
        }
        let mut all = Vec::new();
        for manifest in &manifests.items {
            let object = &manifest.object;
            assert!(manifest.place.line > 0 && manifest.text.ends_with('\n'));
            let alone = parse_documents("stored", &manifest.text, &Reading::default()).objects;
            assert_eq!(alone.len(), 1, "{:?}", manifest.text);
            let same = |other: &api::Object| {
                other.identity() == object.identity() && other.content_hash() == object.content_hash()
            };
            assert!(alone.iter().all(|read| same(read)), "{:?}", manifest.text);
            if let (Some(namespace), false) = (namespace, object.namespace().is_empty()) {
                assert_eq!(object.namespace(), namespace);
            }
            all.push(manifest.text.as_str());
        }
        let together = parse_documents("all", &all.join("---\n"), &Reading::default()).objects;
        let ids = |objects: &[Arc<api::Object>]| -> Vec<_> {
            objects.iter().map(|object| (object.identity().clone(), object.content_hash())).collect()
        };
        let given: Vec<Arc<api::Object>> = manifests.items.iter().map(|m| m.object.clone()).collect();
        assert_eq!(ids(&together), ids(&given));
    }
}

/// Whatever a config source sends, in one response after the other: an object has one winner or none, what is kept of it makes
/// the same again, and every problem is one line.
pub fn fuzz_config_source(data: &[u8]) {
    let id = SourceId::ConfigSource(0);
    let responses = |mut data: &[u8]| -> Vec<DiscoveryResponse> {
        let next = |_| DiscoveryResponse::decode_length_delimited(&mut data).ok();
        std::iter::repeat(()).map_while(next).take(100).collect()
    };
    let mut collections = Collections::new(id, "xds://fuzz:1".into());
    let mut store = ObjectStore::default();
    for response in responses(data) {
        let asked = mcp::Collection::of(&response.type_url).is_some();
        let taken = collections.take(response, Instant::now());
        assert!(asked || taken.answer.is_err());
        store.apply(taken.update, 1);
        assert_eq!(store.len(), collections.len());
        for problem in store.problems() {
            assert!(!problem.to_string().contains('\n'), "{problem:?}");
        }
    }
    let mut again = Collections::new(id, "xds://fuzz:1".into());
    let mut stored = ObjectStore::default();
    for (type_url, resources) in collections.last_good() {
        let resources = resources.iter().map(|any| any.as_ref().clone()).collect();
        let response = DiscoveryResponse { type_url: type_url.to_owned(), resources, ..Default::default() };
        let taken = again.take(response, Instant::now());
        assert_eq!(taken.answer, Ok(()));
        stored.apply(taken.update, 1);
    }
    let content = |store: &ObjectStore| -> Vec<_> {
        store.iter().map(|h| (h.loaded.object.identity().clone(), h.loaded.object.content_hash())).collect()
    };
    assert_eq!(content(&store), content(&stored));
}

fn proxies() -> Vec<Proxy> {
    let proxy = |kind, ip: &str, namespace: &str, app: &str| Proxy {
        kind,
        ip: ip.to_owned(),
        ips: Vec::new(),
        namespace: namespace.to_owned(),
        id: String::new(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        metadata: Default::default(),
        locality: "r1/z1/s1".into(),
    };
    vec![
        proxy(ProxyKind::Sidecar, "10.0.0.5", "default", "client"),
        proxy(ProxyKind::Sidecar, "fd00::5", "prod", "web"),
        proxy(ProxyKind::Gateway, "10.0.9.1", "istio-system", "gateway"),
    ]
}

fn choices() -> Vec<Options> {
    let choice = |profile, identity| Options { profile, identity, env: Default::default() };
    vec![
        choice(Profile::Istio, true),
        choice(Profile::Mesh, false),
        choice(Profile::Vanilla, true),
        choice(Profile::Grpc, false),
    ]
}
