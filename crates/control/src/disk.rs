//! Small files that outlive the process: written whole or not at all, beside the thread that knows their content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// A write that failed is tried again after this, without waiting for new content.
const AGAIN: Duration = Duration::from_secs(5);

/// A disk that does not answer holds up the end of the process for so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// Makes a directory, and those above it, for this user alone. One that is there stays as it is.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes beside, flushes, renames, flushes the directory. The file is this user's alone.
pub fn write_and_rename(beside: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    match path.parent().filter(|d| !d.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes the content of the file, on the writing thread.
type Content = Box<dyn FnOnce() -> io::Result<Vec<u8>> + Send>;

/// A file that a thread of its own keeps equal to the newest content it was given: what comes while the disk is busy
/// replaces what waits, so that a slow disk costs neither time nor memory. Dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct NewestFile {
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
    pace: Pace,
}

/// How often a file is written while its content goes on changing.
#[derive(Default, Clone, Copy)]
pub(crate) struct Pace {
    /// The next time comes so long after the last, at least.
    pub(crate) apart: Duration,
    /// Or so many times as long as the last took.
    pub(crate) share: u32,
}

#[derive(Default)]
struct State {
    newest: Option<Content>,
    busy: bool,
    /// Nothing is written before, but at the end.
    not_before: Option<Instant>,
    /// When the write that is under way began, until somebody was told that it takes long.
    writing: Option<Instant>,
    stopping: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl NewestFile {
    /// `failed` is told each time writing begins to fail, not each time it fails.
    pub(crate) fn start(path: PathBuf, failed: impl Fn(&io::Error) + Send + 'static) -> io::Result<Self> {
        Self::start_paced(path, Pace::default(), failed)
    }

    /// The same for a large content that changes often.
    pub(crate) fn start_paced(
        path: PathBuf,
        pace: Pace,
        failed: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let beside = path.with_extension("tmp");
        Self::start_with(move |content| write_and_rename(&beside, &path, content), pace, failed)
    }

    fn start_with(
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
        pace: Pace,
        failed: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let slot = Arc::new(Slot { pace, ..Slot::default() });
        let of_thread = slot.clone();
        let thread = std::thread::Builder::new()
            .name("state-writer".into())
            .spawn(move || of_thread.run(write, &failed))?;
        Ok(Self { slot, thread: Some(thread) })
    }

    /// Replaces the content. Never waits for the disk.
    pub(crate) fn put(&self, content: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) {
        lock(&self.slot.state).newest = Some(Box::new(content));
        self.slot.changed.notify_all();
    }

    /// Whether a write is under way for so long; once for each write.
    pub(crate) fn is_slow(&self, limit: Duration) -> bool {
        let mut state = lock(&self.slot.state);
        state.busy && state.writing.take_if(|since| since.elapsed() >= limit).is_some()
    }

    /// Waits until what was put is on disk or cannot be written. Whether nothing is under way any more.
    pub(crate) fn settle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.slot.state);
        while state.newest.is_some() || state.busy {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.slot.wait(state, left);
        }
        true
    }
}

impl Drop for NewestFile {
    fn drop(&mut self) {
        lock(&self.slot.state).stopping = true;
        self.slot.changed.notify_all();
        // A thread that hangs in a write cannot be ended; the process need not wait for it.
        if self.settle(FAREWELL)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Slot {
    fn wait<'s>(&self, state: MutexGuard<'s, State>, limit: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn run(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>, failed: &impl Fn(&io::Error)) {
        // The content that could not be written, until newer comes.
        let mut kept: Option<Vec<u8>> = None;
        let mut failing = false;
        while let Some(content) = self.next(&mut kept) {
            let began = Instant::now();
            let content = match content {
                Next::New(content) => content(),
                Next::Again(content) => Ok(content),
            };
            let written = content.and_then(|content| write(&content).inspect_err(|_| kept = Some(content)));
            match written {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        failed(&error);
                    }
                }
            }
            let pause = self.pace.apart.max(began.elapsed() * self.pace.share);
            let mut state = lock(&self.state);
            state.busy = false;
            state.not_before = Some(Instant::now() + pause);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// What is to be written next. `None`: nothing more will come.
    fn next(&self, kept: &mut Option<Vec<u8>>) -> Option<Next> {
        let again_at = Instant::now() + AGAIN;
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let pause =
                state.not_before.filter(|_| !state.stopping).map(|at| at.saturating_duration_since(now));
            if let Some(pause) = pause.filter(|pause| state.newest.is_some() && !pause.is_zero()) {
                state = self.wait(state, pause);
                continue;
            }
            if let Some(content) = state.newest.take() {
                (state.busy, state.writing) = (true, Some(Instant::now()));
                *kept = None;
                return Some(Next::New(content));
            }
            if state.stopping {
                return None;
            }
            let left = again_at.saturating_duration_since(Instant::now());
            if left.is_zero() && kept.is_some() {
                (state.busy, state.writing) = (true, Some(Instant::now()));
                return kept.take().map(Next::Again);
            }
            let limit = if kept.is_some() { left } else { Duration::from_secs(3600) };
            state = self.wait(state, limit);
        }
    }
}

enum Next {
    New(Content),
    Again(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_comes_while_the_disk_is_busy_replaces_what_waits() {
        let (wrote, written) = channel();
        let (go, gone) = channel::<()>();
        let file = NewestFile::start_with(
            move |content| {
                wrote.send(content.to_vec()).unwrap();
                gone.recv().unwrap();
                Ok(())
            },
            Pace::default(),
            |_| {},
        )
        .unwrap();
        file.put(|| Ok(b"0".to_vec()));
        assert_eq!(written.recv().unwrap(), b"0");
        // The disk hangs in the first write; none of these waits for it.
        for number in 1..=100u32 {
            file.put(move || Ok(number.to_string().into_bytes()));
        }
        assert!(!file.settle(Duration::from_millis(1)), "the disk has not answered");
        let slow = [3600, 0, 0].map(|limit| file.is_slow(Duration::from_secs(limit)));
        assert_eq!(slow, [false, true, false], "told once");
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(file.settle(Duration::from_secs(10)));
        assert!(!file.is_slow(Duration::ZERO), "nothing is written");
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"100".to_vec()]);
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_newest_is_written_when_there_is_room() {
        let (told, said) = channel();
        let room = Arc::new(Mutex::new(false));
        let (of_disk, results) = (room.clone(), Arc::new(Mutex::new(Vec::new())));
        let wrote = results.clone();
        let file = NewestFile::start_with(
            move |content| match *of_disk.lock().unwrap() {
                false => Err(io::Error::from(io::ErrorKind::StorageFull)),
                true => {
                    wrote.lock().unwrap().push(content.to_vec());
                    Ok(())
                }
            },
            Pace::default(),
            move |error| told.send(error.kind()).unwrap(),
        )
        .unwrap();
        for number in 0..3u8 {
            file.put(move || Ok(vec![number]));
            assert!(file.settle(Duration::from_secs(10)));
        }
        *room.lock().unwrap() = true;
        file.put(|| Ok(b"last".to_vec()));
        drop(file);
        assert_eq!(*results.lock().unwrap(), [b"last".to_vec()]);
        assert_eq!(said.try_iter().collect::<Vec<_>>(), [io::ErrorKind::StorageFull]);
    }

    #[test]
    fn a_paced_file_is_written_at_once_then_not_before_its_time_and_at_the_end() {
        let (wrote, written) = channel();
        let pace = Pace { apart: Duration::from_secs(3600), share: 0 };
        let write = move |content: &[u8]| {
            wrote.send(content.to_vec()).unwrap();
            Ok(())
        };
        let file = NewestFile::start_with(write, pace, |_| {}).unwrap();
        file.put(|| Ok(b"0".to_vec()));
        assert_eq!(written.recv().unwrap(), b"0");
        for number in 1..=100u32 {
            file.put(move || Ok(number.to_string().into_bytes()));
        }
        assert!(!file.settle(Duration::from_millis(20)), "its time is in an hour");
        drop(file);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"100".to_vec()]);
    }
}
