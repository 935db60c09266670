//! The mesh configuration from a file of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use api::MeshConfig;

/// Looked at now and then; what is broken changes nothing.
#[derive(Debug)]
pub(crate) struct MeshFile {
    path: PathBuf,
    stamp: Option<(u64, u64, i64, i64)>,
    config: MeshConfig,
}

impl MeshFile {
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let mut file = Self { path, stamp: None, config: MeshConfig::istio_default() };
        file.stamp = file.stamp_now();
        file.config = file.read()?;
        Ok(file)
    }

    pub(crate) fn config(&self) -> &MeshConfig {
        &self.config
    }

    /// Reads it again if it has changed. Whether it says something else.
    pub(crate) fn look(&mut self, log: fn(&str)) -> bool {
        let stamp = self.stamp_now();
        // A file that is gone for a moment is being replaced.
        if stamp == self.stamp || stamp.is_none() {
            return false;
        }
        self.stamp = stamp;
        match self.read() {
            Ok(config) => {
                let changed = config != self.config;
                self.config = config;
                changed
            }
            Err(reason) => {
                log(&format!("{}: {reason}; the mesh configuration in use stays", self.path.display()));
                false
            }
        }
    }

    fn read(&self) -> Result<MeshConfig, String> {
        let text = fs::read_to_string(&self.path).map_err(|e| e.to_string())?;
        let name = self.path.display().to_string();
        let (config, problems) = api::parse_mesh_config(&name, &text, &api::Options::default());
        match problems.iter().find(|p| p.is_error()) {
            Some(problem) => Err(problem.to_string()),
            None => Ok(config),
        }
    }

    fn stamp_now(&self) -> Option<(u64, u64, i64, i64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    }
}
