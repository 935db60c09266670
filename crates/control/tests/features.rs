//! What a proxy of ours does not name in its node is not sent to it, is said of the object that asks for it, and takes nothing
//! else away; to one that names it, and to any Envoy, it is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{MeshConfig, parse_documents};
use control::classes::Classes;
use control::proxy::{Profile, Proxy};
use control::translate::{Options, Resources, resources};
use control::world::{Settings, World};
use model::Config;
use model::config::Resource;
use serde_json::{Value, json};
use xds::node::{FEATURES, Feature};
use xds::{Name, type_url};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\n\
    spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}\n---\n";

struct Case {
    feature: Feature,
    /// The policy of a DestinationRule for the service.
    policy: &'static str,
    /// What only a proxy that does it is sent.
    sent: &'static str,
    note: &'static str,
}

const CASES: &[Case] = &[
    Case {
        feature: Feature::ConsistentHash,
        policy: "loadBalancer: {consistentHash: {httpHeaderName: x-user}}",
        sent: "RING_HASH",
        note: "spec.trafficPolicy.loadBalancer.consistentHash",
    },
    Case {
        feature: Feature::WarmUp,
        policy: "loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s}}",
        sent: "slowStartConfig",
        note: "spec.trafficPolicy.loadBalancer.warmup",
    },
    Case {
        feature: Feature::Tunnel,
        policy: "tunnel: {protocol: CONNECT, targetHost: out.test, targetPort: 443}",
        sent: "tunnelingConfig",
        note: "spec.trafficPolicy.tunnel",
    },
];

fn proxy(features: Option<&str>) -> Proxy {
    let metadata: BTreeMap<_, _> =
        features.map(|names| (FEATURES.to_owned(), json!(names))).into_iter().collect();
    let mut proxy: Proxy = serde_json::from_value(json!({
        "type": "sidecar", "ip": "10.0.0.5", "namespace": "default", "labels": {},
    }))
    .expect("a proxy");
    proxy.metadata = metadata;
    proxy
}

fn world(policy: &str) -> World {
    let text = format!(
        "{SERVICE}apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: shop}}\n\
         spec: {{host: shop, trafficPolicy: {{{policy}}}}}\n"
    );
    let parsed = parse_documents("test", &text, &Default::default());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    World::build(parsed.objects, Vec::new(), MeshConfig::istio_default(), Settings::default())
}

fn printed(made: &Resources) -> String {
    fn all<M: Name>(messages: &[M]) -> Vec<Value> {
        messages.iter().map(|one| xds::json::to_json(one).expect("a resource is JSON")).collect()
    }
    format!("{:?} {:?} {:?}", all(&made.clusters), all(&made.listeners), all(&made.routes))
}

/// What the proxy's own code would not take of it.
fn refused(made: &Resources) -> Vec<String> {
    fn packed<M: Name>(all: &[M], name: impl Fn(&M) -> String) -> Vec<Resource> {
        all.iter()
            .map(|one| Resource { name: name(one), version: "1".into(), body: xds::pack(one) })
            .collect()
    }
    let mut config = Config::new();
    let mut refused = config.apply(type_url::CLUSTER, &packed(&made.clusters, |one| one.name.clone()), &[]);
    refused.extend(config.apply(type_url::LISTENER, &packed(&made.listeners, |one| one.name.clone()), &[]));
    refused.extend(config.apply(type_url::ROUTE, &packed(&made.routes, |one| one.name.clone()), &[]));
    refused.iter().map(ToString::to_string).collect()
}

fn noted(world: World, proxy: Proxy, options: &Options) -> Vec<String> {
    let mut classes = Classes::new(world, options.clone());
    classes.join(1, Arc::new(proxy), options.profile);
    classes.take_notes().unwrap_or_default().into_iter().map(|note| note.path).collect()
}

#[test]
fn what_a_proxy_does_not_name_is_left_out_and_said() {
    for case in CASES {
        let feature = case.feature;
        for (profile, named, does) in [
            (Profile::Mesh, None, false),
            (Profile::Mesh, Some("warm-ups something-newer"), false),
            (Profile::Mesh, Some(feature.name()), true),
            (Profile::Istio, None, true),
            (Profile::Vanilla, None, true),
        ] {
            let options = Options { profile, ..Default::default() };
            let made = resources(&world(case.policy), &proxy(named), &options);
            let context = format!("{feature:?} for {profile:?} that names {named:?}");
            assert_eq!(printed(&made).contains(case.sent), does, "{context}");
            let notes = noted(world(case.policy), proxy(named), &options);
            assert_eq!(notes.iter().any(|path| path == case.note), !does, "{context}: {notes:?}");
            if profile == Profile::Mesh && !does {
                assert_eq!(refused(&made), Vec::<String>::new(), "{context}");
            }
        }
    }
}

/// Names are a setting of the node like any other: a list that is longer than settings may be would be lost.
#[test]
fn all_names_fit_into_a_setting() {
    let all = Feature::ALL.map(Feature::name).join(" ");
    assert!(all.len() <= 256, "{all}");
    assert_eq!(all.split(' ').collect::<std::collections::BTreeSet<_>>().len(), Feature::ALL.len());
}
