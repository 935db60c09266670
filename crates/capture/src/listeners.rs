//! The listening sockets inside the namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::protocol::ListenerCounts;
use crate::spec::Namespace;

/// Opens them in the order of [`ListenerCounts`]. They listen on 127.0.0.1 and ::1 alone because
/// that is where the kernel's redirect of local output leads, whatever the destination was.
pub(crate) fn open(spec: &Namespace, v6: bool) -> io::Result<(Vec<OwnedFd>, ListenerCounts)> {
    let hosts: Vec<_> = [Some(Ipv4Addr::LOCALHOST.into()), v6.then_some(Ipv6Addr::LOCALHOST.into())]
        .into_iter()
        .flatten()
        .collect();
    let outbound = usize::from(spec.listeners.clamp(1, 64));
    let counts = ListenerCounts {
        outbound_v4: outbound,
        outbound_v6: if v6 { outbound } else { 0 },
        dns_udp: hosts.len(),
        dns_tcp: hosts.len(),
    };
    let mut fds = Vec::new();
    for &host in &hosts {
        for _ in 0..outbound {
            fds.push(bound(SockType::Stream, SocketAddr::new(host, spec.outbound_port))?);
        }
    }
    for kind in [SockType::Datagram, SockType::Stream] {
        for &host in &hosts {
            fds.push(bound(kind, SocketAddr::new(host, spec.dns_port))?);
        }
    }
    Ok((fds, counts))
}

fn bound(kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // One per worker shares the port, and the kernel spreads connections over them.
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        // The kernel caps it at somaxconn.
        listen(&fd, Backlog::MAXALLOWABLE)?;
    }
    Ok(fd)
}
