//! Where and how a process runs: core, real-time class, and that it ends with the one who started it.
// Calls without a safe wrapper among our dependencies: sched_setscheduler(2), and the clock of another process.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

use crate::running::{Class, Placement};

/// Cores this process may run on.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Pins this process to one core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Pins one thread of another process to one core.
pub fn pin_thread(thread: u32, core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    let thread = i32::try_from(thread).ok().and_then(Pid::from_raw).context("no thread has this number")?;
    rustix::thread::sched_setaffinity(Some(thread), &set).context("pin a thread")
}

/// First in, first out, at the lowest real-time priority. Needs a privilege.
pub fn make_real_time() -> io::Result<()> {
    set_policy(libc::SCHED_FIFO, 1)
}

/// Runs when nobody else wants the core.
pub fn make_leftover() -> io::Result<()> {
    set_policy(libc::SCHED_IDLE, 0)
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the structure outlives the call, which only reads it; 0 is this thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ahead of every ordinary process, as far as this user may; else as it was. Strangers on the core would not make a
/// proxy use more CPU time, but fewer requests would be measured, and in other batches.
pub fn make_urgent() {
    const FIRST: i32 = -20;
    // Where each session has a share of its own (sched(7), autogroup), that one's comes first and needs a session.
    let _ = rustix::process::setsid();
    let _ = std::fs::write("/proc/self/autogroup", FIRST.to_string());
    let _ = rustix::process::setpriority_process(None, FIRST);
}

/// CPU time that a process has used with all its threads, those that ended too. `None` if it is gone.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both only write to the variable they are given.
    let known = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    known.then(|| Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// As many open files as this user may have; returned.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only if the kernel's own bound is lower; then what there was stays.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Becomes `command`, placed as asked. Returns only if that fails.
pub fn become_command(command: &[String], placement: Placement, parent: u32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died before the call above.
    let alive =
        rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    anyhow::ensure!(alive, "started by a process that has ended");
    raise_file_limit();
    if let Some(core) = placement.core {
        pin(core).with_context(|| format!("core {core}"))?;
    }
    match placement.class {
        Class::Ordinary => {}
        Class::Leftover => make_leftover().context("SCHED_IDLE")?,
        Class::Urgent => make_urgent(),
        Class::RealTime => make_real_time().context("SCHED_FIFO")?,
    }
    let (program, arguments) = command.split_first().context("no command")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| program.clone())
}
