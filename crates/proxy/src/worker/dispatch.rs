//! What happened to a socket, told to whatever stands behind it.

use std::io;

use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// The connection to a host is made.
    pub(crate) fn connected(&mut self, key: Key) {
        match self.conns.get_mut(key) {
            Some(Conn::Upstream(_)) => self.upstream_connected(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_connected(key),
            Some(Conn::Undecided(_)) => self.undecided_connected(key),
            Some(Conn::Securing(_)) => self.client_secured(key),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_connected(down, key);
            }
            Some(Conn::Check(id)) => {
                let id = *id;
                self.tcp_check_ready(key, id);
            }
            _ => {}
        }
    }

    pub(crate) fn bytes(&mut self, key: Key, bytes: &[u8]) {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_bytes(key, bytes),
            Some(Conn::Upstream(_)) => self.upstream_bytes(key, bytes),
            Some(Conn::DownstreamH2(_)) => self.h2_client_bytes(key, bytes),
            Some(Conn::UpstreamH2(_)) => self.h2_host_bytes(key, bytes),
            Some(Conn::Inspecting(_)) => self.inspect_bytes(key, bytes),
            Some(Conn::TcpDownstream(_)) => self.tcp_from_client(key, bytes),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_from_host(down, key, bytes);
            }
            Some(Conn::Check(id)) => {
                let id = *id;
                self.tcp_check_bytes(key, id, bytes);
            }
            Some(Conn::Lingering(_)) => self.linger_bytes(key, bytes.len()),
            Some(Conn::Securing(_) | Conn::Undecided(_) | Conn::Vacant) | None => {}
        }
    }

    /// The peer has ended its direction.
    pub(crate) fn ended(&mut self, key: Key) {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_ended(key),
            Some(Conn::Upstream(_)) => self.upstream_ended(key, None),
            Some(Conn::DownstreamH2(_)) => self.h2_client_gone(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_gone(key, None),
            Some(Conn::Undecided(_)) => self.undecided_gone(key, None),
            Some(Conn::TcpDownstream(_)) => self.tcp_client_ended(key),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_host_ended(down, key);
            }
            Some(Conn::Inspecting(_)) => self.inspect_ended(key),
            Some(Conn::Securing(_)) => self.client_not_secured(key),
            Some(Conn::Check(id)) => {
                let id = *id;
                self.tcp_check_gone(key, id);
            }
            Some(Conn::Lingering(_) | Conn::Vacant) | None => self.sockets.close(key),
        }
    }

    /// The socket is of no use any more.
    pub(crate) fn broken(&mut self, key: Key, error: io::ErrorKind) {
        if matches!(self.conns.get(key), Some(Conn::Upstream(_) | Conn::UpstreamH2(_))) {
            self.last_words(key);
        }
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_gone(key),
            Some(Conn::Upstream(_)) => self.upstream_ended(key, Some(error)),
            Some(Conn::DownstreamH2(_)) => self.h2_client_gone(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_gone(key, Some(error)),
            Some(Conn::Undecided(_)) => self.undecided_gone(key, Some(error)),
            Some(Conn::TcpDownstream(_)) => self.tcp_broken(key),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_host_broken(down, key, error);
            }
            Some(Conn::Inspecting(_)) => self.inspect_ended(key),
            Some(Conn::Securing(_)) => self.client_not_secured(key),
            Some(Conn::Check(id)) => {
                let id = *id;
                self.tcp_check_gone(key, id);
            }
            Some(Conn::Lingering(_) | Conn::Vacant) | None => self.sockets.close(key),
        }
    }
}
