//! Machines where it is impossible say why.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use capture::{Holder, HolderSpec, SpawnError};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::harness::{Test, exe, spec};

pub const TESTS: &[Test] = &[
    ("switched_off_namespaces_are_named", switched_off),
    ("holder_argument_by_hand", by_hand),
    ("a_binary_that_is_no_holder_is_said", no_holder),
];

/// A process in a user namespace whose limits are zero: a machine where it is switched off.
fn switched_off() {
    for (limit, expected) in [
        ("max_user_namespaces", "user namespaces are switched off"),
        ("max_net_namespaces", "network namespaces are switched off"),
    ] {
        let output = Command::new(exe()).args(["limited", limit]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        if said.starts_with("cannot limit") {
            println!("SKIPPED: switched_off_namespaces_are_named ({})", said.trim());
            return;
        }
        assert!(said.contains(expected) && said.contains("--capture env"), "{limit}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
}

/// The part of a process that is not allowed any namespace; prints what the probe says.
pub fn limited(limit: &str) {
    let (uid, gid) = (geteuid(), getegid());
    let limited = || -> std::io::Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        fs::write("/proc/sys/user/max_net_namespaces", "0")?;
        fs::write(format!("/proc/sys/user/{limit}"), "0")
    };
    if let Err(error) = limited() {
        println!("cannot limit a user namespace here: {error}");
        return;
    }
    match capture::probe(&exe()) {
        Ok(()) => println!("possible"),
        Err(why) => println!("{why}"),
    }
}

fn no_holder() {
    let spawn = |exe: &str| Holder::spawn(HolderSpec { exe: exe.into(), ..spec(&["true"]) }).err().unwrap();
    let silent = spawn("/bin/true");
    assert!(matches!(silent, SpawnError::Silent(_)), "{silent}");
    assert!(silent.to_string().contains("holder_main"), "{silent}");
    let missing = spawn("/no/such/binary");
    assert!(matches!(missing, SpawnError::Exec { .. }), "{missing}");
}

/// The hidden argument, typed by a curious user, is explained and harmless.
fn by_hand() {
    for rest in [&[][..], &["0"], &["7"], &["999999", "true"], &["x"]] {
        let output =
            Command::new(exe()).arg0("filamesh").arg(capture::HOLDER_ARGUMENT).args(rest).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{rest:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("sidecar's own use"));
    }
}
