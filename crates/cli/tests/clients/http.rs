//! Node, Python, curl, nghttp and h2load over every path.
use std::process::Command;
use std::time::Duration;

use crate::chain::{Chain, Path};
use crate::common::have;
use crate::peer::{self, Matrix, Server, script};

const MIB: usize = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(20);

fn plans(paths: &[Path], http2: bool) -> Vec<serde_json::Value> {
    paths.iter().map(|path| path.plan(http2)).collect()
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn node_over_http1() {
    node(false);
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn node_over_http2() {
    node(true);
}

fn node(http2: bool) {
    let Some(origin) = Server::origin("Node's clients") else { return };
    let chain = Chain::to(origin.address);
    let mut matrix = Matrix::default();
    matrix.run(Command::new("node").arg(script("client.js")), &plans(&chain.paths, http2));
    chain.end();
    matrix.judge(if http2 { "Node's http2" } else { "Node's http" });
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn python_over_http1() {
    python(false);
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn python_over_http2() {
    python(true);
}

fn python(http2: bool) {
    let what = "Python's http.client and httpx";
    let Some(python) = peer::python(&["httpx", "h2"], what) else { return };
    let Some(origin) = Server::origin(what) else { return };
    let chain = Chain::to(origin.address);
    let mut matrix = Matrix::default();
    matrix.run(Command::new(python).arg(script("http_clients.py")), &plans(&chain.paths, http2));
    chain.end();
    matrix.judge(what);
}

/// A program over one path; what it printed, or why it failed.
fn said(command: &mut Command) -> Result<peer::Said, String> {
    let said = peer::run(command, LIMIT);
    match said.code {
        Some(0) => Ok(said),
        code => Err(format!(
            "exit {code:?}: {} {}",
            said.text().chars().take(200).collect::<String>(),
            said.errors
        )),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

/// A file of this many bytes that are not all alike.
fn file_of(length: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|i| u8::try_from((i * 31 + i / 256 * 7) % 256).unwrap()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    (file, bytes)
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn curl() {
    if !have("curl", "curl") {
        return;
    }
    let Some(origin) = Server::origin("curl") else { return };
    let chain = Chain::to(origin.address);
    let (upload, _) = file_of(2 * MIB);
    let mut matrix = Matrix::default();
    let mut upgraded = std::collections::BTreeSet::new();
    for path in &chain.paths {
        for (mode, versions) in
            [("--http1.1", &["1.1"][..]), ("--http2", &["1.1", "2"]), ("--http2-prior-knowledge", &["2"])]
        {
            let mut curl = |name: &str, target: &str, arguments: &[&str], code: &str, size: Option<usize>| {
                let mut command = Command::new("curl");
                command.args(["-sS", "--max-time", "15", "-o", "/dev/null", mode]).args(arguments);
                command.args(["-w", "%{http_code} %{http_version} %{size_download}"]);
                command.arg(format!("{}{target}", path.url));
                let found = said(&mut command).and_then(|said| {
                    let text = said.text();
                    let fields: Vec<&str> = text.split(' ').collect();
                    expect("status", fields[0], code)?;
                    if !versions.contains(&fields[1]) {
                        return Err(format!("HTTP/{}", fields[1]));
                    }
                    if mode == "--http2" {
                        upgraded.insert(fields[1].to_owned());
                    }
                    size.map_or(Ok(()), |size| expect("size", fields[2], size.to_string().as_str()))
                });
                matrix.cell(&path.name, &format!("curl {mode}: {name}"), found);
            };
            let file = upload.path().to_str().unwrap();
            // curl 7.88 bears no more than its buffer of 32 KiB in one piece with the answer 101.
            let large = if mode == "--http2" { 20_000 } else { MIB };
            curl("download", &format!("/bytes?n={large}"), &[], "200", Some(large));
            curl("upload (curl expects a 100)", "/echo", &["-T", file], "200", Some(2 * MIB));
            curl("HEAD", "/bytes?n=1000&known=1", &["-I"], "200", None);
            curl("204", "/status?code=204", &[], "204", Some(0));
            // Not over HTTP/2: curl 7.88 takes the RST_STREAM(NO_ERROR) after a complete answer (RFC 9113 section
            // 8.1) for an error, whoever sends it.
            if mode != "--http2-prior-knowledge" {
                curl("refused while uploading", "/early", &["-T", file, "-H", "Expect:"], "413", Some(8));
            }
            if mode != "--http2-prior-knowledge" {
                let chunked = ["-T", file, "-H", "Transfer-Encoding: chunked", "-H", "Expect:"];
                curl("chunked upload", "/echo", &chunked, "200", Some(2 * MIB));
            }
        }
    }
    println!("curl --http2 spoke HTTP/{}", upgraded.into_iter().collect::<Vec<_>>().join(" and "));
    chain.end();
    matrix.judge("curl");
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn nghttp() {
    if !have("nghttp", "nghttp (nghttp2-client)") {
        return;
    }
    let Some(origin) = Server::origin("nghttp") else { return };
    let chain = Chain::to(origin.address);
    let (upload, bytes) = file_of(MIB);
    let mut matrix = Matrix::default();
    for path in &chain.paths {
        let nghttp = |arguments: &[&str], target: &str| {
            said(Command::new("nghttp").args(arguments).arg(format!("{}{target}", path.url)))
        };
        let file = upload.path().to_str().unwrap();
        for (mode, first) in [("prior knowledge", None), ("upgrade", Some("-u"))] {
            let with = |arguments: &[&'static str]| -> Vec<&'static str> {
                first.into_iter().chain(arguments.iter().copied()).collect()
            };
            let found = nghttp(&with(&[]), &format!("/bytes?n={MIB}"));
            let found = found.and_then(|said| expect("size", said.out.len(), MIB));
            matrix.cell(&path.name, &format!("nghttp, {mode}: download"), found);
            let found = nghttp(&with(&["-m", "50"]), "/bytes?n=1000");
            let found = found.and_then(|said| expect("size", said.out.len(), 50 * 1000));
            matrix.cell(&path.name, &format!("nghttp, {mode}: 50 streams"), found);
        }
        let found = nghttp(&["-d", file], "/echo").and_then(|said| expect("same", said.out == bytes, true));
        matrix.cell(&path.name, "nghttp: upload", found);
        let found = nghttp(&["-d", file, "--no-content-length", "--trailer", "x-check: done 1"], "/upload")
            .and_then(|said| {
                let told: serde_json::Value = serde_json::from_slice(&said.out).unwrap_or_default();
                expect("trailers", told["trailers"]["x-check"].as_str(), Some("done 1"))
            });
        matrix.cell(&path.name, "nghttp: request trailers", found);
        // A flow-control window of 1 KiB for each stream, padded frames.
        let found = nghttp(&["-b", "128", "-w", "10"], "/bytes?n=100000");
        matrix.cell(
            &path.name,
            "nghttp: a small window",
            found.and_then(|said| expect("size", said.out.len(), 100_000)),
        );
    }
    chain.end();
    matrix.judge("nghttp");
}

/// 4 connections of 32 streams, and 32 HTTP/1 connections: every request is answered 2xx.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn h2load() {
    if !have("h2load", "h2load (nghttp2-client)") {
        return;
    }
    let Some(origin) = Server::origin("h2load") else { return };
    let chain = Chain::to(origin.address);
    let mut matrix = Matrix::default();
    for path in &chain.paths {
        for arguments in [&["-c", "4", "-m", "32"][..], &["-c", "32", "--h1"]] {
            let mut command = Command::new("h2load");
            command
                .args(["-n", "1024", "-N", "10s"])
                .args(arguments)
                .arg(format!("{}/bytes?n=1000", path.url));
            let found = said(&mut command).and_then(|said| {
                let text = said.text();
                let good = text.lines().any(|line| line.starts_with("status codes: 1024 2xx,"));
                if good { Ok(()) } else { Err(text) }
            });
            matrix.cell(&path.name, &format!("h2load {}", arguments.join(" ")), found);
        }
    }
    chain.end();
    matrix.judge("h2load");
}
