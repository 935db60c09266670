//! The Unix socket in the state directory: who may change the mesh speaks through it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Its name in the state directory.
pub const NAME: &str = "control.sock";

/// The kernel takes paths of 107 bytes.
const PATH_BYTES: usize = 107;

/// A path for `bind` and `connect`. One that is too long goes by the open directory; it must live as long as it is used.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    pub fn of(socket: &Path) -> io::Result<Self> {
        if socket.as_os_str().len() <= PATH_BYTES {
            return Ok(Self { path: socket.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let directory = File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Listens there. A socket of a process that has ended is replaced: whoever holds the directory's lock is alone.
pub(crate) fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(socket) {
        Ok(known) if known.file_type().is_socket() => fs::remove_file(socket)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there and is no socket")),
        Err(_) => {}
    }
    let path = SocketPath::of(socket)?;
    let listener = UnixListener::bind(path.as_path())?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_no_obstacle_and_a_file_that_is_no_socket_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let socket = deep.join(NAME);
        let first = listen(&socket).unwrap();
        drop(first);
        let second = listen(&socket).unwrap();
        second.set_nonblocking(false).unwrap();
        let path = SocketPath::of(&socket).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(path.as_path()).unwrap();
        second.accept().unwrap();
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let file = dir.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(listen(&file).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
