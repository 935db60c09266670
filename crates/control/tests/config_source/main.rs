//! Another control plane as a source (MeshConfig's `configSources`), spoken to as it really speaks. Runs where
//! `FILAMESH_MCP_PEER` names the program of the folder `peer`.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod peer;

use std::time::{Duration, Instant};

use common::*;
use peer::{Peer, RULES, mesh, rule};
use serde_json::{Value, json};

/// What an object of a config source takes to be live, at most.
const LIVE: Duration = Duration::from_secs(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits until a proxy's routes rewrite to this path.
fn rewritten(proxy: &Proxy, uri: &str) {
    proxy.held.until(&format!("a rewrite to {uri}"), |state| rewrites(state, uri).then_some(()));
}

fn rewrites(state: &State, uri: &str) -> bool {
    let routes = state.resources.get(&("RDS", "80".to_owned()));
    // As a field of a message: its length, then its text.
    let mut field = vec![u8::try_from(uri.len()).unwrap()];
    field.extend(uri.as_bytes());
    routes.is_some_and(|(_, bytes)| bytes.windows(field.len()).any(|window| window == field))
}

fn problems(plane: &Plane) -> Vec<String> {
    let problems = plane.get("/filamesh/v1/problems");
    let line = |p: &Value| {
        let text = |field: &str| p[field].as_str().unwrap_or_default();
        format!("{}: {} {}", text("file"), text("object"), text("message"))
    };
    problems.as_array().unwrap().iter().map(line).collect()
}

/// Waits until there are as many problems, and returns them.
fn until_problems(plane: &Plane, count: usize) -> Vec<String> {
    until(&format!("{count} problems"), || Some(problems(plane)).filter(|problems| problems.len() == count))
}

fn applied(plane: &Plane, uri: &str) {
    use std::io::{Read, Write};
    let text = virtual_service("web", uri);
    let body = json!({"documents": [{"name": "in.yaml", "text": text}]}).to_string();
    let socket = plane.dir.path().join("state").join(control::local_socket::NAME);
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(stream, "POST /filamesh/v1/apply HTTP/1.1\r\nhost: control\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn its_objects_are_live_within_a_second_and_so_are_changes_and_deletions() {
    let Some(mut peer) = Peer::start("objects of another control plane") else { return };
    let runtime = runtime();
    let _inside = runtime.enter();
    peer.push(&[("web", "/first")], &[]);
    let address = format!("xds://{}", peer.address);
    let plane = Plane::start(&[("web.yaml", service("web")), ("mesh.yaml", mesh(&[&address]))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    rewritten(&proxy, "/first");
    let node = "sidecar~127.0.0.1~filamesh-control.istio-system~istio-system.svc.cluster.local";
    peer.hear("who asks", |request| request["node"] == node && request["error"] == "");
    let ack = |r: &Value| r["type"] == RULES && r["nonce"] != "" && r["version"] != "" && r["error"] == "";
    peer.hear("an acknowledgement", ack);
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        let uri = format!("/change-{number}");
        let start = Instant::now();
        peer.push(&[("web", &uri)], &[]);
        rewritten(&proxy, &uri);
        slowest = slowest.max(start.elapsed());
    }
    let place = json!(format!("config source {address}, version /change-9"));
    until("the page", || {
        let object = &plane.get("/filamesh/v1/objects?kind=virtualservice&name=web")[0];
        (object["file"] == place).then_some(())
    });
    let start = Instant::now();
    peer.push(&[], &["web"]);
    proxy.held.until("the deletion", |state| (!rewrites(state, "/change-9")).then_some(()));
    slowest = slowest.max(start.elapsed());
    println!("the slowest of 10 changes and a deletion was live after {slowest:?}");
    assert!(slowest < LIVE, "{slowest:?}");
    assert_eq!(problems(&plane), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_refused_and_what_was_good_stays() {
    let Some(mut peer) = Peer::start("refusals of another control plane's objects") else { return };
    let runtime = runtime();
    let _inside = runtime.enter();
    peer.push(&[("web", "/good")], &[]);
    let address = format!("xds://{}", peer.address);
    let plane = Plane::start(&[("web.yaml", service("web")), ("mesh.yaml", mesh(&[&address]))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    rewritten(&proxy, "/good");
    // An `Any` of type `x.Y`: which objects there are cannot be told.
    peer.say(&json!({"raw": {"collection": RULES, "resources": ["0a03782e59"]}}));
    peer.say(&json!({"push": RULES}));
    let nack = peer.hear("a NACK", |request| request["type"] == RULES && request["error"] != "");
    let reason = "a resource is a \"x.Y\", expected an istio.mcp.v1alpha1.Resource";
    assert_eq!(nack["error"], reason);
    assert_ne!((&nack["nonce"], &nack["version"]), (&json!(""), &json!("")), "{nack}");
    let told = until_problems(&plane, 1);
    assert!(
        told[0].contains(reason) && told[0].starts_with(&format!("config source {address}: ")),
        "{told:?}"
    );
    assert!(proxy.held.lock(|state| rewrites(state, "/good")));
    // An object of Istio's that breaks its rules: a verdict, and the last good version.
    peer.say(&json!({"raw": {"collection": RULES, "resources": []}}));
    let mut bad = rule("web", "/bad");
    bad["spec"]["http"][0]["route"][0]["weight"] = json!(-5);
    peer.say(&json!({"put": bad}));
    peer.say(&json!({"push": RULES}));
    let verdict = format!("config source {address}, version /bad: VirtualService/default/web");
    until("the verdict", || problems(&plane).iter().any(|told| told.starts_with(&verdict)).then_some(()));
    let object = &plane.get("/filamesh/v1/objects?kind=virtualservice&name=web")[0];
    assert_eq!(object["state"], "stale", "{object}");
    assert!(proxy.held.lock(|state| rewrites(state, "/good")));
    peer.push(&[("web", "/better")], &[]);
    rewritten(&proxy, "/better");
    assert_eq!(until_problems(&plane, 0), Vec::<String>::new());
}

#[test]
fn what_was_applied_and_what_is_in_a_directory_has_precedence() {
    let Some(mut peer) = Peer::start("precedence over another control plane") else { return };
    let runtime = runtime();
    let _inside = runtime.enter();
    peer.push(&[("web", "/theirs")], &[]);
    let address = format!("xds://{}", peer.address);
    let plane = Plane::start(&[("web.yaml", service("web")), ("mesh.yaml", mesh(&[&address]))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    rewritten(&proxy, "/theirs");
    plane.put("rule.yaml", &virtual_service("web", "/directory"));
    rewritten(&proxy, "/directory");
    applied(&plane, "/applied");
    rewritten(&proxy, "/applied");
    let told = until_problems(&plane, 2);
    let theirs =
        format!("config source {address}, version /theirs: VirtualService/default/web is in conflict with");
    assert!(told.iter().any(|problem| problem.starts_with(&theirs)), "{told:?}");
    // A change of a loser changes nothing, and the loser of now takes over.
    peer.push(&[("web", "/changed")], &[]);
    until("the change", || problems(&plane).iter().any(|p| p.contains("version /changed")).then_some(()));
    assert!(proxy.held.lock(|state| rewrites(state, "/applied")));
    plane.remove("rule.yaml");
    assert_eq!(until_problems(&plane, 1).len(), 1);
    assert!(proxy.held.lock(|state| rewrites(state, "/applied")));
}

#[test]
fn a_source_that_is_lost_keeps_its_objects_over_a_restart_and_costs_the_others_nothing() {
    let test = "a lost config source";
    let (Some(mut lost), Some(mut other)) = (Peer::start(test), Peer::start(test)) else { return };
    let runtime = runtime();
    let _inside = runtime.enter();
    lost.push(&[("web", "/lost")], &[]);
    other.push(&[("db", "/other")], &[]);
    let addresses = [format!("xds://{}", lost.address), format!("xds://{}", other.address)];
    let list = mesh(&[&addresses[0], &addresses[1]]);
    let files = [("web.yaml", service("web")), ("db.yaml", service("db")), ("mesh.yaml", list)];
    let mut plane = Plane::start(&files);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    rewritten(&proxy, "/lost");
    rewritten(&proxy, "/other");
    lost.say(&json!({"close": true}));
    let told = until_problems(&plane, 1);
    assert!(told[0].starts_with(&format!("config source {}: ", addresses[0])), "{told:?}");
    assert!(told[0].ends_with("; its one object stays"), "{told:?}");
    other.push(&[("db", "/again")], &[]);
    rewritten(&proxy, "/again");
    assert!(proxy.held.lock(|state| rewrites(state, "/lost")));

    let received = || proxy.held.lock(|state| state.received);
    let before = received();
    plane.restart();
    until("the proxy in step", || {
        let live = plane.get("/filamesh/v1/wait?generation=1");
        (live["live"] == 1 && live["of"] == 1).then_some(())
    });
    assert_eq!(received(), before, "what is held was in the first configuration after the restart");
    let late = plane.connect(sidecar(plane.xds, "db", 2));
    rewritten(&late, "/lost");
    rewritten(&late, "/again");
    assert!(until_problems(&plane, 1)[0].ends_with("; its one object stays"));

    lost.push(&[("db", "/theirs")], &["web"]);
    lost.listen();
    rewritten(&late, "/theirs");
    late.held.until("the deletion", |state| (!rewrites(state, "/lost")).then_some(()));
    // The first source has precedence over the second.
    let loser = format!("config source {}, version /again: VirtualService/default/db", addresses[1]);
    let only = |told: &[String]| told.len() == 1 && told[0].starts_with(&loser);
    until("one problem", || only(&problems(&plane)).then_some(()));
}

#[test]
fn the_list_is_followed_as_it_changes() {
    let test = "a changed list of config sources";
    let (Some(mut one), Some(mut two)) = (Peer::start(test), Peer::start(test)) else { return };
    let runtime = runtime();
    let _inside = runtime.enter();
    one.push(&[("web", "/one")], &[]);
    two.push(&[("web", "/two")], &[]);
    let plane = Plane::start(&[("web.yaml", service("web"))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    proxy.held.has("RDS", "80");
    plane.put("mesh.yaml", &mesh(&[&one.address]));
    rewritten(&proxy, "/one");
    plane.put("mesh.yaml", &mesh(&[&two.address, &one.address]));
    rewritten(&proxy, "/two");
    plane.put("mesh.yaml", &mesh(&[&one.address, "k8s://"]));
    rewritten(&proxy, "/one");
    let only = |told: &[String]| told.len() == 1 && told[0].contains("\"k8s://\" is not followed");
    until("one problem", || only(&problems(&plane)).then_some(()));
    // A stream that is cut is opened again, and what changed meanwhile is there.
    one.say(&json!({"put": rule("web", "/meanwhile")}));
    one.say(&json!({"cut": true}));
    rewritten(&proxy, "/meanwhile");
    plane.remove("mesh.yaml");
    proxy.held.until("the end of the source", |state| (!rewrites(state, "/meanwhile")).then_some(()));
    assert_eq!(until_problems(&plane, 0), Vec::<String>::new());
}

/// `fs:///PATH`: watched as a directory of a flag is, with the precedence of a config source. Needs no peer.
#[test]
fn a_directory_may_be_a_config_source() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let address = |dir: &tempfile::TempDir| format!("fs://{}", dir.path().display());
    std::fs::write(one.path().join("a.yaml"), virtual_service("web", "/one")).unwrap();
    std::fs::write(two.path().join("a.yaml"), virtual_service("web", "/two")).unwrap();
    let mut plane = Plane::start(&[("web.yaml", service("web")), ("mesh.yaml", mesh(&[&address(&one)]))]);
    let proxy = plane.connect(sidecar(plane.xds, "web", 1));
    rewritten(&proxy, "/one");
    std::fs::write(one.path().join("a.yaml"), virtual_service("web", "/changed")).unwrap();
    rewritten(&proxy, "/changed");
    plane.put("mesh.yaml", &mesh(&[&address(&two), &address(&one)]));
    rewritten(&proxy, "/two");
    std::fs::write(two.path().join("a.yaml"), virtual_service("web", "/again")).unwrap();
    rewritten(&proxy, "/again");
    plane.restart();
    until("the proxy in step", || {
        let live = plane.get("/filamesh/v1/wait?generation=1");
        (live["live"] == 1 && live["of"] == 1).then_some(())
    });
    assert!(proxy.held.lock(|state| rewrites(state, "/again")));
    plane.put("mesh.yaml", &mesh(&[]));
    proxy.held.until("the end of the source", |state| (!rewrites(state, "/again")).then_some(()));
    assert_eq!(until_problems(&plane, 0), Vec::<String>::new());
}
