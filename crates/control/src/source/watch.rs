//! The thread that notices changes: inotify tells at once, a look at every file now and then tells what it missed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{Directory, Reading};

/// Events of one change come in a row; so long without one, the change is complete.
const QUIET: Duration = Duration::from_millis(5);
/// Changes that never stop are taken up after this.
const AT_MOST: Duration = Duration::from_millis(50);

/// Every file is looked at so often, or more seldom if that takes more than a hundredth of the time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_SHARE: u32 = 100;

/// Watches until dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Event(notify::Result<notify::Event>),
    Stop,
}

impl Watch {
    /// Reads everything once, then calls `changed` from a thread of its own whenever something may say something
    /// else. Returns the first reading. `log` gets what an operator should know about the watching itself.
    pub fn start(
        mut directory: Directory,
        log: fn(&str),
        changed: impl FnMut(Reading) + Send + 'static,
    ) -> std::io::Result<(Self, Reading)> {
        let (sender, messages) = channel();
        let events = sender.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // Fails only when the thread is gone.
            let _ = events.send(Message::Event(event));
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                log(&format!("changes of files are noticed within seconds only: {error}"));
                None
            }
        };
        let mut watched = Watched { watcher, paths: HashSet::new(), complained: false, log };
        // Watching starts first, so that nothing between the two is lost.
        watched.watch(directory.roots());
        let now = Instant::now();
        directory.scan(now);
        let reading = directory.reading(now);
        let thread = std::thread::Builder::new()
            .name("config-watch".into())
            .spawn(move || run(directory, watched, &messages, changed))?;
        Ok((Self { stop: sender, thread: Some(thread) }, reading))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.stop.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut directory: Directory,
    mut watched: Watched,
    messages: &Receiver<Message>,
    mut changed: impl FnMut(Reading),
) {
    let mut next_look = Instant::now() + LOOK_EVERY;
    loop {
        let now = Instant::now();
        let until = directory.due().map_or(next_look, |due| due.min(next_look));
        let mut touched = Touched::default();
        let since = match messages.recv_timeout(until.saturating_duration_since(now)) {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Message::Event(event)) => {
                let since = Instant::now();
                touched.add(event);
                if touched.collect(messages, since) {
                    return;
                }
                since
            }
            Err(RecvTimeoutError::Timeout) => Instant::now(),
        };
        let now = Instant::now();
        touched.paths.extend(directory.due_paths(now));
        let look = now >= next_look || touched.everything;
        let any = if look {
            let any = directory.scan(now);
            watched.watch(directory.roots());
            next_look = Instant::now() + LOOK_EVERY.max(now.elapsed() * LOOK_SHARE);
            any
        } else {
            !touched.paths.is_empty() && directory.look_at(&touched.paths, now)
        };
        if any {
            changed(directory.reading(since));
        }
    }
}

/// What events were about.
#[derive(Default)]
struct Touched {
    paths: HashSet<PathBuf>,
    /// Events were lost, or the watching is in trouble.
    everything: bool,
}

impl Touched {
    fn add(&mut self, event: notify::Result<notify::Event>) {
        match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {
                // Reading is no change; but a file that was written to is closed at the end.
                use notify::event::{AccessKind, AccessMode};
                if event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write)) {
                    self.paths.extend(event.paths);
                }
            }
            Ok(event) => {
                self.everything |= event.need_rescan();
                self.paths.extend(event.paths);
            }
            Err(_) => self.everything = true,
        }
    }

    /// Takes in what follows, until it is quiet. `true`: stop.
    fn collect(&mut self, messages: &Receiver<Message>, since: Instant) -> bool {
        loop {
            let left = AT_MOST.saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
            }
            match messages.recv_timeout(QUIET.min(left)) {
                Ok(Message::Event(event)) => self.add(event),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

/// The kernel's watches.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    /// Which directory each root was when it was watched: one that is made anew has to be watched anew.
    paths: HashSet<(PathBuf, u64)>,
    complained: bool,
    log: fn(&str),
}

impl Watched {
    fn watch<'a>(&mut self, roots: impl Iterator<Item = &'a Path>) {
        use std::os::unix::fs::MetadataExt;
        let Some(watcher) = &mut self.watcher else { return };
        for root in roots {
            let Ok(metadata) = root.metadata() else { continue };
            let identity = (root.to_owned(), metadata.ino());
            if self.paths.contains(&identity) {
                continue;
            }
            // Of the directory that was there before; there may be none.
            let _ = watcher.unwatch(root);
            match watcher.watch(root, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.paths.retain(|(path, _)| path != root);
                    self.paths.insert(identity);
                }
                Err(error) if !self.complained => {
                    self.complained = true;
                    let root = root.display();
                    (self.log)(&format!("changes below {root} are noticed within seconds only: {error}"));
                }
                Err(_) => {}
            }
        }
    }
}
