//! A mesh that ends leaves no process, no file, no namespace.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::time::Duration;

use common::{Running, processes_naming, start_time, until};
use nix::sys::signal::Signal;

fn namespaces(mesh: &Running) -> Vec<std::path::PathBuf> {
    mesh.pids().iter().filter_map(|p| std::fs::read_link(format!("/proc/{p}/ns/net")).ok()).collect()
}

fn all_namespaces() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        found.extend(std::fs::read_link(entry.path().join("ns/net")).ok());
    }
    found
}

fn nothing_is_left(signal: Signal, limit: Duration) {
    let mut mesh = Running::start(&["demo", "--load", "50"]);
    let state = mesh.state_dir();
    let pids = mesh.pids();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let made: Vec<_> = namespaces(&mesh).into_iter().filter(|n| *n != own).collect();
    assert!(state.exists() && pids.len() >= 14, "{}", mesh.ready);
    mesh.signal(signal);
    let took = until("everything is gone", limit, || {
        let _ = mesh.child.try_wait();
        pids.iter().all(|p| start_time(*p).is_none())
            && processes_naming(state.to_str().unwrap()).is_empty()
            && !state.exists()
            && std::fs::read_dir(mesh.directory.path().join("filamesh/running"))
                .map_or(true, |mut d| d.next().is_none())
    });
    println!("{signal}: nothing left after {took:?}");
    let left = all_namespaces();
    assert!(made.iter().all(|n| !left.contains(n)), "a network namespace is left");
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn ctrl_c_leaves_nothing() {
    nothing_is_left(Signal::SIGINT, Duration::from_secs(6));
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn kill_9_leaves_nothing_within_two_seconds() {
    nothing_is_left(Signal::SIGKILL, Duration::from_secs(2));
}
