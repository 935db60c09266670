//! Which mesh a command speaks to, and where a mesh keeps its things.
//!
//! A running mesh writes `mesh.json` (its ready event) into its state directory, and a file named by its
//! process id into `running/` of this user's state root, which holds the way there.
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::exit::{Code, Failure};

/// Where the control plane is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Control {
    pub pid: u32,
    /// `IP:PORT` of delta ADS.
    pub xds: String,
    /// `http://IP:PORT` of the API, metrics and debug pages.
    pub http: String,
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
    std::fs::write(&temporary, content)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| Failure::io(format!("cannot write {}", path.display()), &e))
}

/// The directory under which this user's meshes keep their state.
pub fn state_root() -> PathBuf {
    let usable =
        |path: PathBuf| std::fs::create_dir_all(&path).is_ok().then_some(path).filter(|p| writable(p));
    let from = |variable: &str, below: &str| {
        let value = std::env::var_os(variable).filter(|v| !v.is_empty())?;
        usable(Path::new(&value).join(below))
    };
    from("XDG_STATE_HOME", "filamesh")
        .or_else(|| from("HOME", ".local/state/filamesh"))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("filamesh-{}", nix::unistd::geteuid())))
}

fn writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Makes the state directory of a mesh: the given one, or a new one under the state root.
pub fn make_state_dir(given: Option<&Path>, role: &str) -> Result<PathBuf, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => state_root().join(format!("{role}-{}", std::process::id())),
    };
    std::fs::create_dir_all(&path)
        .map_err(|e| Failure::io(format!("cannot make the state directory {}", path.display()), &e))?;
    std::path::absolute(&path).map_err(|e| Failure::io(path.display(), &e))
}

/// The file that tells other commands of this mesh while its process lives.
pub fn marker(pid: u32) -> PathBuf {
    state_root().join("running").join(pid.to_string())
}

pub fn announce(state_dir: &Path) -> Result<PathBuf, Failure> {
    let path = marker(std::process::id());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Failure::io(parent.display(), &e))?;
    }
    write_whole(&path, state_dir.as_os_str().as_encoded_bytes())?;
    Ok(path)
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
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(state_root().join("running")).ok()?.flatten() {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        if nix::sys::signal::kill(Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH) {
            let _ = std::fs::remove_file(entry.path());
            continue;
        }
        let started = entry.metadata().and_then(|m| m.modified()).ok()?;
        let dir = std::fs::read_to_string(entry.path()).ok()?;
        found.push((started, PathBuf::from(dir)));
    }
    found.sort();
    found.iter().rev().find_map(|(_, dir)| load(dir).ok())
}
