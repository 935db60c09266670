//! What `filamesh control` knows outlives it: restarts, kills in the middle of writing, a disk that is full.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Running, program, until};
use nix::sys::signal::Signal;

/// A directory of configuration, and a home that outlives each control plane.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mesh")).unwrap();
        Place { dir }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    fn start_with(&self, adjust: impl FnOnce(&mut Command)) -> Running {
        let config = self.config().display().to_string();
        let any = "127.0.0.1:0";
        Running::start_with(&["control", "--config", &config, "--xds", any, "--http", any], |command| {
            command.env("XDG_STATE_HOME", self.dir.path());
            adjust(command);
        })
    }

    /// A command to the mesh that was started last.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env_remove("FILAMESH_MESH").env("XDG_STATE_HOME", self.dir.path());
        command
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn service_entry(name: &str, note: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, annotations: {{note: '{note}'}}}}\n\
         spec: {{hosts: [{name}.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n"
    )
}

/// Objects of one batch, so large that it takes many writes.
fn batch(number: usize, note: &str) -> String {
    (0..40).map(|n| service_entry(&format!("b{number}-{n}"), note)).collect::<Vec<_>>().join("---\n")
}

#[test]
fn a_control_plane_finds_what_it_knew_and_a_second_one_is_told_who_holds_it() {
    let place = Place::new();
    let first = place.start();
    let state = first.state_dir();
    // Found as the newest mesh of this user, and by its directory.
    let file = place.file("a.yaml", &service_entry("a", "x"));
    assert_eq!(place.run(&["apply", "-f", &file]).0, Some(0));
    assert_eq!(
        place.run(&["get", "se", "-o", "name", "--mesh", state.to_str().unwrap()]).1.lines().count(),
        1
    );

    // The same directory by another name is the same.
    let link = place.dir.path().join("link");
    std::os::unix::fs::symlink(place.config(), &link).unwrap();
    let any = "127.0.0.1:0";
    let (code, _, error) =
        place.run(&["control", "--config", link.to_str().unwrap(), "--xds", any, "--http", any]);
    assert_eq!(code, Some(1));
    let words = format!(
        "filamesh: the state directory {} is in use by process {}; stop that process or choose another --state-dir\n",
        state.display(),
        first.child.id()
    );
    assert_eq!(error, words);

    first.signal(Signal::SIGKILL);
    drop(first);
    let second = place.start();
    assert_eq!(second.state_dir(), state);
    let (_, found, _) = place.run(&["get", "se"]);
    assert!(found.contains("applied@1:1"), "{found}");
    drop(second);
    let (code, _, error) = place.run(&["get", "se"]);
    assert_eq!(code, Some(69), "a control plane that ended is not found: {error}");
}

/// Killed while batches are written: every batch that was answered is there, each is there whole or not at all.
#[test]
fn a_kill_in_the_middle_of_writing_loses_nothing_that_was_answered() {
    let place = Place::new();
    let mut answered = Vec::new();
    for round in 0..4u64 {
        let control = place.start();
        let before = answered.len();
        let mut number = usize::try_from(round).unwrap() * 1000;
        let limit = std::time::Instant::now() + Duration::from_millis(250 + 170 * round);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(control.child.id()).unwrap());
        // A clock that runs beside the batches: the kill meets any moment of one.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(limit.saturating_duration_since(std::time::Instant::now()));
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        });
        loop {
            let file = place.file("batch.yaml", &batch(number, &"x".repeat(2000)));
            match place.run(&["apply", "-f", &file, "--wait=false"]).0 {
                Some(0) => answered.push(number),
                _ => break,
            }
            number += 1;
        }
        killer.join().unwrap();
        drop(control);
        println!("round {round}: {} batches answered before the kill", answered.len() - before);
    }
    let _control = place.start();
    let (code, names, error) = place.run(&["get", "se", "-o", "name"]);
    assert_eq!(code, Some(0), "{error}");
    let mut counts: std::collections::BTreeMap<usize, usize> = Default::default();
    for name in names.lines() {
        let number = name.split("/b").nth(1).and_then(|rest| rest.split('-').next()).unwrap();
        *counts.entry(number.parse().unwrap()).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 40), "each batch whole: {counts:?}");
    assert!(answered.iter().all(|number| counts.contains_key(number)), "{answered:?} in {counts:?}");
    assert!(!answered.is_empty());
}

/// A file that may not grow is what a full disk is to a program: the write fails (here with EFBIG, there with ENOSPC).
#[test]
fn a_full_disk_is_said_in_one_line_and_the_mesh_goes_on() {
    let place = Place::new();
    // The shell's limit is inherited, and so is that SIGXFSZ is ignored.
    let limited = |command: &mut Command| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -f 6000; trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        *command = shell;
    };
    let control = place.start_with(limited);
    let mut stored = 0;
    let error = loop {
        let file = place.file("batch.yaml", &batch(stored, &"y".repeat(4000)));
        let (code, out, error) = place.run(&["apply", "-f", &file]);
        if code != Some(0) {
            assert_eq!((code, out.as_str()), (Some(1), ""));
            break error;
        }
        stored += 1;
        assert!(stored < 200, "the limit is met");
    };
    println!("{stored} batches, then: {error}");
    assert!(
        stored > 0 && error.lines().count() == 1 && error.contains("nothing was changed, the mesh goes on"),
        "{error}"
    );
    let count = |place: &Place| place.run(&["get", "se", "-o", "name"]).1.lines().count();
    assert_eq!(count(&place), stored * 40);
    // Files that are watched still go live.
    std::fs::write(place.config().join("file.yaml"), service_entry("from-file", "")).unwrap();
    until("the file is live", Duration::from_secs(10), || count(&place) == stored * 40 + 1);
    drop(control);

    let _roomy = place.start();
    assert_eq!(count(&place), stored * 40 + 1, "nothing that was answered is lost");
    let file = place.file("batch.yaml", &batch(stored, "z"));
    assert_eq!(place.run(&["apply", "-f", &file]).0, Some(0));
    assert_eq!(count(&place), (stored + 1) * 40 + 1);
}

#[test]
fn a_directory_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let config = place.config();
    std::fs::remove_dir(&config).unwrap();
    let _control = place.start();
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("a.yaml"), service_entry("a", "")).unwrap();
    until("it is read", Duration::from_secs(10), || {
        place.run(&["get", "se", "-o", "name"]).1.lines().count() == 1
    });
    assert!(Path::new(&config).exists());
}

/// The kernel says who asks, whatever the modes of files let through.
#[test]
fn another_user_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: another user cannot be tried (not root)");
        return;
    }
    let place = Place::new();
    let control = place.start();
    let state = control.state_dir();
    let file = place.file("a.yaml", &service_entry("a", ""));
    // Somebody opened everything that stands before the check.
    let mut path = state.join("control.sock");
    std::fs::set_permissions(state.join("mesh.json"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    while path.pop() && path != std::env::temp_dir() {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for verb in ["apply", "delete"] {
        let mut command = place.command(&[verb, "-f", &file, "--mesh", state.to_str().unwrap()]);
        let output = command.uid(65534).gid(65534).current_dir("/").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{error}");
        assert!(error.contains("may not change the mesh of user root"), "{error}");
    }
    assert_eq!(place.run(&["get", "se", "-o", "name"]).1, "");
}

#[test]
fn a_second_mesh_on_one_state_directory_leaves_the_first_alone() {
    let place = Place::new();
    let (config, state) = (place.config(), place.dir.path().join("state"));
    let arguments =
        ["up", "--no-gateway", "--config", config.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    let first = Running::start_with(&arguments, |command| {
        command.env("XDG_STATE_HOME", place.dir.path());
    });
    let (code, _, error) = place.run(&arguments);
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("is in use by process {};", first.child.id())), "{error}");
    assert_eq!(place.run(&["get", "all"]).0, Some(0), "the first is found and answers");
    // What was applied is there for the next one that is given this directory.
    let file = place.file("a.yaml", &service_entry("a", ""));
    assert_eq!(place.run(&["apply", "-f", &file]).0, Some(0));
    drop(first);
    let _next = Running::start_with(&arguments, |command| {
        command.env("XDG_STATE_HOME", place.dir.path());
    });
    assert_eq!(place.run(&["get", "se", "-o", "name"]).1.lines().count(), 1);
}
