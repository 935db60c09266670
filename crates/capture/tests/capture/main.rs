//! Capture for real: namespaces, redirects, DNS, lifetimes.
//!
//! This binary plays every part. Its `main` begins with `holder_main` as the product's does, so it
//! is its own holder; `app ...` makes it the application in the namespace, `sidecar ...` a sidecar
//! to be killed. Every test runs as the user who started it and, when that is root, once more as
//! uid 65534, the case that matters: no rights at all.

// A test runner of its own, whose output is its result.
#![allow(clippy::print_stdout)]

mod app;
mod harness;
mod lifetime;
mod names;
mod pool;
mod refusals;
mod traffic;

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use harness::Test;

const NOBODY: u32 = 65534;

fn main() {
    capture::holder_main();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["app", rest @ ..] => return app::main(rest),
        ["sidecar", mode, rest @ ..] => return lifetime::sidecar(mode, rest),
        ["limited", limit] => return refusals::limited(limit),
        // Asked by tools that list tests; there is nothing of that kind here.
        ["--list", ..] => return,
        _ => {}
    }
    let filter = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();

    if let Err(why) = capture::probe(&harness::exe()) {
        println!("SKIPPED: all capture tests, because {why}");
        return;
    }
    let tests: Vec<Test> =
        [traffic::TESTS, names::TESTS, pool::TESTS, lifetime::TESTS, refusals::TESTS].concat();
    let failed = harness::run(&tests, filter);

    let again_as_nobody = nix::unistd::geteuid().is_root();
    if again_as_nobody {
        let mut child = Command::new(harness::exe());
        child.args(&arguments).uid(NOBODY).gid(NOBODY).current_dir("/");
        match child.status() {
            Ok(status) if status.success() => {}
            Ok(status) => exit(status.code().unwrap_or(1)),
            Err(error) => {
                println!("SKIPPED: capture tests as uid {NOBODY}, which cannot run this binary: {error}")
            }
        }
    }
    exit(i32::from(failed));
}
