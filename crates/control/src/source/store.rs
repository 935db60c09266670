//! Objects as files of the mesh's own directory, one each: what `apply` writes and `delete` removes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory that objects are written to. The control plane watches it; nothing else connects the two.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// Why an object could not be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot write {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot remove {path}: {error}", path = path.display())]
    Remove { path: PathBuf, error: io::Error },
}

impl Store {
    /// Makes the directory if it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        fs::create_dir_all(&directory)
            .map_err(|error| StoreError::Write { path: directory.clone(), error })?;
        Ok(Self { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file an object of this name has: `kind.namespace.name.yaml`.
    pub fn path_of(&self, kind: &str, namespace: &str, name: &str) -> PathBuf {
        let part = |text: &str| -> String {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            text.chars().map(|c| if fits(c) { c } else { '_' }).collect()
        };
        let (kind, namespace, name) = (part(&kind.to_lowercase()), part(namespace), part(name));
        self.directory.join(format!("{kind}.{namespace}.{name}.yaml"))
    }

    /// Writes one object, whole or not at all, and on disk when this returns. `manifest` is YAML or JSON, one document.
    pub fn put(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        manifest: &str,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path_of(kind, namespace, name);
        // Hidden until it is whole.
        let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = self.directory.join(format!(".{file_name}.{}", std::process::id()));
        let written = write_and_rename(&beside, &path, manifest);
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            StoreError::Write { path: path.clone(), error }
        })?;
        Ok(path)
    }

    /// Removes an object written by [`Store::put`]. `false`: there is no such file.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let path = self.path_of(kind, namespace, name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::Remove { path, error }),
        }
    }
}

/// Writes beside, flushes, renames, flushes the directory.
pub(crate) fn write_and_rename(beside: &Path, path: &Path, content: &str) -> io::Result<()> {
    let mut file = File::create(beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    match path.parent().filter(|d| !d.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
