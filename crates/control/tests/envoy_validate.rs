//! What an ordinary Envoy says about the vanilla profile: `envoy --mode validate` over whole translations.
//!
//! Envoy is found in `$ENVOY` or on the path; without one, one loud line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::{MeshConfig, parse_documents};
use control::proxy::{Profile, Proxy};
use control::translate::{Options, Resources, resources};
use control::world::{Settings, World};
use serde_json::{Value, json};

/// One of everything that ends up in a field of its own.
const EVERYTHING: &str = include_str!("data/everything.yaml");

#[test]
fn envoy_accepts_the_vanilla_profile() {
    let Some(envoy) = envoy() else {
        eprintln!("SKIPPED: envoy --mode validate (no envoy; set ENVOY)");
        return;
    };
    let mesh =
        r#"{"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "h2UpgradePolicy": "UPGRADE"}"#;
    let mesh = api::parse_mesh_config("mesh", mesh, &Default::default()).0;
    for proxy in [
        r#"{"type": "sidecar", "ip": "10.0.0.5", "namespace": "default", "labels": {"app": "web"}, "locality": "r1/z1/s1"}"#,
        r#"{"type": "sidecar", "ip": "10.0.0.6", "namespace": "prod", "labels": {"app": "strict"}}"#,
        r#"{"type": "gateway", "ip": "10.0.9.1", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}}"#,
    ] {
        for identity in [false, true] {
            let refused = validate(&envoy, EVERYTHING, &mesh, proxy, identity);
            assert_eq!(refused, None, "{proxy} identity {identity}");
        }
    }
}

/// The message of a refusal.
fn validate(envoy: &Path, text: &str, mesh: &MeshConfig, proxy: &str, identity: bool) -> Option<String> {
    let parsed = parse_documents("everything", text, &Default::default());
    assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
    let world = World::build(parsed.objects, Vec::new(), mesh.clone(), Settings::default());
    let proxy: Proxy = serde_json::from_str(proxy).expect("a proxy");
    let made =
        resources(&world, &proxy, &Options { profile: Profile::Vanilla, identity, env: BTreeMap::new() });
    assert!(made.listeners.len() > 2 && made.clusters.len() > 5, "there is something to validate");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bootstrap.json");
    let secrets = folder.path().join("secrets.json");
    std::fs::write(&secrets, r#"{"resources": []}"#).expect("the file is written");
    let bootstrap = bootstrap(&made, &secrets.to_string_lossy());
    std::fs::write(&file, bootstrap.to_string()).expect("the file is written");
    let run = Command::new(envoy)
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&file)
        .output()
        .expect("envoy runs");
    (!run.status.success()).then(|| String::from_utf8_lossy(&run.stderr).into_owned())
}

/// Everything static, but for what is fetched over the stream that the bootstrap names.
fn bootstrap(made: &Resources, secrets: &str) -> Value {
    let json = |value: Result<Value, xds::json::JsonError>| value.expect("a resource is JSON");
    let routes: BTreeMap<String, Value> =
        made.routes.iter().map(|one| (one.name.clone(), json(xds::json::to_json(one)))).collect();
    let mut listeners: Vec<Value> = made.listeners.iter().map(|one| json(xds::json::to_json(one))).collect();
    listeners.iter_mut().for_each(|listener| make_static(listener, &routes, secrets));
    let mut clusters: Vec<Value> = made.clusters.iter().map(|one| json(xds::json::to_json(one))).collect();
    clusters.iter_mut().for_each(|cluster| make_static(cluster, &routes, secrets));
    clusters.push(json!({
        "name": "xds", "type": "STATIC", "connectTimeout": "1s",
        "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicitHttpConfig": {"http2ProtocolOptions": {}}}},
        "loadAssignment": {"clusterName": "xds", "endpoints": [{"lbEndpoints": [{"endpoint": {"address":
            {"socketAddress": {"address": "127.0.0.1", "portValue": 15010}}}}]}]}
    }));
    json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamicResources": {"adsConfig": {"apiType": "GRPC", "transportApiVersion": "V3",
            "grpcServices": [{"envoyGrpc": {"clusterName": "xds"}}]}},
        "staticResources": {"listeners": listeners, "clusters": clusters}
    })
}

fn make_static(value: &mut Value, routes: &BTreeMap<String, Value>, secrets: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| make_static(item, routes, secrets)),
        Value::Object(map) => {
            let name = map.get("rds").and_then(|rds| rds["routeConfigName"].as_str()).map(str::to_owned);
            if let Some(name) = name {
                map.remove("rds");
                let routes = routes.get(&name).unwrap_or_else(|| panic!("no routes {name}"));
                map.insert("routeConfig".into(), routes.clone());
            }
            // Envoy 1.40 crashes when a static cluster fetches certificates over a stream that is not up: from a file then.
            if let Some(source) = map.get_mut("sdsConfig") {
                *source = json!({"resourceApiVersion": "V3", "pathConfigSource": {"path": secrets}});
            }
            map.values_mut().for_each(|item| make_static(item, routes, secrets));
        }
        _ => {}
    }
}

fn envoy() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|candidate| candidate.is_file())
}
