//! Targets for fuzzers; their corpora run as ordinary tests.

use std::sync::Arc;

use api::{MeshConfig, Options as Reading, parse_documents};

use crate::source::manifest::{Manifests, Purpose};
use crate::translate::{Options, Profile, Proxy, ProxyKind, Resources, class_key, own, resources, shared};
use crate::world::{Settings, World};

/// Whatever can be read as objects is translated for every kind of proxy, without a panic; the order it was written in
/// does not show, and the two halves are the whole.
pub fn fuzz_translate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let reading = Reading { validate: false, keep_invalid: true, ..Default::default() };
    let objects = parse_documents("fuzz", &text, &reading).objects;
    let mut reversed = objects.clone();
    reversed.reverse();
    // Two objects of one name are one object to an API server: which of them it is, the order may tell.
    let unique = {
        let mut ids: Vec<String> =
            objects.iter().map(|object| format!("{} {}", object.meta.api_version, object.id())).collect();
        ids.sort();
        ids.windows(2).all(|pair| pair.first() != pair.last())
    };
    for assign_addresses in [false, true] {
        let settings = Settings { assign_addresses, ..Default::default() };
        let mesh = MeshConfig::istio_default();
        let world = World::build(objects.clone(), Vec::new(), mesh.clone(), settings.clone());
        let again = World::build(reversed.clone(), Vec::new(), mesh, settings);
        for proxy in proxies() {
            for options in choices() {
                let made = resources(&world, &proxy, &options);
                if unique {
                    assert!(made == resources(&again, &proxy, &options), "the order of the input shows");
                }
                halves_are_the_whole(&world, &proxy, &options, &made);
            }
        }
    }
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

fn halves_are_the_whole(world: &World, proxy: &Proxy, options: &Options, whole: &Resources) {
    let mut of_class = proxy.clone();
    // Nobody asks about this label, so the class stays the same.
    of_class.labels.insert("nobody-asks-about/this".into(), "x".into());
    if class_key(world, proxy, options) == class_key(world, &of_class, options) {
        let first = shared(world, proxy, options);
        assert!(first == shared(world, &of_class, options), "one class, two answers");
        let own = own(world, proxy, options);
        assert_eq!(first.listeners.len() + own.listeners.len(), whole.listeners.len());
        assert_eq!(first.clusters.len() + own.clusters.len(), whole.clusters.len());
    }
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
    vec![choice(Profile::Istio, true), choice(Profile::Mesh, false), choice(Profile::Vanilla, true)]
}
