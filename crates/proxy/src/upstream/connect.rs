//! Where connections to hosts, and to the workload's own application, lead and come from.

use std::io;
use std::net::{IpAddr, SocketAddr};

use model::cluster::{Cluster, DnsFamily};

use crate::net::network::{Connect, Network, Stream};
use crate::options::Shared;

/// Begins a connection. True: it is not made yet.
pub fn connect(
    network: &dyn Network,
    shared: &Shared,
    cluster: &Cluster,
    address: SocketAddr,
) -> io::Result<(Stream, bool)> {
    let application = shared.application.as_ref();
    let connect = match application.filter(|application| application.addresses.contains(&address.ip())) {
        // It listens on its own loopback, in its own namespace if it has one.
        Some(application) => Connect {
            to: SocketAddr::new(application.target, address.port()),
            source: None,
            keepalive: cluster.keepalive,
            make: application.sockets.as_ref(),
        },
        None => {
            let own = || {
                let ip = shared.source?.for_destination(address.ip())?;
                Some(SocketAddr::new(ip, 0))
            };
            let source = cluster.bind.or_else(own).filter(|source| source.is_ipv4() == address.is_ipv4());
            Connect { to: address, source, keepalive: cluster.keepalive, make: None }
        }
    };
    network.connect(&connect)
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
