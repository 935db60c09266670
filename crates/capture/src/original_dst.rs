//! Where a redirected connection wanted to go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// The destination the client asked for, before the redirect changed it: `SO_ORIGINAL_DST` for an
/// IPv4 connection (`local` is the accepted socket's own address), `IP6T_SO_ORIGINAL_DST` for IPv6.
/// A connection made straight to our port answers with `local` itself, as the kernel does.
///
/// `ENOENT` means connection tracking does not know the connection (it was not redirected in this
/// namespace); `ENOPROTOOPT` that the kernel has no connection tracking for this family.
pub fn original_dst(socket: &impl AsFd, local: SocketAddr) -> io::Result<SocketAddr> {
    let v4 = match local.ip() {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    if v4 {
        let found = getsockopt(socket, sockopt::OriginalDst)?;
        let ip = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
        Ok(SocketAddr::new(ip.into(), u16::from_be(found.sin_port)))
    } else {
        let found = getsockopt(socket, sockopt::Ip6tOriginalDst)?;
        let ip = Ipv6Addr::from(found.sin6_addr.s6_addr);
        Ok(SocketAddr::new(ip.into(), u16::from_be(found.sin6_port)))
    }
}
