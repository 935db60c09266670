//! What attackers sent to other proxies, and what must not cost more than it should: each by real sockets, the time of the
//! worker measured. One file for each kind.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

#[path = "../common/mod.rs"]
mod common;
mod cut_short;
mod drained_body;
#[path = "../catalogue/frames.rs"]
mod frames;
#[path = "../h2client/mod.rs"]
mod h2client;
mod half_closed;
mod host_at_rest;
mod http2_frames;
mod late_effects;
mod log_subjects;
mod redirect;
mod sniffing;
mod tunnel_bytes;
mod undelivered;

use std::io::Write;
use std::net::TcpStream;

use common::PATIENCE;

/// A client's connection that bytes are written to one by one.
fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All a connection brings until it ends; a reset ends it too.
fn all_of(stream: &mut TcpStream) -> Result<Vec<u8>, std::io::Error> {
    let mut all = vec![];
    match std::io::Read::read_to_end(stream, &mut all) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(all),
    }
}

/// How many answers there are in bytes of HTTP/1.
fn answers(bytes: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, b"HTTP/1.1 ").count()
}

/// Writes what the proxy takes: it may have closed already.
fn offer(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}
