//! What the kernel lets this process still allocate, where a limit is set on it (`ulimit -d`, `ulimit -v`): an allocation
//! beyond it ends the process, so that nothing is begun any more a little before.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// With less than this left nothing is begun.
const LEAST: u64 = 4 << 20;

/// Whether a limit is set and nearly reached. `to_hand`: what the allocator has besides.
pub(super) fn is_short(to_hand: Option<fn() -> usize>) -> bool {
    let limit = |of| getrlimit(of).map_or(RLIM_INFINITY, |(soft, _)| soft);
    let (data, space) = (limit(Resource::RLIMIT_DATA), limit(Resource::RLIMIT_AS));
    if data == RLIM_INFINITY && space == RLIM_INFINITY {
        return false;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let short = is_short_of(&status, "VmData:", data) || is_short_of(&status, "VmSize:", space);
    // What has been given back to the allocator counts as used, and will be used again.
    short && to_hand.is_none_or(|to_hand| (to_hand() as u64) < LEAST)
}

/// `status`: as `/proc/self/status` says it.
fn is_short_of(status: &str, name: &str, limit: u64) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let used = line.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).map(|used| used.saturating_mul(1024));
    used.is_some_and(|used| limit.saturating_sub(used) < LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_nearly_reached_is_known() {
        let status = "Name:\tfilamesh\nVmSize:\t  204800 kB\nVmData:\t   51200 kB\nThreads:\t3\n";
        let mebibytes = |limit: u64| limit << 20;
        for (name, limit, short) in [
            ("VmData:", mebibytes(54), false),
            ("VmData:", mebibytes(53), true),
            ("VmData:", mebibytes(10), true),
            ("VmSize:", mebibytes(54), true),
            ("VmSize:", mebibytes(210), false),
            ("VmData:", RLIM_INFINITY, false),
            ("VmNone:", 0, false),
        ] {
            assert_eq!(is_short_of(status, name, limit), short, "{name} {limit}");
        }
    }
}
