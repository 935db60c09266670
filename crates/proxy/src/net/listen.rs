//! Opening listening sockets, and errors that say what to check.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// A listening socket could not be opened: one line, the address and what to check.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{listener}: {address} is already in use{holder}: stop what listens there or choose another port"
    )]
    InUse { listener: String, address: SocketAddr, holder: String },
    #[error(
        "{listener}: no permission to listen on {address}: a port below 1024 needs CAP_NET_BIND_SERVICE; choose a higher one"
    )]
    Permission { listener: String, address: SocketAddr },
    #[error("{listener}: {address} is not an address of this machine")]
    NotLocal { listener: String, address: SocketAddr },
    #[error("{listener}: too many open files while opening {address}: raise the limit (ulimit -n)")]
    TooManyFiles { listener: String, address: SocketAddr },
    #[error("{listener}: can not listen on {address}: {source}")]
    Other { listener: String, address: SocketAddr, source: io::Error },
}

/// Opens `address` non-blocking. `shared`: several sockets may listen there, the kernel spreads connections over them.
pub fn listen(
    listener: &str,
    address: SocketAddr,
    shared: bool,
    backlog: i32,
) -> Result<Socket, ListenError> {
    open(address, shared, backlog).map_err(|source| {
        let listener = listener.to_owned();
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => ListenError::InUse { listener, address, holder: holder(address) },
            Some(libc::EACCES | libc::EPERM) => ListenError::Permission { listener, address },
            Some(libc::EADDRNOTAVAIL) => ListenError::NotLocal { listener, address },
            Some(libc::EMFILE | libc::ENFILE) => ListenError::TooManyFiles { listener, address },
            _ => ListenError::Other { listener, address, source },
        }
    })
}

fn open(address: SocketAddr, shared: bool, backlog: i32) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// Who listens on the port: looked up in /proc only to explain the failure; empty when that can not be seen.
fn holder(address: SocketAddr) -> String {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let Ok(text) = std::fs::read_to_string(table) else { return String::new() };
    let port = format!(":{:04X}", address.port());
    let inodes: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let local = columns.nth(1)?;
            // State 0A is LISTEN; the inode is the tenth column.
            (local.ends_with(&port) && columns.nth(1)? == "0A").then(|| columns.nth(5)).flatten()
        })
        .collect();
    find_process(&inodes).unwrap_or_default()
}

fn find_process(inodes: &[&str]) -> Option<String> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files.flatten().any(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|target| wanted.iter().any(|w| target.as_os_str() == w.as_str()))
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(" by {} (pid {pid})", name.trim()));
        }
    }
    None
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_holder() {
        let first = listen("a", "127.0.0.1:0".parse().unwrap(), false, 16).unwrap();
        let address = first.local_addr().unwrap().as_socket().unwrap();
        let error = listen("ingress", address, false, 16).unwrap_err().to_string();
        assert!(error.starts_with(&format!("ingress: {address} is already in use by ")), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }
}
