//! Whether the control plane waits for a source that was there before a restart: for the engine as long as it takes whole
//! readings. [`crate::source::Records`] remembers, the directory decides, its problem says what is waited for.

use std::path::{Path, PathBuf};

use crate::source::Reading;

#[derive(Debug)]
pub(crate) struct SourcesSeen;

impl SourcesSeen {
    pub(crate) fn open(_state_dir: &Path) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the engine's call stays as it is until the engine takes deltas")]
    pub(crate) fn is_waiting(&mut self, _directories: &[PathBuf], reading: &Reading, _log: fn(&str)) -> bool {
        reading.waiting
    }
}
