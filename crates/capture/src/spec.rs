//! What to start, and how its traffic is captured.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An application to start under a holder process.
#[derive(Debug, Clone)]
pub struct HolderSpec {
    /// The binary to execute as the holder: normally `std::env::current_exe()`. Its `main` must
    /// begin with [`crate::holder_main`].
    pub exe: PathBuf,
    /// The application: program (looked up in `PATH`) and arguments. May be empty when only the
    /// sockets are wanted; [`crate::Holder::start`] then fails.
    pub command: Vec<OsString>,
    /// Variables set on top of the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// The application's working directory; the caller's when `None`.
    pub cwd: Option<PathBuf>,
    pub mode: Mode,
}

/// How the application's traffic is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A network namespace of its own, with every connection redirected.
    Namespace(Namespace),
    /// No namespace: the application is only asked, by environment variables
    /// ([`crate::environment::variables`]), to use a proxy. The application and its descendants end
    /// with the sidecar all the same; only when somebody kills the holder itself are descendants
    /// beyond the application left, which a namespace would have given away.
    Environment,
}

/// The network namespace an application lives in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// The workload's own address. It becomes an address of the namespace's `lo` and the source of
    /// the application's connections, so that an application that asks for "my address" learns the
    /// one the mesh knows it by, and so that glibc's `AI_ADDRCONFIG`, which does not count
    /// 127.0.0.1 as IPv4, still resolves names.
    pub address: Ipv4Addr,
    /// Where workload addresses come from. Inside it only `address` is the application itself;
    /// every other address belongs to another workload and is captured although it is loopback.
    pub workload_range: (Ipv4Addr, u8),
    /// Every captured TCP connection ends here, on 127.0.0.1 and ::1 in the namespace.
    pub outbound_port: u16,
    /// Port 53, UDP and TCP, to whatever nameserver, ends here.
    pub dns_port: u16,
    /// How many listening sockets share `outbound_port` (SO_REUSEPORT): one per worker. 1 to 64.
    pub listeners: u8,
    /// How many unconnected IPv4 sockets are kept ready; IPv6 ones are an eighth of it. 1 to 1024.
    pub pool: u16,
    /// Unix sockets of host services that resolve names behind our back; each one that exists is
    /// covered by `/dev/null` in a mount namespace.
    pub hidden_sockets: Vec<PathBuf>,
}

impl Namespace {
    /// The mesh's usual ports, one listener and 64 sockets ready.
    pub fn new(address: Ipv4Addr) -> Self {
        Self {
            address,
            workload_range: (Ipv4Addr::new(127, 77, 0, 0), 16),
            outbound_port: 15001,
            dns_port: 15053,
            listeners: 1,
            pool: 64,
            // nss-resolve and nscd answer over these and would say "no such name" for every name
            // of the mesh; without them the C library asks the nameserver, which is us.
            hidden_sockets: vec!["/run/systemd/resolve/io.systemd.Resolve".into(), "/run/nscd/socket".into()],
        }
    }
}
