//! A real mesh for a test: the program itself, started as a user would, found by its ready event.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub mod client;

/// The program under test: what `FILAMESH_PROGRAM` names (./test gives the release build), else the one built with
/// this test.
pub fn program() -> &'static str {
    static NAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAMED.get_or_init(|| {
        std::env::var("FILAMESH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_filamesh").to_owned())
    })
}

/// A long-running command of ours given `-o json`.
pub struct Running {
    pub child: Child,
    pub ready: Value,
    /// From the start of the process to its ready event.
    pub took: Duration,
    pub events: Mutex<Receiver<Value>>,
    pub directory: tempfile::TempDir,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// Starts `filamesh ARGUMENTS -o json` and waits for its ready event.
    pub fn start(arguments: &[&str]) -> Running {
        Running::start_with(arguments, |_| {})
    }

    pub fn start_with(arguments: &[&str], adjust: impl FnOnce(&mut Command)) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        let (flags, rest) = match arguments.iter().position(|a| *a == "--") {
            Some(at) => arguments.split_at(at),
            None => (arguments, &[][..]),
        };
        command.args(flags).args(["-o", "json"]).args(rest);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Each test has a home of its own, so that none finds another's mesh.
        command.env("XDG_STATE_HOME", directory.path()).env_remove("FILAMESH_MESH");
        adjust(&mut command);
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let (sender, events) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str::<Value>(&line) {
                    let _ = sender.send(value);
                }
            }
        });
        let errors = child.stderr.take().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let Ok(ready) = events.recv_timeout(Duration::from_secs(30)) else {
            let _ = child.kill();
            panic!("no ready event from filamesh {arguments:?}:\n{}", said.lock().unwrap());
        };
        assert_eq!(ready["event"], "ready", "the first event is the readiness");
        Running { child, ready, took: began.elapsed(), events: Mutex::new(events), directory, said }
    }

    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.ready
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("the ready event has no {pointer}: {}", self.ready))
    }

    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(self.text("/state_dir"))
    }

    /// Process ids the ready event names: control plane, applications, proxies.
    pub fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = vec![i32::try_from(self.child.id()).unwrap()];
        let number = |v: &Value| v.as_i64().and_then(|p| i32::try_from(p).ok());
        pids.extend(self.ready.pointer("/control/pid").and_then(number));
        for workload in self.ready["workloads"].as_array().into_iter().flatten() {
            pids.extend(number(&workload["pid"]));
            pids.extend(number(&workload["proxy_pid"]));
        }
        pids
    }

    /// Another command of ours, spoken to this mesh: stdout.
    pub fn filamesh(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "filamesh {arguments:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env("FILAMESH_MESH", self.state_dir());
        command.env("XDG_STATE_HOME", self.directory.path());
        command
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT);
            let deadline = Instant::now() + Duration::from_secs(8);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until the condition holds.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// When a process was started, in clock ticks since boot; `None` when it is gone (or a zombie).
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.rsplit_once(") ")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    (fields[0] != "Z").then(|| fields[19].parse().ok())?
}

/// Processes whose command line or environment names this text.
pub fn processes_naming(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if pid == i32::try_from(std::process::id()).unwrap() || start_time(pid).is_none() {
            continue;
        }
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(format!("{pid}: {line}"));
        }
    }
    found
}

/// Istio's own sample files when they are here, else our own of the same names.
pub fn networking(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let shared = std::env::var_os("FILAMESH_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let theirs = shared.join("corpus/istio-samples/bookinfo/networking").join(name);
    if theirs.exists() { theirs } else { root.join("samples/bookinfo/networking").join(name) }
}

/// Whether the program is here; says loudly what is skipped when not.
pub fn have(program: &str, what: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = found.is_ok();
    if !there {
        eprintln!("SKIPPED: {what} ({program} is not installed)");
    }
    there
}
