//! What a control plane is started with, and why it did not start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

/// What a control plane is started with.
#[derive(Debug)]
pub struct ControlOptions {
    /// Watched. Of two objects of the same identity the one in the earlier directory wins, then the one in the earlier file.
    /// A directory that does not exist yet is read when it does. One that had objects before a restart and has none now is
    /// waited for: nothing is served without it.
    pub config_dirs: Vec<PathBuf>,
    /// Directories that had objects before the restart may be empty or absent now.
    pub accept_empty: bool,
    /// A MeshConfig document. `None`: Istio's defaults, or what a ConfigMap `istio` in a directory says.
    pub mesh_config: Option<PathBuf>,
    /// Registrations and applied objects are kept here over restarts, and the Unix socket by which objects are applied.
    /// One control plane at a time. Made if absent, for this user alone.
    pub state_dir: PathBuf,
    /// gRPC: delta ADS, plaintext.
    pub xds: Listen,
    /// `/healthz`, `/metrics`, `/debug/*`, `/filamesh/v1/*`.
    pub http: Listen,
    /// One line for each event an operator should know.
    pub log: fn(&str),
}

/// Where to listen.
#[derive(Debug)]
pub enum Listen {
    /// Port 0: the kernel chooses.
    Address(SocketAddr),
    /// A socket that listens already.
    Socket(TcpListener),
}

/// Why the control plane did not start. Each is one line that says what to check.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{role} cannot listen on {address}: the port is in use; stop the other process or choose another"
    )]
    PortInUse { role: &'static str, address: SocketAddr },
    #[error("{role} cannot listen on {address}: not permitted; ports below 1024 need a privilege")]
    PortDenied { role: &'static str, address: SocketAddr },
    #[error("{role} cannot listen on {address}: {error}")]
    Listen { role: &'static str, address: SocketAddr, error: io::Error },
    #[error("the state directory {path} cannot be written: {error}", path = path.display())]
    StateDir { path: PathBuf, error: io::Error },
    #[error(transparent)]
    StateLock(#[from] crate::state_lock::StateLockError),
    #[error(transparent)]
    Applied(#[from] crate::source::applied::AppliedError),
    #[error("cannot listen on the Unix socket {path}: {error}", path = path.display())]
    Socket { path: PathBuf, error: io::Error },
    #[error("the configuration directory {path} cannot be read: {error}", path = path.display())]
    ConfigDir { path: PathBuf, error: io::Error },
    #[error("the mesh configuration {path} cannot be used: {reason}", path = path.display())]
    MeshConfig { path: PathBuf, reason: String },
    #[error("the control plane's threads cannot be started: {0}")]
    Threads(io::Error),
}
