//! Finding and ending every descendant.
//!
//! The holder is a child subreaper: whatever the application forks, double-forks or daemonises
//! stays below the holder, so walking down from it finds all of it.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace;

/// Every process below `root`, parents before children.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw()];
    while let Some(pid) = next.pop() {
        // Taken out, so that a process reused as its own ancestor between two reads cannot loop.
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

/// Sends `signal` to every process below `root`; one that is gone by then is no error.
pub(crate) fn signal_descendants(root: Pid, signal: Signal) {
    for pid in descendants(root) {
        let _ = kill(pid, signal);
    }
}

/// Kills whatever is left in a network namespace whose holder died without cleaning up. Called in
/// the sidecar; `namespace` is the holder's report, never our own.
pub(crate) fn kill_namespace(namespace: u64) {
    if namespace::network_id("self") == Some(namespace) {
        return;
    }
    // Twice over: a process that forks while the list is read is in the next list.
    for _ in 0..16 {
        let mut any = false;
        for pid in processes() {
            if namespace::network_id(&pid.to_string()) == Some(namespace) {
                any |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
            }
        }
        if !any {
            return;
        }
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// proc_pid_stat(5): the fourth field, counted after the command name, which may itself hold
/// spaces and parentheses. Zombies count: one may be the first thread of a process whose other
/// threads still run.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let _state = fields.next()?;
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn children_and_grandchildren_are_found() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let shell = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let sleep = Pid::from_raw(line.trim().parse().unwrap());

        let found = descendants(Pid::this());
        assert!(found.contains(&shell) && found.contains(&sleep), "{found:?}");
        assert_eq!(descendants(shell), [sleep]);
        signal_descendants(shell, Signal::SIGKILL);
        child.wait().unwrap();
        assert!(descendants(sleep).is_empty());
    }
}
