//! Making the namespaces: unshare, id maps, capabilities, settings, hidden sockets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::why_not::{SetupFailure, Stage};

/// Numbers of linux/capability.h.
const CAP_NET_ADMIN: u8 = 12;
const CAP_SYS_ADMIN: u8 = 21;

/// A capability set as /proc writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// What this process may do: effective and permitted are the same for one that just started.
    fn effective() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
    }

    fn has(self, capability: u8) -> bool {
        self.0 & (1 << capability) != 0
    }
}

/// Leaves the host's namespaces. Returns the capabilities the application must not find: those over
/// the namespace's network, which would let it remove the redirects, and all that the process did
/// not have before.
///
/// A process that has the right already makes only a network namespace: a user namespace with one
/// mapped id would take from root what root's programs rely on, such as becoming another user.
pub(crate) fn enter() -> Result<Vec<u8>, SetupFailure> {
    let before = Capabilities::effective();
    let privileged = before.has(CAP_SYS_ADMIN) && before.has(CAP_NET_ADMIN);
    if privileged && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(vec![CAP_NET_ADMIN]);
    }

    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| failed(Stage::Unshare, errno.into()))?;
    // user_namespaces(7): an unprivileged process may map only its own ids, and the group only
    // after giving up setgroups(2).
    let map =
        |path: &str, content: &str| fs::write(path, content).map_err(|error| failed(Stage::IdMap, error));
    map("/proc/self/setgroups", "deny")?;
    map("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    map("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    Ok((0..64).filter(|&number| number == CAP_NET_ADMIN || !before.has(number)).collect())
}

/// Settings of the new network namespace that make it kinder; a kernel that refuses one is no
/// reason to give up.
pub(crate) fn relax() {
    // /proc/sys/net shows the namespace of whoever looks.
    for (name, value) in [
        // An unmodified server that wants port 80 gets it: the ports here are nobody else's.
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        // Every captured connection leaves a tracked one behind; the default of 120 s would fill
        // the table at 2000 connections per second, and there is no network here for a late packet
        // to come from.
        ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "3"),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "10"),
        ("net/netfilter/nf_conntrack_tcp_timeout_fin_wait", "10"),
    ] {
        let _ = fs::write(Path::new("/proc/sys").join(name), value);
    }
}

/// Covers each existing socket of `paths` with `/dev/null`, seen only from here on by this process
/// and its children. What could not be hidden is returned as one line each.
pub(crate) fn hide_sockets(paths: &[PathBuf]) -> Vec<String> {
    let present: Vec<&PathBuf> = paths.iter().filter(|path| path.exists()).collect();
    if present.is_empty() {
        return Vec::new();
    }
    let none: Option<&str> = None;
    let private = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none));
    let hide = |path: &PathBuf| -> Result<(), Errno> {
        private?;
        mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none)
    };
    let mut notes = Vec::new();
    for path in present {
        if let Err(errno) = hide(path) {
            notes.push(format!(
                "could not hide {} from the application ({errno}): if names of the mesh do not resolve in it, remove `resolve` from /etc/nsswitch.conf",
                path.display()
            ));
        }
    }
    notes
}

/// What identifies the network namespace this process is in.
pub(crate) fn network_id(process: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn failed(stage: Stage, error: io::Error) -> SetupFailure {
    SetupFailure { stage, errno: error.raw_os_error(), message: error.to_string() }
}
