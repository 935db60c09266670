//! The catalogue of bad inputs against a whole proxy, through its sockets: HTTP/1 framing (H), upgrades and host
//! faults (U), HTTP/2 (N), slow, large and many (L), gRPC and detection (G). Each row is sent to a listener as
//! Istio's gateway has it and to both of a sidecar, and judged by what the client gets, by every byte the host got,
//! by a neighbour's connection and by the access log.
//!
//! | file | holds |
//! |---|---|
//! | `rig.rs` | the proxy with its three listeners, and what a client sees |
//! | `recorder.rs` | a host that keeps every byte it was sent |
//! | `frames.rs` | HTTP/2 by hand |
//! | `rows.rs` | that no row is left out without a word |
//! | `framing.rs`, `upgrades.rs`, `multiplexed.rs`, `load.rs`, `grpc.rs` | classes H, U, N, L, G |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they leave out")]

#[path = "../common/mod.rs"]
mod common;

mod frames;
mod framing;
mod grpc;
mod load;
mod multiplexed;
mod recorder;
mod rig;
mod rows;
mod upgrades;
