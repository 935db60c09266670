//! Getting an application's traffic into the mesh without root.
//!
//! This crate holds everything that touches namespaces, nf_tables and the application's process: a
//! *holder* process that owns a user and network namespace, starts the application in it and hands
//! sockets made inside it to the sidecar outside; the mesh's DNS responder; the environment-variable
//! fallback for machines that forbid user namespaces. It does not hold any proxying, any
//! configuration, or any knowledge of services: names arrive as a ready table, sockets leave raw.
//!
//! The processes: the sidecar (host namespaces, many threads) spawns the holder by executing its own
//! binary again with the argument [`HOLDER_ARGUMENT`]. [`holder_main`] must therefore be the first
//! call in `main`, before any thread exists, because `unshare(CLONE_NEWUSER)` needs a process with
//! one thread. The two talk over one socketpair; its end-of-file is what ties their lives together.
//!
//! ```no_run
//! capture::holder_main(); // first thing in main
//!
//! let claimed = capture::loopback::claim("default/reviews-v1")?;
//! let holder = capture::Holder::spawn(capture::HolderSpec {
//!     exe: std::env::current_exe()?,
//!     command: vec!["node".into(), "server.js".into()],
//!     env: vec![],
//!     cwd: None,
//!     mode: capture::Mode::Namespace(capture::Namespace::new(claimed.ip)),
//! })?;
//! // Workers take `holder.outbound` and `holder.sockets()`, dns::serve takes `holder.dns`; then:
//! holder.start()?;
//! std::process::exit(holder.wait().status());
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What capture cannot see: unix sockets, and what an application started as root does with the
//! rights root has (it could enter the host's namespace again).
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | what to start and how to capture it |
//! | [`holder`] | the sidecar's end: sockets, the application's pid and exit, stopping |
//! | [`app_sockets`] | the pool of unconnected sockets that live in the application's namespace |
//! | [`why_not`] | why a machine cannot capture, each with what to do about it |
//! | [`environment`] | the fallback: proxy variables |
//! | [`loopback`] | a workload's own address out of 127.77.0.0/16 |
//! | [`original_dst`] | where a redirected connection wanted to go |
//! | [`dns`] | the mesh's names: table, answers, forwarding, serving |
//! | `broker` | the holder's end: start, reap, answer, end |
//! | `listeners` | the listening sockets inside |
//! | `namespace` | unshare, id maps, capabilities, hidden sockets |
//! | `network` | `lo`, routes and nf_tables rules |
//! | `nf_tables` | rules as netlink messages |
//! | `netlink` | messages of attributes, and the socket that carries them out |
//! | `process_tree` | finding and ending every descendant |
//! | `protocol` | the messages between holder and sidecar |
//! | `syscalls` | the only `unsafe` code |
#![warn(
    clippy::print_stderr,
    reason = "`eprintln!` ends a process that nobody reads, or whose log is on a full disk"
)]

pub mod app_sockets;
mod broker;
pub mod dns;
pub mod environment;
pub mod holder;
mod listeners;
pub mod loopback;
mod namespace;
mod netlink;
mod network;
mod nf_tables;
pub mod original_dst;
mod process_tree;
mod protocol;
pub mod spec;
mod syscalls;
pub mod why_not;

pub use app_sockets::{AppSockets, Family};
pub use broker::{HOLDER_ARGUMENT, holder_main};
pub use holder::{AppExit, DnsSockets, Holder, SpawnError, StartError, probe};
pub use original_dst::original_dst;
pub use spec::{HolderSpec, Mode, Namespace};
pub use why_not::WhyNot;

#[doc(hidden)]
pub mod fuzzing {
    //! Entry points for fuzzing; the corpus also runs as an ordinary test.

    pub use crate::dns::fuzz_answer;
    pub use crate::dns::resolv_conf::fuzz_resolv_conf;
}
