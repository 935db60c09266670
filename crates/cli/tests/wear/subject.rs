//! The program under test, or a real Envoy, from one bootstrap, as the kernel and its own statistics see it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Client;
use crate::common::envoy::{self, Envoy};
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
    Envoy(Envoy),
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
        let envoy = Envoy::start(program, bootstrap, workers, &["main"]);
        let (address, admin, pid) = (envoy.listeners[0], envoy.admin, envoy.pid());
        Subject { address, admin, pid, _process: Process::Envoy(envoy) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A statistic by Envoy's dotted name; 0 if there is none.
    pub fn stat(&self, name: &str) -> u64 {
        envoy::stat(&envoy::ask(self.admin, "/stats").unwrap(), name)
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

    /// Waits until a value of it has been the same for a second.
    pub fn steady(&self, what: &str, value: impl Fn(&Subject) -> u64) {
        let mut last = (value(self), Instant::now());
        until(what, Duration::from_secs(30), || {
            let now = value(self);
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() >= Duration::from_secs(1)
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
