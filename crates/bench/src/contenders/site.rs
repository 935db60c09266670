//! Where one instance stands.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) const ACCESS_LOG: &str = "access.log";

/// Which side of a request a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server's: the only one of a single hop.
    Inbound,
    /// The client's.
    Outbound,
}

/// What a proxy speaks with what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    Http1,
    Http2,
    /// Whatever one filamesh speaks with another.
    Multiplexed,
}

/// Where one instance listens, sends and writes, and what it is.
#[derive(Debug, Clone)]
pub struct Site {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    /// Where the server's proxy sends what begins with `/large`, if not to the upstream.
    pub large: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub directory: PathBuf,
    /// Open files a process may have; tables sized at the start must fit.
    pub files: u64,
    pub role: Role,
    pub between: Between,
}

impl Site {
    /// Sized by what the rivals reserve at the start; two files for each connection.
    pub(super) fn connections(&self) -> u64 {
        (self.files.saturating_sub(500) / 2).clamp(64, 9_700)
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.directory.join(ACCESS_LOG)
    }
}
