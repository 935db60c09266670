//! A workload's own loopback address.
//!
//! Every workload on a laptop has an address out of 127.77.0.0/16, so that ports never collide.
//! There is no registry of addresses: holding one *is* holding the listener on its admin port, and
//! the kernel gives it back when the process dies, however it dies.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// The port whose listener is the claim.
pub const ADMIN_PORT: u16 = 15000;

/// How many addresses are tried. A thousand workloads fill 1.5 % of the range, so a run of 4096
/// taken addresses means something else is wrong.
const ATTEMPTS: u32 = 4096;

/// An address nobody else on this machine holds, for as long as `admin` stays open.
#[derive(Debug)]
pub struct Claimed {
    pub ip: Ipv4Addr,
    /// The listener on `ip`:15000: the claim itself, to be used as the admin listener. Blocking.
    pub admin: TcpListener,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(
        "no free workload address in 127.77.0.0/16 after {ATTEMPTS} attempts: does something listen on 0.0.0.0:{ADMIN_PORT}?"
    )]
    Exhausted,
    #[error("cannot listen on workload address {ip}:{ADMIN_PORT}: {source}")]
    Listen { ip: Ipv4Addr, source: io::Error },
}

/// Claims an address. The same `key` (say `namespace/workload/replica`) gets the same address again
/// whenever it is free, so that logs and bookmarks of one run hold in the next.
pub fn claim(key: &str) -> Result<Claimed, ClaimError> {
    let start = hash(key);
    for attempt in 0..ATTEMPTS {
        let ip = candidate(start, attempt);
        // std sets SO_REUSEADDR, never SO_REUSEPORT: a second listener is refused, a TIME_WAIT is not in the way.
        match TcpListener::bind(SocketAddrV4::new(ip, ADMIN_PORT)) {
            Ok(admin) => return Ok(Claimed { ip, admin }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(ClaimError::Listen { ip, source }),
        }
    }
    Err(ClaimError::Exhausted)
}

/// The `attempt`-th address for a hash: linear steps through 127.77.0.1 to 127.77.255.254, leaving
/// out .0 and .255 of each /24, which people take for network and broadcast addresses.
fn candidate(start: u32, attempt: u32) -> Ipv4Addr {
    const USABLE: u32 = 256 * 254;
    let index = (start % USABLE + attempt) % USABLE;
    let [_, _, _, third] = (index / 254).to_be_bytes();
    let [_, _, _, fourth] = (index % 254 + 1).to_be_bytes();
    Ipv4Addr::new(127, 77, third, fourth)
}

/// FNV-1a: stable over releases, which std's hasher does not promise.
fn hash(key: &str) -> u32 {
    key.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gets_its_address_back_and_a_second_one_the_next() {
        let key = format!("loopback-test-{}", std::process::id());
        let first = claim(&key).unwrap();
        let second = claim(&key).unwrap();
        assert_ne!(first.ip, second.ip);
        assert_eq!(first.ip.octets()[..2], [127, 77]);
        assert_eq!(first.admin.local_addr().unwrap().port(), ADMIN_PORT);
        let ip = first.ip;
        drop(first);
        assert_eq!(claim(&key).unwrap().ip, ip);
    }

    #[test]
    fn candidates_cover_the_range_once_without_network_and_broadcast() {
        let all: std::collections::HashSet<_> = (0..256 * 254).map(|n| candidate(77, n)).collect();
        assert_eq!(all.len(), 256 * 254);
        assert!(all.iter().all(|ip| !matches!(ip.octets()[3], 0 | 255)));
    }
}
