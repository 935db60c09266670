//! A mesh of one service and one caller, over places on disk that outlive it.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Running, have, processes_naming, program, until};

/// Within this what changed is met by calls, on a machine that does other things too.
pub const SOON: Duration = Duration::from_secs(10);

/// Where configuration and state are.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config", "state", "beside"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Place { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Watched.
    pub fn config(&self) -> PathBuf {
        self.path("config")
    }

    /// Of the whole mesh.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }
}

/// A VirtualService of `web` by which each answer says which version of it the call met.
pub fn web(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web}}\nspec:\n  hosts: [web]\n  http:\n  \
         - route: [{{destination: {{host: web}}}}]\n    headers: {{response: {{set: {{x-configured: '{version}'}}}}}}\n"
    )
}

/// Writes the file beside and renames it, as whoever replaces a file under a reader should.
pub fn put(directory: &Path, name: &str, text: &str) {
    let beside = directory.join(format!(".{name}"));
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, directory.join(name)).unwrap();
}

/// What one call met.
#[derive(Debug)]
pub struct Call {
    pub millis: f64,
    pub status: u16,
    /// The version of [`web`]; `-`: none.
    pub configured: String,
    why: String,
}

/// `up`, a workload that serves `web`, and one that calls it twenty times a second, each with its sidecar.
pub struct Mesh {
    pub calls: Calls,
    caller: Running,
    web: Running,
    pub up: Running,
}

impl Mesh {
    /// Whether everything is here that such a mesh needs.
    pub fn possible(what: &str) -> bool {
        have("python3", what)
    }

    pub fn start(place: &Place) -> Mesh {
        Mesh::start_as(place, "calls")
    }

    /// `file`: where the calls are written, below the place.
    pub fn start_as(place: &Place, file: &str) -> Mesh {
        let (config, state) = (shown(&place.config()), shown(&place.state()));
        let up = Running::start(&["up", "--no-gateway", "--config", &config, "--state-dir", &state]);
        let beside = |name: &str| shown(&place.path("beside").join(name));
        let server = peer("server.py");
        let port = ["--service", "web", "--port", "http:80:8000", "--state-dir", &beside("web"), "--"];
        let web = workload(&up, &[&port[..], &["python3", &server, "8000"]].concat());
        let calls = Calls { file: place.path(file) };
        let own = ["--service", "caller", "--state-dir", &beside("caller"), "--"];
        let caller =
            workload(&up, &[&own[..], &calls.command("20", "0").each_ref().map(String::as_str)].concat());
        calls.flow(20);
        Mesh { calls, caller, web, up }
    }

    /// Starts one more workload that calls so often and ends.
    pub fn join(&self, place: &Place, name: &str, count: usize) -> Joined {
        let calls = Calls { file: place.path(name) };
        let mut run = Command::new(program());
        run.args(["run", "--service", name, "--state-dir", &shown(&place.path("beside").join(name)), "--"]);
        run.args(calls.command("20", &count.to_string()));
        run.env("FILAMESH_MESH", self.up.state_dir()).env("XDG_STATE_HOME", self.up.directory.path());
        run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Joined { child: run.spawn().unwrap(), calls, count }
    }

    /// The process of the control plane that runs now.
    pub fn control(&self) -> i32 {
        let text = std::fs::read_to_string(self.up.state_dir().join("mesh.json")).unwrap();
        let mesh: serde_json::Value = serde_json::from_str(&text).unwrap();
        i32::try_from(mesh["control"]["pid"].as_i64().unwrap()).unwrap()
    }

    pub fn kill_control(&self) {
        kill(Pid::from_raw(self.control()), Signal::SIGKILL).unwrap();
    }

    /// Everything is gone at once, as when the machine loses its power: nobody says goodbye.
    pub fn crash(mut self) {
        for running in [&mut self.up, &mut self.web, &mut self.caller] {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
        until("what they started has ended too", Duration::from_secs(5), || {
            processes_naming(self.up.text("/state_dir")).is_empty()
        });
    }

    /// A page of the control plane: the status (0: no answer) and the text.
    pub fn page(&self, path: &str) -> (u16, String) {
        crate::common::client::get(&format!("{}{path}", self.up.text("/control/http")), &[])
    }

    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.up.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Waits until `up` has said a line with all these parts.
    pub fn tells(&self, parts: &[&str]) {
        let told = || !self.told(parts).is_empty();
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("the line", SOON, told)));
        assert!(waited.is_ok(), "no line with {parts:?} in\n{}", self.up.said());
    }

    /// The lines with all these parts that `up` has said.
    pub fn told(&self, parts: &[&str]) -> Vec<String> {
        let said = self.up.said();
        let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
        said.lines().filter(fits).map(str::to_owned).collect()
    }

    /// Asserts that a line with all these parts was said, and once.
    pub fn told_once(&self, parts: &[&str]) {
        self.tells(parts);
        let told = self.told(parts);
        assert_eq!(told.len(), 1, "{told:#?}");
        println!("told: {}", told[0]);
    }
}

/// A workload that joined and calls.
pub struct Joined {
    child: std::process::Child,
    pub calls: Calls,
    count: usize,
}

impl Joined {
    /// Waits until it has called as often as it was to and ended; what went wrong.
    pub fn end(mut self) -> (Vec<Call>, Vec<String>) {
        until("a workload that joined has ended", Duration::from_secs(60), || {
            self.child.try_wait().unwrap().is_some()
        });
        let met = self.calls.all();
        let mut failed = failed(&met);
        if met.len() != self.count {
            failed.push(format!("{} calls of {}: {}", met.len(), self.count, self.calls.file.display()));
        }
        (met, failed)
    }
}

/// The calls of one workload, in the file where it writes them.
pub struct Calls {
    file: PathBuf,
}

impl Calls {
    fn command(&self, rate: &str, count: &str) -> [String; 8] {
        let (script, file) = (peer("caller.py"), shown(&self.file));
        ["python3", &script, &file, "web", "80", rate, count, ""].map(str::to_owned)
    }

    /// Those that were answered or failed so far, in the order in which they ended.
    pub fn all(&self) -> Vec<Call> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let call = |line: &str| {
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next().unwrap_or_default().to_owned();
            let (millis, status) = (next().parse().unwrap(), next().parse().unwrap());
            Call { millis, status, configured: next(), why: next() }
        };
        whole.lines().map(call).collect()
    }

    /// Waits until so many more have ended.
    pub fn flow(&self, more: usize) {
        let before = self.all().len();
        until("calls flow", Duration::from_secs(20), || self.all().len() >= before + more);
    }

    /// Waits until calls meet this version of [`web`]; how long that took.
    pub fn meet(&self, version: &str) -> Duration {
        let what = format!("calls meet version {version}");
        until(&what, SOON, || self.all().last().is_some_and(|call| call.configured == version))
    }

    /// Asserts that none failed and none met a mesh without its configuration.
    pub fn none_failed(&self) {
        self.flow(20);
        let all = self.all();
        let failed = failed(&all);
        let mut took: Vec<f64> = all.iter().map(|call| call.millis).collect();
        took.sort_by(f64::total_cmp);
        for (at, call) in all.iter().enumerate().filter(|(_, call)| call.millis > 500.0) {
            println!("slow: {at} of {}: {:.0} ms", all.len(), call.millis);
        }
        println!("{} calls, {} failed, p99 {:.1} ms", all.len(), failed.len(), percentile(&took, 99));
        assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), all.len());
    }
}

/// Of values in order.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// What went wrong with calls: no answer, a wrong one, or one of a mesh that was not configured.
pub fn failed(calls: &[Call]) -> Vec<String> {
    let wrong = |call: &&Call| call.status != 200 || call.configured == "-" || !call.why.is_empty();
    calls.iter().filter(wrong).map(|call| format!("{call:?}")).collect()
}

pub fn workload(up: &Running, arguments: &[&str]) -> Running {
    Running::start_with(&[&["run"], arguments].concat(), |run| {
        run.env("FILAMESH_MESH", up.state_dir());
    })
}

pub fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn peer(name: &str) -> String {
    shown(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/change/peers").join(name))
}
