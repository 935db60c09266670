//! What all tests share: running them, starting applications, waiting for conditions.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capture::{Holder, HolderSpec, Mode, Namespace};
use tempfile::TempDir;

pub type Test = (&'static str, fn());

/// The address the workload under test has.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 200, 7);

/// Generous, for a busy machine; conditions normally hold within milliseconds.
pub const LIMIT: Duration = Duration::from_secs(10);

pub fn exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Runs the tests whose name contains `filter`; whether one failed.
pub fn run(tests: &[Test], filter: &str) -> bool {
    let uid = nix::unistd::geteuid();
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        let started = Instant::now();
        let passed = panic::catch_unwind(AssertUnwindSafe(test)).is_ok();
        let outcome = if passed { "ok" } else { "FAILED" };
        println!("test {name} (uid {uid}) ... {outcome} ({:.0?})", started.elapsed());
        if !passed {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        println!("failed (uid {uid}): {}", failed.join(", "));
    }
    !failed.is_empty()
}

/// Waits for `condition` up to `limit`; how long it took.
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

pub fn spec(command: &[&str]) -> HolderSpec {
    HolderSpec {
        exe: exe(),
        command: command.iter().map(Into::into).collect(),
        env: Vec::new(),
        cwd: None,
        mode: Mode::Namespace(Namespace::new(ADDRESS)),
    }
}

/// This binary as an application, whose findings go to a file.
pub struct App {
    pub holder: Holder,
    directory: TempDir,
}

impl App {
    /// `arguments` as [`crate::app::main`] takes them. Not started yet.
    pub fn prepare(arguments: &[&str]) -> Self {
        Self::prepare_with(arguments, |_| {})
    }

    pub fn prepare_with(arguments: &[&str], change: impl FnOnce(&mut HolderSpec)) -> Self {
        let directory = TempDir::new().unwrap();
        let exe = exe();
        let mut command = vec![exe.to_str().unwrap(), "app"];
        command.extend(arguments);
        let mut spec = spec(&command);
        spec.env.push(("FINDINGS".into(), directory.path().join("findings").into()));
        change(&mut spec);
        let holder = Holder::spawn(spec).unwrap();
        for listener in holder.outbound.iter().chain(&holder.outbound_v6) {
            // The tests' own threads may block.
            listener.set_nonblocking(false).unwrap();
        }
        Self { holder, directory }
    }

    pub fn start(arguments: &[&str]) -> Self {
        let app = Self::prepare(arguments);
        app.holder.start().unwrap();
        app
    }

    /// What the application found, once it says so.
    pub fn findings(&self) -> String {
        let path = self.directory.path().join("findings");
        until(LIMIT, "findings of the application", || path.exists());
        fs::read_to_string(path).unwrap()
    }
}

/// The next connection, or a failed test.
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    until(LIMIT, "a captured connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Whether a process is there and not merely waiting to be collected.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
