//! What the kernel's events are about, and whether what they tell of is complete.
//!
//! A file that was closed after it was written, renamed into place or removed is as it is meant to be and is looked at
//! at once. One that is being written is waited for until it is closed, but only for a moment: a program may keep it open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind};

/// A file that is being written, and of which nothing was heard for so long, is read all the same. Links too: they are
/// made, never closed.
const QUIET: Duration = Duration::from_millis(5);
/// A file that is written without a pause is read after this.
const AT_MOST: Duration = Duration::from_millis(50);

/// Events that were not acted on yet.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// With the time of the first event.
    complete: HashMap<PathBuf, Instant>,
    /// With the times of the first and the last event.
    written: BTreeMap<PathBuf, (Instant, Instant)>,
    /// Events were lost, or the watching is in trouble.
    lost: Option<Instant>,
    /// The kernel may have dropped its watch of what was at these paths.
    unwatched: HashSet<PathBuf>,
}

/// What is to be looked at now.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) paths: HashSet<PathBuf>,
    pub(crate) everything: bool,
    pub(crate) unwatched: HashSet<PathBuf>,
    /// The first of the events.
    pub(crate) since: Instant,
}

enum Meaning {
    Nothing,
    Written,
    Complete,
    /// Complete, and whatever was at the path is not there any more.
    Replaced,
}

impl Events {
    /// Takes in an event that came at the given time.
    pub(crate) fn add(&mut self, event: notify::Result<Event>, at: Instant) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) | Err(_) => {
                self.lost.get_or_insert(at);
                return;
            }
        };
        let meaning = meaning(event.kind);
        for path in event.paths {
            match meaning {
                Meaning::Nothing => {}
                Meaning::Written => {
                    self.written.entry(path).and_modify(|(_, last)| *last = at).or_insert((at, at));
                }
                Meaning::Complete => self.complete(path, at),
                Meaning::Replaced => {
                    self.unwatched.insert(path.clone());
                    self.complete(path, at);
                }
            }
        }
    }

    /// When something is to be looked at though no further event comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        let complete = self.complete.values().copied().min();
        let written = self.written.values().map(|(first, last)| read_at(*first, *last)).min();
        [complete, written, self.lost].into_iter().flatten().min()
    }

    /// Takes what is to be looked at now; `None`: nothing.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Touched> {
        let ready = |times: &(Instant, Instant)| read_at(times.0, times.1) <= now;
        let paths: Vec<PathBuf> =
            self.written.iter().filter(|(_, times)| ready(times)).map(|(path, _)| path.clone()).collect();
        for path in paths {
            self.complete(path, now);
        }
        let lost = self.lost.take();
        let since = self.complete.values().copied().chain(lost).min()?;
        Some(Touched {
            paths: std::mem::take(&mut self.complete).into_keys().collect(),
            everything: lost.is_some(),
            unwatched: std::mem::take(&mut self.unwatched),
            since,
        })
    }

    fn complete(&mut self, path: PathBuf, at: Instant) {
        let first = self.written.remove(&path).map_or(at, |(first, _)| first);
        self.complete.entry(path).or_insert(first);
    }
}

fn read_at(first: Instant, last: Instant) -> Instant {
    (last + QUIET).min(first + AT_MOST)
}

fn meaning(kind: EventKind) -> Meaning {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Create(CreateKind::Folder) => {
            Meaning::Complete
        }
        // Reading is no change.
        EventKind::Access(_) => Meaning::Nothing,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Meaning::Replaced,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => Meaning::Written,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    const CREATED: EventKind = EventKind::Create(CreateKind::File);
    const MODIFIED: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    /// Each kind of event (inotify(7)) and when its file is read, in milliseconds after the last of the events, which
    /// come one a millisecond. `None`: never.
    #[test]
    fn what_is_complete_is_read_at_once() {
        for (kinds, wait) in [
            (vec![CREATED, MODIFIED, CLOSED], Some(0)),
            (vec![RENAMED], Some(0)),
            (vec![EventKind::Remove(RemoveKind::File)], Some(0)),
            (vec![EventKind::Create(CreateKind::Folder)], Some(0)),
            // Still open; a link.
            (vec![CREATED], Some(5)),
            (vec![CREATED, MODIFIED, MODIFIED], Some(5)),
            (vec![MODIFIED; 49], Some(2)),
            (vec![EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any))], Some(5)),
            (vec![EventKind::Access(AccessKind::Open(AccessMode::Any))], None),
            (vec![EventKind::Access(AccessKind::Close(AccessMode::Read))], None),
        ] {
            let start = Instant::now();
            let mut events = Events::default();
            let mut at = start;
            for (number, kind) in (0..).zip(&kinds) {
                at = start + Duration::from_millis(number);
                events.add(Ok(Event::new(*kind).add_path("a.yaml".into())), at);
            }
            let due = events.due().map(|due| due.max(at) - at);
            assert_eq!(due, wait.map(Duration::from_millis), "{kinds:?}");
            if let Some(due) = due {
                let touched = events.take(at + due).expect("it is due");
                assert_eq!(touched.paths, HashSet::from(["a.yaml".into()]));
                assert_eq!(touched.since, start, "counted from the first event of the file");
            }
            assert!(events.due().is_none() && events.take(at).is_none(), "{kinds:?}");
        }
    }

    #[test]
    fn one_that_is_being_written_holds_up_no_other() {
        let now = Instant::now();
        let mut events = Events::default();
        events.add(Ok(Event::new(CREATED).add_path("slow.yaml".into())), now);
        events.add(Ok(Event::new(RENAMED).add_path("done.yaml".into())), now);
        assert_eq!(events.take(now).map(|t| t.paths), Some(HashSet::from(["done.yaml".into()])));
        assert_eq!(events.due(), Some(now + QUIET));
    }

    #[test]
    fn lost_events_make_everything_due() {
        let now = Instant::now();
        let mut events = Events::default();
        events.add(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)), now);
        assert!(events.take(now).is_some_and(|touched| touched.everything));
    }
}
