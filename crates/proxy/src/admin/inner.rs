//! What the pages show and command.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::sync::Notify;

use crate::admin::raw::Raw;
use crate::admin::updates::Updates;
use crate::peer::NodeIdentity;
use crate::runtime::ProxyHandle;

/// The state behind the pages.
pub(crate) struct Inner {
    pub handle: ProxyHandle,
    pub node: NodeIdentity,
    pub raw: Mutex<Raw>,
    pub updates: Mutex<Updates>,
    pub ready: AtomicBool,
    pub started: Instant,
    pub(super) quit: Notify,
    pub(super) sockets: Mutex<Vec<std::net::TcpListener>>,
    pub(super) address: Mutex<Option<SocketAddr>>,
}
