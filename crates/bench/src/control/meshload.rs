//! Getting the load tool: Go source in the shared folder, built once into our build directory.

use std::path::{Path, PathBuf};

use crate::rivals;

#[derive(Debug, Clone)]
pub struct Meshload {
    pub program: PathBuf,
}

impl Meshload {
    /// Copies the source if it differs and builds the copy: Go's own cache makes the second time short, and the shared folder
    /// is never written to.
    pub fn build(target: &Path, workspace: &Path) -> Result<Meshload, String> {
        let origin = rivals::shared(workspace).join("rig/meshload");
        if !origin.join("go.mod").is_file() {
            return Err(format!("{}: no load tool there (FILAMESH_SHARED)", origin.display()));
        }
        let source = target.join("meshload/source");
        rivals::copy_changed(&origin, &source).map_err(|e| format!("{}: {e}", source.display()))?;
        let go = rivals::debian("go", "golang-go")?.display().to_string();
        let program = target.join("meshload/meshload");
        eprintln!("building meshload");
        let (directory, output) = (source.display().to_string(), program.display().to_string());
        rivals::run(&go, &["build", "-C", &directory, "-o", &output, "."])?;
        Ok(Meshload { program })
    }
}
