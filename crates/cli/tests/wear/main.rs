//! What must not wear a proxy down, shown from outside on the program itself: its processor time, memory, wake-ups and
//! descriptors are those of a process of its own, clients and hosts are in this one.
//!
//! | file | holds |
//! |---|---|
//! | `subject.rs` | the program, or a real Envoy, from a bootstrap; what `/proc` and the admin say of it |
//! | `half_closed.rs` | one direction has ended and the other stays |
//! | `unread.rs` | clients that ask and never read |
//! | `idle.rs` | HTTP/2 connections that say nothing, ten thousand of them |
//! | `log.rs` | an access log that nobody reads |
//! | `kept.rs` | a host that closes a kept connection as it is used again |
//! | `tables.rs` | a thousand full header tables and little memory |
//! | `workers.rs` | what eight workers do with few connections |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests print what they measured and what they leave out"
)]

#[path = "../../../proxy/tests/common/mod.rs"]
mod common;
#[path = "../../../proxy/tests/catalogue/frames.rs"]
mod frames;
#[path = "../common/mod.rs"]
mod program;

mod half_closed;
mod idle;
mod kept;
mod log;
mod subject;
mod tables;
mod unread;
mod workers;
