//! What the proxy of this process costs: time of its workers, memory, descriptors.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is measured is the whole process: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this process, proxy included, has resident.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The folders in `/proc` of this process's workers.
fn workers() -> Vec<std::path::PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let name = |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    tasks.map(|task| task.path()).filter(|task| name(task).starts_with("worker-")).collect()
}

/// How often the workers of this process have gone to sleep so far.
pub fn sleeps() -> u64 {
    let status = workers().into_iter().filter_map(|task| std::fs::read_to_string(task.join("status")).ok());
    let switches = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    status.filter_map(switches).sum()
}

/// Time the workers of this process have run so far, to the nanosecond.
pub fn worked() -> Duration {
    let text = workers().into_iter().filter_map(|task| std::fs::read_to_string(task.join("schedstat")).ok());
    let nanos = |text: String| text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    text.filter_map(nanos).map(Duration::from_nanos).sum()
}

/// Holds everything as it is for half a second. A worker that is asked for nothing in it does nothing: one that turns in a
/// circle takes what the machine gives it, a tenth of this time and more however busy others are.
pub fn hold_quietly(what: &str) {
    let before = worked();
    let until = Instant::now() + Duration::from_millis(500);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::sleep(left);
    }
    let spent = worked().saturating_sub(before);
    println!("{what}: {spent:?} of worker in 500 ms");
    assert!(spent < Duration::from_millis(15), "{what}: {spent:?} of worker in 500 ms");
}

/// Waits until the workers have done what there is to do: they have not run for a while.
pub fn settled() {
    super::eventually("the workers are at rest", || {
        let before = worked();
        std::thread::sleep(Duration::from_millis(40));
        worked().saturating_sub(before) < Duration::from_micros(300)
    });
}
