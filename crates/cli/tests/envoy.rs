//! A real Envoy: it accepts what we generate, and serves under our control plane.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;
#[allow(dead_code, reason = "only whether it is there")]
#[path = "../../proxy/tests/common/envoy.rs"]
mod peer;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::client::{get_via, tally_via, version};
use common::{Running, networking, program, until};

fn envoy() -> Option<PathBuf> {
    peer::find("everything about a real Envoy")
}

fn bookinfo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/bookinfo")
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn envoy_accepts_what_every_workload_of_bookinfo_gets() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().unwrap();
    let proxies = [
        ("sidecar", "productpage", "v1"),
        ("sidecar", "details", "v1"),
        ("sidecar", "reviews", "v1"),
        ("sidecar", "reviews", "v2"),
        ("sidecar", "reviews", "v3"),
        ("sidecar", "ratings", "v1"),
        ("gateway", "istio-ingressgateway", ""),
    ];
    let steps = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
        "virtual-service-reviews-50-v3.yaml",
    ];
    for step in steps {
        for (kind, app, version) in proxies {
            let (namespace, labels) = if kind == "gateway" {
                ("istio-system", serde_json::json!({"istio": "ingressgateway", "app": app}))
            } else {
                ("default", serde_json::json!({"app": app, "version": version}))
            };
            let proxy = directory.path().join("proxy.json");
            let text = serde_json::json!({"type": kind, "ip": "127.77.1.1", "namespace": namespace, "labels": labels});
            std::fs::write(&proxy, text.to_string()).unwrap();
            let mut dump = Command::new(program());
            dump.args(["xds-dump", "--static", "--profile", "vanilla", "--proxy"]).arg(&proxy);
            for path in [
                bookinfo().join("platform/bookinfo.yaml"),
                networking("bookinfo-gateway.yaml"),
                networking("destination-rule-all.yaml"),
                networking(step),
            ] {
                dump.arg("--config").arg(path);
            }
            let made = dump.output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let file = directory.path().join("envoy.json");
            std::fs::write(&file, &made.stdout).unwrap();
            let bootstrap: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
            let listeners = bootstrap["staticResources"]["listeners"].as_array().map_or(0, Vec::len);
            let clusters = bootstrap["staticResources"]["clusters"].as_array().map_or(0, Vec::len);
            assert!(
                listeners >= 1 && clusters >= 4,
                "{kind} {app}: {listeners} listeners, {clusters} clusters"
            );
            let judged = Command::new(&envoy).args(["--mode", "validate", "-c"]).arg(&file).output().unwrap();
            assert!(
                judged.status.success(),
                "{kind} {app} {version} with {step}: {}",
                String::from_utf8_lossy(&judged.stderr)
            );
        }
    }
}

/// A child that is ended with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real Envoy as a sidecar with Istio's explicit HTTP proxy port, fed by our control plane over delta ADS.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn envoy_serves_under_our_control_plane() {
    let Some(envoy) = envoy() else { return };
    let mesh = Running::start(&["demo", "--no-load"]);
    let (proxy_port, admin_port) = (free_port(), free_port());
    let xds = mesh.text("/control/xds").rsplit_once(':').unwrap().1.to_owned();
    let bootstrap = format!(
        r#"
node:
  id: sidecar~127.77.250.1~envoy.default~default.svc.cluster.local
  cluster: envoy.default
  metadata: {{ NAMESPACE: default, HTTP_PROXY_PORT: "{proxy_port}", LABELS: {{ app: envoy }} }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin_port} }} }} }}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [ {{ envoy_grpc: {{ cluster_name: xds }} }} ]
  cds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s }}
  lds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s }}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {xds} }} }} }} }} ] }} ]
"#
    );
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(bootstrap.as_bytes()).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Command::new(&envoy)
        .args(["--base-id", &admin_port.to_string(), "--concurrency", "1", "-c"])
        .arg(file.path())
        .args(["--log-path"])
        .arg(log.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _envoy = Peer(child);
    let via = format!("127.0.0.1:{proxy_port}");
    let url = "http://reviews:9080/reviews/0";
    until("Envoy serves", Duration::from_secs(15), || get_via(&via, url, &[]).0 == 200);

    mesh.filamesh(&["apply", "-f", networking("virtual-service-all-v1.yaml").to_str().unwrap()]);
    until("all to v1", Duration::from_secs(2), || {
        tally_via(&via, url, &[], 30, version).keys().all(|v| v == "v1")
    });
    mesh.filamesh(&["apply", "-f", networking("virtual-service-reviews-test-v2.yaml").to_str().unwrap()]);
    let jason = [("end-user", "jason")];
    until("jason to v2", Duration::from_secs(2), || {
        tally_via(&via, url, &jason, 30, version).keys().all(|v| v == "v2")
    });
    assert!(tally_via(&via, url, &[], 30, version).keys().all(|v| v == "v1"));
    mesh.filamesh(&["apply", "-f", networking("virtual-service-reviews-50-v3.yaml").to_str().unwrap()]);
    until("half to v3", Duration::from_secs(2), || tally_via(&via, url, &[], 30, version).contains_key("v3"));
    let counts = tally_via(&via, url, &[], 1000, version);
    let share = counts.get("v3").copied().unwrap_or(0) as f64 / 1000.0;
    assert!((0.45..=0.55).contains(&share), "{counts:?}");
    // It refused nothing.
    let status: serde_json::Value =
        serde_json::from_str(&mesh.filamesh(&["proxy-status", "-o", "json"])).unwrap();
    let ours = status["items"].as_array().unwrap().iter().find(|p| p["name"] == "envoy").cloned();
    let ours = ours.unwrap_or_else(|| panic!("the Envoy is listed: {status}"));
    assert_eq!(ours["refused"], serde_json::json!([]), "{ours}");
    assert_eq!(ours["profile"], "vanilla");
}
