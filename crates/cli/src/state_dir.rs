//! Where a mesh and its parts keep what they know: directories of this user alone, each used by one process at a time.
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use control::disk::make_private_dir;
use control::state_lock::{StateLock, StateLockError};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, access, geteuid, mkdtemp};

use crate::exit::{Code, Failure};

/// The directory under which this user's meshes keep their state.
pub fn root() -> PathBuf {
    let usable = |path: PathBuf| make_private_dir(&path).is_ok().then_some(path).filter(|p| writable(p));
    let from = |variable: &str, below: &str| {
        let value = std::env::var_os(variable).filter(|v| !v.is_empty())?;
        usable(Path::new(&value).join(below))
    };
    from("XDG_STATE_HOME", "filamesh")
        .or_else(|| from("HOME", ".local/state/filamesh"))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("filamesh-{}", geteuid())))
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Files that this process makes from now on are for its user alone, also those that libraries make (umask).
pub fn files_are_private() {
    umask(Mode::from_bits_truncate(0o077));
}

/// The directory the user names. One that is there keeps its mode.
pub fn given(path: &Path) -> Result<PathBuf, Failure> {
    make_private_dir(path).map_err(|e| not_made(path, &e))?;
    std::path::absolute(path).map_err(|e| Failure::io(path.display(), &e))
}

/// The directory of a whole mesh, taken for this process: the one the user names, else a new one that nobody ever used
/// (mkdtemp).
pub fn of_mesh(path: Option<&Path>, role: &str) -> Result<(PathBuf, StateLock), Failure> {
    let path = match path {
        Some(path) => given(path)?,
        None => {
            let template = own(root())?.join(format!("{role}-XXXXXX"));
            mkdtemp(&template).map_err(|e| not_made(&template, &e.into()))?
        }
    };
    let lock = StateLock::take(&path).map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
    Ok((path, lock))
}

/// The directory of a control plane over these configuration directories: the same at every start.
pub fn of_control(config_dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    let mut key = Vec::new();
    let mut name = String::new();
    for dir in config_dirs {
        let canonical = canonical(dir).map_err(|e| Failure::io(dir.display(), &e))?;
        key.extend_from_slice(canonical.as_os_str().as_encoded_bytes());
        key.push(0);
        if name.is_empty() {
            name = readable(&canonical);
        }
    }
    own(root().join("control").join(format!("{name}-{:016x}", fnv(&key))))
}

/// The path without links. Of one that is not there yet, what is there of it: it has the same name when it comes.
fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for above in path.ancestors() {
        if let Ok(canonical) = above.canonicalize() {
            let below = path.strip_prefix(above).unwrap_or(Path::new(""));
            // An empty part would leave a separator behind.
            return Ok(if below.as_os_str().is_empty() { canonical } else { canonical.join(below) });
        }
    }
    Ok(path)
}

/// The last part of a path, for people who look for the directory.
fn readable(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.chars().filter(|c| fits(*c)).take(40).collect()
}

/// FNV-1a: the same in every version of this program.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Takes the directory for this process. A proxy whose directory another process uses (a second replica of the same
/// name) gets one with a number; one that the user named is not exchanged.
pub fn of_proxy(wanted: &Path, named_by_user: bool) -> Result<(PathBuf, StateLock), Failure> {
    let numbered = |number: u32| match number {
        1 => wanted.to_owned(),
        _ => {
            let mut name = wanted.file_name().unwrap_or_default().to_owned();
            name.push(format!("-{number}"));
            wanted.with_file_name(name)
        }
    };
    for number in 1..=1000 {
        let path = given(&numbered(number))?;
        match StateLock::take(&path) {
            Ok(lock) => return Ok((path, lock)),
            Err(StateLockError::Held { .. }) if !named_by_user => {}
            Err(error) => return Err(Failure::new(Code::Failure, error.to_string())),
        }
    }
    Err(Failure::new(Code::Failure, format!("a thousand proxies use {}", wanted.display())))
}

/// Makes a directory of ours; one that somebody else made in a place open to all (`/tmp`) is not used.
fn own(path: PathBuf) -> Result<PathBuf, Failure> {
    make_private_dir(&path).map_err(|e| not_made(&path, &e))?;
    let owner = std::fs::metadata(&path).map_err(|e| not_made(&path, &e))?.uid();
    if owner != geteuid().as_raw() {
        let path = path.display();
        return Err(Failure::new(
            Code::Denied,
            format!("{path} belongs to uid {owner}: name another with --state-dir or XDG_STATE_HOME"),
        ));
    }
    Ok(path)
}

fn not_made(path: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("cannot make the state directory {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_name_by_whatever_links_and_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(canonical(&link).unwrap(), real);
        let before = canonical(&link.join("later/mesh")).unwrap();
        std::fs::create_dir_all(real.join("later/mesh")).unwrap();
        assert_eq!(canonical(&link.join("later/mesh")).unwrap(), before);
        assert_eq!(before, real.join("later/mesh"));
    }

    #[test]
    fn two_replicas_of_one_name_get_two_directories() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("default.web");
        let (first, held) = of_proxy(&wanted, false).unwrap();
        let (second, _also) = of_proxy(&wanted, false).unwrap();
        assert_eq!((first.as_path(), second), (wanted.as_path(), dir.path().join("default.web-2")));
        assert!(of_proxy(&wanted, true).unwrap_err().message.contains("is in use by process"));
        drop(held);
        assert_eq!(of_proxy(&wanted, false).unwrap().0, wanted);
    }
}
