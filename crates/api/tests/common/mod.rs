//! Where recorded cases are, if they are.

use std::path::{Path, PathBuf};

/// `FILAMESH_SHARED`, else `../shared` beside the workspace; `None` after one loud line when there is no such thing.
pub fn shared(what: &str, below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FILAMESH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join(below);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {what} (no shared corpus)");
    None
}
