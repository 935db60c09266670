//! Which directories were read before a restart.
//!
//! A control plane that comes back before its directory does (a volume that is mounted late) knows nothing, which is
//! not the same as nothing being configured. It serves no configuration until what it once read is there again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::write_and_rename;
use crate::source::Reading;

#[derive(Debug)]
pub(crate) struct SourcesSeen {
    file: PathBuf,
    /// Read at some time.
    seen: BTreeSet<PathBuf>,
    /// Whether the operator was told what is waited for.
    told: bool,
}

impl SourcesSeen {
    /// A file that is missing or damaged means that nothing was read before.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join("sources.json");
        let seen = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file, seen: seen.unwrap_or_default(), told: false }
    }

    /// Whether the reading lacks a directory that was read before; notes those that were read now.
    pub(crate) fn is_waiting(&mut self, directories: &[PathBuf], reading: &Reading, log: fn(&str)) -> bool {
        let lacking: Vec<&PathBuf> = reading.unread.iter().filter(|d| self.seen.contains(*d)).collect();
        if let Some(first) = lacking.first() {
            if !std::mem::replace(&mut self.told, true) {
                let (directory, file) = (first.display(), self.file.display());
                log(&format!(
                    "waiting for {directory}, which was read before the restart: nothing is served until it is there \
                     (to start without it, remove {file} and start again)"
                ));
            }
            return true;
        }
        let read = directories.iter().filter(|d| !reading.unread.contains(d)).cloned();
        let known = self.seen.len();
        self.seen.extend(read);
        if self.seen.len() != known {
            let text = serde_json::to_string(&self.seen).unwrap_or_default();
            if let Err(error) =
                write_and_rename(&self.file.with_extension("tmp"), &self.file, text.as_bytes())
            {
                log(&format!("cannot write {}: {error}; going on without", self.file.display()));
            }
        }
        false
    }
}
