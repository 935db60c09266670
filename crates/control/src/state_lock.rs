//! One process at a time in a state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::disk::make_private_dir;

/// Held while a process uses a directory. The kernel gives it back however the process ends (`flock`).
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    #[error(
        "the state directory {path} is in use by process {holder}; stop that process or choose another --state-dir",
        path = path.display()
    )]
    Held { path: PathBuf, holder: String },
    #[error("the state directory {path} cannot be written: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl StateLock {
    /// Makes the directory if it is not there, and takes it.
    pub fn take(directory: &Path) -> Result<Self, StateLockError> {
        let failed = |error| StateLockError::Io { path: directory.to_owned(), error };
        make_private_dir(directory).map_err(failed)?;
        // The file stays when the lock is given back: a process that waits for a file that was removed would hold
        // another lock than one that makes it anew.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(directory.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Empty in the moment between taking the lock and writing this.
                let _ = file.take(32).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "(unknown)".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(StateLockError::Held { path: directory.to_owned(), holder });
            }
        }
        file.set_len(0).map_err(failed)?;
        // A full disk must not keep a process from starting: the number is for people.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_one_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = StateLock::take(&path).unwrap();
        let error = StateLock::take(&path).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("in use by process {};", std::process::id())), "{said}");
        drop(first);
        let again = StateLock::take(&path).unwrap();
        drop(again);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
    }
}
