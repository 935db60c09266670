//! Objects applied and deleted through the Unix socket, with proxies connected.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::*;
use control::local_socket::NAME;
use serde_json::{Value, json};

fn local(plane: &Plane, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(plane.dir.path().join("state").join(NAME)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "{method} /filamesh/v1/{path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

fn documents(texts: &[String]) -> Value {
    json!({"documents": [{"name": "in.yaml", "text": texts.join("---\n")}]})
}

#[test]
fn a_batch_is_one_generation_and_reaches_the_proxies_whole() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut plane = Plane::start(&[("web.yaml", service("web"))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    proxy.held.has("CDS", &cluster_of("web"));
    let generation = || plane.get("/filamesh/v1/wait?generation=1")["generation"].as_u64().unwrap();
    assert_eq!(generation(), 1);
    let objects = || plane.get("/filamesh/v1/objects?kind=service").as_array().unwrap().clone();
    let batch: Vec<String> = (0..30).map(|n| service(&format!("s{n}"))).collect();
    let (code, applied) = local(&plane, "POST", "apply", &documents(&batch));
    assert_eq!((code, applied["revision"].as_u64()), (200, Some(1)), "{applied:#}");
    let first = applied["generation"].as_u64().unwrap();
    let live = plane.get(&format!("/filamesh/v1/wait?generation={first}"));
    assert_eq!((live["live"].as_u64(), live["of"].as_u64()), (Some(1), Some(1)));
    for n in 0..30 {
        proxy.held.has("CDS", &cluster_of(&format!("s{n}")));
    }
    assert!(objects().iter().all(|o| o["name"] == "web" || o["generation"].as_u64() == Some(first)));
    let (code, deleted) = local(&plane, "POST", "delete", &documents(&batch));
    assert_eq!((code, deleted["generation"].as_u64()), (200, Some(first + 1)), "{deleted:#}");
    proxy.held.lacks("CDS", &cluster_of("s0"));
    assert_eq!(objects().len(), 1);

    let (_, again) = local(&plane, "POST", "apply", &documents(&batch[..1]));
    assert_eq!(again["objects"][0]["verb"], "created");
    plane.restart();
    let known = plane.get("/filamesh/v1/objects?kind=service&name=s0");
    assert_eq!((known[0]["file"].as_str(), known[0]["revision"].as_u64()), (Some("applied@3"), Some(3)));
    assert_eq!(known[0]["manifest"].as_str(), Some(&*service("s0")));
}

#[test]
fn what_changes_the_mesh_goes_through_the_socket_only() {
    let plane = Plane::start(&[]);
    let (code, body) = plane.request("POST", "/filamesh/v1/apply");
    assert!(code == 403 && body.contains("Unix socket"), "{code} {body}");
    assert_eq!(
        local(&plane, "GET", "objects", &Value::Null),
        (200, json!([])),
        "the rest is answered there, too"
    );
    for (path, body, expected) in [
        ("apply", json!({"documents": [{"name": "x"}]}), 400),
        ("apply", json!(5), 400),
        ("apply", documents(&[]), 422),
        ("apply", documents(&["kind: [".to_owned()]), 422),
        ("delete", documents(&["kind: [".to_owned()]), 422),
        ("delete", json!({}), 200),
    ] {
        assert_eq!(local(&plane, "POST", path, &body).0, expected, "{path} {body}");
    }
    assert_eq!(local(&plane, "GET", "manifests?revision=1", &Value::Null).0, 404);
    assert_eq!(local(&plane, "GET", "manifests", &Value::Null).0, 400);
    assert_eq!(local(&plane, "GET", "history", &Value::Null), (200, json!([])));
}

/// What a change leaves open is told with the place in the input of the command.
#[test]
fn warnings_about_what_was_applied_name_its_lines() {
    let plane = Plane::start(&[]);
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs, namespace: default}\n\
                 spec:\n  hosts: [vs]\n  http:\n  - delegate: {name: nobody}\n";
    let unsupported = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec: {}\n";
    let (code, applied) =
        local(&plane, "POST", "apply", &documents(&[unsupported.to_owned(), route.to_owned()]));
    assert_eq!(code, 200, "{applied:#}");
    let problems: Vec<&str> =
        applied["problems"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        problems.iter().any(|p| p.starts_with("in.yaml:1:1: CronJob/default/nightly: warning: CronJob")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|p| p.starts_with("in.yaml:12:5: VirtualService/default/vs")),
        "{problems:?}"
    );
}
