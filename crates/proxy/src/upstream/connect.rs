//! Sockets to hosts, and to the workload's own application.

use std::io;
use std::net::{IpAddr, SocketAddr};

use model::cluster::{Cluster, DnsFamily};
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::{Application, IpVersion, Shared};

/// Begins a connection. True: it is not made yet.
pub fn connect(shared: &Shared, cluster: &Cluster, address: SocketAddr) -> io::Result<(Socket, bool)> {
    let application =
        shared.application.as_ref().filter(|application| application.addresses.contains(&address.ip()));
    let (socket, to) = match application {
        Some(application) => to_application(application, address)?,
        None => {
            let socket = open(address)?;
            let bind = match cluster.bind {
                Some(bind) => Some(bind),
                None => shared.source.and_then(|source| {
                    let ip = source.for_destination(address.ip())?;
                    Some(SocketAddr::new(ip, 0))
                }),
            };
            if let Some(bind) = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()) {
                // The port is chosen when it connects, so that many connections to different hosts share it.
                let _ = nix::sys::socket::setsockopt(
                    &socket,
                    nix::sys::socket::sockopt::IpBindAddressNoPort,
                    &true,
                );
                socket.bind(&bind.into())?;
            }
            (socket, address)
        }
    };
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = cluster.keepalive {
        let mut settings = socket2::TcpKeepalive::new();
        if let Some(time) = keepalive.time {
            settings = settings.with_time(std::time::Duration::from_secs(time.into()));
        }
        if let Some(interval) = keepalive.interval {
            settings = settings.with_interval(std::time::Duration::from_secs(interval.into()));
        }
        if let Some(probes) = keepalive.probes {
            settings = settings.with_retries(probes);
        }
        socket.set_tcp_keepalive(&settings)?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => Ok((socket, false)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket, true)),
        Err(error) => Err(error),
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

/// The application listens on its own loopback, in its own namespace if it has one.
fn to_application(application: &Application, address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let to = SocketAddr::new(application.target, address.port());
    let socket = match &application.sockets {
        Some(make) => {
            let socket = Socket::from(make(if to.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 })?);
            socket.set_nonblocking(true)?;
            socket
        }
        None => open(to)?,
    };
    Ok((socket, to))
}

/// The addresses a cluster wants of those a name has.
pub fn of_family(found: &[IpAddr], family: DnsFamily) -> Vec<IpAddr> {
    let only = |v4: bool| -> Vec<IpAddr> { found.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect() };
    let first = |v4: bool| {
        let preferred = only(v4);
        if preferred.is_empty() { only(!v4) } else { preferred }
    };
    match family {
        DnsFamily::V4Only => only(true),
        DnsFamily::V6Only => only(false),
        DnsFamily::V4Preferred => first(true),
        DnsFamily::Auto => first(false),
        DnsFamily::All => found.to_vec(),
    }
}
