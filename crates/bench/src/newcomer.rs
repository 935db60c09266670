//! What a newcomer waits for: from a fresh clone to the demo's "ready", the crates downloaded.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::demo::Ready;
use crate::figures::Figure;
use crate::running::first_line;
use crate::scenario::Scenario;

const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Minutes.
const GOAL: f64 = 4.0;

/// Clones the workspace's last commit into the directory, and runs what README says.
pub fn measure(workspace: &Path, directory: &Path) -> anyhow::Result<Vec<Figure>> {
    let clone = directory.join("clone");
    let cloned = Command::new("git").arg("clone").arg("--quiet").arg(workspace).arg(&clone).status()?;
    ensure!(cloned.success(), "git clone: {cloned}");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&clone).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
        command
    };
    let fetched = cargo(&["fetch", "--quiet", "--locked"]).status().context("cargo fetch")?;
    ensure!(fetched.success(), "cargo fetch: {fetched}");
    let began = Instant::now();
    let demo = ["run", "--quiet", "--release", "--", "demo", "--no-load", "-o", "json"];
    let mut demo = cargo(&demo).stdout(Stdio::piped()).spawn().context("cargo run")?;
    let said = demo.stdout.take().context("no pipe")?;
    let line = first_line(said, LIMIT);
    let took = began.elapsed();
    // The demo ends without a trace when asked to; cargo has become the demo.
    if let Some(pid) = i32::try_from(demo.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let _ = demo.wait();
    Ready::read(&line?).context("the demo's ready event")?;
    let minutes = took.as_secs_f64() / 60.0;
    let what = "a fresh clone to \"ready\" of the demo";
    Ok(vec![Figure::new(Scenario::Newcomer, what, " min", GOAL, vec![minutes])])
}
