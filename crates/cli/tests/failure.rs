//! A mesh must never be the thing that breaks.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::time::{Duration, Instant};

use common::client::{Load, get};
use common::{Running, networking, start_time, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn mesh_file(mesh: &Running) -> Value {
    serde_json::from_str(&std::fs::read_to_string(mesh.state_dir().join("mesh.json")).unwrap()).unwrap()
}

fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .filter(|l| l.starts_with(name) && !l.starts_with('#'))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// 500 requests a second for 30 s while the control plane is killed: none fails; when it is back, all proxies
/// are synced in under 2 s and are sent nothing they hold.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn the_control_plane_may_be_killed_under_load() {
    let mesh = Running::start(&["demo", "--no-load"]);
    let page = mesh.text("/page").to_owned();
    let control = mesh.ready["control"]["pid"].as_i64().unwrap();
    let http = mesh.text("/control/http").to_owned();
    let load = Load::start(&page, 500.0);
    let began = Instant::now();
    until("the load flows", Duration::from_secs(10), || load.sent() > 1000);

    kill(Pid::from_raw(i32::try_from(control).unwrap()), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    until("the control plane is back", Duration::from_secs(10), || {
        mesh_file(&mesh)["control"]["pid"].as_i64().is_some_and(|p| p != control)
    });
    let back = Instant::now();
    println!("back {:?} after the kill", back - killed);
    let synced = || {
        let Ok(text) = mesh.command(&["proxy-status", "-o", "json"]).output() else { return false };
        let Ok(status) = serde_json::from_slice::<Value>(&text.stdout) else { return false };
        let proxies = status["items"].as_array().cloned().unwrap_or_default();
        proxies.len() == 7
            && proxies.iter().all(|p| {
                p["types"].as_array().unwrap().iter().all(|t| t["state"] != "STALE")
                    && p["refused"] == serde_json::json!([])
            })
    };
    until("all proxies are synced", Duration::from_secs(2), synced);
    println!("all synced {:?} after it was back", back.elapsed());
    let metrics = get(&format!("{http}/metrics"), &[]).1;
    let resent = metric(&metrics, "filamesh_xds_pushed_resources");
    assert!(metrics.contains("filamesh_xds_pushed_resources"), "the figure is counted: {metrics}");
    assert_eq!(resent, 0.0, "nothing is sent that the proxies hold");

    until("30 s are over", Duration::from_secs(40), || began.elapsed() > Duration::from_secs(30));
    let (sent, failures) = load.end();
    println!("{sent} requests, {} failed", failures.len());
    assert!(sent > 14_000, "{sent}");
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
}

/// While no control plane answers, a proxy that is started serves what it last held.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_proxy_started_without_a_control_plane_serves_from_disk() {
    let mesh = Running::start(&["demo", "--no-load"]);
    let page = mesh.text("/page").to_owned();
    mesh.filamesh(&["apply", "-f", networking("virtual-service-all-v1.yaml").to_str().unwrap()]);
    // A proxy writes what it holds behind the request path, half a second apart at the most often.
    let kept = mesh.state_dir().join("proxies/reviews-v1/last-good.xds");
    let written = || std::fs::metadata(&kept).and_then(|m| m.modified()).ok();
    until("the configuration is on disk", Duration::from_secs(10), || {
        written().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > Duration::from_millis(1200))
    });
    let supervisor = Pid::from_raw(i32::try_from(mesh.child.id()).unwrap());
    let control = Pid::from_raw(i32::try_from(mesh.ready["control"]["pid"].as_i64().unwrap()).unwrap());
    // Hangs: it holds its port and answers nothing.
    kill(control, Signal::SIGSTOP).unwrap();
    let workload =
        mesh.ready["workloads"].as_array().unwrap().iter().find(|w| w["name"] == "reviews-v1").unwrap();
    let proxy = i32::try_from(workload["proxy_pid"].as_i64().unwrap()).unwrap();
    assert_eq!(get(&page, &[]).0, 200, "traffic goes on while the control plane hangs");
    kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
    until("the sidecar is back with another pid", Duration::from_secs(10), || {
        let file = mesh_file(&mesh);
        let again = file["workloads"].as_array().unwrap().iter().find(|w| w["name"] == "reviews-v1").cloned();
        again.is_some_and(|w| w["proxy_pid"].as_i64() != Some(i64::from(proxy)))
    });
    until("its service answers again", Duration::from_secs(5), || get(&page, &[]).1.contains("reviews-v1"));
    kill(control, Signal::SIGCONT).unwrap();
    assert!(start_time(supervisor.as_raw()).is_some());
}

/// One broken object, one unknown kind, fifty good ones: the fifty are live, the two are named.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_bad_object_never_blocks_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..50 {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: good-{n}\nspec:\n  hosts: [good-{n}.example.com]\n  resolution: STATIC\n  ports:\n  - {{number: 80, name: http, protocol: HTTP}}\n  endpoints:\n  - address: 127.0.0.1\n"
        );
        std::fs::write(directory.path().join(format!("good-{n}.yaml")), text).unwrap();
    }
    std::fs::write(
        directory.path().join("broken.yaml"),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: broken\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination:\n        host: a\n      weight: many\n",
    )
    .unwrap();
    std::fs::write(
        directory.path().join("unknown.yaml"),
        "apiVersion: example.com/v1\nkind: Teapot\nmetadata:\n  name: short-and-stout\n",
    )
    .unwrap();
    let mesh = Running::start(&["up", "--config", directory.path().to_str().unwrap()]);
    let objects: Value = serde_json::from_str(&mesh.filamesh(&["get", "se", "-o", "json"])).unwrap();
    let live = objects["items"].as_array().unwrap().iter().filter(|o| o["state"] == "live").count();
    assert_eq!(live, 50);
    let problems = get(&format!("{}/filamesh/v1/problems", mesh.text("/control/http")), &[]).1;
    let problems: Vec<Value> = serde_json::from_str(&problems).unwrap();
    let find = |file: &str| {
        problems
            .iter()
            .find(|p| p["file"].as_str().is_some_and(|f| f.ends_with(file)))
            .unwrap_or_else(|| panic!("{file} is named: {problems:?}"))
    };
    let broken = find("broken.yaml");
    assert_eq!(broken["line"], 11, "{broken}");
    assert_eq!(broken["path"], "spec.http[0].route[0].weight", "{broken}");
    assert!(find("unknown.yaml")["message"].as_str().unwrap().contains("Teapot"));
    // The gateway, a real proxy, holds all fifty.
    let clusters =
        mesh.filamesh(&["proxy-config", "cluster", "istio-ingressgateway.istio-system", "-o", "name"]);
    assert_eq!(clusters.lines().filter(|l| l.contains("good-")).count(), 50, "{clusters}");
}

/// A port in use, a directory that is not there, bad input: one clear line and the right exit code.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn what_goes_wrong_at_the_start_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().to_str().unwrap();
    let state = directory.path().join("state");
    let state = state.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["control", "--config", config, "--state-dir", state, "--xds", &address], 1, "in use"),
        (&["up", "--config", "/no/such/directory"], 65, "/no/such/directory"),
        (&["proxy", "-c", "/no/such/file.yaml"], 65, "/no/such/file.yaml"),
        (&["no-such-command"], 64, "no-such-command"),
    ];
    for (arguments, code, words) in cases {
        let output = std::process::Command::new(common::program()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        if code != 64 {
            assert_eq!(said.trim().lines().count(), 1, "{arguments:?}: {said}");
        }
    }
}
