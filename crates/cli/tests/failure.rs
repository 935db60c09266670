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

/// What a proxy has to say goes to a pipe whose reader is gone: as good as a log on a full disk. It serves on.
#[test]
fn a_proxy_that_nobody_listens_to_serves_on() {
    let typed = |url: &str, mut value: Value| {
        value["@type"] = format!("type.googleapis.com/{url}").into();
        value
    };
    // A file that cannot be opened, which it says.
    let log = typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        serde_json::json!({ "path": "/proc/no/such/access.log" }),
    );
    let router = typed("envoy.extensions.filters.http.router.v3.Router", serde_json::json!({}));
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        serde_json::json!({
            "stat_prefix": "calls",
            "access_log": [{ "name": "file", "typed_config": log }],
            "route_config": { "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }] }] },
            "http_filters": [{ "name": "router", "typed_config": router }],
        }),
    );
    let any = serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let bootstrap = serde_json::json!({
        "admin": { "address": any },
        "static_resources": { "listeners": [{ "name": "main", "address": any,
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }] },
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.json");
    std::fs::write(&path, bootstrap.to_string()).unwrap();
    let program = common::program();
    let mut deaf = Running::start_with(&["proxy", "-c", path.to_str().unwrap()], |command| {
        let mut shell = std::process::Command::new("sh");
        // Its own stderr becomes the write end of a pipe that has no reader once `true` has ended.
        shell.args(["-c", "exec 3>&1; { exec \"$0\" \"$@\" 2>&1 >&3 3>&-; } | true", program]);
        shell.args(command.get_args()).stdout(std::process::Stdio::piped());
        shell.stderr(std::process::Stdio::piped());
        *command = shell;
    });
    let (address, admin) = (deaf.text("/listeners/0").to_owned(), deaf.text("/admin").to_owned());
    let pid = i32::try_from(deaf.ready["pid"].as_i64().unwrap()).unwrap();
    let dropped = || {
        let text = get(&format!("http://{admin}/stats/prometheus"), &[]).1;
        metric(&text, "filamesh_access_log_dropped_lines_total")
    };
    for _ in 0..3 {
        assert_eq!(get(&format!("http://{address}/"), &[]).0, 200);
    }
    until("its lines are lost, and counted", Duration::from_secs(10), || dropped() >= 3.0);
    assert_eq!(get(&format!("http://{address}/"), &[]).0, 200, "it serves on");
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("it ends", Duration::from_secs(10), || deaf.child.try_wait().unwrap().is_some());
}
