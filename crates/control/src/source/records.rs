//! What was read before a restart, on disk: which directory each root was and how many objects it had.
//!
//! A control plane that comes back before its directory does (a volume that is mounted late) reads nothing, or the empty
//! mount point. The record tells that from a directory that was always empty.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::disk::write_and_rename;

/// A directory when it was last read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub device: u64,
    pub inode: u64,
    pub objects: usize,
}

/// The records of all roots. Written by a thread of its own: a disk that is slow delays no change.
#[derive(Debug)]
pub struct Records {
    before: BTreeMap<PathBuf, Seen>,
    now: BTreeMap<PathBuf, Seen>,
    written: BTreeMap<PathBuf, Seen>,
    texts: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl Records {
    /// Reads what the run before left in the state directory. A file that is not there means that nothing was read
    /// before; one that is damaged, that it is unknown, which is logged.
    pub fn open(state_dir: &Path, log: fn(&str)) -> io::Result<Self> {
        let file = state_dir.join("sources.json");
        let unknown = |reason: String| {
            log(&format!(
                "{}: {reason}; whether a directory had objects before the restart is unknown, so none is waited for",
                file.display()
            ));
            BTreeMap::new()
        };
        let before: BTreeMap<PathBuf, Seen> = match fs::read(&file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).unwrap_or_else(|e| unknown(format!("is damaged: {e}")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => unknown(format!("cannot be read: {error}")),
        };
        let (texts, received) = channel();
        let writer = std::thread::Builder::new()
            .name("source-records".into())
            .spawn(move || write(&file, &received, log))?;
        let now = before.clone();
        Ok(Self { written: now.clone(), before, now, texts: Some(texts), writer: Some(writer) })
    }

    /// What the run before knew of this root.
    pub fn before(&self, root: &Path) -> Option<Seen> {
        self.before.get(&key(root)).copied()
    }

    /// Notes what is known now.
    pub fn note(&mut self, root: &Path, seen: Seen) {
        self.now.insert(key(root), seen);
    }

    /// Has it written if that makes a difference: at once if a root became empty or not empty, or is another directory;
    /// if only numbers of objects differ, when `all` says so.
    pub fn save(&mut self, all: bool) {
        let tells = |(root, seen): (&PathBuf, &Seen)| match self.written.get(root) {
            Some(old) => {
                Seen { objects: 0, ..*old } != Seen { objects: 0, ..*seen }
                    || (old.objects == 0) != (seen.objects == 0)
            }
            None => true,
        };
        if self.now == self.written || !(all || self.now.iter().any(tells)) {
            return;
        }
        self.written = self.now.clone();
        let (Some(texts), Ok(text)) = (&self.texts, serde_json::to_string(&self.now)) else { return };
        // Fails only when the writer has panicked, which was printed then.
        let _ = texts.send(text);
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.save(true);
        drop(self.texts.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The same directory is the same from wherever the program is started.
fn key(root: &Path) -> PathBuf {
    std::path::absolute(root).unwrap_or_else(|_| root.to_owned())
}

fn write(file: &Path, texts: &Receiver<String>, log: fn(&str)) {
    let mut complained = false;
    while let Ok(mut text) = texts.recv() {
        text = texts.try_iter().last().unwrap_or(text);
        match write_and_rename(&file.with_extension("tmp"), file, text.as_bytes()) {
            Ok(()) => complained = false,
            Err(error) if !complained => {
                complained = true;
                log(&format!(
                    "cannot write {}: {error}; after a restart it is not known which directories had objects",
                    file.display()
                ));
            }
            Err(_) => {}
        }
    }
}
