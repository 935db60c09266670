//! The data plane: what happens to connections and requests.
//!
//! Holds: worker threads with their event loops, listeners, exchanges, filters, upstream pools, the admin server. Holds
//! not: what configuration means (`model` decides, this crate does), bytes of protocols (`wire`), Istio's kinds.
//!
//! Imports run downwards and in no circle: [`net`], [`upstream`], data of a request and its connections (`exchange/mod.rs` and
//! what it holds), the worker that owns all of them (`worker/mod.rs`), and above it, room by room, what it does (`impl Worker`).
//!
//! A request's way is told in [`worker`]; the control side (a configuration arrives, counters are read) in [`runtime`]
//! and [`admin`].
//!
//! | module | holds |
//! |---|---|
//! | [`runtime`] | starting, configuring, draining and stopping a proxy: [`Runtime`], [`ProxyHandle`] |
//! | [`options`] | [`ProxyOptions`]: workers, where listeners are bound, where the application lives |
//! | [`static_config`] | a proxy from one static bootstrap |
//! | [`admin`] | `/config_dump`, `/clusters`, `/stats` and so on |
//! | [`worker`] | one thread of the data plane: its loop, its connections, what it is told; a request's way, step by step |
//! | [`client`] | those who call us: accepted, inspected, cut into messages |
//! | [`request`] | the head judged, routed, edited |
//! | [`filters`] | a chain's filters, one file each |
//! | [`host`] | those we call: an attempt, its connection, what the host says cut into messages |
//! | [`response`] | the answer: passed on, tried again, or one of our own |
//! | [`exchange`] | one request and its response: its state, its bodies, its timers, its end |
//! | [`call`] | requests that no client made: mirrors, health checks |
//! | [`tcp`] | connections that are not HTTP |
//! | [`upstream`] | clusters, hosts, breakers, outlier detection, name resolution |
//! | [`net`] | sockets, timers, listening |
//! | `http2` | HTTP/2 settings in the codec's words |
//! | [`peer`] | Istio's metadata exchange |
//! | [`telemetry_sink`], [`log_writer`] | a worker's share of metrics and logs; the threads that write logs |
//! | `table` | tables whose keys are never used for another entry |
//! | `snapshot` | the configuration as a worker holds it |
//! | [`clock`] | time, injected |
//! | `machine` | a worker as tests drive it |
//! | `unheeded` | what is asked for and not done, said once |
//! | `exchange_id` | the number of a request under way |
#![warn(
    clippy::print_stderr,
    reason = "`eprintln!` ends a process that nobody reads, or whose log is on a full disk"
)]

pub mod admin;
mod call;
mod client;
pub mod clock;
mod exchange;
mod exchange_id;
mod filters;
mod host;
mod http2;
mod log_writer;
#[doc(hidden)]
pub mod machine;
pub mod net;
pub mod options;
pub mod peer;
mod request;
mod response;
pub mod runtime;
mod snapshot;
pub mod static_config;
mod table;
mod tcp;
mod telemetry_sink;
mod unheeded;
mod upstream;
mod worker;

pub use admin::Admin;
#[doc(hidden)]
pub mod fuzzing {
    /// `x-envoy-peer-metadata` as anybody may send it.
    pub fn fuzz_peer_metadata(header: &[u8]) {
        crate::peer::fuzz(header);
    }
}

pub use net::network::{AppSockets, IpVersion};
pub use options::{Application, Binding, ProxyOptions, Source};
pub use peer::NodeIdentity;
pub use runtime::{Applied, ProxyHandle, Runtime, StartError};
pub use static_config::{StaticError, StaticProxy, run_static, start_static};
pub use upstream::host::HostReport;
