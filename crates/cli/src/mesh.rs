//! Which mesh a command speaks to.
//!
//! A running mesh writes `mesh.json` (its ready event) into its state directory, and a marker named by its process id
//! into `running/` of this user's state root, which holds the way there and when the process was started.
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Code, Failure};
use crate::state_dir;

/// Where the control plane is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Control {
    pub pid: u32,
    /// `IP:PORT` of delta ADS.
    pub xds: String,
    /// `http://IP:PORT` of the API, metrics and debug pages.
    pub http: String,
    /// The Unix socket by which objects are applied and deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// What a marker holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    state_dir: PathBuf,
    /// Of the process: a process id is given again, also after a restart of the machine.
    started: Started,
}

/// When a process was started, as the kernel tells it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Started {
    /// Of the machine.
    boot: String,
    /// Clock ticks since then.
    ticks: u64,
}

/// One workload of a mesh, as its ready event tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub address: String,
    pub pid: u32,
    pub proxy_pid: u32,
    pub admin: String,
}

/// The ready event of `demo` and `up`, and the content of `mesh.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeshFile {
    pub event: String,
    pub startup_ms: u64,
    pub state_dir: PathBuf,
    pub config_dir: PathBuf,
    pub control: Control,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    pub workloads: Vec<Workload>,
}

impl MeshFile {
    pub fn write(&self) -> Result<(), Failure> {
        let path = self.state_dir.join("mesh.json");
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::new(Code::Failure, format!("mesh.json: {e}")))?;
        write_whole(&path, text.as_bytes())
    }
}

/// Writes a file so that a reader sees the old or the new content, never a part.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| Failure::io(format!("cannot write {}", path.display()), &e))
}

/// The file that tells other commands of this mesh while its process lives.
pub fn marker(pid: u32) -> PathBuf {
    state_dir::root().join("running").join(pid.to_string())
}

pub fn announce(state_dir: &Path) -> Result<PathBuf, Failure> {
    let path = marker(std::process::id());
    if let Some(parent) = path.parent() {
        control::disk::make_private_dir(parent).map_err(|e| Failure::io(parent.display(), &e))?;
    }
    let started = Started::of(std::process::id())
        .ok_or_else(|| Failure::new(Code::Failure, "/proc does not tell when this process was started"))?;
    let marker = serde_json::to_vec(&Marker { state_dir: state_dir.to_owned(), started })
        .map_err(|e| Failure::new(Code::Failure, format!("{}: {e}", path.display())))?;
    write_whole(&path, &marker)?;
    Ok(path)
}

impl Started {
    /// `None`: there is no such process.
    fn of(pid: u32) -> Option<Started> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold anything; field 22 (proc(5)) is the 20th after it.
        let ticks = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        Some(Started { boot: boot.trim().to_owned(), ticks })
    }
}

/// The mesh meant: `--mesh` (or FILAMESH_MESH), else the most recently started one of this user.
pub fn find(given: Option<&Path>) -> Result<MeshFile, Failure> {
    match given {
        Some(dir) => load(dir),
        None => newest().ok_or_else(|| {
            Failure::unreachable(
                "no running mesh found\n  start one:  filamesh demo   or   filamesh up --config DIR\n  or name it: --mesh STATE_DIR",
            )
        }),
    }
}

fn load(dir: &Path) -> Result<MeshFile, Failure> {
    let path = dir.join("mesh.json");
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::unreachable(format!("no mesh at {}: {}: {e}", dir.display(), path.display()))
    })?;
    serde_json::from_str(&text).map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

fn newest() -> Option<MeshFile> {
    newest_in(&state_dir::root().join("running"))
}

/// The mesh of the newest marker whose process lives. Whatever else lies there is passed over; the marker of a process
/// that has ended is removed.
fn newest_in(running: &Path) -> Option<MeshFile> {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(running).ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        let Some(marker) = read_marker(&entry.path()) else { continue };
        if Started::of(pid).as_ref() != Some(&marker.started) {
            let _ = std::fs::remove_file(entry.path());
            continue;
        }
        let Ok(written) = entry.metadata().and_then(|m| m.modified()) else { continue };
        found.push((written, marker.state_dir));
    }
    found.sort();
    found.iter().rev().find_map(|(_, dir)| load(dir).ok())
}

fn read_marker(path: &Path) -> Option<Marker> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(state_dir: &Path) -> MeshFile {
        let control = Control { pid: 1, xds: String::new(), http: String::new(), socket: None };
        MeshFile {
            event: "ready".into(),
            startup_ms: 1,
            state_dir: state_dir.to_owned(),
            config_dir: PathBuf::new(),
            control,
            gateway: None,
            page: None,
            workloads: Vec::new(),
        }
    }

    #[test]
    fn odd_files_blind_nobody_and_a_process_id_given_again_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let running = dir.path().join("running");
        std::fs::create_dir(&running).unwrap();
        let (alive, other) = (dir.path().join("alive"), dir.path().join("other"));
        for state_dir in [&alive, &other] {
            std::fs::create_dir(state_dir).unwrap();
            mesh(state_dir).write().unwrap();
        }
        let own = std::process::id();
        let put = |name: &str, content: &[u8]| std::fs::write(running.join(name), content).unwrap();
        let marker = |state_dir: &Path, started| {
            serde_json::to_vec(&Marker { state_dir: state_dir.to_owned(), started }).unwrap()
        };
        put(&own.to_string(), &marker(&alive, Started::of(own).unwrap()));
        // Left by a crash in the middle of writing, by somebody's editor, by an older version of this program.
        put(&format!("{own}.{own}.new"), b"");
        put("notes.txt", b"x");
        put("1", b"/some/where");
        put("2", b"{\"stateDir\": \"/half");
        // The process of this marker has ended; another has its number now.
        let parent = std::os::unix::process::parent_id();
        let ticks = Started::of(parent).unwrap().ticks + 1;
        let boot = Started::of(parent).unwrap().boot;
        put(&parent.to_string(), &marker(&other, Started { boot, ticks }));
        assert_eq!(newest_in(&running).unwrap().state_dir, alive);
        assert!(!running.join(parent.to_string()).exists(), "a stale marker is removed");
        // The same number and tick of another boot.
        let ticks = Started::of(own).unwrap().ticks;
        put(&own.to_string(), &marker(&alive, Started { boot: "another".into(), ticks }));
        assert!(newest_in(&running).is_none());
    }
}
