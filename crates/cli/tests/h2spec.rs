//! The real h2spec, all of its 145 cases, against a gateway's and both of a sidecar's listeners from one bootstrap.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Running;
use serde_json::{Value, json};

/// Cases that RFC 9113 answers otherwise than RFC 7540, by h2spec's section and title, with the section that says so.
const CHANGED: &[(&str, &str)] = &[];

/// h2spec from the environment, from what `./test` installed, or from the path.
fn h2spec() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin/h2spec");
    let candidates = [std::env::var_os("H2SPEC").map(PathBuf::from), Some(installed), Some("h2spec".into())];
    let runs = |program: &PathBuf| {
        let asked =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(runs);
    if found.is_none() {
        eprintln!(
            "SKIPPED: h2spec's 145 cases (go install github.com/summerwind/h2spec/cmd/h2spec was not possible)"
        );
    }
    found
}

/// How many bytes at the front are a whole request: an answer to less would come before the mistake that a case makes in
/// the rest of it.
fn whole(bytes: &[u8]) -> Option<usize> {
    let find = |from: usize, what: &[u8]| {
        bytes.get(from..)?.windows(what.len()).position(|part| part == what).map(|at| from + at)
    };
    let body = find(0, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..body]).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        // The line end before the body stands before a last chunk that comes first.
        let last = find(body - 2, b"\r\n0\r\n")? + 3;
        return Some(find(last, b"\r\n\r\n")? + 4);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let end = body + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}

/// A host that answers each request with a little.
fn host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut bytes, mut chunk) = (vec![], [0; 16384]);
                while let Ok(length @ 1..) = stream.read(&mut chunk) {
                    bytes.extend_from_slice(&chunk[..length]);
                    while let Some(end) = whole(&bytes) {
                        bytes.drain(..end);
                        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nhello h2spec";
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}

fn typed(url: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/{url}").into();
    value
}

fn bootstrap(host: u16) -> Value {
    let manager = |gateway: bool| {
        let value = json!({
            "stat_prefix": "h2spec",
            "codec_type": "AUTO",
            "use_remote_address": gateway,
            "stream_idle_timeout": "0s",
            "normalize_path": true,
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "proxy_100_continue": true,
            "route_config": { "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                { "match": { "prefix": "/" }, "route": { "cluster": "host", "timeout": "0s" } }] }] },
            "http_filters": [{ "name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({})) }],
        });
        let url = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        json!([{ "name": "http", "typed_config": typed(url, value) }])
    };
    let inspector = |name: &str, title: &str| {
        let url = format!("envoy.extensions.filters.listener.{name}_inspector.v3.{title}Inspector");
        json!({ "name": format!("envoy.filters.listener.{name}_inspector"), "typed_config": typed(&url, json!({})) })
    };
    let listener = |name: &str, direction: &str, filters: Vec<Value>, matched: Value, gateway: bool| {
        json!({ "name": name, "traffic_direction": direction, "listener_filters": filters,
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "continue_on_listener_filters_timeout": true,
            "filter_chains": [{ "filter_chain_match": matched, "filters": manager(gateway) }] })
    };
    let raw = json!({ "transport_protocol": "raw_buffer" });
    let seen = json!({ "transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"] });
    let endpoint = json!({ "endpoint": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": host } } } });
    // In the order of their names, in which the ready event has them.
    json!({ "static_resources": {
        "listeners": [
            listener("1-gateway", "OUTBOUND", vec![], json!({}), true),
            listener("2-inbound", "INBOUND", vec![inspector("tls", "Tls")], raw, false),
            listener("3-outbound", "OUTBOUND", vec![inspector("tls", "Tls"), inspector("http", "Http")], seen, false),
        ],
        "clusters": [{ "name": "host", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": "host", "endpoints": [{ "lb_endpoints": [endpoint] }] } }],
    } })
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn all_145_cases_pass_at_every_kind_of_listener() {
    let Some(program) = h2spec() else { return };
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    file.write_all(bootstrap(host()).to_string().as_bytes()).unwrap();
    let proxy = Running::start(&["proxy", "--concurrency", "1", "-c", file.path().to_str().unwrap()]);
    let listeners = proxy.ready["listeners"].as_array().unwrap().clone();
    let running: Vec<_> = ["gateway", "inbound", "outbound"]
        .iter()
        .zip(&listeners)
        .map(|(name, address)| {
            let port = address.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
            let mut command = Command::new(&program);
            let report = tempfile::NamedTempFile::new().unwrap();
            command.args(["--port", &port, "--timeout", "2", "--junit-report"]).arg(report.path());
            (name, std::thread::spawn(move || (command.output().unwrap(), report)))
        })
        .collect();
    let mut failures = vec![];
    for (name, running) in running {
        let (output, report) = running.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        println!("h2spec at the {name} listener: {last}");
        assert!(last.starts_with("145 tests, "), "h2spec at {name} did not run through:\n{text}");
        assert!(last.contains(" 0 skipped, "), "h2spec at {name} left cases out: {last}");
        let report = std::fs::read_to_string(report.path()).unwrap();
        let failed: Vec<String> = report
            .split("<testcase ")
            .skip(1)
            .filter(|case| case.contains("<failure>") || case.contains("<error>"))
            .map(title)
            .collect();
        assert!(last.ends_with(&format!(" {} failed", failed.len())), "{last}, but {failed:?}");
        let kept =
            failed.into_iter().filter(|case| !CHANGED.iter().any(|(changed, _)| case.starts_with(changed)));
        failures.extend(kept.map(|case| format!("{name}: {case}")));
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// `SECTION: what` of a case in the report, with what was got.
fn title(case: &str) -> String {
    let between = |from: &str, to: &str| {
        let (_, rest) = case.split_once(from)?;
        Some(rest.split_once(to)?.0)
    };
    let said = between("<failure>", "</failure>").or_else(|| between("<error>", "</error>"));
    let attribute = |name: &str| between(&format!("{name}=\""), "\"").unwrap_or_default().to_owned();
    format!("{}: {} ({})", attribute("package"), attribute("classname"), said.unwrap_or_default().trim())
}
