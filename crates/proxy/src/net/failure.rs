//! Failures of sockets in the system's words.

use std::io;

/// An error in the words of the system, as Envoy prints them.
pub fn failure_text(kind: io::ErrorKind, error: Option<&io::Error>) -> String {
    let text = match kind {
        io::ErrorKind::ConnectionRefused => "Connection refused",
        io::ErrorKind::ConnectionReset => "Connection reset by peer",
        io::ErrorKind::HostUnreachable => "No route to host",
        io::ErrorKind::NetworkUnreachable => "Network is unreachable",
        io::ErrorKind::TimedOut => "Connection timed out",
        io::ErrorKind::AddrNotAvailable => "Cannot assign requested address",
        _ => return error.map_or_else(|| kind.to_string(), io::Error::to_string),
    };
    text.to_owned()
}
