//! A real Envoy under our control plane, by delta ADS. Runs where `ENVOY` names the program.

// Measurements are printed for whoever reads the run.
#![allow(clippy::print_stdout)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::*;

struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers every request with its name.
fn serve(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, name));
        }
    });
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = stream.read(&mut chunk) {
        if read == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Status and body; 0 if there was no answer.
fn get(port: u16) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new()) };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = write!(stream, "GET / HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The gateway, and a route to one subset, whose name is new every time: a cluster that has to be warm first.
fn config(port: u16, subset: &str, version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw, namespace: default}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: default}}\nspec:\n  host: web\n  subsets: [{{name: {subset}, labels: {{version: {version}}}}}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: default}}\nspec:\n  hosts: ['*']\n  gateways: [gw]\n  http: [{{route: [{{destination: {{host: web, subset: {subset}}}}}]}}]\n"
    )
}

fn bootstrap(xds: SocketAddr, admin: u16, api_type: &str) -> String {
    serde_json::json!({
        "node": {
            "id": "router~127.0.0.1~gateway.default~default.svc.cluster.local", "cluster": "gateway",
            "metadata": {"LABELS": {"istio": "ingressgateway"}, "NAMESPACE": "default"},
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type, "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": xds.ip().to_string(), "port_value": xds.port()},
            }}}]}]},
        }]},
    })
    .to_string()
}

#[test]
fn a_real_envoy_follows_every_change_without_a_failed_request() {
    follows("DELTA_GRPC", 21);
}

/// As Envoys are configured that speak no delta.
#[test]
fn so_does_one_that_asks_for_the_state_of_the_world() {
    follows("GRPC", 23);
}

/// The service's two versions are at this number and the next.
fn follows(api_type: &str, number: u8) {
    let Some(program) = std::env::var_os("ENVOY") else {
        println!("SKIPPED: a real Envoy under our control plane (ENVOY names none)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    serve(&format!("127.77.9.{number}:8080"), "v1");
    serve(&format!("127.77.9.{}:8080", number + 1), "v2");
    let (port, admin) = (free_port(), free_port());
    let service = format!("{}---\n", service("web"));
    let mut plane = Plane::start(&[("service.yaml", service), ("routes.yaml", config(port, "first", "v1"))]);
    let mut workloads = Vec::new();
    for (number, version) in [(number, "v1"), (number + 1, "v2")] {
        let mut options = sidecar(plane.xds, "web", number);
        let metadata = options.node.metadata.as_mut().unwrap();
        let labels = serde_json::json!({"LABELS": {"app": "web", "version": version}});
        let serde_json::Value::Object(labels) = labels else { unreachable!() };
        metadata.fields.extend(control::node::metadata_struct(&labels).fields);
        workloads.push(plane.connect(options));
    }
    let config_file = plane.dir.path().join("envoy.json");
    std::fs::write(&config_file, bootstrap(plane.xds, admin, api_type)).unwrap();
    let log = std::fs::File::create(plane.dir.path().join("envoy.log")).unwrap();
    let envoy = Command::new(program)
        .args(["--base-id", &(u32::from(port)).to_string(), "--concurrency", "1", "-l", "warning", "-c"])
        .arg(&config_file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let _envoy = Envoy(envoy);
    let said = || std::fs::read_to_string(plane.dir.path().join("envoy.log")).unwrap_or_default();
    let deadline = std::time::Instant::now() + DEADLINE;
    while get(port) != (200, "v1".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "Envoy does not serve: {:?} {}", get(port), said());
    }

    let (stop, failed, served) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (stop, failed, served) = (stop.clone(), failed.clone(), served.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let (status, body) = get(port);
                served.fetch_add(1, Ordering::Relaxed);
                if status != 200 {
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!("failed: {status} {body}");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    for round in 0..20 {
        let version = if round % 2 == 0 { "v2" } else { "v1" };
        let beside = plane.config().join(".routes");
        std::fs::write(&beside, config(port, &format!("round-{round}"), version)).unwrap();
        std::fs::rename(&beside, plane.config().join("routes.yaml")).unwrap();
        until(version, || (get(port).1 == version).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    println!("{} requests during 20 changes", served.load(Ordering::Relaxed));
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert_eq!(plane.metric("pilot_total_xds_rejects"), 0.0, "{}", said());

    // It comes back to a restarted control plane with what it holds, and is sent nothing.
    let gateway = |plane: &Plane| {
        let proxies = plane.get("/filamesh/v1/proxies");
        let found = proxies.as_array().unwrap().iter().find(|p| p["kind"] == "router").cloned();
        found.filter(|p| {
            let types = p["types"].as_array().map_or(&[][..], |t| t.get(..4).unwrap_or_default());
            types.len() == 4 && types.iter().all(|t| t["state"] == "SYNCED")
        })
    };
    until("Envoy in step", || gateway(&plane));
    plane.restart();
    let status = until("Envoy back in step", || gateway(&plane));
    assert_eq!(status["profile"], "vanilla");
    // Delta tells by name and version what it holds; the state of the world is sent once more.
    for kind in if api_type == "GRPC" { &[][..] } else { &["cds", "eds", "lds", "rds"][..] } {
        assert_eq!(plane.metric(&format!("filamesh_xds_pushed_resources{{type=\"{kind}\"}}")), 0.0, "{kind}");
    }
    assert_eq!(get(port), (200, "v1".to_owned()));
}
