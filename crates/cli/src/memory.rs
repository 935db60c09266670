//! Giving memory back: once a proxy has started, and after what was large in a control plane.
#![allow(
    unsafe_code,
    reason = "malloc_trim, mallinfo2 and madvise have no safe wrapper; each call says why it is sound"
)]

/// How long after being ready the second and last time is: by then what the start needed is told from what is used.
pub const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Returns what only the start needed: freed heap, and the program text and constants of parsing arguments, loading
/// configuration and making namespaces. What is used again comes back from the page cache, a few pages at a time.
pub fn settle() {
    xds::json::forget_descriptors();
    give_back();
    forget_text();
}

/// Drops the program's text and constants: what is used again comes back from the page cache.
fn forget_text() {
    for (start, length) in unwritten() {
        // SAFETY: the range is a mapping of a program's or library's file that was never writable (the text, and the
        // first read-only one, which holds no relocated data), so that none of its pages was ever changed: the kernel
        // drops them and reads the same bytes at the next use.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Returns what was freed and lies between what is used. For a worker of a proxy that has nothing else to do.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Freed heap of a control plane may grow by so much before it is given back, and is looked at so often.
const FREED: usize = 4 << 20;
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Who uses less of a processor between two looks has little to do: the text of what it did before is given back, once.
const QUIET: std::time::Duration = std::time::Duration::from_millis(10);

/// Gives back what the start and large changes leave: reading 13,500 applied objects takes 250 MB for a second, of which
/// the allocator would keep all. Does not return.
pub fn stay_small() {
    std::thread::sleep(AGAIN_AFTER);
    settle();
    // Pieces between what is used stay counted when their pages were given back: only growth tells of new ones.
    let mut before = to_hand();
    let (mut used, mut forgotten) = (processor_time(), true);
    loop {
        std::thread::sleep(LOOK);
        let (now, uses) = (to_hand(), processor_time());
        let quiet = uses.saturating_sub(used) < QUIET;
        used = uses;
        if now > before.saturating_add(FREED) {
            settle();
            (before, forgotten) = (to_hand(), true);
            continue;
        }
        before = before.min(now);
        if quiet && !forgotten {
            forget_text();
        }
        forgotten = quiet;
    }
}

/// What the process has used of processors.
fn processor_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of this function, which the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    std::time::Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How many bytes were freed and are kept for what is allocated next.
pub fn to_hand() -> usize {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and returns numbers; may be called at any time.
    return unsafe { libc::mallinfo2() }.fordblks;
    #[cfg(not(target_env = "gnu"))]
    return 0;
}

/// Mappings of our program and its libraries that were never writable: start and length.
fn unwritten() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
            // Later read-only mappings are relocated data, made read-only after they were written.
            let unwritten = rights == "r-xp" || (rights == "r--p" && offset.bytes().all(|b| b == b'0'));
            // What is no file's (the kernel's own pages) has no path.
            if !unwritten || !fields.nth(2)?.starts_with('/') {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            Some((start, usize::from_str_radix(end, 16).ok()?.checked_sub(start)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_freed_is_to_hand() {
        let pieces: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 1024]).collect();
        // Behind them all: what is freed at the end of a heap is given back at once.
        let _last = std::hint::black_box(vec![1; 1024]);
        let before = super::to_hand();
        drop(pieces);
        assert!(super::to_hand() > before + (2 << 20) || cfg!(not(target_env = "gnu")));
    }

    #[test]
    fn the_program_goes_on_after_its_text_was_given_back() {
        // Two of the program, and two of each library.
        assert!(super::unwritten().len() >= 4);
        super::settle();
        assert!(xds::json::to_json(&xds::nds::NameTable::default()).is_ok());
    }
}
