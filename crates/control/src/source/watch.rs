//! The thread that notices changes of files. Events of the kernel tell at once; a look at every file now and then tells
//! what they missed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::events::Events;
use super::files::Files;
use super::update::{SourceId, Update};
use super::watches::Watches;

/// Every file is looked at so often, or more seldom if that takes more than a thousandth of the time: a look at 1,000
/// files takes some 3 ms, and an idle control plane may take 0.1 % of a core.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_SHARE: u32 = 1000;
/// The same where not every change makes an event.
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
const SHARE_WITHOUT_EVENTS: u32 = 100;
/// Every file is looked at once more so long after the start: what changed between the reading and the watching made no
/// event. Not at once, as a start is to be quick.
const CATCH_UP: Duration = Duration::from_secs(1);
/// So often it is looked which directory is at a root: a mount makes no event. One system call a root.
const SWAPS_EVERY: Duration = Duration::from_secs(1);
/// The same while a root is waited for.
const SWAPS_WAITED_FOR: Duration = Duration::from_millis(200);
/// Directories made within directories that were just made are found in so many looks; the next event finds the others.
const NESTED: usize = 8;

/// Watches until dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    Event(notify::Result<notify::Event>, Instant),
    Listed(Listed),
    Stop,
}

/// The directories that MeshConfig lists now.
#[derive(Debug)]
pub(crate) struct Listed {
    list: Vec<(SourceId, PathBuf)>,
    /// Is answered when what they hold was told.
    told: Sender<()>,
}

/// Tells the thread which directories MeshConfig lists.
#[derive(Debug, Clone)]
pub(crate) struct Directories(Sender<Message>);

impl Directories {
    /// Returns when what they hold was told, and nothing more will be of those that are not listed any more.
    pub(crate) fn set(&self, list: Vec<(SourceId, PathBuf)>) {
        let (told, done) = channel();
        // Both fail only when the control plane stops.
        let _ = self.0.send(Message::Listed(Listed { list, told }));
        let _ = done.recv();
    }
}

/// Everything is read and watched; nobody is told of changes yet.
pub struct Begun {
    watcher: Watcher,
    stop: Sender<Message>,
}

struct Watcher {
    files: Files,
    watches: Watches,
    log: fn(&str),
    messages: Receiver<Message>,
    events: Events,
    /// When every file was last looked at, and how long that took.
    looked: Instant,
    took: Duration,
    catch_up: Option<Instant>,
    next_swaps: Instant,
    /// To be made the watched ones beside those of flags.
    listed: Option<Listed>,
    /// The scans after which the watches were set.
    watched_scans: u64,
}

impl Watch {
    /// Reads everything once: an update for each source that is all of it. Changes from now on are told when
    /// [`Begun::spawn`] has said to whom. `log` gets what an operator should know about the watching itself.
    pub fn begin(mut files: Files, log: fn(&str)) -> (Begun, Vec<Update>) {
        let (sender, messages) = channel();
        let now = Instant::now();
        let updates = files.first(now);
        let kernel = sender.clone();
        let event = move |event, at| {
            // Fails only when the thread is gone.
            let _ = kernel.send(Message::Event(event, at));
        };
        let mut watcher = Watcher {
            files,
            watches: Watches::new(event, log),
            log,
            messages,
            events: Events::default(),
            looked: now,
            took: now.elapsed(),
            catch_up: Some(now + CATCH_UP),
            next_swaps: now,
            listed: None,
            watched_scans: 0,
        };
        watcher.watched_scans = watcher.files.scans();
        watcher.watches.set(&watcher.files.watched());
        watcher.files.save_records(true);
        (Begun { watcher, stop: sender }, updates)
    }
}

impl Begun {
    /// The look after the start, now: what is noticed after it is noticed by events.
    #[cfg(test)]
    pub(super) fn catch_up(&mut self, now: Instant) -> Vec<Update> {
        self.watcher.catch_up = Some(now);
        self.watcher.look(now)
    }

    /// The directories that MeshConfig lists at the start: all they hold.
    pub(crate) fn set_config_sources(&mut self, list: Vec<(SourceId, PathBuf)>) -> Vec<Update> {
        self.watcher.set_config_sources(list)
    }

    /// By which the thread is told of others.
    pub(crate) fn directories(&self) -> Directories {
        Directories(self.stop.clone())
    }

    /// Calls `changed` from a thread of its own with the updates of each change.
    pub fn spawn(self, changed: impl FnMut(Vec<Update>) + Send + 'static) -> std::io::Result<Watch> {
        let Self { watcher, stop } = self;
        let run = move || watcher.run(changed);
        let thread = std::thread::Builder::new().name("config-watch".into()).spawn(run)?;
        Ok(Watch { stop, thread: Some(thread) })
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

impl Watcher {
    fn run(mut self, mut changed: impl FnMut(Vec<Update>)) {
        while self.wait() {
            if let Some(Listed { list, told }) = self.listed.take() {
                let updates = self.set_config_sources(list);
                if !updates.is_empty() {
                    changed(updates);
                }
                // Whoever asked may have gone.
                let _ = told.send(());
            }
            let now = Instant::now();
            let updates = self.look(now);
            if !updates.is_empty() {
                changed(updates);
            }
            self.files.take_news().iter().for_each(|line| (self.log)(line));
            self.files.save_records(false);
        }
    }

    /// Waits until something is to be looked at. `false`: stop.
    fn wait(&mut self) -> bool {
        loop {
            let now = Instant::now();
            let due = [Some(self.next_look()), Some(self.next_swaps), self.files.due(), self.events.due()];
            let wait =
                due.into_iter().flatten().min().map_or(SWAPS_EVERY, |due| due.saturating_duration_since(now));
            match self.messages.recv_timeout(wait) {
                Ok(Message::Event(event, at)) => self.events.add(event, at),
                Ok(Message::Listed(listed)) => self.listed = Some(listed),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
            // What came meanwhile is taken together with it.
            for message in self.messages.try_iter() {
                match message {
                    Message::Event(event, at) => self.events.add(event, at),
                    Message::Listed(listed) => self.listed = Some(listed),
                    Message::Stop => return false,
                }
            }
            if self.listed.is_some() || self.events.due().is_some_and(|due| due <= Instant::now()) {
                return true;
            }
        }
    }

    fn set_config_sources(&mut self, list: Vec<(SourceId, PathBuf)>) -> Vec<Update> {
        let now = Instant::now();
        let mut updates = self.files.set_config_sources(list, now);
        self.watched_scans = 0;
        self.watch(now, now, &mut updates);
        updates
    }

    fn look(&mut self, now: Instant) -> Vec<Update> {
        let touched = self.events.take(now);
        for path in touched.iter().flat_map(|touched| &touched.unwatched) {
            if self.watches.forget(path) {
                self.watched_scans = 0;
            }
        }
        let everything = touched.as_ref().is_some_and(|touched| touched.everything);
        let (paths, since) = touched.map_or((HashSet::new(), now), |touched| (touched.paths, touched.since));
        let mut updates = if everything || now >= self.next_look() {
            let updates = self.files.scan(now, since);
            (self.looked, self.took, self.catch_up) = (now, now.elapsed(), None);
            self.files.save_records(true);
            updates
        } else {
            self.files.look_at(&paths, now, since)
        };
        if now >= self.next_swaps {
            updates.extend(self.files.look_for_swaps(now));
            let every = if self.files.lacks_something() { SWAPS_WAITED_FOR } else { SWAPS_EVERY };
            self.next_swaps = now + every;
        }
        self.watch(now, since, &mut updates);
        updates
    }

    /// Watches the directories that are there now. What changed in a new one before it was watched made no event, so
    /// everything is looked at again then.
    fn watch(&mut self, now: Instant, since: Instant, updates: &mut Vec<Update>) {
        for _ in 0..NESTED {
            let scans = self.files.scans();
            if scans == self.watched_scans {
                return;
            }
            self.watched_scans = scans;
            if self.watches.set(&self.files.watched()) {
                updates.extend(self.files.scan(now, since));
            }
        }
    }

    fn next_look(&self) -> Instant {
        let events_tell = self.watches.complete() && !self.files.leads_outside();
        let (every, share) = match events_tell {
            true => (LOOK_EVERY, LOOK_SHARE),
            false => (LOOK_WITHOUT_EVENTS, SHARE_WITHOUT_EVENTS),
        };
        let next = self.looked + every.max(self.took * share);
        self.catch_up.map_or(next, |at| at.min(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle control plane looks at no file: events tell. One whose directory cannot be watched, or does not know
    /// whether its volume is there, looks more often.
    #[test]
    fn every_file_is_looked_at_seldom_where_the_kernel_tells_of_changes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), "").unwrap();
        let (begun, _) = Watch::begin(Files::new(vec![dir.path().to_owned()]), |line| panic!("{line}"));
        let mut watcher = begun.watcher;
        assert!(watcher.watches.complete());
        assert_eq!(watcher.next_look() - watcher.looked, CATCH_UP);
        let start = watcher.next_look();
        assert!(watcher.look(start).is_empty());
        let scans = watcher.files.scans();
        watcher.took = Duration::from_millis(1);
        for seconds in 1..30 {
            assert!(watcher.look(start + Duration::from_secs(seconds)).is_empty());
        }
        assert_eq!(watcher.files.scans(), scans);
        assert!(watcher.look(start + Duration::from_secs(30)).is_empty());
        assert_eq!(watcher.files.scans(), scans + 1);
        // Where a look takes long it is rarer still.
        watcher.took = Duration::from_millis(100);
        assert_eq!(watcher.next_look() - watcher.looked, Duration::from_secs(100));
        // The root goes away: that is looked after, without a look at files.
        assert!(watcher.next_swaps <= watcher.looked + SWAPS_EVERY);
        std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
        std::fs::remove_dir(dir.path()).unwrap();
        let now = watcher.next_swaps;
        assert!(watcher.look(now).is_empty(), "it may come back in a moment");
        let now = now + Duration::from_millis(40);
        watcher.next_swaps = now;
        let updates = watcher.look(now);
        assert_eq!(updates.len(), 1, "it is lost: {updates:?}");
        assert_eq!(watcher.next_swaps - now, SWAPS_WAITED_FOR);
    }

    /// Two paths to one directory are one watch of the kernel: events tell of the last path only.
    #[test]
    fn without_every_event_every_file_is_looked_at_each_second() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        let (begun, _) = Watch::begin(Files::new(vec![dir.path().to_owned()]), |line| panic!("{line}"));
        let mut watcher = begun.watcher;
        assert!(!watcher.watches.complete());
        watcher.catch_up = None;
        watcher.took = Duration::from_millis(1);
        assert_eq!(watcher.next_look() - watcher.looked, LOOK_WITHOUT_EVENTS);
    }
}
