//! What a worker asks of the system it runs on: streams, listening sockets, and to be told when they are ready.
//!
//! The kernel is one implementation ([`crate::net::kernel`]). Another can be given, by which a worker becomes a machine that
//! tests drive: nothing else of it changes. A stream of the kernel is a variant of its own, so that reading and writing it
//! costs one predictable branch and a connection no allocation.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use model::cluster::Keepalive;
use socket2::Socket;

/// Makes an unconnected, non-blocking TCP socket that lives where the application lives (its network namespace).
pub type AppSockets = Arc<dyn Fn(IpVersion) -> io::Result<OwnedFd> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    V4,
    V6,
}

/// One end of a connection, non-blocking.
pub enum Stream {
    Kernel(Socket),
    Given(Box<dyn Connection>),
}

/// A stream that is not the kernel's. Its calls behave as the kernel's do for a non-blocking TCP socket.
pub trait Connection: Send {
    /// A number of its own among those of its network.
    fn id(&self) -> u64;
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Both parts in one call.
    fn write(&self, head: &[u8], body: &[u8]) -> io::Result<usize>;
    fn shutdown_write(&self) -> io::Result<()>;
    /// `SO_ERROR`.
    fn take_error(&self) -> io::Result<Option<io::Error>>;
    /// `SO_LINGER` of zero: closing sends a reset.
    fn reset_when_closed(&self);
    /// Bytes the peer has acknowledged, and one for the SYN; `None` where nobody knows.
    fn acknowledged(&self) -> Option<u64> {
        None
    }
    fn local_address(&self) -> io::Result<SocketAddr>;
    fn peer_address(&self) -> io::Result<SocketAddr>;
    /// `SO_ORIGINAL_DST`.
    fn original_destination(&self) -> io::Result<SocketAddr>;
}

/// A listening socket.
pub enum Acceptor {
    Kernel(Socket),
    Given(Box<dyn Accept>),
}

/// A listening socket that is not the kernel's.
pub trait Accept: Send {
    fn id(&self) -> u64;
    fn accept(&self) -> io::Result<(Stream, SocketAddr)>;
}

/// Where a worker's streams come from, and who watches them for it: edge-triggered, both directions.
pub trait Network {
    /// Begins a connection. True: it is not made yet.
    fn connect(&self, connect: &Connect<'_>) -> io::Result<(Stream, bool)>;
    /// From now on events with this token tell about the stream, until it is closed.
    fn watch(&self, stream: &Stream, token: u64) -> io::Result<()>;
    /// Events tell no more about a stream of which another worker has, and watches, a descriptor ([`Stream::duplicate`]).
    fn forget(&self, _stream: &Stream) {}
    fn watch_acceptor(&self, acceptor: &Acceptor, token: u64) -> io::Result<()>;
    fn forget_acceptor(&self, acceptor: &Acceptor);
}

/// A connection to be made.
pub struct Connect<'c> {
    pub to: SocketAddr,
    /// The address it comes from.
    pub source: Option<SocketAddr>,
    pub keepalive: Option<Keepalive>,
    /// Makes the socket, where it must live in another network namespace.
    pub make: Option<&'c AppSockets>,
}

/// A stream or an acceptor is ready: what [`Network::watch`] was told, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer ended its direction, or all is over.
    pub hung_up: bool,
}

/// Wakes a worker that sleeps.
pub trait Wake: Send + Sync {
    fn wake(&self) -> io::Result<()>;
}

/// Two parts up to this size together are copied into one send, which costs less than a vectored one.
pub const COPY_LIMIT: usize = 4096;

impl Stream {
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Stream::Kernel(socket) => (&*socket).read(buffer),
                Stream::Given(stream) => stream.read(buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// One call for both parts. `joined` is where small ones are put together.
    #[inline]
    pub fn write(&self, head: &[u8], body: &[u8], joined: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let written = match self {
                Stream::Kernel(socket) => write(socket, head, body, joined),
                Stream::Given(stream) => stream.write(head, body),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Another descriptor of the same stream; `None` where there are no descriptors, or no more.
    pub fn duplicate(&self) -> Option<Stream> {
        match self {
            Stream::Kernel(socket) => socket.try_clone().ok().map(Stream::Kernel),
            Stream::Given(_) => None,
        }
    }

    /// Ends our direction.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Kernel(socket) => socket.shutdown(std::net::Shutdown::Write),
            Stream::Given(stream) => stream.shutdown_write(),
        }
    }

    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Kernel(socket) => socket.take_error(),
            Stream::Given(stream) => stream.take_error(),
        }
    }

    pub fn reset_when_closed(&self) {
        match self {
            Stream::Kernel(socket) => {
                let _ = socket.set_linger(Some(std::time::Duration::ZERO));
            }
            Stream::Given(stream) => stream.reset_when_closed(),
        }
    }

    /// Bytes the peer has acknowledged, and one for the SYN; `None` where nobody knows.
    pub fn acknowledged(&self) -> Option<u64> {
        match self {
            Stream::Kernel(socket) => crate::net::acknowledged::acknowledged(socket),
            Stream::Given(stream) => stream.acknowledged(),
        }
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(socket) => of_ip(socket.local_addr()?),
            Stream::Given(stream) => stream.local_address(),
        }
    }

    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(socket) => of_ip(socket.peer_addr()?),
            Stream::Given(stream) => stream.peer_address(),
        }
    }

    /// Whom the client of a redirected connection wanted.
    pub fn original_destination(&self, v4: bool) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(socket) if v4 => of_ip(socket.original_dst_v4()?),
            Stream::Kernel(socket) => of_ip(socket.original_dst_v6()?),
            Stream::Given(stream) => stream.original_destination(),
        }
    }

    /// Small writes leave at once.
    pub fn set_nodelay(&self) {
        if let Stream::Kernel(socket) = self {
            let _ = socket.set_tcp_nodelay(true);
        }
    }
}

fn of_ip(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[inline]
fn write(mut socket: &Socket, head: &[u8], body: &[u8], joined: &mut Vec<u8>) -> io::Result<usize> {
    if body.is_empty() {
        return socket.write(head);
    }
    if head.is_empty() {
        return socket.write(body);
    }
    if head.len() + body.len() > COPY_LIMIT {
        return socket.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]);
    }
    joined.clear();
    joined.extend_from_slice(head);
    joined.extend_from_slice(body);
    socket.write(joined)
}
