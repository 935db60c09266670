//! Other people's clients through our proxies: curl, nghttp, h2load, Node, Python, grpcio, WebSocket, gRPC-Web.
//!
//! | module | holds |
//! |---|---|
//! | `chain` | one and two proxies from static Envoy bootstraps, and every path through them |
//! | `peer` | other people's programs: found, started, judged; what is not installed is skipped by name |
//! | `http` | Node, Python, curl, nghttp and h2load over every path |
//! | `grpc` | grpcio, and gRPC-Web by hand |
//! | `exact` | HTTP/1 byte for byte: header case and order |
//! | `options` | what a bootstrap may say: direct responses, timeouts, paths, versions |
//! | `mesh` | the same clients between two meshed workloads |
//! | `websocket` | WebSockets over HTTP/1 and over extended CONNECT (RFC 8441) |
//!
//! `peers/` holds the scripts. With `FILAMESH_CLIENTS_VIA=envoy` the same tests go through a real Envoy: who is right?
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod chain;
#[path = "../common/mod.rs"]
mod common;
mod exact;
mod grpc;
mod http;
mod mesh;
mod options;
mod peer;
mod websocket;
