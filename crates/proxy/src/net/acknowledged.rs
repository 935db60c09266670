//! What of the bytes sent on a connection the peer's kernel has taken (`TCP_INFO`).

use nix::sys::socket::{getsockopt, sockopt::GetStruct};
use socket2::Socket;

/// `struct tcp_info` up to the one field asked for, which `libc`'s has not: `tcpi_bytes_acked` stands behind 120 bytes
/// (Linux 4.1, `include/uapi/linux/tcp.h`).
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    before: [u64; 15],
    bytes_acked: u64,
}

#[derive(Clone, Copy)]
struct Info;

nix::getsockopt_impl!(Info, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

/// Bytes the peer has acknowledged, the SYN among them.
pub fn acknowledged(socket: &Socket) -> Option<u64> {
    getsockopt(socket, Info).ok().map(|info| info.bytes_acked)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn bytes_the_peer_has_taken_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        stream.write_all(&[7; 1000]).unwrap();
        let socket = Socket::from(stream.try_clone().unwrap());
        let until = Instant::now() + Duration::from_secs(10);
        while acknowledged(&socket).unwrap() < 1000 {
            assert!(Instant::now() < until, "{:?}", acknowledged(&socket));
            std::thread::yield_now();
        }
        assert!(acknowledged(&socket).unwrap() <= 1001);
        // What is sent to a peer that has closed is not taken.
        peer.read_exact(&mut [0; 1000]).unwrap();
        drop(peer);
        stream.write_all(&[7; 1000]).unwrap();
        assert!(acknowledged(&socket).unwrap() <= 1001);
    }
}
