//! The kernel's watches of directories, one each: a watch of a whole tree would miss what is made in a new directory
//! before it is watched too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::tree::Inode;

pub(crate) struct Watches {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Inode>,
    complete: bool,
    complained: bool,
    log: fn(&str),
}

impl Watches {
    /// `event` gets each event with the moment at which it came, `log` what an operator should know about the watching itself.
    pub(crate) fn new(
        event: impl Fn(notify::Result<Event>, Instant) + Send + 'static,
        log: fn(&str),
    ) -> Self {
        let watcher = notify::recommended_watcher(move |of_kernel| event(of_kernel, Instant::now()));
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                log(&format!("changes of files are noticed within seconds only: {error}"));
                None
            }
        };
        Self { watcher, watched: HashMap::new(), complete: false, complained: false, log }
    }

    /// Whether every change makes an event.
    pub(crate) fn complete(&self) -> bool {
        self.complete
    }

    /// Watches these and no others. Whether one was not watched before: what was made in it so far made no event.
    pub(crate) fn set(&mut self, wanted: &BTreeMap<PathBuf, Inode>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let gone = |path: &PathBuf, inode: &Inode| wanted.get(path) != Some(inode);
        let old: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, inode)| gone(path, inode))
            .map(|(path, _)| path.clone())
            .collect();
        for path in old {
            // Fails when the directory is gone, and its watch with it.
            let _ = watcher.unwatch(&path);
            self.watched.remove(&path);
        }
        // The kernel has one watch for a directory, by whichever path: events name the last.
        let different: BTreeSet<&Inode> = wanted.values().collect();
        self.complete = different.len() == wanted.len();
        let mut new = false;
        for (path, inode) in wanted {
            if self.watched.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *inode);
                    new = true;
                }
                Err(error) => {
                    self.complete = false;
                    if !std::mem::replace(&mut self.complained, true) {
                        let path = path.display();
                        (self.log)(&format!("changes in {path} are noticed within seconds only: {error}"));
                    }
                }
            }
        }
        new
    }

    /// The kernel may not watch this any more, whatever is there now. Whether it was watched.
    pub(crate) fn forget(&mut self, path: &Path) -> bool {
        let watched = self.watched.remove(path).is_some();
        if let (true, Some(watcher)) = (watched, &mut self.watcher) {
            let _ = watcher.unwatch(path);
        }
        watched
    }
}
